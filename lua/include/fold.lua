-- Fold: replace rows of the totals by sums, and remove the changes included in them.

-- @include "numbers"
-- @include "slices"
-- @include "batch_stamp"
-- @include "totals"
-- @include "record_state"

local GAUGE = 2 -- kind of a change

-- Maximum number of changes of one metric waiting to be folded, and their bytes: without a worker,
-- and while one folds them. Fewer for a gauge, because a change of its shared value folds all of
-- them, in about 1 ms.
local MOST_WAITING, MOST_WAITING_BYTES = 16, 65536
local MOST_FOR_WORKER, MOST_BYTES_FOR_WORKER = 1024, 4194304
local MOST_OF_GAUGE, MOST_BYTES_OF_GAUGE = 256, 65536
local WORKER_US = 60000000 -- a worker that folded within this time is expected to fold again
-- One batch folds only the longest lists, so that a script takes about 2 ms: those of MOST_FOLDED
-- metrics, or of a sixteenth of the metrics in the batch, and about FOLDED_ROWS rows in all.
local MOST_FOLDED, FOLDED_ROWS = 4, 1000

local function name_of_change(number)
  return string.format('+%d', number)
end

-- Fold changes into *rows*, oldest first, at most *most* of them and about *most_series* rows in
-- total. Return what write_fold() needs, or nil if there are none that can be folded; and whether a
-- newer version wrote the next one. That one and all after it wait for a newer version: the order
-- of changes determines the value of a gauge, and the last digits of a sum.
local function fold_changes(rows, state, most, most_series)
  local last = math.min(state[NEXT_CHANGE], state[FIRST_CHANGE] + most) - 1
  local names = {}
  for number = state[FIRST_CHANGE], last do
    names[#names + 1] = name_of_change(number)
  end
  if #names == 0 then
    return
  end
  local found, folded, bytes, series = read_fields(rows.key, names), {}, 0, 0
  local is_newer = false
  for n = 1, #names do
    local data = found[n]
    if data and series < most_series then
      local clock, at = skip_stamp(data)
      local change = read_change(data, at)
      if not change then
        is_newer = true
        break
      end
      APPLY[change.kind](rows, change, clock)
      bytes, series = bytes + #data, series + change.count
    elseif data then
      break
    end
    folded[n] = names[n]
  end
  return #folded > 0 and { names = folded, bytes = bytes, series = series } or nil, is_newer
end

-- Write the rows, and remove the changes now included in them.
local function write_fold(rows, state, fold)
  state[FIRST_CHANGE] = state[FIRST_CHANGE] + #fold.names
  state[CHANGE_BYTES] = math.max(state[CHANGE_BYTES] - fold.bytes, 0)
  local flat = pack_rows(rows)
  flat[#flat + 1], flat[#flat + 2] = 'first', format_integer(state[FIRST_CHANGE])
  write_fields(rows.key, flat)
  remove_fields(rows.key, fold.names)
end

-- Choose the lists of changes that have grown too long, the longest first, and fold them.
local function fold_long_lists(metrics, heads, stamp, clock)
  local long, kind_at = {}, #stamp + 1
  for _, metric in ipairs(metrics) do
    local state = metric.state
    if metric.change then
      state[NEXT_CHANGE] = state[NEXT_CHANGE] + 1
      state[CHANGE_BYTES] = state[CHANGE_BYTES] + #metric.change
      local most, most_bytes = MOST_WAITING, MOST_WAITING_BYTES
      if clock - state[FOLDED] < WORKER_US then
        most, most_bytes = MOST_FOR_WORKER, MOST_BYTES_FOR_WORKER
        if string.byte(metric.change, kind_at) == GAUGE then
          most, most_bytes = MOST_OF_GAUGE, MOST_BYTES_OF_GAUGE
        end
      end
      local excess = math.max(
        (state[NEXT_CHANGE] - state[FIRST_CHANGE]) / most, state[CHANGE_BYTES] / most_bytes)
      if excess >= 1 then
        long[#long + 1] = { metric = metric, excess = excess }
      end
    end
  end
  if #long == 0 then
    return
  end
  table.sort(long, function(a, b)
    return a.excess > b.excess or (a.excess == b.excess and a.metric.number < b.metric.number)
  end)
  local rows_left = FOLDED_ROWS
  for n = 1, math.min(#long, math.max(MOST_FOLDED, math.floor(#metrics / 16))) do
    if rows_left <= 0 then
      break
    end
    local metric = long[n].metric
    local state = metric.state
    metric.rows = open_rows(metric.live_key, heads, metric.shape_at)
    -- The batch's own change is not there yet, so it is left to a later fold.
    state[NEXT_CHANGE] = state[NEXT_CHANGE] - 1
    -- Unreadable changes or rows are kept; the samples of the batch are stored anyway.
    local is_readable, fold = pcall(fold_changes, metric.rows, state, MOST_WAITING, rows_left)
    state[NEXT_CHANGE] = state[NEXT_CHANGE] + 1
    if is_readable and fold then
      metric.fold, rows_left = fold, rows_left - fold.series
    else
      metric.rows = nil
    end
  end
end
