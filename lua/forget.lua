-- forget: take writers off that have been gone for long, unless they came back meanwhile.
--
-- KEYS[1]  writers  hash, see keys.py
-- ARGV[1+] then pairs of a writer and its entry as it was read
-- Returns  how many were taken off
-- Why Lua  a writer that sends again between the look and the deletion must keep its entry, which guards its batches

local writers_key = KEYS[1]
local removed = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', writers_key, ARGV[i]) == ARGV[i + 1] then
    removed = removed + redis.call('HDEL', writers_key, ARGV[i])
  end
end
return removed
