-- Writing many fields of a hash.

local AT_ONCE = 1000 -- arguments of one command; Lua's stack bounds them

-- Remove fields, set those of a list, each followed by its value, and let the hash expire.
local function write_hash(key, removed, fields, ttl_ms)
  for from = 1, #removed, AT_ONCE do
    redis.call('HDEL', key, unpack(removed, from, math.min(from + AT_ONCE - 1, #removed)))
  end
  for from = 1, #fields, AT_ONCE do
    redis.call('HSET', key, unpack(fields, from, math.min(from + AT_ONCE - 1, #fields)))
  end
  redis.call('PEXPIRE', key, ttl_ms)
end
