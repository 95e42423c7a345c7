-- Permissions: may the user of this connection run the write commands of a script?
--
-- A script that is rejected midway keeps what it has written, so it checks before it writes. Keys
-- are checked by the server, because they are declared, but commands and channels are not.

local MISSING_RIGHT = "NOPERM redismetrics: this user's rights lack "

-- Redis 7: return an error if this command is not allowed.
local function find_denied(command, target, ...)
  if not redis.acl_check_cmd(command, target, ...) then
    return MISSING_RIGHT .. command .. ' ' .. target
  end
end

-- Redis 6.2 cannot be asked. Run a command that is checked for permission and then fails or changes
-- nothing, and return an error if it was rejected.
--
-- A full server must be respected here too: once a script has run ZREM or HDEL, even if they
-- removed nothing, Redis no longer rejects its commands for lack of memory.
local function find_refused(command, target, ...)
  local reply = redis.pcall(command, target, ...)
  local failure = type(reply) == 'table' and reply.err or ''
  if string.find(failure, 'user executing the script', 1, true) then
    return MISSING_RIGHT .. command .. ' ' .. target
  elseif string.find(failure, 'OOM command not allowed', 1, true) then
    return "OOM command not allowed when used memory > 'maxmemory'"
  end
end
