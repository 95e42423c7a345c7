-- What readers must drop from their caches: the fields written by each of the last commits.

-- @include "numbers"

local MAX_TOUCHED = 128 -- fields of one commit that are listed at most
local REMEMBERED_COMMITS = 64 -- that a reader can be behind and still catch up
local COMMITS_BETWEEN_TRIMS = 16

-- Forget all commits so far: readers then cannot catch up, and drop their whole cache.
local function forget_touched(metric)
  redis.call('ZREMRANGEBYSCORE', metric.key.touched, '-inf', '+inf')
end

-- List the fields that commit *number* writes, and its version. If there are too many, forget all
-- commits before it instead. This fails if the key has another type.
local function write_touched(metric, number, new_version)
  local members, arguments, score = {}, metric.arguments, format_integer(number)
  for _, hash in ipairs(metric.data) do
    for at = hash.first_field, hash.last_field, 2 do
      members[#members + 1], members[#members + 2] = score, hash.name .. ' ' .. arguments[at]
    end
  end
  local are_many = #members > 2 * MAX_TOUCHED
  if are_many then
    members = {}
  end
  members[#members + 1], members[#members + 2] = score, '=' .. new_version
  -- The first write of a commit, so it must be one that a full server rejects.
  redis.call('ZADD', metric.key.touched, unpack(members))
  if are_many then
    redis.call('ZREMRANGEBYSCORE', metric.key.touched, '-inf', '(' .. score)
  end
  -- Occasionally is enough; remembering a few more does no harm.
  if number % COMMITS_BETWEEN_TRIMS == 0 then
    redis.call('ZREMRANGEBYSCORE', metric.key.touched, '-inf', number - REMEMBERED_COMMITS)
  end
end

-- The version of a commit that no reader can catch up with.
local function write_version(metric, number, new_version)
  forget_touched(metric)
  redis.call('ZADD', metric.key.touched, number, '=' .. new_version)
end
