-- commit: take over what a worker worked out, all of it or nothing.
--
-- KEYS[1]  state      hash, see keys.py
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
-- KEYS[13+] data      hashes of slots
-- ARGV[1]  metric   its name
-- ARGV[2]  version  as it was when the worker read what this commit was made of; '' when there was none
-- ARGV[3]  token    random, of the new version
-- ARGV[4]  orders   msgpack [sealed, new sealed, [beginning of each block between, as far as its sequence], replay window in us,
--          [[due field, when in ms]...] to mark, [due field...] to unmark, samples dropped because they came too late,
--          [[raw span, samples]...] sealed into each, [held field...] that are past their retention, [[name, when in ms]...] of tidying,
--          the same of tidying that isn't pending yet, [canonical tags...] of series to forget, [[live field, as it was read, as it
--          becomes]...], 1 if no series is left]
-- ARGV[5+] then for each data key: its name in held and touched, refused from (ms), expires at (s; 0 never), fields written,
--          fields removed, then field and value of each written, then each removed field
-- Returns  'ok', or why nothing was changed: 'version', 'log' (it is not what was read), 'late' (a key is past its retention)
-- Why Lua  what was merged and how far the log is sealed must change together, and only if nobody else changed them
--
-- Samples are never unpacked here. Everything is read and checked first, written after.

local state_key, log_key, series_key, live_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local due_key, held_key, touched_key = KEYS[5], KEYS[6], KEYS[7]
local clock_key, catalogue_key, dirty_key, pending_key = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local values_key = KEYS[12]
local FIRST_DATA = 13
local metric, version, token = ARGV[1], ARGV[2], ARGV[3]
local sealed, new_sealed, beginnings, replay, marks, unmarks, late, samples, gone, tidying, unless, idle, rows, none_left = unpack(cmsgpack.unpack(ARGV[4]))

local SLICE = 1000 -- unpack() stops near 8,000 values
local MOST_CELLS = 128
local CUT = 256 -- at most so many sealed blocks are taken off the log at once; the rest by later commits
local REMEMBERED = 64 -- commits whose cells a reader's cache can still catch up with

local function text(number)
  return string.format('%.0f', number)
end

-- Rights: see record.lua.
local function forbidden()
  local lack = "NOPERM redismetrics: this user's rights lack "
  if redis.acl_check_cmd then
    local checks = { { 'HSET', state_key, 'f', 'v' }, { 'HDEL', state_key, 'f' }, { 'HINCRBY', state_key, 'f', '1' }, { 'ZADD', touched_key, '0', 'm' },
      { 'ZREM', dirty_key, 'm' }, { 'ZREMRANGEBYSCORE', log_key, '0', '0' }, { 'EXPIREAT', live_key, '1' }, { 'PERSIST', live_key }, { 'DEL', live_key } }
    for _, check in ipairs(checks) do
      if not redis.acl_check_cmd(unpack(check)) then
        return lack .. check[1] .. ' ' .. check[2]
      end
    end
    return nil
  end
  local probes = { { 'HSET', state_key, 'f', 'v', 'g' }, { 'HINCRBY', state_key, 'f', 'x' }, { 'ZADD', touched_key, 'nan', 'm' }, { 'EXPIREAT', touched_key, 'x' },
    { 'HDEL', state_key, '' }, { 'ZREM', dirty_key, '' }, { 'ZREMRANGEBYSCORE', log_key, '1', '0' }, { 'PERSIST', touched_key } } -- DEL can't be tried; a user without it is rare
  for _, probe in ipairs(probes) do
    local reply = redis.pcall(unpack(probe))
    local refused = type(reply) == 'table' and reply.err or ''
    if string.find(refused, 'user executing the script', 1, true) then
      return lack .. probe[1] .. ' ' .. probe[2]
    elseif string.find(refused, 'OOM command not allowed', 1, true) then
      return "OOM command not allowed when used memory > 'maxmemory'"
    end
  end
  return nil
end

-- 1. Is all as it was read?
local found = redis.call('HMGET', state_key, 'version', 'sealed', 'waiting', 'bytes', 'oldest', 'newest')
if (found[1] or '') ~= version or (found[2] or '0') ~= sealed then
  return 'version'
end
-- As many blocks as were read, the same at both ends: the clock only grows, so with the last of them the same those before it
-- are, and what is cut is cut from the front. Reading all of them would hold the server up, 70 ms for 8 MB.
local after_sealed = '(' .. sealed
if redis.call('ZCOUNT', log_key, after_sealed, new_sealed) ~= #beginnings then
  return 'log'
end
if #beginnings > 0 then
  local first = redis.call('ZRANGEBYSCORE', log_key, after_sealed, new_sealed, 'LIMIT', 0, 1)[1]
  local last = redis.call('ZREVRANGEBYSCORE', log_key, new_sealed, after_sealed, 'LIMIT', 0, 1)[1]
  if string.sub(first, 1, #beginnings[1]) ~= beginnings[1] or string.sub(last, 1, #beginnings[#beginnings]) ~= beginnings[#beginnings] then
    return 'log'
  end
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local data, at, cells = {}, 5, 0
local oldest, newest = tonumber(found[5] or nil), tonumber(found[6] or nil) -- hours that were ever sealed into
for i = FIRST_DATA, #KEYS do
  local part = { key = KEYS[i], name = ARGV[at], expires = ARGV[at + 2], writes = {}, removes = {}, grown = 0 }
  if now_ms >= tonumber(ARGV[at + 1]) then
    return 'late'
  end
  local written, removed = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  at, cells = at + 5, cells + written
  local hour = tonumber(string.match(part.name, '^minute (%d+)$'))
  if hour then
    oldest, newest = math.min(oldest or hour, hour), math.max(newest or hour, hour)
  end
  for _ = 1, written do
    part.writes[#part.writes + 1], part.writes[#part.writes + 2] = ARGV[at], ARGV[at + 1]
    part.grown = part.grown + #ARGV[at + 1] - redis.call('HSTRLEN', part.key, ARGV[at])
    at = at + 2
  end
  for _ = 1, removed do
    part.removes[#part.removes + 1] = ARGV[at]
    part.grown = part.grown - redis.call('HSTRLEN', part.key, ARGV[at])
    at = at + 1
  end
  data[#data + 1] = part
end

-- The log keeps what is sealed for a while, for subscribers that were cut off. The clock alone would never end the while of what
-- was recorded last, and the time alone, set back, not for as long.
local clock = math.max(tonumber(redis.call('GET', clock_key) or '0'), tonumber(time[1]) * 1000000 + tonumber(time[2]))
local keep = text(math.min(tonumber(new_sealed), clock - replay))
local bytes = tonumber(found[4] or '0')
local cut = redis.call('ZRANGEBYSCORE', log_key, '-inf', keep, 'WITHSCORES', 'LIMIT', 0, CUT)
for i = 1, #cut, 2 do
  bytes = bytes - #cut[i]
end
local after = redis.call('ZRANGEBYSCORE', log_key, '(' .. new_sealed, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local last = redis.call('ZSCORE', dirty_key, metric)
-- A series is forgotten only if nothing was recorded since it was looked at; whoever still knows its id is then told.
if #idle > 0 and after[1] then
  return 'log'
end
for _, row in ipairs(rows) do
  if redis.call('HGET', live_key, row[1]) ~= row[2] then
    return 'version'
  end
end
local number = tonumber(string.match(version, '^%d+') or '0') + 1
local new_version = text(number) .. '.' .. token
local expired = 0
for _, field in ipairs(gone) do
  if string.sub(field, 1, 8) == 'samples ' then
    expired = expired + tonumber(redis.call('HGET', held_key, field) or '0')
  end
end
redis.call('HLEN', due_key)
redis.call('HLEN', held_key)
redis.call('HLEN', values_key)
redis.call('ZCARD', pending_key)
redis.call('ZCARD', touched_key)
local lacking = forbidden()
if lacking then
  return redis.error_reply(lacking)
end

-- 2. Write.
redis.call('HSET', state_key, 'version', new_version, 'sealed', new_sealed, 'bytes', text(math.max(bytes, 0)),
  'waiting', after[2] and text(tonumber(after[2])) or '0')
if oldest then
  redis.call('HSET', state_key, 'oldest', text(oldest), 'newest', text(newest))
end
if late > 0 then
  redis.call('HINCRBY', state_key, 'late', text(late))
end
if expired > 0 then
  redis.call('HINCRBY', state_key, 'pruned', text(expired))
end
if none_left == 1 then
  redis.call('DEL', series_key, live_key, held_key, values_key)
  redis.call('HDEL', catalogue_key, metric)
else
  for first = 1, #idle, SLICE do
    redis.call('HDEL', series_key, unpack(idle, first, math.min(first + SLICE - 1, #idle)))
  end
  -- How many series have a value, and how many values a tag has: see record.lua. Those of older versions were not counted.
  for _, canonical in ipairs(idle) do
    local flat = cmsgpack.unpack(canonical)
    for i = 1, #flat, 2 do
      local pair = flat[i] .. '\0' .. flat[i + 1]
      local left = redis.call('HGET', values_key, pair)
      if left and tonumber(left) > 1 then
        redis.call('HINCRBY', values_key, pair, '-1')
      elseif left then
        redis.call('HDEL', values_key, pair)
        redis.call('HINCRBY', values_key, flat[i], '-1')
      end
    end
  end
  for _, row in ipairs(rows) do
    redis.call('HSET', live_key, row[1], row[3])
  end
end
for _, part in ipairs(data) do
  -- What goes first: the segment then takes its place, and the table of the hash stays small.
  for first = 1, #part.removes, SLICE do
    redis.call('HDEL', part.key, unpack(part.removes, first, math.min(first + SLICE - 1, #part.removes)))
  end
  for first = 1, #part.writes, 2 * SLICE do
    redis.call('HSET', part.key, unpack(part.writes, first, math.min(first + 2 * SLICE - 1, #part.writes)))
  end
  if part.expires == '0' then
    redis.call('PERSIST', part.key)
  else
    redis.call('EXPIREAT', part.key, part.expires)
  end
  if part.grown ~= 0 then
    redis.call('HINCRBY', held_key, part.name, text(part.grown))
  end
end
-- Of a commit that writes much, or forgets series, readers forget all: what is not remembered can't be caught up with.
if cells > MOST_CELLS or #idle > 0 then
  redis.call('ZREMRANGEBYSCORE', touched_key, '-inf', '+inf')
else
  for _, part in ipairs(data) do
    for field = 1, #part.writes, 2 do
      redis.call('ZADD', touched_key, number, part.name .. ' ' .. part.writes[field])
    end
  end
end
for _, pair in ipairs(samples) do
  redis.call('HINCRBY', held_key, 'samples ' .. pair[1], text(pair[2]))
end
if #gone > 0 then
  redis.call('HDEL', held_key, unpack(gone))
end
redis.call('ZADD', touched_key, number, '=' .. new_version)
redis.call('ZREMRANGEBYSCORE', touched_key, '-inf', number - REMEMBERED)
for _, mark in ipairs(marks) do
  redis.call('HSET', due_key, mark[1], text(mark[2]))
  redis.call('ZADD', pending_key, text(mark[2]), mark[1] .. ' ' .. metric)
end
for _, field in ipairs(unmarks) do
  redis.call('HDEL', due_key, field)
  redis.call('ZREM', pending_key, field .. ' ' .. metric)
end
for _, each in ipairs(tidying) do
  redis.call('ZADD', pending_key, text(each[2]), each[1] .. ' ' .. metric)
end
for _, each in ipairs(unless) do
  redis.call('ZADD', pending_key, 'NX', text(each[2]), each[1] .. ' ' .. metric)
end
if #cut > 0 then
  redis.call('ZREMRANGEBYSCORE', log_key, '-inf', text(tonumber(cut[#cut])))
  redis.call('HSET', state_key, 'cut', text(tonumber(cut[#cut])))
end
if last and tonumber(last) <= tonumber(new_sealed) then
  redis.call('ZREM', dirty_key, metric)
end
return 'ok'
