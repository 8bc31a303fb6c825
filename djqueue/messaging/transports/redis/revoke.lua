-- REVOKE: keep that tasks must not run; what was revoked before keeps its moment.
-- KEYS 1 revoked
-- ARGV 1 seconds to keep revocations · 2… ids of tasks
-- Returns how many were not known.
-- Works on a full server, because its first write frees.
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(now) - tonumber(ARGV[1]))
local fresh = 0
for i = 2, #ARGV do fresh = fresh + redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) end
return fresh
