-- record: apply one batch of samples, exactly once.
--
-- KEYS[1]  clock      string; for all keys see keys.py
-- KEYS[2]  writers    hash
-- KEYS[3]  catalogue  hash
-- KEYS[4]  dirty      zset
-- KEYS[5]  recorded   hash
-- KEYS[6+] then for each metric of the batch: live hash, log zset; and if the metric is introduced,
--          series hash, values hash; and if it has exemplars, exemplars hash
-- ARGV[1]  writer     id of the recording process
-- ARGV[2]  sequence   this writer's number of the batch, from 1
-- ARGV[3]  confirmed  the last number for which the writer received a reply
-- ARGV[4]  limits     msgpack [max_age_ms, max_future_ms, log_age_us, log_bytes, max_series,
--                     max_tag_values, canonical tags of the overflow series, [[number of a
--                     metric in the batch, its max_series, its max_tag_values]...]: of introduced
--                     metrics with limits of their own]
-- ARGV[5]  channels   what precedes a metric's name in its channel
-- ARGV[6]  heads      oldest_ms, newest_ms of all samples (f8 each), then for each metric: epoch
--                     (f8), samples (f8), flags (u1), doubles in a row of totals (u2), rows in a
--                     field of the live hash (u1). Flags are the sum of 1 if the metric is
--                     introduced, 2 if the change has shared values, 4 if the metric has exemplars,
--                     and 8 if values of a process take the place of the change
-- ARGV[7+] then for each metric: name, change, block; if it is introduced, definition, series; and
--          if it has exemplars, these, see include/exemplars.lua
--          change: how the totals change, see include/totals.lua, without stamp; or the values of
--          a process, see include/process_values.lua. Values that are only repeated have no samples
--          block: what the log gets, see block_codec.py, without the stamp of the batch. This
--          script never reads the body. If shared values change, the bases are missing
--          series: msgpack [series...], each its id, a number, or its canonical tags, a string
--          A metric is introduced if the client does not know the ids of all series, or that Redis
--          has its definition; change and block lack the ids then, and the block the metric's
--          stamp. Otherwise they have those that the client learned in this epoch. In one epoch a
--          metric has one definition, so that is left out
-- Returns  msgpack [number of the writer's last batch before this one, server time in us, age of
--          the oldest unsealed block in ms, failed publishes, [[index, reason, detail]...],
--          [[index, [id...], epoch, stamp]...]], where an index is the position of a metric in the
--          batch, from 0.
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
-- @include "record_rights"
-- @include "record_state"
-- @include "series_ids" for find_ids, assign_ids
-- @include "batch_stamp"
-- @include "totals"
-- @include "fold"
-- @include "process_values" for read_values, append_values
-- @include "apply_batch"
-- @include "append"
-- @include "exemplars" for find_corrupt_exemplars, write_exemplars
-- @include "log_limits"

local clock_key, writers_key, catalogue_key, dirty_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local recorded_key = KEYS[5]
local writer, sequence, confirmed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local channel_prefix, heads = ARGV[5], ARGV[6]

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
local own_limits = {} -- by number of the metric
for _, own in ipairs(limits_wire[8]) do
  local inherited = { __index = limits }
  own_limits[own[1]] = setmetatable({ max_series = own[2], max_tag_values = own[3] }, inherited)
end

-- Bytes of the stamp after a definition in the catalogue: the clock at which it was added, which
-- orders the metrics and distinguishes stores.
local STAMP = 9

local DIRTY_US = 1000000 -- scores of the sorted set `dirty` are multiples of it

local batch = {
  metrics = {}, -- see read_arguments()
  introduced = {}, -- those that are
  oldest_ms = nil, -- of all samples
  newest_ms = nil,
  previous_sequence = 0, -- of the writer's last batch
  previous_clock = nil, -- of the shard's last batch
  time_us = nil, -- of the server; ages are judged by it
  clock = nil, -- of this batch, in us: orders batches, so it only grows
  clock_text = nil,
  stamp = nil, -- see include/batch_stamp.lua
  waiting = nil, -- clock of the oldest block that is not sealed
  problems = {}, -- for the reply, see Returns
  with_exemplars = {}, -- metrics that have some
  has_failed = false, -- a metric was refused while it was written
  learned = {},
}

-- Read keys and arguments of each metric into named fields. The steps below set further ones:
-- those that each metric has, which are false here so that the table has room for them, and
--   refused         true if a check failed
--   ids             of series, if the metric is introduced
--   unknown         series that came without id, see find_ids()
--   overflow        a limit -> how many series exceed it
--   new_series      of the series hash: tags, id, tags, id...
--   changed_counts  of the values hash: field, count, field, count...
--   is_new          true if the catalogue does not have the metric
--   process_values  of the live hash, if each process has a value, see include/process_values.lua
--   rows            of the live hash, if something is folded
--   fold            changes that these rows hold then
--   cut             blocks to remove from the log, if any
local function read_arguments()
  local unpack_head, metrics, introduced = struct.unpack, batch.metrics, batch.introduced
  local key, argument, at, number, last = 6, 7, nil, 0, #ARGV
  batch.oldest_ms, batch.newest_ms, at = unpack_head('<dd', heads)
  while argument < last do
    local epoch, samples, flags, shape_at = unpack_head('<ddB', heads, at)
    local name = ARGV[argument]
    number = number + 1
    local metric = {
      number = number, -- its place in the batch, from 1
      name = name,
      channel = channel_prefix .. name,
      change = ARGV[argument + 1], -- to append to the live hash behind the batch stamp, or false
      block = ARGV[argument + 2], -- to append to the log behind the batch stamp
      live_key = KEYS[key],
      log_key = KEYS[key + 1],
      epoch = epoch,
      samples = samples,
      shape_at = shape_at, -- where the heads have the doubles in a row, and the rows in a field
      state = false, -- see include/record_state.lua
    }
    key, argument, at = key + 2, argument + 3, shape_at + 3
    if flags % 2 == 1 then
      metric.stamp = '' -- in the catalogue, behind the definition
      metric.series_key, metric.values_key = KEYS[key], KEYS[key + 1]
      metric.definition = ARGV[argument]
      metric.series = cmsgpack.unpack(ARGV[argument + 1])
      key, argument = key + 2, argument + 2
      introduced[#introduced + 1] = metric
    end
    if flags >= 2 then
      metric.has_shared, metric.has_values = flags % 4 >= 2, flags >= 8
    end
    if flags % 8 >= 4 then
      metric.exemplars_key, metric.exemplars = KEYS[key], ARGV[argument]
      key, argument = key + 1, argument + 1
      batch.with_exemplars[#batch.with_exemplars + 1] = metric
    end
    metrics[number] = metric
  end
end

local function for_each_accepted(step)
  local metrics = batch.metrics
  for n = 1, #metrics do
    local metric = metrics[n]
    if not metric.refused then
      step(metric)
    end
  end
end

-- All accepted metrics, except those with only repeated values of a process.
local function for_each_block(step)
  local metrics = batch.metrics
  for n = 1, #metrics do
    local metric = metrics[n]
    if metric.block and not metric.refused then
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

local function read_clock()
  batch.previous_clock = tonumber(redis.call('GET', clock_key) or '0')
  local time = redis.call('TIME')
  batch.time_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  batch.clock = math.max(batch.time_us, batch.previous_clock + 1)
end

-- Read the catalogue entries of introduced metrics, and refuse metrics with another definition.
local function read_definitions()
  local names = {}
  for n, metric in ipairs(batch.introduced) do
    names[n] = metric.name
  end
  local found = #names > 0 and read_fields(catalogue_key, names) or {}
  for n, metric in ipairs(batch.introduced) do
    local entry = found[n]
    if entry then
      local definition = string.sub(entry, 1, -STAMP - 1)
      metric.stamp = string.sub(entry, -STAMP)
      if definition ~= metric.definition then
        refuse(metric, 'definition', definition)
      end
    else
      metric.is_new = true
    end
  end
end

-- Read the state of the metrics, and determine the clock of the batch. Return an error if something
-- is corrupt.
local function read_metrics()
  redis.call('ZCARD', dirty_key) -- fails if it is not a sorted set
  local names = {}
  for n, metric in ipairs(batch.metrics) do
    names[n] = metric.name
  end
  local states = #names > 0 and read_fields(recorded_key, names) or {}
  local newest_sealed = 0
  for n, metric in ipairs(batch.metrics) do
    local state = unpack_state(states[n])
    if not state then
      return corrupt_state(recorded_key, metric.name)
    end
    metric.state = state
    if state[SEALED] > newest_sealed then
      newest_sealed = state[SEALED]
    end
  end
  for _, metric in ipairs(batch.introduced) do
    local corrupt = find_ids(metric, own_limits[metric.number] or limits)
    if corrupt then
      return corrupt
    end
  end
  batch.clock = math.max(batch.clock, newest_sealed + 1)
  batch.clock_text = format_integer(batch.clock)
  batch.stamp = pack_stamp(batch.clock, batch.time_us, sequence, writer)
end

-- Refuse samples that were recorded at the wrong time.
local function check_ages()
  local time_ms = math.floor(batch.time_us / 1000)
  local oldest_kept, newest_kept = time_ms - limits.max_age_ms, time_ms + limits.max_future_ms
  if batch.oldest_ms >= oldest_kept and batch.newest_ms <= newest_kept then
    return -- a fast path: all are in time
  end
  for_each_accepted(function(metric)
    local _, oldest_ms, newest_ms = struct.unpack('<ddd', metric.block)
    if oldest_ms < oldest_kept then
      refuse(metric, 'too_old', format_integer(time_ms))
    elseif newest_ms > newest_kept then
      refuse(metric, 'in_future', format_integer(time_ms))
    end
  end)
end

-- Refuse ids that may now belong to another series, or to none.
local function check_ids(metric)
  -- If Redis lost confirmed batches (in a failover, or because its data was deleted), it may have
  -- given ids that the client knows to other series since. Removing series since the client learned
  -- its ids has started a new epoch.
  if batch.previous_sequence >= confirmed and metric.epoch == metric.state[EPOCH] then
    return
  end
  local unknown = metric.unknown
  if not unknown or #unknown.tags < #metric.series then
    refuse(metric, 'unknown_series', '')
  end
end

local function apply_samples(metric)
  local reason = apply_batch(metric, batch, heads, own_limits[metric.number] or limits)
  if reason then
    refuse(metric, reason, '')
  end
end

local function check_exemplars()
  for _, metric in ipairs(batch.with_exemplars) do
    local failure = not metric.refused and find_corrupt_exemplars(metric)
    if failure then
      refuse(metric, 'corrupt', failure)
    end
  end
end

local function extend_log(metric)
  choose_cut(metric, limits, batch.clock, batch.time_us, batch.previous_clock)
  local state = metric.state
  if state[WAITING] <= state[SEALED] then
    state[WAITING] = batch.clock -- all blocks before this one are sealed
  elseif state[WAITING] < batch.waiting then
    batch.waiting = state[WAITING]
  end
end

-- Steps that write.

local function pack_reply(failed_publishes)
  local unsealed_age_ms = math.floor((batch.clock - batch.waiting) / 1000)
  return cmsgpack.pack({
    batch.previous_sequence, batch.time_us, unsealed_age_ms, failed_publishes, batch.problems,
    batch.learned,
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

-- Write the entry by which a repeated batch is recognised. This comes first, with a command that a
-- full server rejects. The clock moves past the numbers that order new metrics; see write_metric().
local function write_guard(reply)
  redis.call('HSET', writers_key, writer, cmsgpack.pack({ sequence, batch.clock, reply }))
  redis.call('SET', clock_key, format_integer(batch.clock + #batch.metrics))
end

local function write_series(metric)
  if metric.is_new then
    redis.call('HSET', catalogue_key, metric.name, metric.definition .. metric.stamp)
  end
  if metric.unknown then
    write_fields(metric.series_key, metric.new_series)
    write_fields(metric.values_key, metric.changed_counts)
  end
end

local function write_metric(metric)
  local failure = append(metric, batch, writer)
  if failure then
    refuse(metric, 'corrupt', failure)
    batch.has_failed = true
    return
  end
  if metric.series then
    write_series(metric)
  end
  if metric.fold then
    write_fold(metric.rows, metric.state, metric.fold)
  elseif metric.rows then
    write_fields(metric.live_key, pack_rows(metric.rows))
  end
  if metric.exemplars then
    write_exemplars(metric, batch.clock)
  end
  if metric.cut then
    redis.call('ZREM', metric.log_key, unpack(metric.cut))
  end
  local state = metric.state
  state[SAMPLES] = state[SAMPLES] + metric.samples
end

local function write_states()
  local states, dirty, last_state, last_dirty = {}, {}, 0, 0
  -- In whole seconds, so that most batches find the same value: moving a metric in the set is slow.
  local dirty_until = format_integer((math.floor(batch.clock / DIRTY_US) + 1) * DIRTY_US)
  for_each_accepted(function(metric)
    if metric.block or metric.has_moved then
      states[last_state + 1], states[last_state + 2] = metric.name, pack_state(metric.state)
      last_state = last_state + 2
    end
    if metric.block then
      dirty[last_dirty + 1], dirty[last_dirty + 2] = dirty_until, metric.name
      last_dirty = last_dirty + 2
    end
  end)
  write_fields(recorded_key, states)
  if last_dirty > 0 then
    redis.call('ZADD', dirty_key, unpack(dirty))
  end
end

-- Send the blocks to subscribers. Return the number of failed publishes: the samples are stored
-- anyway.
local function publish()
  local failed = 0
  for_each_block(function(metric)
    local reply = redis.pcall('PUBLISH', metric.channel, metric.block)
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
local missing_right = find_missing_right(clock_key, recorded_key, channel_prefix, batch)
if missing_right then
  return redis.error_reply(missing_right)
end
read_clock()
local corrupt = read_metrics()
if corrupt then
  return redis.error_reply(corrupt)
end
read_definitions()
check_ages()
for_each_accepted(check_ids)
check_exemplars()
for_each_accepted(apply_samples)
fold_long_lists(batch.metrics, heads, batch.stamp, batch.clock)
batch.waiting = batch.clock
for_each_block(extend_log)

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
