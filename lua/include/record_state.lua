-- The record-side state of a metric: one field of the hash `recorded`, a row of doubles.
--
-- Only scripts change it, since record.lua must not lose what another process writes meanwhile.
-- It is longer than 64 bytes, so that Redis keeps the hash as a table: a list of some hundred
-- metrics would be slow to update.

local STATE_FORMAT = '<ddddddddddddd'

-- Return the state of a metric that does not exist if *packed* is false; nil if it is corrupt.
local function unpack_state(packed)
  if not packed then
    return {
      next_id = 0, epoch = 0, next_change = 0, first_change = 0, change_bytes = 0, folded = 0,
      sealed = 0, log_bytes = 0, oldest = 0, waiting = 0, samples = 0, never_sealed = 0, cut = 0,
    }
  elseif #packed ~= 104 then
    return
  end
  local next_id, epoch, next_change, first_change, change_bytes, folded, sealed, log_bytes, oldest,
    waiting, samples, never_sealed, cut = struct.unpack(STATE_FORMAT, packed)
  return {
    next_id = next_id, -- of the next new series
    epoch = epoch, -- grows whenever series are removed: ids are valid within one epoch
    next_change = next_change, -- number of the next change of the totals
    first_change = first_change, -- number of the oldest change that is not folded
    change_bytes = change_bytes, -- of all changes that are not folded
    folded = folded, -- clock when a worker last folded the changes
    sealed = sealed, -- clock up to which the log is sealed
    log_bytes = log_bytes,
    oldest = oldest, -- no block of the log is older than this clock; 0: it was never written to
    waiting = waiting, -- clock of the oldest block that is not sealed
    samples = samples, -- ever recorded
    never_sealed = never_sealed, -- samples that were cut from the log before they were sealed
    cut = cut, -- clock of the newest block taken off the log
  }
end

local function pack_state(state)
  return struct.pack(STATE_FORMAT,
    state.next_id, state.epoch, state.next_change, state.first_change, state.change_bytes,
    state.folded, state.sealed, state.log_bytes, state.oldest, state.waiting, state.samples,
    state.never_sealed, state.cut)
end

local function corrupt_state(key, name)
  return 'WRONGTYPE redismetrics: ' .. key .. ' holds a corrupt state of ' .. name
end
