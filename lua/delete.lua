-- delete: remove a metric with all its data.
--
-- KEYS[1]  state      hash; for all keys see keys.py
-- KEYS[2]  series     hash
-- KEYS[3]  live       hash
-- KEYS[4]  log        zset
-- KEYS[5]  values     hash
-- KEYS[6]  due        hash
-- KEYS[7]  held       hash
-- KEYS[8]  touched    zset
-- KEYS[9]  exemplars  hash
-- KEYS[10] recorded   hash
-- KEYS[11] catalogue  hash
-- KEYS[12] dirty      zset
-- KEYS[13] pending    zset
-- KEYS[14+] data      hashes of slots
-- ARGV[1]  metric     its name
-- ARGV[2]  token      random, for the new version
-- ARGV[3]  cleanups   msgpack [cleanup that may be pending...]
-- ARGV[4+] then for each data key its name in held
-- Returns  1 if the metric existed, 0 if not, or 'again': a worker has written a data key that is
--          not among KEYS
-- Why Lua  the series ids and numbers of changes to come must outlive the metric, and only a script
--          may change what holds them

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "record_state"

local state_key, series_key, live_key, log_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local values_key, due_key, held_key, touched_key = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local exemplars_key, recorded_key, catalogue_key = KEYS[9], KEYS[10], KEYS[11]
local dirty_key, pending_key = KEYS[12], KEYS[13]
local name, token, cleanups = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])

local function has_other_data()
  local named = {}
  for argument = 4, #ARGV do
    named[ARGV[argument]] = true
  end
  for _, field in ipairs(redis.call('HKEYS', held_key)) do
    if not named[field] and string.sub(field, 1, 8) ~= 'samples ' then
      return true
    end
  end
end

-- Return an error if a permission is missing.
local function find_missing_right()
  if not redis.acl_check_cmd then
    return find_refused('HSET', state_key, 'f', 'v', 'g')
      or find_refused('HDEL', state_key, '')
      or find_refused('ZREM', dirty_key, '')
  end
  return find_denied('HSET', state_key, 'f', 'v')
    or find_denied('HDEL', state_key, 'f')
    or find_denied('ZREM', dirty_key, 'm')
    or find_denied('DEL', live_key)
end

local recorded = unpack_state(redis.call('HGET', recorded_key, name))
if not recorded then
  return redis.error_reply(corrupt_state(recorded_key, name))
elseif has_other_data() then
  return 'again'
end
local tasks = redis.call('HKEYS', due_key)
redis.call('HLEN', state_key)
redis.call('HLEN', catalogue_key)
redis.call('ZCARD', dirty_key)
redis.call('ZCARD', pending_key)
local missing_right = find_missing_right()
if missing_right then
  return redis.error_reply(missing_right)
end

-- DEL comes first: Redis 6.2 cannot be asked about this permission, and rejects it here.
redis.call('DEL', series_key, live_key, log_key, values_key, due_key, held_key, touched_key,
  exemplars_key)
-- The state that outlives the metric: the version, so that readers and workers in progress start
-- over, and how far its log was sealed.
redis.call('HSET', state_key, 'version', '0.' .. token)
redis.call('HDEL', state_key, 'late', 'pruned')
recorded[EPOCH] = recorded[EPOCH] + 1
recorded[FIRST_CHANGE], recorded[CHANGE_BYTES] = recorded[NEXT_CHANGE], 0
recorded[LOG_BYTES], recorded[OLDEST], recorded[WAITING] = 0, 0, 0
recorded[SAMPLES], recorded[NEVER_SEALED] = 0, 0
redis.call('HSET', recorded_key, name, pack_state(recorded))
for number = 14, #KEYS do
  redis.call('DEL', KEYS[number])
end
for _, task in ipairs(tasks) do
  redis.call('ZREM', pending_key, task .. ' ' .. name)
end
for _, task in ipairs(cleanups) do
  redis.call('ZREM', pending_key, task .. ' ' .. name)
end
redis.call('ZREM', dirty_key, name)
return redis.call('HDEL', catalogue_key, name)
