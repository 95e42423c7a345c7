-- Batch stamps, at the beginning of every log block and every change of the totals. They identify
-- the batch, even after a failover: no two batches get the same time, sequence and writer.

-- clock in us, time of the server in us, sequence, length of the writer's id, writer
local STAMP_FORMAT = '<dddBc0'

local function pack_stamp(clock, time_us, sequence, writer)
  return struct.pack(STAMP_FORMAT, clock, time_us, sequence, #writer, writer)
end

-- Return the clock, and the position after the stamp.
local function skip_stamp(data)
  local clock, _, _, writer_size, at = struct.unpack('<dddB', data)
  return clock, at + writer_size
end
