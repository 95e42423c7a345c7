-- alerts: write the changes of a rule group's evaluation, if this process still evaluates it.
--
-- KEYS[1]  group     hash, see keys.py
-- KEYS[2]  leases    hash
-- KEYS[3]  groups    zset
-- KEYS[4]  history   zset
-- ARGV[1]  name      of the group
-- ARGV[2]  fence     of the group's lease
-- ARGV[3]  time      of the evaluation, in ms
-- ARGV[4]  ttls      msgpack [ms that the group is kept, ms that its history is, most changes that
--                    the history holds]
-- ARGV[5]  digest    SHA1 of the group's status that this process has seen last; empty to replace
--                    the whole group
-- ARGV[6]  removed   msgpack list of fields of the group
-- ARGV[7]  changes   msgpack list of changes of states, for the history
-- ARGV[8+] then pairs of a field of the group and its value
-- Returns  1; 0 if another process has taken the lease in the meantime; -1 if the group is not what
--          this process has seen last, since Redis lost a write or its reply was lost
-- Why Lua  comparing the fence and writing must be one step

-- @include "lease"
-- @include "write_hash"

local group_key, leases_key, groups_key, history_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, fence, time_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local group_ms, history_ms, history_size = unpack(cmsgpack.unpack(ARGV[4]))
local digest, removed, changes = ARGV[5], cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
local fields = {}
for argument = 8, #ARGV do
  fields[#fields + 1] = ARGV[argument]
end

if read_lease(leases_key, name).fence ~= fence then
  return 0
end
if digest == '' then
  redis.call('DEL', group_key)
elseif redis.sha1hex(redis.call('HGET', group_key, '') or '') ~= digest then
  return -1
end

write_hash(group_key, removed, fields, group_ms)
redis.call('ZADD', groups_key, time_ms, name)
redis.call('ZREMRANGEBYSCORE', groups_key, '-inf', time_ms - group_ms)
redis.call('PEXPIRE', groups_key, group_ms)

for _, change in ipairs(changes) do
  redis.call('ZADD', history_key, time_ms, change)
end
if #changes > 0 then
  redis.call('ZREMRANGEBYSCORE', history_key, '-inf', time_ms - history_ms)
  redis.call('ZREMRANGEBYRANK', history_key, 0, -history_size - 1)
  redis.call('PEXPIRE', history_key, history_ms)
end
return 1
