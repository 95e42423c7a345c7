-- define: replace the definition of a metric, unless it has changed since it was read.
--
-- KEYS[1]  catalogue   hash; for all keys see keys.py
-- KEYS[2]  recorded    hash
-- ARGV[1]  metric
-- ARGV[2]  as_read     its entry in the catalogue, as it was read: definition and stamp
-- ARGV[3]  entry       what takes its place, with the same stamp
-- Returns  1, or 0 if the entry is another one by now
-- Why Lua  two processes may change different options at once, and neither change may be lost
--
-- This starts a new epoch of the metric, so that writers who know its series by id, and do not send
-- a definition, learn the new one.

-- @include "record_state"

local catalogue_key, recorded_key = KEYS[1], KEYS[2]
local metric, as_read, entry = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', catalogue_key, metric) ~= as_read then
  return 0
end
local state = unpack_state(redis.call('HGET', recorded_key, metric))
if not state then
  return redis.error_reply(corrupt_state(recorded_key, metric))
end
state[EPOCH] = state[EPOCH] + 1
redis.call('HSET', recorded_key, metric, pack_state(state))
redis.call('HSET', catalogue_key, metric, entry)
return 1
