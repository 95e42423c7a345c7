-- The writes of a commit, once everything is checked.

-- @include "numbers"
-- @include "slices"
-- @include "record_state"

-- Return true if the changes that the worker read are still there; then remove them, and write its
-- rows. The newest one is compared by its stamp, and the oldest in Redis must not be older than the
-- oldest that the worker read: after a failover, other changes may have these numbers.
local function fold(metric)
  local first, sizes, recorded = metric.orders.fold_first, metric.orders.fold_sizes, metric.recorded
  if not first or recorded[FIRST_CHANGE] < first then
    return false
  end
  local last, stamp = first + #sizes - 1, metric.orders.fold_stamp
  local newest = metric.newest_change
  if not newest or string.sub(newest, 1, #stamp) ~= stamp then
    return false
  end
  local names = {}
  for number = recorded[FIRST_CHANGE], last do
    names[#names + 1] = '+' .. format_integer(number)
    recorded[CHANGE_BYTES] = recorded[CHANGE_BYTES] - sizes[number - first + 1]
  end
  recorded[CHANGE_BYTES] = math.max(recorded[CHANGE_BYTES], 0)
  recorded[FIRST_CHANGE] = last + 1
  write_fields(metric.key.live, metric.arguments, metric.first_row, metric.last_row)
  remove_fields(metric.key.live, names)
  return true
end

-- Write rows with some set to 0, and remove per-process values: of forgotten series, of ids without
-- a series, and those merged with others.
local function clear_rows(metric)
  for _, cleared in ipairs(metric.orders.cleared_states) do
    local field, _, value = unpack(cleared)
    if value == '' then
      redis.call('HDEL', metric.key.live, field)
    else
      redis.call('HSET', metric.key.live, field, value)
    end
  end
end

local function write_state(metric, new_version)
  local key, state, sealed = metric.key.state, metric.state, metric.orders.new_sealed
  if state.oldest_hour then
    redis.call('HSET', key, 'version', new_version, 'sealed', sealed,
      'oldest', format_integer(state.oldest_hour), 'newest', format_integer(state.newest_hour))
  else
    redis.call('HSET', key, 'version', new_version, 'sealed', sealed)
  end
  if metric.orders.late_samples > 0 then
    redis.call('HINCRBY', key, 'late', format_integer(metric.orders.late_samples))
  end
  if metric.orders.inexact_samples > 0 then
    redis.call('HINCRBY', key, 'inexact', format_integer(metric.orders.inexact_samples))
  end
  if state.expired_samples > 0 then
    redis.call('HINCRBY', key, 'pruned', format_integer(state.expired_samples))
  end
end

local function write_data(metric)
  for _, hash in ipairs(metric.data) do
    -- Remove first: the segment then replaces what it was merged from, and the hash table stays
    -- small.
    remove_fields(hash.key, metric.arguments, hash.last_field + 1, hash.last_removed)
    write_fields(hash.key, metric.arguments, hash.first_field, hash.last_field)
    if hash.keeps_expiry and hash.is_there then
      -- Its expiry is already correct.
    elseif hash.expires_s == '0' then
      redis.call('PERSIST', hash.key)
    else
      redis.call('EXPIREAT', hash.key, hash.expires_s)
    end
  end
end

local function write_sizes(metric)
  write_fields(metric.key.held, metric.sizes)
  remove_fields(metric.key.held, metric.orders.expired_sizes)
end

-- The rest concerns keys shared by all metrics of the shard. It is collected in *shared*, and
-- written by write_shared() for all metrics of the call.

local function schedule(metric, shared)
  local key, orders, pending, absent = metric.key, metric.orders, shared.pending, shared.absent
  for _, mark in ipairs(orders.mark_due) do
    local field, due_ms = unpack(mark)
    due_ms = format_integer(due_ms)
    redis.call('HSET', key.due, field, due_ms)
    pending[#pending + 1], pending[#pending + 2] = due_ms, field .. ' ' .. metric.name
  end
  for _, field in ipairs(orders.unmark_due) do
    redis.call('HDEL', key.due, field)
    shared.done[#shared.done + 1] = field .. ' ' .. metric.name
  end
  for _, tidying in ipairs(orders.schedule) do
    local task, due_ms = unpack(tidying)
    pending[#pending + 1] = format_integer(due_ms)
    pending[#pending + 1] = task .. ' ' .. metric.name
  end
  for _, tidying in ipairs(orders.schedule_if_absent) do
    local task, due_ms = unpack(tidying)
    absent[#absent + 1], absent[#absent + 2] = format_integer(due_ms), task .. ' ' .. metric.name
  end
end

local function cut_log(metric)
  local cut_clock, recorded = metric.log.cut_clock, metric.recorded
  if cut_clock then
    redis.call('ZREMRANGEBYSCORE', metric.key.log, '-inf', format_integer(cut_clock))
    recorded[CUT], recorded[OLDEST] = cut_clock, math.max(recorded[OLDEST], cut_clock)
  end
end

-- A worker that folded, or found nothing to fold, is expected to come again.
local function note_sealed(metric, has_folded, shared)
  local recorded, unsealed_clock = metric.recorded, metric.log.unsealed_clock
  recorded[SEALED] = tonumber(metric.orders.new_sealed)
  recorded[WAITING] = unsealed_clock or 0
  if has_folded or recorded[FIRST_CHANGE] == recorded[NEXT_CHANGE] then
    recorded[FOLDED] = shared.clock
  end
  local states = shared.states
  states[#states + 1], states[#states + 2] = metric.name, pack_state(recorded)
  if not unsealed_clock then
    shared.clean[#shared.clean + 1] = metric.name
  end
end

-- Run a command on a sorted set for all of *arguments*; *options* come before them.
local function write_sorted(command, key, arguments, options)
  for first = 1, #arguments, 2 * SLICE do
    local last = math.min(first + 2 * SLICE - 1, #arguments)
    if options then
      redis.call(command, key, options, unpack(arguments, first, last))
    else
      redis.call(command, key, unpack(arguments, first, last))
    end
  end
end

local function write_shared(shared, key)
  write_sorted('ZADD', key.pending, shared.pending)
  write_sorted('ZADD', key.pending, shared.absent, 'NX')
  write_sorted('ZREM', key.pending, shared.done)
  write_sorted('ZREM', key.dirty, shared.clean)
  write_fields(key.recorded, shared.states)
end
