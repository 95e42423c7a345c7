-- define: replace the definition of a metric, unless it has changed since it was read.
--
-- KEYS[1]  catalogue   hash, see keys.py
-- ARGV[1]  metric
-- ARGV[2]  as_read     its entry in the catalogue, as it was read: definition and stamp
-- ARGV[3]  entry       what takes its place, with the same stamp
-- Returns  1, or 0 if the entry is another one by now
-- Why Lua  two processes may change different options at once, and neither change may be lost

local catalogue_key = KEYS[1]
local metric, as_read, entry = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', catalogue_key, metric) ~= as_read then
  return 0
end
redis.call('HSET', catalogue_key, metric, entry)
return 1
