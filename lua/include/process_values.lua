-- Values of single processes, of gauges declared with per="process": fields of the hash `live`, see
-- LIVE in keys.py. They are written at once.
--
-- What a client sends in place of a change of the totals:
--   5  values     code u1[n], time_ms f8[n], value f8[n], merge mode (u1, its place in MERGE_MODES
--                 of model/options.py), then the process: id (u4), place (8 bytes), host name.
--                 The code is 4 if time_ms is the sample's own. Its *m* is 1 if the process ends

-- @include "numbers"
-- @include "slices"
-- @include "totals"
-- @include "record_state"

local ENDS = 1
-- Number of dead processes whose values are kept separately. If one of them comes back, it reclaims
-- its value.
local MOST_GONE = 32
-- Format of the values of dead processes: a value, its time and the newest clock; then for each
-- value kept separately its writer, value and time.
local GONE_BYTES, WRITER_BYTES, ENTRY_BYTES = 24, 16, 32
local NOTHING_GONE = struct.pack('<ddd', 0, -1, 0)

-- Return the values in *change*, which may end with the ids of the series.
local function read_values(change, has_ids)
  local _, _, count, flags, at = struct.unpack('<BBI4I4', change)
  local values, mode = { count = count, ends = flags == ENDS }, nil
  values.codes, at = read_column(change, at, 'B', 1, count)
  values.times, at = read_column(change, at, 'd', 8, count)
  values.values, at = read_column(change, at, 'd', 8, count)
  mode, at = struct.unpack('<B', change, at)
  values.process = string.sub(change, at, has_ids and -4 * count - 1 or -1)
  values.mode = math.floor(mode / 2) -- 0 all, 1 min, 2 max, 3 sum, 4 mostrecent
  values.is_live = mode % 2 == 1
  return values
end

local MERGE = {
  math.min,
  math.max,
  function(a, b)
    return saturate(a + b)
  end,
}

local function entry_name(writer)
  return string.sub(writer .. string.rep('\0', WRITER_BYTES), 1, WRITER_BYTES)
end

-- Return the values of dead processes without that of *writer*, and whether there was one.
local function without_writer(gone, writer)
  local name = entry_name(writer)
  for at = GONE_BYTES + 1, #gone, ENTRY_BYTES do
    if string.sub(gone, at, at + WRITER_BYTES - 1) == name then
      return string.sub(gone, 1, at - 1) .. string.sub(gone, at + ENTRY_BYTES), true
    end
  end
  return gone, false
end

-- Merge the oldest value kept separately into the merged value.
local function merge_oldest(gone, mode)
  local value, time_ms, clock = struct.unpack('<ddd', gone)
  local oldest, oldest_ms = struct.unpack('<dd', gone, GONE_BYTES + WRITER_BYTES + 1)
  if time_ms < 0 or (not MERGE[mode] and oldest_ms >= time_ms) then
    value = oldest
  elseif MERGE[mode] then
    value = MERGE[mode](value, oldest)
  end
  return struct.pack('<ddd', value, math.max(time_ms, oldest_ms), clock)
    .. string.sub(gone, GONE_BYTES + ENTRY_BYTES + 1)
end

-- Return the values of dead processes, with one more value.
local function with_writer(gone, writer, value, time_ms, clock, values)
  gone = without_writer(gone or NOTHING_GONE, writer)
  local base, base_ms, newest = struct.unpack('<ddd', gone)
  gone = struct.pack('<ddd', base, base_ms, math.max(newest, clock))
    .. string.sub(gone, GONE_BYTES + 1)
  if values.is_live then
    return gone
  end
  gone = gone .. entry_name(writer) .. struct.pack('<dd', value, time_ms)
  return #gone > GONE_BYTES + MOST_GONE * ENTRY_BYTES and merge_oldest(gone, values.mode) or gone
end

-- Return the fields with values of dead processes, for existing series.
local function names_of_gone(ids, count)
  local names = {}
  for place = 1, count do
    if ids[place] then
      names[#names + 1] = format_integer(ids[place]) .. ' '
    end
  end
  return names
end

-- Reclaim the value that this writer left when it counted as dead; return whether there was one.
local function take_back(key, ids, count, writer)
  local names, flat = names_of_gone(ids, count), {}
  for n, gone in ipairs(read_fields(key, names)) do
    local left, had_left = without_writer(gone or '', writer)
    if had_left then
      flat[#flat + 1], flat[#flat + 2] = names[n], left
    end
  end
  write_fields(key, flat)
  return #flat > 0
end

-- Write the values of an ending process: they become those of a dead process.
local function write_last_values(key, ids, values, writer, clock)
  local gone, own, flat = {}, {}, {}
  local names = names_of_gone(ids, values.count)
  for n, data in ipairs(#names > 0 and read_fields(key, names) or {}) do
    gone[names[n]] = data
  end
  for place = 1, values.count do
    if ids[place] then
      local name = format_integer(ids[place]) .. ' '
      local value, time_ms = values.values[place], values.times[place]
      gone[name] = with_writer(gone[name], writer, value, time_ms, clock, values)
      own[#own + 1] = name .. writer
    end
  end
  for name, data in pairs(gone) do
    flat[#flat + 1], flat[#flat + 2] = name, data
  end
  write_fields(key, flat)
  remove_fields(key, own)
end

-- Write the values of a process. *ids* are false for missing series. Return whether the values of
-- dead processes changed.
local function write_values(key, ids, values, writer, clock)
  local seen, flat = math.floor(clock / 1000), {}
  for place = 1, values.count do
    if values.codes[place] < 4 then -- a time of the client's clock is no later than the batch
      values.times[place] = math.min(values.times[place], seen)
    end
  end
  -- In the mode `all`, each process has a row, even a dead one: its clock is then below 0.
  if values.ends and (values.is_live or values.mode > 0) then
    write_last_values(key, ids, values, writer, clock)
    return true
  end
  local stored_clock = values.ends and -clock or clock
  for place = 1, values.count do
    if ids[place] then
      flat[#flat + 1] = format_integer(ids[place]) .. ' ' .. writer
      flat[#flat + 1] = struct.pack('<ddd', values.values[place], values.times[place], stored_clock)
        .. values.process
    end
  end
  -- Only a process without a field may have counted as dead.
  return write_fields(key, flat) > 0 and take_back(key, ids, values.count, writer)
end

-- Append the block, if there is one, and write the values of the process. Return an error if one of
-- the keys has another type.
local function append_values(metric, batch, writer)
  local reply = metric.block and redis.pcall(
    'ZADD', metric.log_key, batch.clock_text, metric.block)
  if type(reply) == 'table' then
    return reply.err
  end
  local is_written, result = pcall(
    write_values, metric.live_key, metric.ids, metric.process_values, writer, batch.clock)
  if not is_written then
    if metric.block then
      redis.call('ZREM', metric.log_key, metric.block)
    end
    return type(result) == 'table' and result.err or tostring(result)
  elseif result then
    metric.has_moved, metric.state[FOLDED] = true, batch.clock -- a copy that is under way notices
  end
end
