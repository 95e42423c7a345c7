-- Forget series, or a whole metric.

-- @include "slices"

-- Series ids are never used again: the next one stays in the state of the metric.
local function forget_metric(metric, catalogue_key)
  local key = metric.key
  redis.call('DEL', key.series, key.live, key.held, key.values)
  redis.call('HDEL', catalogue_key, metric.name)
end

-- Take the tags of one series out of the counts that include/series_ids.lua keeps. Series of older
-- versions were not counted.
local function uncount_series(values_key, flat_tags)
  for at = 1, #flat_tags, 2 do
    local tag, pair = flat_tags[at], flat_tags[at] .. '\0' .. flat_tags[at + 1]
    local series = redis.call('HGET', values_key, pair)
    if series and tonumber(series) > 1 then
      redis.call('HINCRBY', values_key, pair, '-1')
    elseif series then
      redis.call('HDEL', values_key, pair)
      redis.call('HINCRBY', values_key, tag, '-1')
    end
  end
end

-- *all_tags*: canonical tags of each series. *cleared_states*: fields of the live hash as they were
-- read, and with the rows of these series set to 0.
local function forget_series(metric, all_tags, cleared_states)
  remove_fields(metric.key.series, all_tags)
  for _, tags in ipairs(all_tags) do
    uncount_series(metric.key.values, cmsgpack.unpack(tags))
  end
  for _, cleared in ipairs(cleared_states) do
    local field, _, value = unpack(cleared)
    redis.call('HSET', metric.key.live, field, value)
  end
end
