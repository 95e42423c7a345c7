-- What a commit writes, once all is checked.

-- @include "numbers"
-- @include "slices"
-- @include "record_state"

-- Return true if the changes that the worker read are still there: then take them off, and put its
-- rows in place. The newest one is compared by its stamp, and the oldest in Redis must not be older
-- than the oldest that the worker read: after a failover other changes may have these numbers.
local function fold(metric)
  local first, sizes, recorded = metric.orders.fold_first, metric.orders.fold_sizes, metric.recorded
  if not first or recorded[FIRST_CHANGE] < first then
    return false
  end
  local last, stamp = first + #sizes - 1, metric.orders.fold_stamp
  local newest = redis.call('HGET', metric.key.live, '+' .. format_integer(last))
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
  write_fields(metric.key.live, metric.orders.fold_rows)
  redis.call('HSET', metric.key.live, 'first', format_integer(last + 1))
  remove_fields(metric.key.live, names)
  return true
end

-- Write rows in which some are set to 0, and remove values of processes: of forgotten series, of
-- ids that no series has, and those that are merged with others.
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
  local key, state = metric.key.state, metric.state
  redis.call('HSET', key, 'version', new_version, 'sealed', metric.orders.new_sealed)
  if state.oldest_hour then
    redis.call('HSET', key,
      'oldest', format_integer(state.oldest_hour),
      'newest', format_integer(state.newest_hour))
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
    -- Remove first: the segment then takes the place of what it was merged from, and the table of
    -- the hash stays small.
    remove_fields(hash.key, hash.removed)
    write_fields(hash.key, hash.fields)
    if hash.expires_s == '0' then
      redis.call('PERSIST', hash.key)
    else
      redis.call('EXPIREAT', hash.key, hash.expires_s)
    end
    if hash.growth ~= 0 then
      redis.call('HINCRBY', metric.key.held, hash.name, format_integer(hash.growth))
    end
  end
end

local function write_sizes(metric)
  for _, sealed in ipairs(metric.orders.sealed_samples) do
    local hour, samples = unpack(sealed)
    redis.call('HINCRBY', metric.key.held, 'samples ' .. hour, format_integer(samples))
  end
  if #metric.orders.expired_sizes > 0 then
    redis.call('HDEL', metric.key.held, unpack(metric.orders.expired_sizes))
  end
end

local function schedule(metric)
  for _, mark in ipairs(metric.orders.mark_due) do
    local field, due_ms = unpack(mark)
    redis.call('HSET', metric.key.due, field, format_integer(due_ms))
    redis.call('ZADD', metric.key.pending, format_integer(due_ms), field .. ' ' .. metric.name)
  end
  for _, field in ipairs(metric.orders.unmark_due) do
    redis.call('HDEL', metric.key.due, field)
    redis.call('ZREM', metric.key.pending, field .. ' ' .. metric.name)
  end
  for _, tidying in ipairs(metric.orders.schedule) do
    local task, due_ms = unpack(tidying)
    redis.call('ZADD', metric.key.pending, format_integer(due_ms), task .. ' ' .. metric.name)
  end
  for _, tidying in ipairs(metric.orders.schedule_if_absent) do
    local task, due_ms = unpack(tidying)
    redis.call('ZADD', metric.key.pending, 'NX', format_integer(due_ms), task .. ' ' .. metric.name)
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
local function write_recorded(metric, has_folded)
  local recorded = metric.recorded
  recorded[SEALED] = tonumber(metric.orders.new_sealed)
  recorded[WAITING] = metric.log.unsealed_clock or 0
  if has_folded or recorded[FIRST_CHANGE] == recorded[NEXT_CHANGE] then
    recorded[FOLDED] = metric.log.clock
  end
  redis.call('HSET', metric.key.recorded, metric.name, pack_state(recorded))
end

local function mark_clean(metric)
  local last_clock = metric.log.last_clock
  if last_clock and last_clock <= tonumber(metric.orders.new_sealed) then
    redis.call('ZREM', metric.key.dirty, metric.name)
  end
end
