-- record: apply one batch of samples, exactly once.
--
-- KEYS[1]  clock      string; for all keys see keys.py
-- KEYS[2]  writers    hash
-- KEYS[3]  catalogue  hash
-- KEYS[4]  dirty      zset
-- KEYS[5]  recorded   hash
-- KEYS[6+] then four for each metric of the batch: series hash, live hash, log zset, values hash
-- ARGV[1]  writer     id of the recording process
-- ARGV[2]  sequence   this writer's number of the batch, from 1
-- ARGV[3]  confirmed  the last number for which the writer received a reply
-- ARGV[4]  limits     msgpack [max_age_ms, max_future_ms, log_age_us, log_bytes, max_series,
--                     max_tag_values, canonical tags of the overflow series]
-- ARGV[5+] then seven for each metric: name, channel, definition, head, series, change, body
--          head: samples, oldest_ms, newest_ms, epoch (f8 each), number of series (u4), doubles in
--          a row of totals (u2), rows in a field of the live hash (u1), whether *series* is
--          msgpack, whether the change has shared values (u1 each)
--          series: the ids, u4 each, if the client knows all; else msgpack [series...], each its
--          id, a number, or its canonical tags, a string. Ids are valid in the head's epoch
--          change: how the totals change, see include/totals.lua, without stamp and ids
--          body: the samples; this script never reads them
-- Returns  msgpack [number of the writer's last batch before this one, server time in us, age of
--          the oldest unsealed block in ms, failed publishes, [[index, reason, detail]...],
--          [[index, [id...], epoch]...]], where an index is the position of a metric in the batch,
--          from 0.
--          Reasons why a metric's samples were refused: 'definition', 'too_old', 'in_future',
--          'unknown_series', 'corrupt' (a key has another type; its detail is the error),
--          'newer_kind' (a gauge's shared value cannot change: a change of the totals waits that
--          only a newer version can fold). Reason 'overflow': samples were stored as the overflow
--          series; its detail is msgpack [the tag that has too many values, or '' if the metric has
--          too many series; how many series].
--          The ids are those of all series of the metric, if the client did not know some. A batch
--          that was applied before gets the reply it got then.
-- Why Lua  the check for a repeated batch and its effect must be one step: a client that misses a
--          reply sends the batch again

-- @include "numbers"
-- @include "slices"
-- @include "rights"
-- @include "series_ids"
-- @include "record_state"
-- @include "batch_stamp"
-- @include "totals"
-- @include "fold"
-- @include "log_limits"

local clock_key, writers_key, catalogue_key, dirty_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local recorded_key = KEYS[5]
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

local NO_BASES = string.rep('\0', 4) -- of a block in which no shared value changes

-- Bytes of the stamp behind a definition in the catalogue: the clock at which it was added, which
-- orders the metrics and tells one store from another.
local STAMP = 9

local batch = {
  metrics = {}, -- see read_arguments()
  previous_sequence = 0, -- of the writer's last batch
  previous_clock = nil, -- of the shard's last batch
  time_us = nil, -- of the server; ages are judged by it
  clock = nil, -- of this batch, in us: orders batches, so it only grows
  clock_text = nil,
  stamp = nil, -- see include/batch_stamp.lua
  unsealed_age_ms = 0, -- of the oldest block that is not sealed
  problems = {}, -- for the reply, see Returns
  has_failed = false, -- a metric was refused while it was written
  learned = {},
}

-- Read the keys and arguments of each metric into named fields. The steps below set further ones:
-- those that each metric has, which are false or 0 here so that the table has room for them, and
--   refused         true if a check failed
--   ids             of series, if some were sent as tags
--   unknown         series that came without id, see find_ids()
--   overflow        a limit -> how many series exceed it
--   new_series      of the series hash: tags, id, tags, id...
--   changed_counts  of the values hash: field, count, field, count...
--   rows            of the live hash, if something is folded
--   fold            changes that these rows hold then
--   cut             blocks to remove from the log, if any
local function read_arguments()
  for number = 1, (#KEYS - 5) / 4 do
    local key, argument = 4 * number + 1, 7 * number - 2
    local samples, oldest_ms, newest_ms, epoch, count, width, rows_per_field, is_list, has_shared =
      struct.unpack('<ddddI4I2BBB', ARGV[argument + 3])
    batch.metrics[number] = {
      number = number, -- its place in the batch, from 1
      name = ARGV[argument],
      channel = ARGV[argument + 1],
      definition_sent = ARGV[argument + 2],
      change = ARGV[argument + 5],
      body = ARGV[argument + 6],
      key = {
        series = KEYS[key + 1],
        live = KEYS[key + 2],
        log = KEYS[key + 3],
        values = KEYS[key + 4],
      },
      head = {
        samples = samples,
        oldest_ms = oldest_ms,
        newest_ms = newest_ms,
        epoch = epoch,
        count = count,
        width = width,
        rows_per_field = rows_per_field,
        has_shared = has_shared == 1,
      },
      series = is_list == 1 and cmsgpack.unpack(ARGV[argument + 4]),
      packed_ids = is_list == 0 and ARGV[argument + 4],
      state = false, -- see include/record_state.lua
      definition = false, -- as in the catalogue; false for a new metric
      stamp = false, -- in the catalogue, behind the definition
      stored_change = false, -- to append to the live hash
      block = false, -- to append to the log
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
  local log = first.key.log
  if not redis.acl_check_cmd then
    return find_refused('SET', clock_key, '0', 'NOSUCHOPTION')
      or find_refused('HSET', recorded_key, 'f', 'v', 'g')
      or find_refused('HDEL', recorded_key, '')
      or find_refused('ZADD', log, 'nan', 'm')
      or find_refused('ZREM', log, '')
      or find_refused('PUBLISH', first.channel, '') -- subscribers skip an empty message
  end
  local missing_right = find_denied('SET', clock_key, '0')
    or find_denied('HSET', recorded_key, 'f', 'v')
    or find_denied('HDEL', recorded_key, 'f')
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

-- Read what Redis holds of the metrics, and fix the clock of the batch. Return an error if
-- something is corrupt.
local function read_metrics()
  redis.call('ZCARD', dirty_key) -- fails if it is not a sorted set
  local names = {}
  for n, metric in ipairs(batch.metrics) do
    names[n] = metric.name
  end
  local definitions = #names > 0 and read_fields(catalogue_key, names) or {}
  local states = #names > 0 and read_fields(recorded_key, names) or {}
  for n, metric in ipairs(batch.metrics) do
    metric.definition = definitions[n] and string.sub(definitions[n], 1, -STAMP - 1)
    metric.stamp = definitions[n] and string.sub(definitions[n], -STAMP)
    metric.state = unpack_state(states[n])
    if not metric.state then
      return corrupt_state(recorded_key, metric.name)
    end
    batch.clock = math.max(batch.clock, metric.state.sealed + 1)
    if metric.series then
      local corrupt = find_ids(metric, limits)
      if corrupt then
        return corrupt
      end
    end
  end
  batch.clock_text = format_integer(batch.clock)
  batch.stamp = pack_stamp(batch.clock, batch.time_us, sequence, writer)
end

-- Refuse samples that were recorded under another definition, or at the wrong time.
local function check_samples(metric)
  local head, time_ms = metric.head, math.floor(batch.time_us / 1000)
  if metric.definition and metric.definition ~= metric.definition_sent then
    refuse(metric, 'definition', metric.definition)
  elseif head.oldest_ms < time_ms - limits.max_age_ms then
    refuse(metric, 'too_old', format_integer(time_ms))
  elseif head.newest_ms > time_ms + limits.max_future_ms then
    refuse(metric, 'in_future', format_integer(time_ms))
  end
end

-- Refuse ids that may belong to another series now, or to none.
local function check_ids(metric)
  -- If Redis lost batches that it had confirmed (in a failover, or its data was deleted), it may
  -- have given the ids that the client knows to other series since. Series that were removed since
  -- the client learned its ids have begun another epoch.
  if batch.previous_sequence >= confirmed and metric.head.epoch == metric.state.epoch then
    return
  end
  local unknown = metric.unknown
  if not metric.series or not unknown or #unknown.tags < #metric.series then
    refuse(metric, 'unknown_series', '')
  end
end

-- Apply changes of shared values to the rows, with all that waits before them. Return nothing if
-- something waits there that only a newer version can apply.
local function apply_shared(metric, ids)
  local head, state = metric.head, metric.state
  local is_newer
  metric.rows = open_rows(metric.key.live, head.width, head.rows_per_field)
  metric.fold, is_newer = fold_changes(metric.rows, state, math.huge, math.huge)
  if is_newer then
    return
  end
  local change = read_change(metric.change .. ids, 1)
  local places, values = apply_gauge(metric.rows, change, batch.clock)
  return struct.pack('<I4', #places) .. pack_integers(places) .. table.concat(values)
end

-- Work out the series ids, the change of the totals, and the block.
local function apply_samples(metric)
  local head, ids, state = metric.head, metric.packed_ids, metric.state
  if metric.series then
    assign_ids(metric, limits)
    ids = pack_integers(metric.ids)
  end
  local stamp, bases = batch.stamp, NO_BASES
  if head.has_shared then
    bases = apply_shared(metric, ids)
    if not bases then
      refuse(metric, 'newer_kind', '')
      return
    end
  else
    metric.stored_change = stamp .. metric.change .. ids
  end
  metric.block = stamp
    .. struct.pack('<dddI4', head.samples, head.oldest_ms, head.newest_ms, head.count)
    .. ids .. bases .. metric.body
  if metric.overflow then
    for limit, series in pairs(metric.overflow) do
      local problem = { metric.number - 1, 'overflow', cmsgpack.pack({ limit, series }) }
      batch.problems[#batch.problems + 1] = problem
    end
  elseif metric.unknown then
    batch.learned[#batch.learned + 1] = { metric.number - 1, metric.ids, state.epoch }
  end
end

local function cut_log(metric)
  choose_cut(metric, limits, batch.clock, batch.time_us, batch.previous_clock)
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

-- Pack the reply again, without the ids of metrics that were refused while they were written.
local function correct_reply()
  local learned = {}
  for _, each in ipairs(batch.learned) do
    if not batch.metrics[each[1] + 1].refused then
      learned[#learned + 1] = each
    end
  end
  batch.learned = learned
  return pack_reply(0)
end

-- Write what a repeated batch is recognised by. This comes first, with a command that a full server
-- refuses. The clock moves past the numbers that order new metrics, see write_metric().
local function write_guard(reply)
  redis.call('HSET', writers_key, writer, cmsgpack.pack({ sequence, batch.clock, reply }))
  redis.call('SET', clock_key, format_integer(batch.clock + #batch.metrics))
end

-- Append the change and the block. Return an error if one of the keys has another type: to read
-- both first, for each metric of each batch, would cost more than to undo it.
local function append(metric)
  local key, state, change = metric.key, metric.state, metric.stored_change
  local name, reply = change and name_of_change(state.next_change - 1), nil
  if change and state.next_change - state.first_change == 1 then
    local first = format_integer(state.first_change)
    reply = redis.pcall('HSET', key.live, name, change, 'first', first)
  elseif change then
    reply = redis.pcall('HSET', key.live, name, change)
  end
  if type(reply) ~= 'table' then
    reply = redis.pcall('ZADD', key.log, batch.clock_text, metric.block)
    if type(reply) == 'table' and change then
      redis.call('HDEL', key.live, name)
    end
  end
  return type(reply) == 'table' and reply.err
end

local function write_metric(metric)
  local key, state = metric.key, metric.state
  local failure = append(metric)
  if failure then
    refuse(metric, 'corrupt', failure)
    batch.has_failed = true
    return
  end
  if not metric.definition then
    metric.stamp = cmsgpack.pack(batch.clock + metric.number)
    redis.call('HSET', catalogue_key, metric.name, metric.definition_sent .. metric.stamp)
  end
  if metric.unknown then
    write_fields(key.series, metric.new_series)
    write_fields(key.values, metric.changed_counts)
  end
  if metric.fold then
    write_fold(metric.rows, state, metric.fold)
  elseif metric.rows then
    write_fields(key.live, pack_rows(metric.rows))
  end
  if metric.cut then
    redis.call('ZREM', key.log, unpack(metric.cut))
  end
end

local function write_states()
  local states, dirty, n = {}, {}, 0
  for_each_accepted(function(metric)
    local state = metric.state
    state.samples = state.samples + metric.head.samples
    states[n + 1], states[n + 2] = metric.name, pack_state(state)
    dirty[n + 1], dirty[n + 2] = batch.clock_text, metric.name
    n = n + 2
  end)
  if n > 0 then
    write_fields(recorded_key, states)
    redis.call('ZADD', dirty_key, unpack(dirty))
  end
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
for_each_accepted(check_ids)
for_each_accepted(apply_samples)
fold_long_lists(batch.metrics, batch.clock)
for_each_accepted(cut_log)
for_each_accepted(measure_unsealed_age)

local reply = pack_reply(0)
write_guard(reply)
for_each_accepted(write_metric)
write_states()
if batch.has_failed then
  reply = correct_reply()
  write_guard(reply)
end
local failed_publishes = publish()
return failed_publishes == 0 and reply or pack_reply(failed_publishes)
