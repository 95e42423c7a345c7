-- record: apply one batch of samples, once.
--
-- KEYS[1]  clock      string, see keys.py
-- KEYS[2]  writers    hash
-- KEYS[3]  catalogue  hash
-- KEYS[4]  dirty      zset
-- KEYS[5+] then five for each metric of the batch: series hash, live hash, log zset, state hash, values hash
-- ARGV[1]  writer     id of the recording process
-- ARGV[2]  sequence   this writer's batch number, from 1
-- ARGV[3]  confirmed  the last sequence whose reply the writer got
-- ARGV[4]  limits     msgpack [max_age_ms, max_future_ms, log_age_us, log_bytes, max_series, max_tag_values, canonical overflow tags]
-- ARGV[5+] then four for each metric: name, channel, head, body
--          head: msgpack [type, definition, samples, oldest_ms, newest_ms, [series...], [live change...], doubles of state a series,
--          series in one field of state]
--          body: bytes that this script never looks into
--          series: its id, a number, where the client knows it, else its canonical tags, a string
--          live change of a series: counter: amount; gauge: code, time_ms, value, change_ms, change, where code 1 is that the
--          change of the shared value comes first, 2 that the value is set, 4 that time_ms is the sample's own; histogram:
--          count, sum, how many buckets changed, then for each its number from 1 and how many came
-- Returns  msgpack [sequence held before, the server's time in us, age of the oldest unsealed block in ms, failed publishes,
--          [[index of the metric, reason, detail]...] of refused blocks, [[index of the metric, [id...]]...] of ids that the
--          client did not know]; the reply kept when this batch was applied before. Of blocks that are stored in part as the overflow
--          series there is the reason 'overflow', a tag that has too many values, or '' for too many series, and how many
-- Why Lua  guard and effect must be one step: after a lost reply the client sends again
--
-- A script that fails midway keeps its earlier writes: everything is read and checked first, written after.

local clock_key, writers_key, catalogue_key, dirty_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local writer, sequence, confirmed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local max_age, max_future, log_age, log_bytes, max_series, max_values, overflow = unpack(cmsgpack.unpack(ARGV[4]))
local metrics = (#KEYS - 4) / 5

local SLICE = 1000 -- unpack() stops near 8,000 values
local CUT = 100 -- at most so many old blocks are cut from a log at once
local HOUR_US = 3600000000
local STAMP = 9 -- bytes behind a definition in the catalogue: when it came, so that metrics have an order
-- A small hash is a list to Redis, slow to update once it has some hundred fields; one long value makes it a table.
local PAD_AT, PAD = 64, string.rep('-', 65)

local function text(number)
  return string.format('%.0f', number)
end

-- Add an amount to the pair of doubles at state[at]: two-sum, Knuth, TAOCP 2, 4.2.2.
local function add(state, at, amount)
  local total = state[at]
  local sum = total + amount
  local part = sum - total
  state[at] = sum
  if sum - sum == 0 then
    state[at + 1] = state[at + 1] + ((total - (sum - part)) + (amount - part))
  else -- beyond what a double holds
    state[at + 1] = 0
  end
end

local function sliced(command, key, fields)
  if #fields <= SLICE then
    return redis.call(command, key, unpack(fields))
  end
  local found = {}
  for first = 1, #fields, SLICE do
    local last = math.min(first + SLICE - 1, #fields)
    for i, value in ipairs(redis.call(command, key, unpack(fields, first, last))) do
      found[first + i - 1] = value
    end
  end
  return found
end

local function write_sliced(key, pairs_)
  for first = 1, #pairs_, 2 * SLICE do
    redis.call('HSET', key, unpack(pairs_, first, math.min(first + 2 * SLICE - 1, #pairs_)))
  end
end

-- Rights. Keys are checked by the server, since they are declared; commands and channels are not.
local function forbidden()
  local log, state = KEYS[7], KEYS[8]
  local lack = "NOPERM redismetrics: this user's rights lack "
  if redis.acl_check_cmd then
    local checks = { { 'SET', clock_key, '0' }, { 'HSET', state, 'f', 'v' }, { 'ZADD', log, '0', 'm' }, { 'ZREM', log, 'm' } }
    for i = 0, metrics - 1 do
      checks[#checks + 1] = { 'PUBLISH', ARGV[6 + 4 * i], '' }
    end
    for _, check in ipairs(checks) do
      if not redis.acl_check_cmd(unpack(check)) then
        return lack .. check[1] .. ' ' .. check[2]
      end
    end
    return nil
  end
  -- Redis 6.2: calls that pass the check of rights and then fail, or do nothing (subscribers skip an empty message). A full
  -- server must be obeyed here: after the ZREM it takes the script for one that has begun to write, and lets it.
  local probes = { { 'SET', clock_key, '0', 'NOSUCHOPTION' }, { 'HSET', state, 'f', 'v', 'g' }, { 'ZADD', log, 'nan', 'm' }, { 'ZREM', log, '' }, { 'PUBLISH', ARGV[6], '' } }
  for _, probe in ipairs(probes) do
    local reply = redis.pcall(unpack(probe))
    local refused = type(reply) == 'table' and reply.err or ''
    if string.find(refused, 'user executing the script', 1, true) then
      return lack .. probe[1] .. ' ' .. probe[2]
    elseif string.find(refused, 'OOM command not allowed', 1, true) then
      return "OOM command not allowed when used memory > 'maxmemory'"
    end
  end
  return nil
end

-- 1. Was it applied before?
local held = 0
local entry = redis.call('HGET', writers_key, writer)
if entry then
  local last, _, reply = unpack(cmsgpack.unpack(entry))
  if sequence <= last then
    return reply
  end
  held = last
end

-- A store that lost what it had confirmed (a failover, its data deleted) may have given known ids to other series since.
local forgetful = held < confirmed

local lacking = metrics > 0 and forbidden()
if lacking then
  return redis.error_reply(lacking)
end

-- 2. Read and check.
local previous = tonumber(redis.call('GET', clock_key) or '0')
local time = redis.call('TIME')
local time_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local clock = math.max(time_us, previous + 1) -- orders batches, and only grows; ages are judged by the time itself
redis.call('ZCARD', dirty_key)

local names, parts, problems, learned = {}, {}, {}, {}
for i = 1, metrics do
  names[i] = ARGV[4 * i + 1]
end
local known = metrics > 0 and sliced('HMGET', catalogue_key, names) or {}
for i = 1, metrics do
  local series_key, state_key, values_key = KEYS[5 * i], KEYS[5 * i + 3], KEYS[5 * i + 4]
  local kind, definition, samples, oldest, newest, tags, live, width, rows = unpack(cmsgpack.unpack(ARGV[4 * i + 3]))
  local part = { kind = kind, definition = definition, samples = samples, oldest = oldest, newest = newest, tags = tags, live = live, width = width, rows = rows }
  local state = redis.call('HMGET', state_key, 'sealed', 'next', 'bytes', 'samples', 'never_sealed', 'waiting')
  part.sealed, part.next, part.bytes = tonumber(state[1] or '0'), tonumber(state[2] or '0'), tonumber(state[3] or '0')
  part.recorded, part.never_sealed, part.waiting = tonumber(state[4] or '0'), tonumber(state[5] or '0'), tonumber(state[6] or '0')
  if not (part.sealed and part.next and part.bytes and part.recorded and part.never_sealed and part.waiting) then
    return redis.error_reply('WRONGTYPE redismetrics: ' .. state_key .. ' holds something that is no number')
  end
  clock = math.max(clock, part.sealed + 1)
  local ids, lookups, places = {}, {}, {}
  part.ids, part.lookups, part.places = ids, lookups, places
  for at = 1, #tags do
    local tag = tags[at]
    if type(tag) == 'number' then
      ids[at] = tag
    else
      lookups[#lookups + 1], places[#places + 1] = tag, at
    end
  end
  if #part.lookups > 0 then
    part.padded = redis.call('HEXISTS', series_key, '')
    part.size = redis.call('HLEN', series_key) - part.padded
    part.found = sliced('HMGET', series_key, part.lookups)
    part.pairs, part.values = {}, {} -- of new series: "key\0value" and "key" of each tag; how many have them
    local wanted, asked = {}, {}
    for n, canonical in ipairs(part.lookups) do
      if part.found[n] then
        part.found[n] = tonumber(part.found[n])
        if not part.found[n] then
          return redis.error_reply('WRONGTYPE redismetrics: ' .. series_key .. ' holds an id that is no number')
        end
      elseif canonical ~= overflow and part.size < max_series then
        local flat, pairs_ = cmsgpack.unpack(canonical), {}
        for at = 1, #flat, 2 do
          pairs_[at], pairs_[at + 1] = flat[at] .. '\0' .. flat[at + 1], flat[at]
        end
        part.pairs[n] = pairs_
        for _, field in ipairs(pairs_) do
          if not asked[field] then
            asked[field], wanted[#wanted + 1] = true, field
          end
        end
      end
    end
    local counts = #wanted > 0 and sliced('HMGET', values_key, wanted) or {}
    for at, field in ipairs(wanted) do
      part.values[field] = tonumber(counts[at] or '0')
    end
  end
  parts[i] = part
end

local now_ms, real_ms = math.floor(clock / 1000), math.floor(time_us / 1000)
for i, part in ipairs(parts) do
  local definition = known[i] and string.sub(known[i], 1, -STAMP - 1)
  if definition and definition ~= part.definition then
    problems[#problems + 1] = { i - 1, 'definition', definition }
    part.refused = true
  elseif part.oldest < real_ms - max_age then
    problems[#problems + 1] = { i - 1, 'too_old', text(real_ms) }
    part.refused = true
  elseif part.newest > real_ms + max_future then
    problems[#problems + 1] = { i - 1, 'in_future', text(real_ms) }
    part.refused = true
  end
end

-- Why a new series goes to the overflow series: '', or the tag that has too many values. Nothing where it needn't.
local function crowded(part, pairs_)
  if part.size >= max_series then
    return ''
  end
  for at = 1, #pairs_, 2 do
    if part.values[pairs_[at]] == 0 and part.values[pairs_[at + 1]] >= max_values then
      return pairs_[at + 1]
    end
  end
end

-- Series ids: known ones, new ones, and the overflow series once there are too many.
local function intern(i, part)
  local ids, fresh, overflow_id, grown = part.ids, {}, nil, {}
  for n, canonical in ipairs(part.lookups) do
    local id = part.found[n]
    if not id then
      local pairs_ = part.pairs[n]
      local tag = canonical ~= overflow and crowded(part, pairs_)
      if tag then
        overflow_id = overflow_id or tonumber(redis.call('HGET', KEYS[5 * i], overflow) or nil)
        canonical, id, part.overflown = overflow, overflow_id, part.overflown or {}
        part.overflown[tag] = (part.overflown[tag] or 0) + 1
      elseif pairs_ then
        for at = 1, #pairs_, 2 do
          local pair, key = pairs_[at], pairs_[at + 1]
          if part.values[pair] == 0 then
            part.values[key], grown[key] = part.values[key] + 1, true
          end
          part.values[pair], grown[pair] = part.values[pair] + 1, true
        end
      end
      if not id then
        id, part.next, part.size = part.next, part.next + 1, part.size + 1
        fresh[#fresh + 1], fresh[#fresh + 2] = canonical, text(id)
        if canonical == overflow then
          overflow_id = id
        end
      end
    end
    ids[part.places[n]] = id
  end
  if part.padded == 0 and part.size >= PAD_AT then
    fresh[#fresh + 1], fresh[#fresh + 2] = '', PAD
  end
  part.fresh, part.grown = fresh, {}
  for field in pairs(grown) do
    part.grown[#part.grown + 1], part.grown[#part.grown + 2] = field, part.values[field]
  end
end

-- The running state of series is rows of doubles, several in one field; see LIVE in keys.py. A row of zeros is a new series.
local function counter(part, state, from, at)
  add(state, from + 2, part.live[at])
end

local function gauge(part, state, from, at)
  local live, first = part.live, 5 * at - 4
  local code, when = live[first], live[first + 1]
  local last = state[from + 1] == 0 and -1 or state[from + 3]
  if code % 2 == 1 then
    part.based[#part.based + 1] = at - 1
    last = math.max(last, math.min(live[first + 3], now_ms)) -- no older than what it changes, which may have come from a clock ahead
    part.bases[#part.bases + 1] = struct.pack('<dd', state[from + 2], last)
    state[from + 2], state[from + 3], state[from + 4] = state[from + 2] + live[first + 4], last, clock
  end
  if code < 4 then
    when = math.min(when, now_ms) -- a time that is not the sample's own is at most as new as its batch
  end
  if code % 4 >= 2 and when >= last then
    state[from + 2], state[from + 3], state[from + 4] = live[first + 2], when, clock
  end
end

local function histogram(part, state, from)
  local live, at = part.live, part.cursor
  state[from + 2] = state[from + 2] + live[at]
  add(state, from + 3, live[at + 1])
  local last = at + 2 + 2 * live[at + 2]
  for pair = at + 3, last, 2 do
    local cell = from + 4 + live[pair]
    state[cell] = state[cell] + live[pair + 1]
  end
  part.cursor = last + 1
end

local change = { counter = counter, gauge = gauge, histogram = histogram }
local function advance(i, part)
  local apply, ids, width, rows = change[part.kind], part.ids, part.width, part.rows
  local fields, chunks, place, field_at, row_of = {}, {}, {}, {}, {}
  for at = 1, #ids do
    local row = ids[at] % rows
    local field = (ids[at] - row) / rows
    local n = place[field]
    if not n then
      n = #fields + 1
      fields[n], place[field] = text(field), n
    end
    field_at[at], row_of[at] = n, row
  end
  local packed = sliced('HMGET', KEYS[5 * i + 1], fields)
  local format = '<' .. string.rep('d', width * rows)
  local none = string.rep('\0', 8 * width * rows)
  for n = 1, #fields do
    local chunk = { struct.unpack(format, packed[n] or none) }
    chunk[#chunk] = nil -- the position behind the last one
    chunks[n] = chunk
  end

  part.based, part.bases, part.cursor = {}, {}, 1
  for at = 1, #ids do
    local chunk, from = chunks[field_at[at]], row_of[at] * width
    if (forgetful or chunk[from + 1] == 0) and type(part.tags[at]) == 'number' then -- deleted or lost since the client learned its id
      problems[#problems + 1] = { i - 1, 'unknown_series', '' }
      part.refused = true
      return
    end
    apply(part, chunk, from, at)
    chunk[from + 1] = now_ms
  end
  local update = {}
  for n, field in ipairs(fields) do
    update[2 * n - 1], update[2 * n] = field, struct.pack(format, unpack(chunks[n]))
  end
  part.update = update
  part.block = cmsgpack.pack({ clock, writer, sequence, part.samples, part.oldest, part.newest, ids, part.based, table.concat(part.bases) })
  if part.overflown then
    for tag, many in pairs(part.overflown) do
      problems[#problems + 1] = { i - 1, 'overflow', cmsgpack.pack({ tag, many }) }
    end
  elseif #part.lookups > 0 then
    learned[#learned + 1] = { i - 1, ids }
  end
end

for i, part in ipairs(parts) do
  if not part.refused then
    intern(i, part)
    advance(i, part)
  end
end

-- Old blocks of each log, by age and by bytes. The batch that sees the time leap cuts nothing by age.
local leapt = previous > 0 and time_us - previous > HOUR_US
for i, part in ipairs(parts) do
  if not part.refused then
    local log_key, body = KEYS[5 * i + 2], ARGV[4 * i + 4]
    part.block = part.block .. body
    part.bytes = part.bytes + #part.block
    part.gone = {}
    local excess = part.bytes - log_bytes
    local candidates = redis.call('ZRANGEBYSCORE', log_key, '-inf', text(time_us - log_age), 'WITHSCORES', 'LIMIT', 0, CUT)
    if leapt then
      candidates = {}
    end
    if excess > 0 and #candidates == 0 then
      candidates = redis.call('ZRANGE', log_key, 0, CUT - 1, 'WITHSCORES')
    end
    for at = 1, #candidates, 2 do
      local member, score = candidates[at], tonumber(candidates[at + 1])
      if score > time_us - log_age and excess <= 0 then
        break
      end
      excess, part.bytes = excess - #member, part.bytes - #member
      part.gone[#part.gone + 1], part.cut = member, score
      if score > part.sealed then
        local sound, _, head = pcall(cmsgpack.unpack_one, member)
        part.never_sealed = part.never_sealed + (sound and type(head) == 'table' and tonumber(head[4]) or 0)
        part.waiting = score
      end
    end
  end
end

-- 3. Write: the guard first, with a command that a full server refuses.
local waited = 0
for _, part in ipairs(parts) do
  if not part.refused then
    if part.waiting <= part.sealed then
      part.waiting = clock
    end
    waited = math.max(waited, math.floor((clock - part.waiting) / 1000))
  end
end
local function answer(failed)
  return cmsgpack.pack({ held, time_us, waited, failed, problems, learned })
end
redis.call('HSET', writers_key, writer, cmsgpack.pack({ sequence, clock, answer(0) }))
redis.call('SET', clock_key, text(clock + metrics)) -- behind the stamps of new definitions, so that metrics keep their order
for i, part in ipairs(parts) do
  if not part.refused then
    local series_key, live_key, log_key, state_key, values_key = KEYS[5 * i], KEYS[5 * i + 1], KEYS[5 * i + 2], KEYS[5 * i + 3], KEYS[5 * i + 4]
    if not known[i] then
      redis.call('HSET', catalogue_key, names[i], part.definition .. cmsgpack.pack(clock + i))
    end
    write_sliced(series_key, part.fresh)
    write_sliced(values_key, part.grown)
    write_sliced(live_key, part.update)
    redis.call('ZADD', log_key, text(clock), part.block)
    if #part.gone > 0 then
      redis.call('ZREM', log_key, unpack(part.gone))
      redis.call('HSET', state_key, 'cut', text(part.cut))
    end
    redis.call('HSET', state_key, 'next', part.next, 'bytes', text(part.bytes), 'samples', text(part.recorded + part.samples),
      'never_sealed', text(part.never_sealed), 'waiting', text(part.waiting))
    redis.call('ZADD', dirty_key, text(clock), names[i])
  end
end

-- 4. Tell the subscribers; a failure here is counted, never felt.
local failed = 0
for i, part in ipairs(parts) do
  if not part.refused then
    local published = redis.pcall('PUBLISH', ARGV[4 * i + 2], part.block)
    if type(published) == 'table' and published.err then
      failed = failed + 1
    end
  end
end
return answer(failed)
