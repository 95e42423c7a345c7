-- Totals: the current state of each series, in the hash `live`. For its layout see LIVE in keys.py.
--
-- A batch does not touch the rows: it appends its *change* to the hash. A reader of the totals
-- adds the changes to the rows. From time to time a worker (commit.lua) or record.lua folds: it
-- puts the sums in place of the rows and takes the changes off.
--
-- A change is a batch stamp, then kind (u1), layout (u1), series n (u4), cells m (u4), and columns
-- of numbers:
--   1  counter    amount f8[n]
--   2  gauge      code u1[n], time_ms f8[n], value f8[n]. The code is a sum: 1 if the shared value
--                 first changes, 2 if *value* is set, 4 if time_ms is the sample's own.
--                 Layout 1 has two more columns: changed_ms f8[n], change f8[n]
--   3  histogram  count, sum f8[n], how many buckets changed; then of each bucket, m in all, its
--                 number from 1 and its count. Layout 0: u4, u1, u1 and u4; layout 1: f8 each
--   4  summary    count f8[n], sum f8[n]
-- and last the ids of the series, u4[n]. Newer versions have further kinds, see LATER in keys.py.

-- @include "numbers"
-- @include "slices"
-- @include "batch_stamp"

local LARGEST = 1.7976931348623157e308
local SLICE_OF_COLUMN = 2000

-- A sum that overflows a double becomes the largest double: readers reject an infinite gauge.
local function saturate(sum)
  return math.max(-LARGEST, math.min(LARGEST, sum))
end

local repeated_formats = {} -- format of one number -> count -> format of that many

-- Return the format of *count* numbers. Metrics of a batch are alike, so most formats are cached.
local function repeat_format(format, count)
  local known = repeated_formats[format]
  if not known then
    known = {}
    repeated_formats[format] = known
  end
  local repeated = known[count]
  if not repeated then
    repeated = '<' .. string.rep(format, count)
    known[count] = repeated
  end
  return repeated
end

-- Return a column of *count* numbers as a table, and the position of the next one.
local function read_column(data, at, format, size, count)
  if count <= SLICE_OF_COLUMN then
    local column = { struct.unpack(repeat_format(format, count), data, at) }
    column[count + 1] = nil -- the position behind it
    return column, at + size * count
  end
  local column = {}
  for first = 1, count, SLICE_OF_COLUMN do
    local slice = math.min(SLICE_OF_COLUMN, count - first + 1)
    local part = { struct.unpack(repeat_format(format, slice), data, at) }
    for n = 1, slice do
      column[first + n - 1] = part[n]
    end
    at = at + size * slice
  end
  return column, at
end

-- Return columns of *count* numbers each as one list, one column after another, and the position of
-- the next one. *formats* has a letter per column. Reading all at once takes half the time of
-- reading one by one.
local function read_columns(data, at, formats, count)
  local size = count * #formats
  if size <= SLICE_OF_COLUMN then
    local known = repeated_formats[formats] or {}
    repeated_formats[formats] = known
    local format = known[count]
    if not format then
      format = '<' .. string.gsub(formats, '.', function(letter)
        return string.rep(letter, count)
      end)
      known[count] = format
    end
    local columns = { struct.unpack(format, data, at) }
    return columns, columns[size + 1]
  end
  local columns, last = {}, 0
  for letter in string.gmatch(formats, '.') do
    local part
    part, at = read_column(data, at, letter, letter == 'd' and 8 or letter == 'I' and 4 or 1, count)
    for n = 1, count do
      columns[last + n] = part[n]
    end
    last = last + count
  end
  return columns, at
end

-- Return the change that begins at *at*; nil if it has an unknown kind or layout, written by a
-- newer version.
local function read_change(data, at)
  local kind, layout, count, cells, columns, of_cells
  kind, layout, count, cells, at = struct.unpack('<BBI4I4', data, at)
  if kind == 1 and layout == 0 then
    columns = 'd'
  elseif kind == 2 and layout <= 1 then
    columns = layout == 0 and 'Bdd' or 'Bdddd'
  elseif kind == 3 and layout <= 1 then
    columns, of_cells = layout == 0 and 'IdB' or 'ddd', layout == 0 and 'BI' or 'dd'
  elseif kind == 4 and layout == 0 then
    columns = 'dd'
  else
    return
  end
  columns, at = read_columns(data, at, columns, count)
  if of_cells then
    of_cells, at = read_columns(data, at, of_cells, cells)
  end
  return {
    kind = kind,
    count = count,
    columns = columns,
    cells = of_cells,
    cell_count = cells,
    packed_ids = string.sub(data, at, at + 4 * count - 1),
  }
end

-- Rows of the totals that a script works on: locate_rows() reads them when they are first needed.
-- *shape_at* is the position in *heads* of the doubles in a row, and the rows in a field.
local function open_rows(key, heads, shape_at)
  local width, per_field = struct.unpack('<I2B', heads, shape_at)
  return {
    key = key,
    width = width,
    per_field = per_field,
    fields = {}, -- number of a field -> its doubles
    names = {}, -- number of a field -> the number as text
    located = {}, -- packed ids -> what locate_rows() returned for them
  }
end

local function read_rows(rows, numbers, names)
  local size, fields, unpack_row = rows.width * rows.per_field, rows.fields, struct.unpack
  local packed, format, no_row = read_fields(rows.key, names), repeat_format('d', size), nil
  local bytes, behind = 8 * size, size + 1
  for n = 1, #numbers do
    local data = packed[n]
    if not data or #data ~= bytes then
      no_row = no_row or string.rep('\0', bytes)
      data = no_row
    end
    local doubles = { unpack_row(format, data) }
    doubles[behind] = nil -- the position behind the last double
    fields[numbers[n]] = doubles
  end
end

-- Return the locations of the rows of a change's series: for each series, the doubles of its field,
-- and the start of its row in them. Read rows that have not been read yet. Most changes of a metric
-- have the same series, so they are looked up once.
local function locate_rows(rows, change)
  local packed, count = change.packed_ids, change.count
  local located = rows.located[packed]
  if located then
    return located.fields, located.begins
  end
  local ids = read_column(packed, 1, 'I4', 4, count)
  local per_field, width, fields = rows.per_field, rows.width, rows.fields
  local places, begins, numbers, names, last = {}, {}, {}, {}, 0
  local names_of_rows, format = rows.names, string.format
  for place = 1, count do
    local id = ids[place]
    local row = id % per_field
    local number = (id - row) / per_field
    places[place], begins[place] = number, row * width + 1
    if not fields[number] then
      local name = format('%d', number)
      last = last + 1
      fields[number], names_of_rows[number], numbers[last], names[last] = true, name, number, name
    end
  end
  if last > 0 then
    read_rows(rows, numbers, names)
  end
  for place = 1, count do
    places[place] = fields[places[place]]
  end
  rows.located[packed] = { fields = places, begins = begins }
  return places, begins
end

-- Return a flat list of fields and values to write, for all rows that were read.
local function pack_rows(rows)
  local flat, last, names = {}, 0, rows.names
  local format, pack = repeat_format('d', rows.width * rows.per_field), struct.pack
  for number, doubles in pairs(rows.fields) do
    flat[last + 1], flat[last + 2] = names[number], pack(format, unpack(doubles))
    last = last + 2
  end
  return flat
end

-- Each of these applies a change to the rows; *clock* is that of the change's batch. In the list of
-- columns, the number of a series is *count* positions after that of the previous column.

-- Total and remainder are a pair of doubles: two-sum, Knuth, TAOCP 2, 4.2.2.
local function apply_counter(rows, change, clock)
  local fields, begins = locate_rows(rows, change)
  local seen, columns = math.floor(clock / 1000), change.columns
  for place = 1, change.count do
    local doubles, at, amount = fields[place], begins[place], columns[place]
    local total = doubles[at + 1]
    local sum = total + amount
    local part = sum - total
    local remainder = doubles[at + 2] + ((total - (sum - part)) + (amount - part))
    doubles[at] = seen
    if remainder - remainder == 0 then -- a fast path: all parts are finite, and so is the sum
      doubles[at + 1], doubles[at + 2] = sum, remainder
    else -- the sum, or a part of it, is beyond the range of a double
      doubles[at + 1], doubles[at + 2] = saturate(sum), 0
    end
  end
end

-- Return the positions (from 0) of the series whose shared value changes, and the packed value and
-- time of each before the change.
local function apply_gauge(rows, change, clock)
  local fields, begins = locate_rows(rows, change)
  local seen, columns, count = math.floor(clock / 1000), change.columns, change.count
  local base_places, base_values = {}, {}
  for place = 1, count do
    local doubles, at = fields[place], begins[place]
    local code, time_ms = columns[place], columns[count + place]
    local last_ms = doubles[at] == 0 and -1 or doubles[at + 2]
    if code % 2 == 1 then
      -- The result is no older than its base, whose time may be from a clock ahead of ours.
      last_ms = math.max(last_ms, math.min(columns[3 * count + place], seen))
      base_places[#base_places + 1] = place - 1
      base_values[#base_values + 1] = struct.pack('<dd', doubles[at + 1], last_ms)
      local sum = doubles[at + 1] + columns[4 * count + place]
      doubles[at + 1] = saturate(sum)
      doubles[at + 2], doubles[at + 3] = last_ms, clock
    end
    if code < 4 and time_ms > seen then
      time_ms = seen -- a time of the client's clock is no later than the batch
    end
    if code % 4 >= 2 and time_ms >= last_ms then
      doubles[at + 1], doubles[at + 2], doubles[at + 3] = columns[2 * count + place], time_ms, clock
    end
    doubles[at] = seen
  end
  return base_places, base_values
end

-- Also for a summary, which has no buckets.
local function apply_histogram(rows, change, clock)
  local fields, begins = locate_rows(rows, change)
  local seen, columns, count = math.floor(clock / 1000), change.columns, change.count
  local cells, cell_count, cell = change.cells, change.cell_count, 0
  for place = 1, count do
    local doubles, at = fields[place], begins[place]
    doubles[at], doubles[at + 1] = seen, doubles[at + 1] + columns[place]
    local total, amount = doubles[at + 2], columns[count + place]
    local sum = total + amount
    local part = sum - total
    local remainder = doubles[at + 3] + ((total - (sum - part)) + (amount - part))
    if remainder - remainder == 0 then
      doubles[at + 2], doubles[at + 3] = sum, remainder
    else
      doubles[at + 2], doubles[at + 3] = saturate(sum), 0
    end
    if cells then
      local last_cell = cell + columns[2 * count + place]
      for next_cell = cell + 1, last_cell do
        local bucket = at + 3 + cells[next_cell]
        doubles[bucket] = doubles[bucket] + cells[cell_count + next_cell]
      end
      cell = last_cell
    end
  end
end

local APPLY = { apply_counter, apply_gauge, apply_histogram, apply_histogram }
