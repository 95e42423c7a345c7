-- Commands on more fields of a hash than one call accepts.

local SLICE = 1000 -- unpack() fails near 8,000 values

-- Return the values of *fields*, in order; false for missing ones.
local function read_fields(key, fields)
  if #fields <= SLICE then
    return redis.call('HMGET', key, unpack(fields))
  end
  local values = {}
  for first = 1, #fields, SLICE do
    local last = math.min(first + SLICE - 1, #fields)
    for n, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do
      values[first + n - 1] = value
    end
  end
  return values
end

-- Write fields; *flat* is field, value, field, value... from *begin* to *final*, or all of it.
-- Return the number of new fields.
local function write_fields(key, flat, begin, final)
  local added = 0
  final = final or #flat
  for first = begin or 1, final, 2 * SLICE do
    local last = math.min(first + 2 * SLICE - 1, final)
    added = added + redis.call('HSET', key, unpack(flat, first, last))
  end
  return added
end

-- Remove fields, those in the list *fields* from *begin* to *final*, or all of it.
local function remove_fields(key, fields, begin, final)
  final = final or #fields
  for first = begin or 1, final, SLICE do
    redis.call('HDEL', key, unpack(fields, first, math.min(first + SLICE - 1, final)))
  end
end
