-- forget: remove writers that stopped long ago, unless they have come back.
--
-- KEYS[1]  writers  hash, see keys.py
-- ARGV[1+] then pairs of a writer and its entry as it was read
-- Returns  how many were removed
-- Why Lua  the entry of a writer guards against its repeated batches: it must stay if the writer
--          has sent another batch since the entry was read

local writers_key = KEYS[1]

local function read_arguments()
  local entries = {}
  for argument = 1, #ARGV, 2 do
    entries[#entries + 1] = { writer = ARGV[argument], as_read = ARGV[argument + 1] }
  end
  return entries
end

local removed = 0
for _, entry in ipairs(read_arguments()) do
  if redis.call('HGET', writers_key, entry.writer) == entry.as_read then
    removed = removed + redis.call('HDEL', writers_key, entry.writer)
  end
end
return removed
