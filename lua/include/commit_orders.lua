-- The orders of a worker, which say what a commit does. See the head of commit.lua.

-- Return the orders that a worker packed.
local function unpack_orders(packed)
  local wire = cmsgpack.unpack(packed)
  return {
    sealed = wire[1],
    new_sealed = wire[2],
    block_count = wire[3][1],
    first_block = wire[3][2],
    last_block = wire[3][3],
    replay_us = wire[4],
    mark_due = wire[5],
    unmark_due = wire[6],
    late_samples = wire[7],
    sealed_samples = wire[8],
    expired_sizes = wire[9],
    schedule = wire[10],
    schedule_if_absent = wire[11],
    forget_series = wire[12],
    cleared_states = wire[13],
    none_left = wire[14] == 1,
    fold_first = wire[15][1],
    fold_stamp = wire[15][2],
    fold_sizes = wire[15][3],
    inexact_samples = wire[16],
  }
end
