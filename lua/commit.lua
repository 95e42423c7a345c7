-- commit: store what a worker computed for metrics of a shard, all or nothing for each metric.
--
-- KEYS[1]  clock      string; for all keys see keys.py
-- KEYS[2]  catalogue  hash
-- KEYS[3]  dirty      zset
-- KEYS[4]  pending    zset
-- KEYS[5]  recorded   hash
-- KEYS[6+] then for each metric:
--          state      hash
--          log        zset
--          series     hash
--          live       hash
--          due        hash
--          held       hash
--          touched    zset
--          values     hash
--          data       hashes of slots, as many as its arguments say
-- ARGV[1+] for each metric:
--          metric     its name
--          version    of the metric when the worker read it; '' if it had none
--          token      random, for the new version
--          orders     msgpack [sealed as it was read, new sealed, [number of blocks between them,
--                     beginning of the first and of the last, through its sequence], replay
--                     window in us,
--                     [[due field, when in ms]...] to mark as due, [due field...] to unmark,
--                     number of samples dropped because they came too late,
--                     [[hour, samples sealed into it]...], [held field...] of expired data,
--                     [[tidying, when in ms]...] to schedule,
--                     [[tidying, when in ms]...] to schedule unless it is pending,
--                     [canonical tags...] of series to forget,
--                     [[live field, value as it was read, new value]...] to change; '' is no
--                     field,
--                     1 if no series is left,
--                     [number of the oldest change to fold, stamp of the newest, [bytes of
--                     each...]], or [] to fold nothing,
--                     number of samples that are not kept one by one, for lack of room]
--          hashes     number of its data keys
--          rows       number of fields of the live hash to write if it folds
--          then field and value of each of these: rows, and the number of the oldest change left
--          then for each data key: its name in held and touched, refused from (ms), expires at (s;
--          0: never), 1 if it does so already or is not there, number of fields to write, number of
--          fields to remove, then field and value of each to write, then each field to remove
-- Returns  for each metric 'ok', or why nothing of it was changed: 'version' (the metric changed
--          since it was read), 'log' (its log did), 'late' (a data key is past its retention), or
--          the text of an error. If there is one metric only, its error is the script's
-- Why Lua  merged data and the position up to which the log is sealed must change together, and
--          only if nobody else has changed them. A call for each of many small metrics would cost
--          more than what it does
--
-- Changes of the totals are folded if they are still there; otherwise only folding is skipped. The
-- new rows are bit-identical to whatever record.lua has folded of these changes in the meantime.
--
-- Samples are never unpacked here.

-- @include "commit_orders"
-- @include "commit_checks"
-- @include "commit_writes"
-- @include "forget_series"
-- @include "touched"

local SHARED_KEYS, METRIC_KEYS = 5, 8
local IS_RESULT = { ok = true, version = true, log = true, late = true }

local time = redis.call('TIME')
local time_us = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- What this call writes for all its metrics; see write_shared().
local shared = {
  clock = nil, -- of the shard, or the time if that is later
  missing_right = nil, -- an error if there is one
  states = {}, -- of the hash recorded: metric, state, metric, state...
  pending = {}, -- when in ms, due slot, when, due slot...
  absent = {}, -- the same, unless they are there
  done = {}, -- due slots
  clean = {}, -- metrics whose log is sealed to the end
}

-- Return what to write to the data hash *key*, and the position of the next argument.
local function read_data_hash(key, argument)
  local first_field = argument + 6
  local last_field = first_field + 2 * tonumber(ARGV[argument + 4]) - 1
  local last_removed = last_field + tonumber(ARGV[argument + 5])
  return {
    key = key,
    name = ARGV[argument], -- in held and touched
    refused_from_ms = tonumber(ARGV[argument + 1]),
    expires_s = ARGV[argument + 2],
    keeps_expiry = ARGV[argument + 3] == '1',
    is_there = false, -- it holds fields already, see check_data()
    first_field = first_field, -- where the arguments have fields to write, each with its value,
    last_field = last_field, -- and behind these
    last_removed = last_removed, -- the fields to remove
    growth = 0, -- in bytes, see check_data()
  }, last_removed + 1
end

-- Return the metrics to commit to, with everything that this call does to each.
local function read_commits()
  local metrics, key, argument = {}, SHARED_KEYS, 1
  while argument <= #ARGV do
    local first_row = argument + 6
    local metric = {
      name = ARGV[argument],
      version = ARGV[argument + 1],
      token = ARGV[argument + 2],
      packed_orders = ARGV[argument + 3],
      orders = nil, -- see unpack_orders()
      arguments = ARGV,
      first_row = first_row, -- where the arguments have rows of the live hash
      last_row = first_row + 2 * tonumber(ARGV[argument + 5]) - 1,
      key = {
        catalogue = KEYS[2],
        dirty = KEYS[3],
        pending = KEYS[4],
        recorded = KEYS[5],
        state = KEYS[key + 1],
        log = KEYS[key + 2],
        series = KEYS[key + 3],
        live = KEYS[key + 4],
        due = KEYS[key + 5],
        held = KEYS[key + 6],
        touched = KEYS[key + 7],
        values = KEYS[key + 8],
      },
      data = {}, -- its data hashes, with what to write to each
      state = nil, -- what the state hash will hold, see read_state()
      recorded = nil, -- see include/record_state.lua
      is_sealed_to_end = false, -- no block is behind those to seal, see check_blocks()
      log = nil, -- what is in the log, see read_log()
      newest_change = nil, -- of those to fold
      sizes = nil, -- see read_sizes()
    }
    local first, hashes = key + METRIC_KEYS + 1, tonumber(ARGV[argument + 4])
    argument = metric.last_row + 1
    for number = first, first + hashes - 1 do
      metric.data[#metric.data + 1], argument = read_data_hash(KEYS[number], argument)
    end
    metrics[#metrics + 1], key = metric, first + hashes - 1
  end
  return metrics
end

-- Read and check the data shared by all metrics.
local function read_shared(metrics)
  local key, names = metrics[1].key, {}
  for n, metric in ipairs(metrics) do
    names[n] = metric.name
  end
  for n, packed in ipairs(read_fields(key.recorded, names)) do
    metrics[n].recorded = unpack_state(packed)
  end
  shared.clock = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), time_us)
  redis.call('ZCARD', key.pending)
  redis.call('ZCARD', key.dirty)
  shared.missing_right = find_missing_right(metrics[1])
end

-- Return why nothing may be changed, or nil once everything is read and checked.
local function check(metric)
  metric.orders = unpack_orders(metric.packed_orders)
  local conflict = read_state(metric) or check_blocks(metric)
  if conflict then
    return conflict
  elseif not metric.recorded then
    return corrupt_state(metric.key.recorded, metric.name)
  end
  conflict = check_data(metric, time_us)
  if conflict then
    return conflict
  end
  read_log(metric, shared.clock)
  read_newest_change(metric)
  conflict = check_forgotten_series(metric) or read_sizes(metric)
  if conflict then
    return conflict
  end
  count_expired_samples(metric)
  check_types(metric)
  return shared.missing_right
end

local function write(metric)
  local number = tonumber(string.match(metric.version, '^%d+') or '0') + 1
  local new_version = format_integer(number) .. '.' .. metric.token
  local forgets_series = #metric.orders.forget_series > 0
  if not forgets_series then
    write_touched(metric, number, new_version)
  end
  write_state(metric, new_version)
  local has_folded = fold(metric)
  if metric.orders.none_left then
    forget_metric(metric, metric.key.catalogue)
  else
    forget_series(metric, metric.orders.forget_series)
    clear_rows(metric)
  end
  write_data(metric)
  if forgets_series then
    write_version(metric, number, new_version)
  end
  write_sizes(metric)
  schedule(metric, shared)
  cut_log(metric)
  note_sealed(metric, has_folded, shared)
  return 'ok'
end

-- A script that fails midway keeps what it has written, so everything of a metric is read and
-- checked before anything of it is written.
local function commit(metric)
  return check(metric) or write(metric)
end

local metrics = read_commits()
read_shared(metrics)
if #metrics == 1 then
  local result = commit(metrics[1])
  write_shared(shared, metrics[1].key)
  return IS_RESULT[result] and { result } or redis.error_reply(result)
end
local results = {}
for number, metric in ipairs(metrics) do
  -- An error in one metric does not stop the others.
  local is_done, result = pcall(commit, metric)
  if not is_done then
    -- A table since Redis 7, a string before.
    result = type(result) == 'table' and result.err or tostring(result)
  end
  results[number] = result
end
write_shared(shared, metrics[1].key)
return results
