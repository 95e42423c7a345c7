-- The log of a metric: how old and how large it may become.

-- @include "numbers"

local MAX_CUT = 100 -- blocks that one batch cuts at most
local HOUR_US = 3600000000

-- Choose what to cut from the log, once metric.block is appended: the blocks that are too old, then
-- the oldest ones while the log is too large. Set metric.cut and what it changes in metric.state.
local function choose_cut(metric, limits, time_us, previous_clock)
  local state, cut = metric.state, {}
  state.log_bytes = state.log_bytes + #metric.block
  metric.cut = cut
  local excess = state.log_bytes - limits.log_bytes
  local oldest_kept = time_us - limits.log_age_us
  local blocks = redis.call('ZRANGEBYSCORE', metric.key.log,
    '-inf', format_integer(oldest_kept), 'WITHSCORES', 'LIMIT', 0, MAX_CUT)
  if previous_clock > 0 and time_us - previous_clock > HOUR_US then
    blocks = {} -- the time jumped ahead: the batch that sees it cuts nothing because of its age
  end
  if excess > 0 and #blocks == 0 then
    blocks = redis.call('ZRANGE', metric.key.log, 0, MAX_CUT - 1, 'WITHSCORES')
  end
  for at = 1, #blocks, 2 do
    local block, clock = blocks[at], tonumber(blocks[at + 1])
    if clock > oldest_kept and excess <= 0 then
      break
    end
    excess, state.log_bytes = excess - #block, state.log_bytes - #block
    cut[#cut + 1], metric.cut_clock = block, clock
    if clock > state.sealed then
      local is_readable, _, head = pcall(cmsgpack.unpack_one, block)
      local samples = is_readable and type(head) == 'table' and tonumber(head[4]) or 0
      state.never_sealed = state.never_sealed + samples
      state.waiting = clock
    end
  end
end
