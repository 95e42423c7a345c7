-- Forget series, or a whole metric. The ids that clients know are not valid any more then.

-- @include "slices"
-- @include "record_state"

-- Remove what belongs to the series of a metric. Series ids and numbers of changes are never used
-- again: the next ones stay in its record-side state.
local function forget_metric(metric, catalogue_key)
  local key, recorded = metric.key, metric.recorded
  redis.call('DEL', key.series, key.live, key.held, key.values)
  redis.call('HDEL', catalogue_key, metric.name)
  recorded[EPOCH] = recorded[EPOCH] + 1
  recorded[FIRST_CHANGE], recorded[CHANGE_BYTES] = recorded[NEXT_CHANGE], 0
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

-- *all_tags*: canonical tags of each series. Changes that name one of these are passed over by
-- readers, as are rows that are made of them: no other series ever gets the id.
local function forget_series(metric, all_tags)
  if #all_tags == 0 then
    return
  end
  remove_fields(metric.key.series, all_tags)
  for _, tags in ipairs(all_tags) do
    uncount_series(metric.key.values, cmsgpack.unpack(tags))
  end
  metric.recorded[EPOCH] = metric.recorded[EPOCH] + 1
end
