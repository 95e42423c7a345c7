-- Writing many fields of a hash.

local AT_ONCE = 1000 -- arguments of one command; Lua's stack bounds them

-- Remove fields, set those of *pairs* from *first* on, and let the hash expire in *ttl_ms*.
local function write_hash(key, removed, pairs, first, ttl_ms)
  for from = 1, #removed, AT_ONCE do
    redis.call('HDEL', key, unpack(removed, from, math.min(from + AT_ONCE - 1, #removed)))
  end
  for from = first, #pairs, AT_ONCE do
    redis.call('HSET', key, unpack(pairs, from, math.min(from + AT_ONCE - 1, #pairs)))
  end
  redis.call('PEXPIRE', key, ttl_ms)
end
