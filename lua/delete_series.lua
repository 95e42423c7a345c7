-- delete_series: forget series of a metric, even if data of them is waiting.
--
-- KEYS[1]  state     hash; for all keys see keys.py
-- KEYS[2]  series    hash
-- KEYS[3]  live      hash
-- KEYS[4]  values    hash
-- KEYS[5]  touched   zset
-- KEYS[6]  recorded  hash
-- KEYS[7]  exemplars hash
-- ARGV[1]  metric    its name
-- ARGV[2]  token     random, for the new version
-- ARGV[3]  width     doubles in a row of totals
-- ARGV[4]  rows      rows in a field of the live hash
-- ARGV[5]  fields    msgpack [field of the live hash with a value of a process...], of the series
--                    as they were read; all may be removed, since ids are never used again
-- ARGV[6]  fields    msgpack [field of the exemplars...], the same
-- ARGV[7+] canonical tags of each series
-- Returns  how many of them there were
-- Why Lua  the epoch of the ids must change with the series, and only a script may change it
--
-- Blocks of the log and changes of the totals may contain ids of these series. Readers skip them,
-- and from now on record.lua rejects them.

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "record_state"
-- @include "forget_series"
-- @include "touched"

local recorded_key, exemplars_key = KEYS[6], KEYS[7]
local token, width, rows_per_field = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local value_fields, exemplar_fields = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])

local metric = {
  name = ARGV[1],
  key = {
    state = KEYS[1],
    series = KEYS[2],
    live = KEYS[3],
    values = KEYS[4],
    touched = KEYS[5],
  },
  recorded = nil, -- see include/record_state.lua
}

-- Return the tags and ids of existing series.
local function find_series()
  local all_tags, tags, ids = {}, {}, {}
  for argument = 7, #ARGV do
    all_tags[#all_tags + 1] = ARGV[argument]
  end
  for n, id in ipairs(read_fields(metric.key.series, all_tags)) do
    if tonumber(id or nil) then
      tags[#tags + 1], ids[#ids + 1] = all_tags[n], tonumber(id)
    end
  end
  return tags, ids
end

-- Return a flat list of fields of the live hash and their new values: the rows of *ids* set to 0.
local function clear_rows(ids)
  local fields, flat, row_size = {}, {}, 8 * width
  for _, id in ipairs(ids) do
    local row = id % rows_per_field
    local field = format_integer((id - row) / rows_per_field)
    local packed = fields[field] or redis.call('HGET', metric.key.live, field)
    if packed and #packed == row_size * rows_per_field then
      fields[field] = string.sub(packed, 1, row * row_size) .. string.rep('\0', row_size)
        .. string.sub(packed, (row + 1) * row_size + 1)
    end
  end
  for field, packed in pairs(fields) do
    flat[#flat + 1], flat[#flat + 2] = field, packed
  end
  return flat
end

-- Return an error if a permission is missing.
local function find_missing_right()
  local key = metric.key
  if not redis.acl_check_cmd then
    return find_refused('HSET', key.state, 'f', 'v', 'g')
      or find_refused('HINCRBY', key.state, 'f', 'x')
      or find_refused('ZADD', key.touched, 'nan', 'm')
      or find_refused('HDEL', key.state, '')
      or find_refused('ZREMRANGEBYSCORE', key.touched, '1', '0')
  end
  return find_denied('HSET', key.state, 'f', 'v')
    or find_denied('HDEL', key.series, 'f')
    or find_denied('HINCRBY', key.values, 'f', '1')
    or find_denied('ZADD', key.touched, '0', 'm')
    or find_denied('ZREMRANGEBYSCORE', key.touched, '0', '0')
end

-- A script that fails midway keeps what it has written, so everything is read and checked before
-- anything is written.

local version = redis.call('HGET', metric.key.state, 'version') or ''
metric.recorded = unpack_state(redis.call('HGET', recorded_key, metric.name))
if not metric.recorded then
  return redis.error_reply(corrupt_state(recorded_key, metric.name))
end
local tags, ids = find_series()
redis.call('HLEN', metric.key.values)
redis.call('ZCARD', metric.key.touched)
redis.call('HLEN', exemplars_key)
if #tags == 0 then
  return 0
end
local cleared_rows = clear_rows(ids)
local missing_right = find_missing_right()
if missing_right then
  return redis.error_reply(missing_right)
end

local number = tonumber(string.match(version, '^%d+') or '0') + 1
local new_version = format_integer(number) .. '.' .. token
redis.call('HSET', metric.key.state, 'version', new_version)
forget_series(metric, tags)
redis.call('HSET', recorded_key, metric.name, pack_state(metric.recorded))
write_fields(metric.key.live, cleared_rows)
remove_fields(metric.key.live, value_fields)
remove_fields(exemplars_key, exemplar_fields)
write_version(metric, number, new_version)
return #tags
