-- end_values: remove the live values of dead processes from one metric.
--
-- KEYS[1]  live      hash; for all keys see keys.py
-- KEYS[2]  recorded  hash
-- ARGV[1]  metric    its name
-- ARGV[2+] then three for each field of the live hash: its name, its value as it was read, and the
--          new value; '' is no field
-- Returns  1, or 0 if a field is not as it was read: nothing was changed then
-- Why Lua  a process that is not dead may have sent its value again, which must stay

-- @include "numbers"
-- @include "rights"
-- @include "record_state"

local live_key, recorded_key = KEYS[1], KEYS[2]
local name = ARGV[1]

-- Return an error if a permission is missing.
local function find_missing_right()
  if not redis.acl_check_cmd then
    return find_refused('HSET', recorded_key, 'f', 'v', 'g')
      or find_refused('HDEL', recorded_key, '')
  end
  return find_denied('HSET', live_key, 'f', 'v') or find_denied('HDEL', live_key, 'f')
end

local function is_as_read()
  for argument = 2, #ARGV, 3 do
    if (redis.call('HGET', live_key, ARGV[argument]) or '') ~= ARGV[argument + 1] then
      return false
    end
  end
  return true
end

local state = unpack_state(redis.call('HGET', recorded_key, name))
if not state then
  return redis.error_reply(corrupt_state(recorded_key, name))
elseif not is_as_read() then
  return 0
end
local missing_right = find_missing_right()
if missing_right then
  return redis.error_reply(missing_right)
end

local time = redis.call('TIME')
-- A copy in progress notices this.
state[FOLDED] = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('HSET', recorded_key, name, pack_state(state))
for argument = 2, #ARGV, 3 do
  local field, value = ARGV[argument], ARGV[argument + 2]
  if value == '' then
    redis.call('HDEL', live_key, field)
  else
    redis.call('HSET', live_key, field, value)
  end
end
return 1
