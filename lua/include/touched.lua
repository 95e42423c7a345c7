-- What readers must drop from their caches: the fields that each of the last commits wrote.

local MAX_TOUCHED = 128 -- fields of one commit that are listed at most
local REMEMBERED_COMMITS = 64 -- that a reader can be behind and still catch up

-- Forget all commits so far: a reader then cannot catch up, and drops its whole cache.
local function forget_touched(metric)
  redis.call('ZREMRANGEBYSCORE', metric.key.touched, '-inf', '+inf')
end

-- List the fields that commit *number* writes. If there are too many, forget all instead.
local function write_touched(metric, data, number)
  local touched = 0
  for _, hash in ipairs(data) do
    touched = touched + #hash.fields / 2
  end
  if touched > MAX_TOUCHED then
    return forget_touched(metric)
  end
  for _, hash in ipairs(data) do
    for at = 1, #hash.fields, 2 do
      redis.call('ZADD', metric.key.touched, number, hash.name .. ' ' .. hash.fields[at])
    end
  end
end

local function write_version(metric, number, new_version)
  redis.call('ZADD', metric.key.touched, number, '=' .. new_version)
  redis.call('ZREMRANGEBYSCORE', metric.key.touched, '-inf', number - REMEMBERED_COMMITS)
end
