-- The record-side state of a metric: one field of the hash `recorded`, a row of doubles.
--
-- Only scripts change it, because record.lua must not lose concurrent writes of other processes. It
-- is longer than 64 bytes, so that Redis stores the hash as a hash table: a list of several hundred
-- metrics would be slow to update.

local STATE_FORMAT = '<ddddddddddddd'
local STATE_BYTES, STATE_SIZE = 104, 13

-- Positions in the row. A script uses it as a list, because creating a table with names takes five
-- times as long.
local NEXT_ID = 1 -- of the next new series
local EPOCH = 2 -- grows whenever series are removed: ids are valid within one epoch
local NEXT_CHANGE = 3 -- number of the next change of the totals
local FIRST_CHANGE = 4 -- number of the oldest change that is not folded
local CHANGE_BYTES = 5 -- of all changes that are not folded
local FOLDED = 6 -- clock when a worker last folded the changes
local SEALED = 7 -- clock up to which the log is sealed
local LOG_BYTES = 8
local OLDEST = 9 -- no block of the log is older than this clock; 0: it was never written to
local WAITING = 10 -- clock of the oldest block that is not sealed
local SAMPLES = 11 -- ever recorded
local NEVER_SEALED = 12 -- samples that were cut from the log before they were sealed
local CUT = 13 -- clock of the newest block taken off the log

-- Return the state of a metric that does not exist if *packed* is false; nil if it is corrupt.
local function unpack_state(packed)
  if not packed then
    return { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  elseif #packed == STATE_BYTES then
    return { struct.unpack(STATE_FORMAT, packed) }
  end
end

local function pack_state(state)
  return struct.pack(STATE_FORMAT, unpack(state, 1, STATE_SIZE))
end

local function corrupt_state(key, name)
  return 'WRONGTYPE redismetrics: ' .. key .. ' holds a corrupt state of ' .. name
end
