-- Reads and checks of a commit before it writes anything. *metric* is one from read_commits().
--
-- Some steps return why nothing may be changed, as in commit.lua's Returns.

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "record_state"

-- Maximum number of sealed blocks that one commit removes from the log, in addition to as many as
-- it seals: so the log shrinks however often it is written.
local CUT_BESIDE_SEALED = 256

local function read_state(metric)
  local found = redis.call('HMGET', metric.key.state, 'version', 'sealed', 'oldest', 'newest')
  if (found[1] or '') ~= metric.version or (found[2] or '0') ~= metric.orders.sealed then
    return 'version'
  end
  metric.state = {
    oldest_hour = tonumber(found[3] or nil), -- that samples were ever sealed into
    newest_hour = tonumber(found[4] or nil),
    expired_samples = 0, -- that this commit adds to `pruned`
  }
end

-- The log must contain the blocks that the worker read: the same number, and the same first and
-- last. That is enough, because the clock only grows and blocks are cut from the front. Comparing
-- all of them would block the server for 70 ms for 8 MB.
local function check_blocks(metric)
  local orders = metric.orders
  local count, after_sealed = orders.block_count, '(' .. orders.sealed
  if redis.call('ZCOUNT', metric.key.log, after_sealed, orders.new_sealed) ~= count then
    return 'log'
  end
  if count == 0 then
    return
  end
  -- Usually, the last one is the newest in the log.
  local newest = redis.call('ZREVRANGEBYSCORE', metric.key.log,
    '+inf', after_sealed, 'WITHSCORES', 'LIMIT', '0', '1')
  metric.is_sealed_to_end = tonumber(newest[2]) == tonumber(orders.new_sealed)
  local last = metric.is_sealed_to_end and newest[1] or redis.call('ZREVRANGEBYSCORE',
    metric.key.log, orders.new_sealed, after_sealed, 'LIMIT', '0', '1')[1]
  local first = count == 1 and last or redis.call('ZRANGEBYSCORE', metric.key.log,
    after_sealed, orders.new_sealed, 'LIMIT', '0', '1')[1]
  if string.sub(first, 1, #orders.first_block) ~= orders.first_block
    or string.sub(last, 1, #orders.last_block) ~= orders.last_block then
    return 'log'
  end
end

local function check_data(metric, time_us)
  local state, now_ms = metric.state, math.floor(time_us / 1000)
  for _, hash in ipairs(metric.data) do
    if now_ms >= hash.refused_from_ms then
      return 'late'
    end
    local hour = tonumber(string.match(hash.name, '^minute (%d+)$'))
    if hour then
      state.oldest_hour = math.min(state.oldest_hour or hour, hour)
      state.newest_hour = math.max(state.newest_hour or hour, hour)
    end
    local growth, arguments = 0, metric.arguments
    for at = hash.first_field, hash.last_field, 2 do
      local size = redis.call('HSTRLEN', hash.key, arguments[at])
      growth, hash.is_there = growth + #arguments[at + 1] - size, hash.is_there or size > 0
    end
    for at = hash.last_field + 1, hash.last_removed do
      growth = growth - redis.call('HSTRLEN', hash.key, arguments[at])
    end
    hash.growth = growth
  end
end

-- Choose the blocks to remove from the log. Sealed blocks stay for a while, so that reconnecting
-- subscribers can catch up. Their age is judged by *clock*, the later of the shard's clock and the
-- time: the clock stops when recording stops, and the time may be set back.
local function read_log(metric, clock)
  local newest_cut = math.min(tonumber(metric.orders.new_sealed), clock - metric.orders.replay_us)
  local most = metric.orders.block_count + CUT_BESIDE_SEALED
  local cut = redis.call('ZRANGEBYSCORE', metric.key.log,
    '-inf', format_integer(newest_cut), 'WITHSCORES', 'LIMIT', '0', format_integer(most))
  for at = 1, #cut, 2 do
    metric.recorded[LOG_BYTES] = math.max(metric.recorded[LOG_BYTES] - #cut[at], 0)
  end
  local unsealed = {}
  if not metric.is_sealed_to_end then
    unsealed = redis.call('ZRANGEBYSCORE', metric.key.log,
      '(' .. metric.orders.new_sealed, '+inf', 'WITHSCORES', 'LIMIT', '0', '1')
  end
  metric.log = {
    cut_clock = tonumber(cut[#cut]), -- of the newest block to take off
    unsealed_clock = tonumber(unsealed[2]), -- of the oldest block that is not sealed then
  }
end

-- Read the newest of the changes to fold, which identifies them.
local function read_newest_change(metric)
  local first, sizes = metric.orders.fold_first, metric.orders.fold_sizes
  if first then
    local name = '+' .. format_integer(first + #sizes - 1)
    metric.newest_change = redis.call('HGET', metric.key.live, name)
  end
end

-- A series is forgotten only if nothing has been recorded since the worker checked it. A client
-- that still uses its id then gets 'unknown_series' from record.lua.
local function check_forgotten_series(metric)
  if #metric.orders.forget_series > 0 and metric.log.unsealed_clock then
    return 'log'
  end
  for _, cleared in ipairs(metric.orders.cleared_states) do
    local field, as_read = unpack(cleared)
    if (redis.call('HGET', metric.key.live, field) or '') ~= as_read then
      return 'version'
    end
  end
end

local function count_expired_samples(metric)
  local state = metric.state
  for _, field in ipairs(metric.orders.expired_sizes) do
    if string.sub(field, 1, 8) == 'samples ' then
      local samples = tonumber(redis.call('HGET', metric.key.held, field) or '0')
      state.expired_samples = state.expired_samples + samples
    end
  end
end

-- Determine the new sizes in `held`: metric.sizes is field, size, field, size... Return an error if
-- an existing one is not a number.
local function read_sizes(metric)
  local fields, growths, sizes = {}, {}, {}
  for _, hash in ipairs(metric.data) do
    if hash.growth ~= 0 then
      fields[#fields + 1], growths[#growths + 1] = hash.name, hash.growth
    end
  end
  for _, sealed in ipairs(metric.orders.sealed_samples) do
    fields[#fields + 1], growths[#growths + 1] = 'samples ' .. sealed[1], sealed[2]
  end
  if #fields > 0 then
    local found = read_fields(metric.key.held, fields)
    for n, field in ipairs(fields) do
      local size = tonumber(found[n] or '0')
      if not size then
        return 'WRONGTYPE redismetrics: ' .. metric.key.held .. ' holds a size that is no number'
      end
      sizes[2 * n - 1], sizes[2 * n] = field, format_integer(size + growths[n])
    end
  end
  metric.sizes = sizes
end

-- Fail here, before anything is written, if a key that has not been read yet has another type. If
-- no series is forgotten, `touched` is written first, and would fail then.
local function check_types(metric)
  local key, orders = metric.key, metric.orders
  if #orders.mark_due + #orders.unmark_due > 0 then
    redis.call('HLEN', key.due)
  end
  if #orders.expired_sizes > 0 then
    redis.call('HLEN', key.held)
  end
  if #orders.forget_series > 0 then
    redis.call('HLEN', key.values)
    redis.call('ZCARD', key.touched)
  end
end

-- Return an error if a permission is missing. The server itself has checked the keys of all
-- metrics, so each command is checked with those of one.
local function find_missing_right(metric)
  local key = metric.key
  if not redis.acl_check_cmd then -- DEL cannot be tried; a user who lacks it alone is rare
    return find_refused('HSET', key.state, 'f', 'v', 'g')
      or find_refused('HINCRBY', key.state, 'f', 'x')
      or find_refused('ZADD', key.touched, 'nan', 'm')
      or find_refused('EXPIREAT', key.touched, 'x')
      or find_refused('HDEL', key.state, '')
      or find_refused('ZREM', metric.key.dirty, '')
      or find_refused('ZREMRANGEBYSCORE', key.log, '1', '0')
      or find_refused('PERSIST', key.touched)
  end
  return find_denied('HSET', key.state, 'f', 'v')
    or find_denied('HDEL', key.state, 'f')
    or find_denied('HINCRBY', key.state, 'f', '1')
    or find_denied('ZADD', key.touched, '0', 'm')
    or find_denied('ZREM', metric.key.dirty, 'm')
    or find_denied('ZREMRANGEBYSCORE', key.log, '0', '0')
    or find_denied('EXPIREAT', key.live, '1')
    or find_denied('PERSIST', key.live)
    or find_denied('DEL', key.live)
end
