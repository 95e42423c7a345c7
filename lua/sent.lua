-- sent: write to the log of notifications, if this process still sends them.
--
-- KEYS[1]  sent     hash, see keys.py
-- KEYS[2]  leases   hash
-- ARGV[1]  name     of the lease
-- ARGV[2]  fence    of the lease
-- ARGV[3]  ttl      ms that the log is kept
-- ARGV[4]  removed  msgpack list of fields
-- ARGV[5+] then pairs of a field and its value
-- Returns  1, or 0 if another process has taken the lease in the meantime
-- Why Lua  comparing the fence and writing must be one step

-- @include "lease"
-- @include "write_hash"

local sent_key, leases_key = KEYS[1], KEYS[2]
local fields = {}
for argument = 5, #ARGV do
  fields[#fields + 1] = ARGV[argument]
end

if read_lease(leases_key, ARGV[1]).fence ~= tonumber(ARGV[2]) then
  return 0
end
write_hash(sent_key, cmsgpack.unpack(ARGV[4]), fields, ARGV[3])
return 1
