-- Exemplars: the newest one of each series and bucket, in a hash. For its fields, see keys.py.
--
-- A batch has them as msgpack [[place, bucket, value, time_ms, labels]...]: the place of the series
-- in the batch, from 0, and its labels as msgpack.

-- @include "numbers"
-- @include "slices"
-- @include "batch_stamp"

local EXEMPLARS_KEPT_S = 86400 -- a scrape reads them within minutes
-- Maximum number of fields per metric, about 15 MB. Beyond that, the hash is deleted, because most
-- fields belong to idle series.
local MOST_EXEMPLARS = 100000
local ARRAY_OF_4 = '\148'

-- Return the id of the series at this position of the metric's batch.
local function id_of_place(metric, place)
  if metric.ids then
    return metric.ids[place + 1]
  end
  -- The ids are at the end of the change.
  local _, at = skip_stamp(metric.change)
  local _, _, count = struct.unpack('<BBI4', metric.change, at)
  return (struct.unpack('<I4', metric.change, #metric.change - 4 * (count - place) + 1))
end

-- Return whether an exemplar with this time and clock replaces the *stored* one, if any.
local function is_newer_exemplar(stored, time_ms, clock)
  if not stored then
    return true
  end
  local is_readable, found = pcall(cmsgpack.unpack, stored)
  if not is_readable or type(found) ~= 'table' then
    return true
  end
  local stored_ms, stored_clock = tonumber(found[2]) or 0, tonumber(found[3]) or 0
  return time_ms > stored_ms or (time_ms == stored_ms and clock >= stored_clock)
end

-- Return an error if the key has another type.
local function find_corrupt_exemplars(metric)
  local reply = redis.pcall('HLEN', metric.exemplars_key)
  if type(reply) == 'table' then
    return reply.err
  end
  metric.has_too_many_exemplars = reply > MOST_EXEMPLARS
end

-- Write the exemplars of a metric. Their key has been checked, and the ids are known.
local function write_exemplars(metric, clock)
  local sent, fields, flat = cmsgpack.unpack(metric.exemplars), {}, {}
  for n, each in ipairs(sent) do
    fields[n] = format_integer(id_of_place(metric, each[1])) .. ' ' .. format_integer(each[2])
  end
  if metric.has_too_many_exemplars then
    redis.call('EXPIRE', metric.exemplars_key, 0)
  end
  local stored = read_fields(metric.exemplars_key, fields)
  for n, each in ipairs(sent) do
    local value, labels = each[3], each[5]
    local time_ms = math.min(each[4], math.floor(clock / 1000))
    if is_newer_exemplar(stored[n], time_ms, clock) then
      flat[#flat + 1] = fields[n]
      flat[#flat + 1] = ARRAY_OF_4 .. cmsgpack.pack(value) .. cmsgpack.pack(time_ms)
        .. cmsgpack.pack(clock) .. labels
    end
  end
  if #flat > 0 then
    write_fields(metric.exemplars_key, flat)
    redis.call('EXPIRE', metric.exemplars_key, EXEMPLARS_KEPT_S)
  end
end
