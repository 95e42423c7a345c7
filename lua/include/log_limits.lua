-- Limits on the age and size of a metric's log.

-- @include "numbers"
-- @include "batch_stamp"
-- @include "record_state"

local MAX_CUT = 100 -- blocks that one batch cuts at most
local HOUR_US = 3600000000

-- Return the number of samples in a block; 0 if it cannot be read.
local function count_samples(block)
  local is_readable, samples = pcall(function()
    local _, at = skip_stamp(block)
    return (struct.unpack('<d', block, at))
  end)
  return is_readable and samples or 0
end

-- Choose what to cut from the log, once metric.block is appended: the blocks that are too old, then
-- the oldest ones while the log is too large. Set metric.cut if there are any, and what changes in
-- metric.state.
local function choose_cut(metric, limits, clock, time_us, previous_clock)
  local state = metric.state
  state[LOG_BYTES] = state[LOG_BYTES] + #metric.block
  if state[OLDEST] == 0 then
    state[OLDEST] = clock
  end
  local excess = state[LOG_BYTES] - limits.log_bytes
  local oldest_kept = time_us - limits.log_age_us
  -- If the time jumped ahead, the first batch afterwards does not cut anything because of age.
  local jumped = previous_clock > 0 and time_us - previous_clock > HOUR_US
  if excess <= 0 and (state[OLDEST] > oldest_kept or jumped) then
    return
  end
  local cut = {}
  local blocks = redis.call('ZRANGE', metric.log_key, 0, MAX_CUT, 'WITHSCORES')
  state[OLDEST] = clock
  for at = 1, #blocks, 2 do
    local block, block_clock = blocks[at], tonumber(blocks[at + 1])
    local is_old = block_clock <= oldest_kept and not jumped
    if #cut == MAX_CUT or (not is_old and excess <= 0) then
      state[OLDEST] = block_clock
      break
    end
    excess, state[LOG_BYTES] = excess - #block, state[LOG_BYTES] - #block
    cut[#cut + 1], state[CUT] = block, block_clock
    if block_clock > state[SEALED] then
      state[NEVER_SEALED] = state[NEVER_SEALED] + count_samples(block)
      state[WAITING] = block_clock
    end
  end
  metric.cut = #cut > 0 and cut
end
