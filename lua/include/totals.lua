-- Totals: the current state of each series, rows of doubles in the hash `live`. For their
-- layout see LIVE in keys.py. A row that begins with 0 belongs to no series.
--
-- The client sends how the totals of each series change, in one flat array:
--   counter    amount
--   gauge      code, time_ms, value, changed_ms, change. The code is a sum: 1 if the shared value
--              first changes by *change*, 2 if *value* is set, 4 if time_ms is the sample's own
--   histogram  count, sum, how many buckets changed, then of each its number from 1 and its count

-- @include "numbers"
-- @include "slices"

local LARGEST = 1.7976931348623157e308

-- A sum beyond the range of a double becomes the largest one: readers refuse a gauge that is inf.
local function saturate(sum)
  return math.max(-LARGEST, math.min(LARGEST, sum))
end

-- Add to a pair of doubles, total and remainder, at doubles[at]. Two-sum, Knuth, TAOCP 2, 4.2.2.
local function add_exactly(doubles, at, amount)
  local total = doubles[at]
  local sum = total + amount
  local part = sum - total
  local remainder = doubles[at + 1] + ((total - (sum - part)) + (amount - part))
  if remainder - remainder == 0 then -- a fast path: all parts are finite, and so is the sum
    doubles[at], doubles[at + 1] = sum, remainder
  else -- the sum, or a part of it, is beyond the range of a double
    doubles[at], doubles[at + 1] = saturate(sum), 0
  end
end

-- Each of these applies the change at changes[at] to the row that begins at doubles[start + 1], and
-- returns where the next change begins.

local function apply_counter(doubles, start, changes, at)
  add_exactly(doubles, start + 2, changes[at])
  return at + 1
end

local function apply_gauge(doubles, start, changes, at, metric, clock, clock_ms)
  local code, time_ms = changes[at], changes[at + 1]
  local last_ms = doubles[start + 1] == 0 and -1 or doubles[start + 3]
  if code % 2 == 1 then
    -- The result is no older than what it changes, whose time may come from a clock ahead of ours.
    last_ms = math.max(last_ms, math.min(changes[at + 3], clock_ms))
    local places, values = metric.base_places, metric.base_values
    places[#places + 1] = (at - 1) / 5
    values[#values + 1] = struct.pack('<dd', doubles[start + 2], last_ms)
    doubles[start + 2] = saturate(doubles[start + 2] + changes[at + 4])
    doubles[start + 3], doubles[start + 4] = last_ms, clock
  end
  if code < 4 then
    time_ms = math.min(time_ms, clock_ms) -- a time of the client's clock is no later than the batch
  end
  if code % 4 >= 2 and time_ms >= last_ms then
    doubles[start + 2], doubles[start + 3], doubles[start + 4] = changes[at + 2], time_ms, clock
  end
  return at + 5
end

local function apply_histogram(doubles, start, changes, at)
  doubles[start + 2] = doubles[start + 2] + changes[at]
  add_exactly(doubles, start + 3, changes[at + 1])
  local last = at + 2 + 2 * changes[at + 2]
  for pair = at + 3, last, 2 do
    local bucket = start + 4 + changes[pair]
    doubles[bucket] = doubles[bucket] + changes[pair + 1]
  end
  return last + 1
end

local APPLY = { counter = apply_counter, gauge = apply_gauge, histogram = apply_histogram }

-- Work out the new totals of the series with metric.ids: fields of the hash and their values, flat,
-- in metric.new_state. Return false if the client sent an id that no series has.
--
-- *ids_unreliable*: Redis lost data, so that an id of the client may belong to another series now.
local function advance_totals(metric, clock, clock_ms, ids_unreliable)
  local head, ids = metric.head, metric.ids
  local series, changes, width, rows = head.series, head.changes, head.width, head.rows_per_field
  local apply = APPLY[head.type]

  -- The fields that hold the rows, each once.
  local fields, number_of, field_of, row_of = {}, {}, {}, {}
  for place = 1, #ids do
    local row = ids[place] % rows
    local field = (ids[place] - row) / rows
    local number = number_of[field]
    if not number then
      number = #fields + 1
      fields[number], number_of[field] = format_integer(field), number
    end
    field_of[place], row_of[place] = number, row
  end
  local packed, unpacked = read_fields(metric.key.live, fields), {}
  local format = '<' .. string.rep('d', width * rows)
  local no_series = string.rep('\0', 8 * width * rows)
  for number = 1, #fields do
    local doubles = { struct.unpack(format, packed[number] or no_series) }
    doubles[#doubles] = nil -- the position behind the last double
    unpacked[number] = doubles
  end

  metric.base_places, metric.base_values = {}, {}
  local at = 1
  for place = 1, #ids do
    local doubles, start = unpacked[field_of[place]], row_of[place] * width
    if (ids_unreliable or doubles[start + 1] == 0) and type(series[place]) == 'number' then
      return false -- deleted or lost since the client learned the id
    end
    at = apply(doubles, start, changes, at, metric, clock, clock_ms)
    doubles[start + 1] = clock_ms
  end
  local new_state = {}
  for number, field in ipairs(fields) do
    new_state[2 * number - 1] = field
    new_state[2 * number] = struct.pack(format, unpack(unpacked[number]))
  end
  metric.new_state = new_state
  return true
end
