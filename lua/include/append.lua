-- Append what a batch adds to a metric.

-- @include "numbers"
-- @include "fold"
-- @include "process_values"
-- @include "record_state"

local try = redis.pcall

-- Append the change and the block. Return an error if one of the keys has another type: reading
-- both first, for each metric of each batch, would cost more than undoing this.
local function append(metric, batch, writer)
  if metric.process_values then
    return append_values(metric, batch, writer)
  end
  local state, change = metric.state, metric.change
  local name, reply = change and name_of_change(state[NEXT_CHANGE] - 1), nil
  if change and state[NEXT_CHANGE] - state[FIRST_CHANGE] == 1 then
    local first = format_integer(state[FIRST_CHANGE])
    reply = try('HSET', metric.live_key, name, change, 'first', first)
  elseif change then
    reply = try('HSET', metric.live_key, name, change)
  end
  if type(reply) ~= 'table' then
    reply = try('ZADD', metric.log_key, batch.clock_text, metric.block)
    if type(reply) == 'table' and change then
      redis.call('HDEL', metric.live_key, name)
    end
  end
  return type(reply) == 'table' and reply.err
end
