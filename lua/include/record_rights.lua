-- The permissions that record.lua needs, which are checked before anything is written.

-- @include "rights"

-- Return an error if a permission is missing. The server itself has checked the keys of all
-- metrics, so each command is checked with one key.
local function find_missing_right(clock_key, recorded_key, channel_prefix, batch)
  local first, has_exemplars = batch.metrics[1], #batch.with_exemplars > 0
  if not first then
    return
  end
  local log = first.log_key
  if not redis.acl_check_cmd then
    return find_refused('SET', clock_key, '0', 'NOSUCHOPTION')
      or find_refused('HSET', recorded_key, 'f', 'v', 'g')
      or find_refused('HDEL', recorded_key, '')
      or find_refused('ZADD', log, 'nan', 'm')
      or find_refused('ZREM', log, '')
      or (has_exemplars and find_refused('EXPIRE', log, '')) -- not an integer
      or find_refused('PUBLISH', first.channel, '') -- subscribers skip an empty message
  end
  local missing_right = find_denied('SET', clock_key, '0')
    or find_denied('HSET', recorded_key, 'f', 'v')
    or find_denied('HDEL', recorded_key, 'f')
    or find_denied('ZADD', log, '0', 'm')
    or find_denied('ZREM', log, 'm')
    or (has_exemplars and find_denied('EXPIRE', log, '1'))
  -- A fast path: a user who may publish to this name may publish to all names with this prefix.
  if not missing_right and find_denied('PUBLISH', channel_prefix .. '*', '') then
    for _, metric in ipairs(batch.metrics) do
      missing_right = missing_right or find_denied('PUBLISH', metric.channel, '')
    end
  end
  return missing_right
end
