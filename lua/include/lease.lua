-- Leases: one hash field per piece of work, msgpack [holder, fence, until_us].
--
-- The fence is a number that grows with every new holder. A script that writes for the holder of a
-- lease compares it first, so a process that was paused for too long cannot change anything.

local function server_time_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function read_lease(leases_key, name)
  local data = redis.call('HGET', leases_key, name)
  if not data then
    return { holder = '', fence = 0, until_us = 0 }
  end
  local fields = cmsgpack.unpack(data)
  return { holder = fields[1], fence = fields[2], until_us = fields[3] }
end

local function write_lease(lease)
  return cmsgpack.pack({ lease.holder, lease.fence, lease.until_us })
end
