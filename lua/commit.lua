-- commit: store what a worker computed for a metric, all of it or nothing.
--
-- KEYS[1]  state      hash; for all keys see keys.py
-- KEYS[2]  log        zset
-- KEYS[3]  series     hash
-- KEYS[4]  live       hash
-- KEYS[5]  due        hash
-- KEYS[6]  held       hash
-- KEYS[7]  touched    zset
-- KEYS[8]  clock      string
-- KEYS[9]  catalogue  hash
-- KEYS[10] dirty      zset
-- KEYS[11] pending    zset
-- KEYS[12] values     hash
-- KEYS[13] recorded   hash
-- KEYS[14+] data      hashes of slots
-- ARGV[1]  metric     its name
-- ARGV[2]  version    of the metric when the worker read it; '' if it had none
-- ARGV[3]  token      random, for the new version
-- ARGV[4]  orders     msgpack [sealed as it was read, new sealed, [beginning of each block between
--                     them, through its sequence...], replay window in us,
--                     [[due field, when in ms]...] to mark as due, [due field...] to unmark,
--                     number of samples dropped because they came too late,
--                     [[hour, samples sealed into it]...], [held field...] of expired data,
--                     [[tidying, when in ms]...] to schedule,
--                     [[tidying, when in ms]...] to schedule unless it is pending,
--                     [canonical tags...] of series to forget,
--                     [[live field, value as it was read, new value, '' to remove it]...] to
--                     clear,
--                     1 if no series is left,
--                     [number of the oldest change to fold, stamp of the newest, [bytes of
--                     each...], [live field, new value...]], or [] to fold nothing]
-- ARGV[5+] then for each data key: its name in held and touched, refused from (ms), expires at (s;
--          0: never), number of fields to write, number of fields to remove, then field and value
--          of each to write, then each field to remove
-- Returns  'ok', or why nothing was changed: 'version' (the metric changed since it was read),
--          'log' (its log did), 'late' (a data key is past its retention)
-- Why Lua  merged data and the position up to which the log is sealed must change together, and
--          only if nobody else has changed them
--
-- Changes of the totals are folded if they are still there; else only that is left out. The new
-- rows hold whatever record.lua has folded of these changes meanwhile, to the bit.
--
-- Samples are never unpacked here.

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "record_state"
-- @include "forget_series"
-- @include "touched"

local clock_key, catalogue_key, dirty_key, pending_key = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local recorded_key = KEYS[13]
local token = ARGV[3]

local metric = {
  name = ARGV[1],
  version = ARGV[2],
  key = {
    state = KEYS[1],
    log = KEYS[2],
    series = KEYS[3],
    live = KEYS[4],
    due = KEYS[5],
    held = KEYS[6],
    touched = KEYS[7],
    values = KEYS[12],
  },
  state = nil, -- what the state hash will hold, see read_state()
  recorded = nil, -- see include/record_state.lua
  log = nil, -- what is in the log, see read_log()
}

local orders_wire = cmsgpack.unpack(ARGV[4])
local orders = {
  sealed = orders_wire[1],
  new_sealed = orders_wire[2],
  block_beginnings = orders_wire[3],
  replay_us = orders_wire[4],
  mark_due = orders_wire[5],
  unmark_due = orders_wire[6],
  late_samples = orders_wire[7],
  sealed_samples = orders_wire[8],
  expired_sizes = orders_wire[9],
  schedule = orders_wire[10],
  schedule_if_absent = orders_wire[11],
  forget_series = orders_wire[12],
  cleared_states = orders_wire[13],
  none_left = orders_wire[14] == 1,
  fold_first = orders_wire[15][1],
  fold_stamp = orders_wire[15][2],
  fold_sizes = orders_wire[15][3],
  fold_rows = orders_wire[15][4],
}

local MAX_CUT = 256 -- sealed blocks that one commit takes off the log at most; later ones follow

-- Return the data hashes, with what to write to each.
local function read_data_arguments()
  local data, argument = {}, 5
  for number = 14, #KEYS do
    local hash = {
      key = KEYS[number],
      name = ARGV[argument], -- in held and touched
      refused_from_ms = tonumber(ARGV[argument + 1]),
      expires_s = ARGV[argument + 2],
      fields = {}, -- to write: field, value, field, value...
      removed = {}, -- fields to remove
      growth = 0, -- in bytes, see check_data()
    }
    local first_removed = argument + 5 + 2 * tonumber(ARGV[argument + 3])
    local next_key = first_removed + tonumber(ARGV[argument + 4])
    for at = argument + 5, first_removed - 1 do
      hash.fields[#hash.fields + 1] = ARGV[at]
    end
    for at = first_removed, next_key - 1 do
      hash.removed[#hash.removed + 1] = ARGV[at]
    end
    data[#data + 1], argument = hash, next_key
  end
  return data
end

local data = read_data_arguments()

-- Steps that read and check. Some return why nothing may be changed, as in Returns.

local function read_state()
  local found = redis.call('HMGET', metric.key.state, 'version', 'sealed', 'oldest', 'newest')
  if (found[1] or '') ~= metric.version or (found[2] or '0') ~= orders.sealed then
    return 'version'
  end
  metric.state = {
    oldest_hour = tonumber(found[3] or nil), -- that samples were ever sealed into
    newest_hour = tonumber(found[4] or nil),
    expired_samples = 0, -- that this commit adds to `pruned`
  }
  metric.recorded = unpack_state(redis.call('HGET', recorded_key, metric.name))
end

-- Return true if the changes that the worker read are still there: then take them off, and put its
-- rows in place. The newest one is compared by its stamp, and the oldest in Redis must not be older
-- than the oldest that the worker read: after a failover other changes may have these numbers.
local function fold()
  local first, sizes, recorded = orders.fold_first, orders.fold_sizes, metric.recorded
  if not first or recorded.first_change < first then
    return false
  end
  local last, stamp = first + #sizes - 1, orders.fold_stamp
  local newest = redis.call('HGET', metric.key.live, '+' .. format_integer(last))
  if not newest or string.sub(newest, 1, #stamp) ~= stamp then
    return false
  end
  local names = {}
  for number = recorded.first_change, last do
    names[#names + 1] = '+' .. format_integer(number)
    recorded.change_bytes = recorded.change_bytes - sizes[number - first + 1]
  end
  recorded.change_bytes = math.max(recorded.change_bytes, 0)
  recorded.first_change = last + 1
  write_fields(metric.key.live, orders.fold_rows)
  redis.call('HSET', metric.key.live, 'first', format_integer(last + 1))
  remove_fields(metric.key.live, names)
  return true
end

-- The log must hold the blocks that the worker read: as many of them, and the same first and last.
-- That is enough, since the clock only grows and blocks are cut from the front. To compare all of
-- them would block the server, 70 ms for 8 MB.
local function check_blocks()
  local beginnings, after_sealed = orders.block_beginnings, '(' .. orders.sealed
  if redis.call('ZCOUNT', metric.key.log, after_sealed, orders.new_sealed) ~= #beginnings then
    return 'log'
  end
  if #beginnings == 0 then
    return
  end
  local first = redis.call('ZRANGEBYSCORE', metric.key.log,
    after_sealed, orders.new_sealed, 'LIMIT', 0, 1)[1]
  local last = redis.call('ZREVRANGEBYSCORE', metric.key.log,
    orders.new_sealed, after_sealed, 'LIMIT', 0, 1)[1]
  local first_beginning, last_beginning = beginnings[1], beginnings[#beginnings]
  if string.sub(first, 1, #first_beginning) ~= first_beginning
    or string.sub(last, 1, #last_beginning) ~= last_beginning then
    return 'log'
  end
end

local function check_data(time_us)
  local state, now_ms = metric.state, math.floor(time_us / 1000)
  for _, hash in ipairs(data) do
    if now_ms >= hash.refused_from_ms then
      return 'late'
    end
    local hour = tonumber(string.match(hash.name, '^minute (%d+)$'))
    if hour then
      state.oldest_hour = math.min(state.oldest_hour or hour, hour)
      state.newest_hour = math.max(state.newest_hour or hour, hour)
    end
    for at = 1, #hash.fields, 2 do
      local field, value = hash.fields[at], hash.fields[at + 1]
      hash.growth = hash.growth + #value - redis.call('HSTRLEN', hash.key, field)
    end
    for _, field in ipairs(hash.removed) do
      hash.growth = hash.growth - redis.call('HSTRLEN', hash.key, field)
    end
  end
end

-- Choose the blocks to take off the log. Sealed blocks stay for a while, so that subscribers that
-- reconnect can catch up. Their age is judged by the later of the shard's clock and the time: the
-- clock stops when recording stops, and the time may be set back.
local function read_log(time_us)
  local clock = math.max(tonumber(redis.call('GET', clock_key) or '0'), time_us)
  local newest_cut = math.min(tonumber(orders.new_sealed), clock - orders.replay_us)
  local cut = redis.call('ZRANGEBYSCORE', metric.key.log,
    '-inf', format_integer(newest_cut), 'WITHSCORES', 'LIMIT', 0, MAX_CUT)
  for at = 1, #cut, 2 do
    metric.recorded.log_bytes = math.max(metric.recorded.log_bytes - #cut[at], 0)
  end
  local unsealed = redis.call('ZRANGEBYSCORE', metric.key.log,
    '(' .. orders.new_sealed, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  metric.log = {
    clock = clock,
    cut_clock = tonumber(cut[#cut]), -- of the newest block to take off
    unsealed_clock = tonumber(unsealed[2]), -- of the oldest block that is not sealed then
    last_clock = tonumber(redis.call('ZSCORE', dirty_key, metric.name) or nil),
  }
end

-- A series is forgotten only if nothing was recorded since the worker looked at it. A client that
-- still uses its id then gets 'unknown_series' from record.lua.
local function check_forgotten_series()
  if #orders.forget_series > 0 and metric.log.unsealed_clock then
    return 'log'
  end
  for _, cleared in ipairs(orders.cleared_states) do
    local field, as_read = unpack(cleared)
    if redis.call('HGET', metric.key.live, field) ~= as_read then
      return 'version'
    end
  end
end

local function count_expired_samples()
  local state = metric.state
  for _, field in ipairs(orders.expired_sizes) do
    if string.sub(field, 1, 8) == 'samples ' then
      local samples = tonumber(redis.call('HGET', metric.key.held, field) or '0')
      state.expired_samples = state.expired_samples + samples
    end
  end
end

-- Fail here, before anything is written, if one of these keys has another type.
local function check_types()
  redis.call('HLEN', metric.key.due)
  redis.call('HLEN', metric.key.live)
  redis.call('HLEN', metric.key.held)
  redis.call('HLEN', metric.key.values)
  redis.call('ZCARD', pending_key)
  redis.call('ZCARD', metric.key.touched)
end

-- Return an error if a right is missing.
local function find_missing_right()
  local key = metric.key
  if not redis.acl_check_cmd then -- DEL cannot be tried; a user who lacks it alone is rare
    return find_refused('HSET', key.state, 'f', 'v', 'g')
      or find_refused('HINCRBY', key.state, 'f', 'x')
      or find_refused('ZADD', key.touched, 'nan', 'm')
      or find_refused('EXPIREAT', key.touched, 'x')
      or find_refused('HDEL', key.state, '')
      or find_refused('ZREM', dirty_key, '')
      or find_refused('ZREMRANGEBYSCORE', key.log, '1', '0')
      or find_refused('PERSIST', key.touched)
  end
  return find_denied('HSET', key.state, 'f', 'v')
    or find_denied('HDEL', key.state, 'f')
    or find_denied('HINCRBY', key.state, 'f', '1')
    or find_denied('ZADD', key.touched, '0', 'm')
    or find_denied('ZREM', dirty_key, 'm')
    or find_denied('ZREMRANGEBYSCORE', key.log, '0', '0')
    or find_denied('EXPIREAT', key.live, '1')
    or find_denied('PERSIST', key.live)
    or find_denied('DEL', key.live)
end

-- Steps that write.

-- Write rows in which some are set to 0, and remove values of processes: of forgotten series, and
-- of ids that no series has.
local function clear_rows()
  for _, cleared in ipairs(orders.cleared_states) do
    local field, _, value = unpack(cleared)
    if value == '' then
      redis.call('HDEL', metric.key.live, field)
    else
      redis.call('HSET', metric.key.live, field, value)
    end
  end
end

local function write_state(new_version)
  local key, state = metric.key.state, metric.state
  redis.call('HSET', key, 'version', new_version, 'sealed', orders.new_sealed)
  if state.oldest_hour then
    redis.call('HSET', key,
      'oldest', format_integer(state.oldest_hour),
      'newest', format_integer(state.newest_hour))
  end
  if orders.late_samples > 0 then
    redis.call('HINCRBY', key, 'late', format_integer(orders.late_samples))
  end
  if state.expired_samples > 0 then
    redis.call('HINCRBY', key, 'pruned', format_integer(state.expired_samples))
  end
end

local function write_data()
  for _, hash in ipairs(data) do
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

local function write_sizes()
  for _, sealed in ipairs(orders.sealed_samples) do
    local hour, samples = unpack(sealed)
    redis.call('HINCRBY', metric.key.held, 'samples ' .. hour, format_integer(samples))
  end
  if #orders.expired_sizes > 0 then
    redis.call('HDEL', metric.key.held, unpack(orders.expired_sizes))
  end
end

local function schedule()
  for _, mark in ipairs(orders.mark_due) do
    local field, due_ms = unpack(mark)
    redis.call('HSET', metric.key.due, field, format_integer(due_ms))
    redis.call('ZADD', pending_key, format_integer(due_ms), field .. ' ' .. metric.name)
  end
  for _, field in ipairs(orders.unmark_due) do
    redis.call('HDEL', metric.key.due, field)
    redis.call('ZREM', pending_key, field .. ' ' .. metric.name)
  end
  for _, tidying in ipairs(orders.schedule) do
    local task, due_ms = unpack(tidying)
    redis.call('ZADD', pending_key, format_integer(due_ms), task .. ' ' .. metric.name)
  end
  for _, tidying in ipairs(orders.schedule_if_absent) do
    local task, due_ms = unpack(tidying)
    redis.call('ZADD', pending_key, 'NX', format_integer(due_ms), task .. ' ' .. metric.name)
  end
end

local function cut_log()
  local cut_clock, recorded = metric.log.cut_clock, metric.recorded
  if cut_clock then
    redis.call('ZREMRANGEBYSCORE', metric.key.log, '-inf', format_integer(cut_clock))
    recorded.cut, recorded.oldest = cut_clock, math.max(recorded.oldest, cut_clock)
  end
end

-- A worker that folded, or found nothing to fold, is expected to come again.
local function write_recorded(has_folded)
  local recorded = metric.recorded
  recorded.sealed = tonumber(orders.new_sealed)
  recorded.waiting = metric.log.unsealed_clock or 0
  if has_folded or recorded.first_change == recorded.next_change then
    recorded.folded = metric.log.clock
  end
  redis.call('HSET', recorded_key, metric.name, pack_state(recorded))
end

local function mark_clean()
  local last_clock = metric.log.last_clock
  if last_clock and last_clock <= tonumber(orders.new_sealed) then
    redis.call('ZREM', dirty_key, metric.name)
  end
end

-- The steps in order. A script that fails midway keeps what it has written, so everything is read
-- and checked before anything is written.

local conflict = read_state() or check_blocks()
if conflict then
  return conflict
elseif not metric.recorded then
  return redis.error_reply(corrupt_state(recorded_key, metric.name))
end
local time = redis.call('TIME')
local time_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
conflict = check_data(time_us) or read_log(time_us) or check_forgotten_series()
if conflict then
  return conflict
end
count_expired_samples()
check_types()
local missing_right = find_missing_right()
if missing_right then
  return redis.error_reply(missing_right)
end

local number = tonumber(string.match(metric.version, '^%d+') or '0') + 1
local new_version = format_integer(number) .. '.' .. token
write_state(new_version)
local has_folded = fold()
if orders.none_left then
  forget_metric(metric, catalogue_key)
else
  forget_series(metric, orders.forget_series)
  clear_rows()
end
write_data()
if #orders.forget_series > 0 then
  forget_touched(metric)
else
  write_touched(metric, data, number)
end
write_sizes()
write_version(metric, number, new_version)
schedule()
cut_log()
write_recorded(has_folded)
mark_clean()
return 'ok'
