-- Forget series, or a whole metric. The ids that clients know are then no longer valid.

-- @include "slices"
-- @include "record_state"

-- Remove everything that belongs to the series of a metric. Series ids and numbers of changes are
-- never reused: the next ones stay in its record-side state.
local function forget_metric(metric, catalogue_key)
  local key, recorded = metric.key, metric.recorded
  redis.call('DEL', key.series, key.live, key.held, key.values)
  redis.call('HDEL', catalogue_key, metric.name)
  recorded[EPOCH] = recorded[EPOCH] + 1
  recorded[FIRST_CHANGE], recorded[CHANGE_BYTES] = recorded[NEXT_CHANGE], 0
end

-- Subtract the tags of one series from the counts kept by include/series_ids.lua. Series of older
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

-- *all_tags*: canonical tags of each series. Readers skip changes with these ids, and rows made
-- from them: no other series ever gets the id.
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
