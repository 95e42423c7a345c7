-- record: apply one batch of samples, exactly once.
--
-- KEYS[1]  clock      string; for all keys see keys.py
-- KEYS[2]  writers    hash
-- KEYS[3]  catalogue  hash
-- KEYS[4]  dirty      zset
-- KEYS[5+] then five for each metric of the batch: series hash, live hash, log zset, state hash,
--          values hash
-- ARGV[1]  writer     id of the recording process
-- ARGV[2]  sequence   this writer's number of the batch, from 1
-- ARGV[3]  confirmed  the last number for which the writer received a reply
-- ARGV[4]  limits     msgpack [max_age_ms, max_future_ms, log_age_us, log_bytes, max_series,
--                     max_tag_values, canonical tags of the overflow series]
-- ARGV[5+] then four for each metric: name, channel, head, body
--          head: msgpack [type, definition, samples, oldest_ms, newest_ms, [series...],
--          [change...], doubles in a row of totals, rows in a field of the live hash]
--          series: its id, a number, if the client knows it, else its canonical tags, a string
--          change: how the totals of a series change, see include/totals.lua
--          body: the samples; this script never reads them
-- Returns  msgpack [number of the writer's last batch before this one, server time in us, age of
--          the oldest unsealed block in ms, failed publishes, [[index, reason, detail]...],
--          [[index, [id...]]...]], where an index is the position of a metric in the batch, from 0.
--          Reasons why a metric's samples were refused: 'definition', 'too_old', 'in_future',
--          'unknown_series'. Reason 'overflow': samples were stored as the overflow series; its
--          detail is msgpack [the tag that has too many values, or '' if the metric has too many
--          series; how many series]. The ids are those of all series of the metric, if the client
--          did not know some. A batch that was applied before gets the reply it got then.
-- Why Lua  the check for a repeated batch and its effect must be one step: a client that misses a
--          reply sends the batch again

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "series_ids"
-- @include "totals"
-- @include "log_limits"

local clock_key, writers_key, catalogue_key, dirty_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local writer, sequence, confirmed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local limits_wire = cmsgpack.unpack(ARGV[4])
local limits = {
  max_age_ms = limits_wire[1],
  max_future_ms = limits_wire[2],
  log_age_us = limits_wire[3],
  log_bytes = limits_wire[4],
  max_series = limits_wire[5],
  max_tag_values = limits_wire[6],
  overflow_tags = limits_wire[7],
}

-- Bytes of the stamp behind a definition in the catalogue: the clock at which it was added, which
-- orders the metrics and tells one store from another.
local STAMP = 9

local batch = {
  metrics = {}, -- see read_arguments()
  previous_sequence = 0, -- of the writer's last batch
  previous_clock = nil, -- of the shard's last batch
  time_us = nil, -- of the server; ages are judged by it
  clock = nil, -- of this batch, in us: orders batches, so it only grows
  clock_ms = nil,
  unsealed_age_ms = 0, -- of the oldest block that is not sealed
  problems = {}, -- for the reply, see Returns
  learned = {},
}

-- Read the keys and arguments of each metric into named fields. The steps below set those that are
-- nil here.
local function read_arguments()
  for number = 1, (#KEYS - 4) / 5 do
    local key, argument = 5 * number, 4 * number + 1
    local head_wire = cmsgpack.unpack(ARGV[argument + 2])
    batch.metrics[number] = {
      number = number, -- its place in the batch, from 1
      name = ARGV[argument],
      channel = ARGV[argument + 1],
      body = ARGV[argument + 3],
      key = {
        series = KEYS[key],
        live = KEYS[key + 1],
        log = KEYS[key + 2],
        state = KEYS[key + 3],
        values = KEYS[key + 4],
      },
      head = {
        type = head_wire[1],
        definition = head_wire[2],
        samples = head_wire[3],
        oldest_ms = head_wire[4],
        newest_ms = head_wire[5],
        series = head_wire[6],
        changes = head_wire[7],
        width = head_wire[8],
        rows_per_field = head_wire[9],
      },
      state = nil, -- what the state hash holds, see read_state()
      definition = nil, -- as in the catalogue; false for a new metric
      stamp = nil, -- in the catalogue, behind the definition
      refused = false,
      ids = {}, -- of head.series
      unknown = nil, -- series that came without id, see find_ids()
      overflow = nil, -- a limit -> how many series exceed it
      new_series = nil, -- of the series hash: tags, id, tags, id...
      changed_counts = nil, -- of the values hash: field, count, field, count...
      new_state = nil, -- of the live hash: field, rows, field, rows...
      base_places = nil, -- series whose shared value changes: places in head.series, from 0
      base_values = nil, -- packed value and time of each, before the change
      block = nil, -- to append to the log
      cut = nil, -- blocks to remove from it
      cut_clock = nil, -- of the newest of these
    }
  end
end

local function for_each_accepted(step)
  for _, metric in ipairs(batch.metrics) do
    if not metric.refused then
      step(metric)
    end
  end
end

local function refuse(metric, reason, detail)
  metric.refused = true
  batch.problems[#batch.problems + 1] = { metric.number - 1, reason, detail }
end

-- Steps that read and check.

-- Return the number and the reply of the writer's last batch, or nothing.
local function read_last_batch()
  local entry = redis.call('HGET', writers_key, writer)
  if entry then
    local last_sequence, _, reply = unpack(cmsgpack.unpack(entry))
    return last_sequence, reply
  end
end

-- Return an error if a right is missing. The server itself has checked the keys of all metrics, so
-- each command is checked with one key.
local function find_missing_right()
  local first = batch.metrics[1]
  local log, state = first.key.log, first.key.state
  if not redis.acl_check_cmd then
    return find_refused('SET', clock_key, '0', 'NOSUCHOPTION')
      or find_refused('HSET', state, 'f', 'v', 'g')
      or find_refused('ZADD', log, 'nan', 'm')
      or find_refused('ZREM', log, '')
      or find_refused('PUBLISH', first.channel, '') -- subscribers skip an empty message
  end
  local missing_right = find_denied('SET', clock_key, '0')
    or find_denied('HSET', state, 'f', 'v')
    or find_denied('ZADD', log, '0', 'm')
    or find_denied('ZREM', log, 'm')
  for _, metric in ipairs(batch.metrics) do
    missing_right = missing_right or find_denied('PUBLISH', metric.channel, '')
  end
  return missing_right
end

local function read_clock()
  batch.previous_clock = tonumber(redis.call('GET', clock_key) or '0')
  local time = redis.call('TIME')
  batch.time_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  batch.clock = math.max(batch.time_us, batch.previous_clock + 1)
end

-- Return an error if the state hash is corrupt.
local function read_state(metric)
  local found = redis.call('HMGET', metric.key.state,
    'sealed', 'next', 'bytes', 'samples', 'never_sealed', 'waiting')
  local state = {
    sealed = tonumber(found[1] or '0'), -- clock up to which the log is sealed
    next_id = tonumber(found[2] or '0'),
    log_bytes = tonumber(found[3] or '0'),
    samples = tonumber(found[4] or '0'),
    never_sealed = tonumber(found[5] or '0'), -- samples that were cut from the log before
    waiting = tonumber(found[6] or '0'), -- clock of the oldest block that is not sealed
  }
  metric.state = state
  if not (state.sealed and state.next_id and state.log_bytes and state.samples
    and state.never_sealed and state.waiting) then
    return 'WRONGTYPE redismetrics: ' .. metric.key.state .. ' holds a value that is not a number'
  end
end

-- Read what Redis holds of the metrics, and fix the clock of the batch. Return an error if
-- something is corrupt.
local function read_metrics()
  redis.call('ZCARD', dirty_key) -- fails if it is not a sorted set
  local names = {}
  for n, metric in ipairs(batch.metrics) do
    names[n] = metric.name
  end
  local definitions = #names > 0 and read_fields(catalogue_key, names) or {}
  for n, metric in ipairs(batch.metrics) do
    metric.definition = definitions[n] and string.sub(definitions[n], 1, -STAMP - 1)
    metric.stamp = definitions[n] and string.sub(definitions[n], -STAMP)
    local corrupt = read_state(metric) or find_ids(metric, limits)
    if corrupt then
      return corrupt
    end
    batch.clock = math.max(batch.clock, metric.state.sealed + 1)
  end
  batch.clock_ms = math.floor(batch.clock / 1000)
end

-- Refuse samples that were recorded under another definition, or at the wrong time.
local function check_samples(metric)
  local head, time_ms = metric.head, math.floor(batch.time_us / 1000)
  if metric.definition and metric.definition ~= head.definition then
    refuse(metric, 'definition', metric.definition)
  elseif head.oldest_ms < time_ms - limits.max_age_ms then
    refuse(metric, 'too_old', format_integer(time_ms))
  elseif head.newest_ms > time_ms + limits.max_future_ms then
    refuse(metric, 'in_future', format_integer(time_ms))
  end
end

-- Work out the series ids, the totals and the block.
local function apply_samples(metric)
  local head, ids = metric.head, metric.ids
  assign_ids(metric, limits)
  -- If Redis lost batches that it had confirmed (in a failover, or its data was deleted), it may
  -- have given the ids that the client knows to other series since.
  local ids_unreliable = batch.previous_sequence < confirmed
  if not advance_totals(metric, batch.clock, batch.clock_ms, ids_unreliable) then
    refuse(metric, 'unknown_series', '')
    return
  end
  metric.block = cmsgpack.pack({
    batch.clock, writer, sequence, head.samples, head.oldest_ms, head.newest_ms,
    ids, metric.base_places, table.concat(metric.base_values),
  }) .. metric.body
  if metric.overflow then
    for limit, series in pairs(metric.overflow) do
      local problem = { metric.number - 1, 'overflow', cmsgpack.pack({ limit, series }) }
      batch.problems[#batch.problems + 1] = problem
    end
  elseif metric.unknown then
    batch.learned[#batch.learned + 1] = { metric.number - 1, ids }
  end
end

local function cut_log(metric)
  choose_cut(metric, limits, batch.time_us, batch.previous_clock)
end

local function measure_unsealed_age(metric)
  local state = metric.state
  if state.waiting <= state.sealed then
    state.waiting = batch.clock -- all blocks before this one are sealed
  end
  local age_ms = math.floor((batch.clock - state.waiting) / 1000)
  batch.unsealed_age_ms = math.max(batch.unsealed_age_ms, age_ms)
end

-- Steps that write.

local function pack_reply(failed_publishes)
  return cmsgpack.pack({
    batch.previous_sequence, batch.time_us, batch.unsealed_age_ms, failed_publishes,
    batch.problems, batch.learned,
  })
end

-- Write what a repeated batch is recognised by. This comes first, with a command that a full server
-- refuses. The clock moves past the numbers that order new metrics, see write_metric().
local function write_guard(reply)
  redis.call('HSET', writers_key, writer, cmsgpack.pack({ sequence, batch.clock, reply }))
  redis.call('SET', clock_key, format_integer(batch.clock + #batch.metrics))
end

local function write_metric(metric)
  local key, state, clock_text = metric.key, metric.state, format_integer(batch.clock)
  if not metric.definition then
    metric.stamp = cmsgpack.pack(batch.clock + metric.number)
    redis.call('HSET', catalogue_key, metric.name, metric.head.definition .. metric.stamp)
  end
  if metric.unknown then
    write_fields(key.series, metric.new_series)
    write_fields(key.values, metric.changed_counts)
  end
  write_fields(key.live, metric.new_state)
  redis.call('ZADD', key.log, clock_text, metric.block)
  if #metric.cut > 0 then
    redis.call('ZREM', key.log, unpack(metric.cut))
    redis.call('HSET', key.state, 'cut', format_integer(metric.cut_clock))
  end
  redis.call('HSET', key.state,
    'next', state.next_id,
    'bytes', format_integer(state.log_bytes),
    'samples', format_integer(state.samples + metric.head.samples),
    'never_sealed', format_integer(state.never_sealed),
    'waiting', format_integer(state.waiting))
  redis.call('ZADD', dirty_key, clock_text, metric.name)
end

-- Send the blocks to subscribers, each with the stamp of its metric: channels are shared by all
-- databases, and the data may be deleted, but a subscriber uses the series ids of one store only.
-- Return how many publishes failed: the samples are stored anyway.
local function publish()
  local failed = 0
  for_each_accepted(function(metric)
    local reply = redis.pcall('PUBLISH', metric.channel, metric.block .. metric.stamp)
    if type(reply) == 'table' and reply.err then
      failed = failed + 1
    end
  end)
  return failed
end

-- The steps in order. A script that fails midway keeps what it has written, so everything is read
-- and checked before anything is written.

local last_sequence, last_reply = read_last_batch()
if last_sequence and sequence <= last_sequence then
  return last_reply
end
batch.previous_sequence = last_sequence or 0

read_arguments()
local missing_right = #batch.metrics > 0 and find_missing_right()
if missing_right then
  return redis.error_reply(missing_right)
end
read_clock()
local corrupt = read_metrics()
if corrupt then
  return redis.error_reply(corrupt)
end
for_each_accepted(check_samples)
for_each_accepted(apply_samples)
for_each_accepted(cut_log)
for_each_accepted(measure_unsealed_age)

local reply = pack_reply(0)
write_guard(reply)
for_each_accepted(write_metric)
local failed_publishes = publish()
return failed_publishes == 0 and reply or pack_reply(failed_publishes)
