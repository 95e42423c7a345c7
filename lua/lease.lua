-- lease: take, renew or release a lease, so that one process at a time does a piece of work.
--
-- KEYS[1]  leases  hash, see keys.py
-- ARGV[1]  name    of the work
-- ARGV[2]  holder  id of the process
-- ARGV[3]  ttl_us  how long the lease is valid from now on; 0 to release it
-- Returns  msgpack [holder, fence, microseconds that it is still valid] of the lease as it is then
-- Why Lua  whether the lease is free, and taking it, must be one step

-- @include "lease"

local leases_key = KEYS[1]
local name, holder, ttl_us = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- Leases that nobody has taken for this long are removed.
local FORGOTTEN_AFTER_S = 86400

local now_us = server_time_us()
local lease = read_lease(leases_key, name)

if lease.holder == holder and lease.until_us > now_us then
  lease.until_us = now_us + ttl_us
elseif ttl_us > 0 and lease.until_us <= now_us then
  -- The fence only grows, even if the hash was lost, so it is at least the current time.
  lease = { holder = holder, fence = math.max(lease.fence + 1, now_us), until_us = now_us + ttl_us }
end
if lease.holder == holder then
  redis.call('HSET', leases_key, name, write_lease(lease))
  redis.call('EXPIRE', leases_key, FORGOTTEN_AFTER_S)
end
return cmsgpack.pack({ lease.holder, lease.fence, math.max(lease.until_us - now_us, 0) })
