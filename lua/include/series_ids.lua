-- Series ids: look up the series that the client sent by tags, assign ids to new ones, and count
-- series beyond the limits as the overflow series.
--
-- These functions read and fill in `metric`, see read_arguments() in record.lua. They write
-- nothing to Redis.

-- @include "numbers"
-- @include "slices"
-- @include "record_state"

-- Redis stores a small hash as a list, which is slow to update once it has several hundred fields.
-- One long value turns it into a hash table.
local PAD_AT, PAD = 64, string.rep('-', 65)

-- Set metric.ids where the client sent ids. If it sent tags, set metric.unknown to the stored ids
-- of those series. Return an error if these are corrupt.
local function find_ids(metric, limits)
  local series, ids, all_tags, places = metric.series, {}, {}, {}
  metric.ids = ids
  for place = 1, #series do
    local id_or_tags = series[place]
    if type(id_or_tags) == 'number' then
      ids[place] = id_or_tags
    else
      all_tags[#all_tags + 1], places[#places + 1] = id_or_tags, place
    end
  end
  if #all_tags == 0 then
    return
  end

  local padding = redis.call('HEXISTS', metric.series_key, '') -- 0 or 1 fields
  local series_count = redis.call('HLEN', metric.series_key) - padding
  local found = read_fields(metric.series_key, all_tags)
  local count_fields, needed, is_needed = {}, {}, {}
  for n, tags in ipairs(all_tags) do
    if found[n] then
      found[n] = tonumber(found[n])
      if not found[n] then
        return 'WRONGTYPE redismetrics: ' .. metric.series_key
          .. ' holds a series id that is not a number'
      end
    elseif tags ~= limits.overflow_tags and series_count < limits.max_series then
      local flat, fields = cmsgpack.unpack(tags), {}
      for at = 1, #flat, 2 do
        fields[at], fields[at + 1] = flat[at] .. '\0' .. flat[at + 1], flat[at]
      end
      count_fields[n] = fields
      for _, field in ipairs(fields) do
        if not is_needed[field] then
          is_needed[field], needed[#needed + 1] = true, field
        end
      end
    end
  end

  local counts, values = {}, #needed > 0 and read_fields(metric.values_key, needed) or {}
  for n, field in ipairs(needed) do
    counts[field] = tonumber(values[n] or '0')
  end
  metric.unknown = {
    tags = all_tags, -- canonical tags of each series that came without id
    places = places, -- its place in metric.series
    ids = found, -- its id; false if it is new
    count_fields = count_fields, -- of a new one: for each tag, "key\0value" and "key"
    counts = counts, -- of each of these fields: how many series, or how many values
    series_count = series_count,
    is_padded = padding == 1,
  }
end

-- Return why a new series must be counted as the overflow series: '' if there are too many series,
-- or the tag with too many values. Return nil if there is room.
local function find_exceeded_limit(unknown, fields, limits)
  if unknown.series_count >= limits.max_series then
    return ''
  end
  local counts, max_tag_values = unknown.counts, limits.max_tag_values
  for at = 1, #fields, 2 do
    local pair, key = fields[at], fields[at + 1]
    if counts[pair] == 0 and counts[key] >= max_tag_values then
      return key
    end
  end
end

-- Count a new series with these tags.
local function count_series(counts, changed, fields)
  for at = 1, #fields, 2 do
    local pair, key = fields[at], fields[at + 1]
    if counts[pair] == 0 then
      counts[key], changed[key] = counts[key] + 1, true
    end
    counts[pair], changed[pair] = counts[pair] + 1, true
  end
end

-- Set the rest of metric.ids, and collect what is new: metric.new_series, metric.changed_counts,
-- metric.overflow.
local function assign_ids(metric, limits)
  local unknown = metric.unknown
  if not unknown then
    return
  end
  local ids, state, new_series = metric.ids, metric.state, {}
  local overflow_id, changed = nil, {}
  for n, tags in ipairs(unknown.tags) do
    local id, fields = unknown.ids[n], unknown.count_fields[n]
    if not id then
      local limit = tags ~= limits.overflow_tags and find_exceeded_limit(unknown, fields, limits)
      if limit then
        tags = limits.overflow_tags
        overflow_id = overflow_id or tonumber(redis.call('HGET', metric.series_key, tags) or nil)
        id = overflow_id
        metric.overflow = metric.overflow or {}
        metric.overflow[limit] = (metric.overflow[limit] or 0) + 1
      elseif fields then
        count_series(unknown.counts, changed, fields)
      end
      if not id then
        id = state[NEXT_ID]
        state[NEXT_ID], unknown.series_count = id + 1, unknown.series_count + 1
        new_series[#new_series + 1], new_series[#new_series + 2] = tags, format_integer(id)
        if tags == limits.overflow_tags then
          overflow_id = id
        end
      end
    end
    ids[unknown.places[n]] = id
  end
  if not unknown.is_padded and unknown.series_count >= PAD_AT then
    new_series[#new_series + 1], new_series[#new_series + 2] = '', PAD
  end
  local changed_counts = {}
  for field in pairs(changed) do
    changed_counts[#changed_counts + 1] = field
    changed_counts[#changed_counts + 1] = unknown.counts[field]
  end
  metric.new_series, metric.changed_counts = new_series, changed_counts
end
