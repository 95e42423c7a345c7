-- What a batch adds to a metric: the change to append to its totals, and the block to append to its
-- log.
--
-- These functions read and fill in `metric` and `batch`, see record.lua. They write nothing to
-- Redis.

-- @include "numbers"
-- @include "series_ids"
-- @include "totals"
-- @include "fold"
-- @include "process_values"
-- @include "record_state"

-- Bytes of a block between its stamp and its ids: samples, oldest, newest, number of series.
local BLOCK_HEAD = 28

local NO_SERIES = -1 -- in the reply

-- Apply changes of shared values to the rows, after all changes waiting before them. Return the
-- number of changed series, and the bases for the block, or nothing if a change is waiting that
-- only a newer version can apply.
local function apply_shared(metric, packed_change, heads, clock)
  local is_newer
  metric.rows = open_rows(metric.live_key, heads, metric.shape_at)
  metric.fold, is_newer = fold_changes(metric.rows, metric.state, math.huge, math.huge)
  if is_newer then
    return
  end
  local change = read_change(packed_change, 1)
  local places, values = apply_gauge(metric.rows, change, clock)
  local bases = struct.pack('<I4', #places) .. pack_integers(places) .. table.concat(values)
  return change.count, bases
end

local function insert_bytes(data, at, bytes)
  return string.sub(data, 1, at) .. bytes .. string.sub(data, at + 1)
end

-- Assign ids to the series of an introduced metric.
local function name_series(metric, batch, limits)
  assign_ids(metric, limits)
  local ids = pack_integers(metric.ids)
  metric.change = metric.change .. ids
  if metric.is_new then
    metric.stamp = cmsgpack.pack(batch.clock + metric.number)
  end
  metric.block = insert_bytes(metric.block, BLOCK_HEAD, ids) .. metric.stamp
end

-- Add to the reply what the client does not know about an introduced metric.
local function report_series(metric, batch)
  if metric.overflow then
    for limit, series in pairs(metric.overflow) do
      local problem = { metric.number - 1, 'overflow', cmsgpack.pack({ limit, series }) }
      batch.problems[#batch.problems + 1] = problem
    end
  elseif metric.unknown then
    local learned = { metric.number - 1, metric.ids, metric.state[EPOCH], metric.stamp }
    batch.learned[#batch.learned + 1] = learned
  end
end

-- Prepare repeated values of a process, which have no samples. They do not create series, so that a
-- deleted one does not come back.
local function apply_repeated_values(metric, batch)
  local values, unknown = metric.process_values, metric.unknown
  local packed = metric.change
  metric.change, metric.block, metric.is_new, metric.unknown = false, false, nil, nil
  if not metric.series then
    metric.ids = read_column(packed, #packed - 4 * values.count + 1, 'I4', 4, values.count)
    return
  end
  for n, place in ipairs(unknown and unknown.places or {}) do
    metric.ids[place] = unknown.ids[n]
  end
  local known = {}
  for place = 1, values.count do
    known[place] = metric.ids[place] or NO_SERIES
  end
  local learned = { metric.number - 1, known, metric.state[EPOCH], metric.stamp }
  batch.learned[#batch.learned + 1] = learned
end

-- Determine the series ids, the change of the totals, and the block. Return the reason if the
-- samples are refused.
local function apply_batch(metric, batch, heads, limits)
  if metric.has_values then
    metric.process_values = read_values(metric.change, not metric.series)
    if metric.samples == 0 then
      return apply_repeated_values(metric, batch)
    end
  end
  if metric.series then
    name_series(metric, batch, limits)
  end
  if metric.has_shared then
    local count, bases = apply_shared(metric, metric.change, heads, batch.clock)
    if not count then
      return 'newer_kind'
    end
    metric.block = insert_bytes(metric.block, BLOCK_HEAD + 4 * count, bases)
    metric.change = false
  elseif metric.process_values then
    local count = metric.process_values.count
    metric.ids = read_column(metric.change, #metric.change - 4 * count + 1, 'I4', 4, count)
    metric.change = false
  else
    metric.change = batch.stamp .. metric.change
  end
  metric.block = batch.stamp .. metric.block
  if metric.series then
    report_series(metric, batch)
  end
end
