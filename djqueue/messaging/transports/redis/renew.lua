-- RENEW: extend a lease, and tell stock workers that the messages are still being worked on.
-- KEYS 1 leases · 2 node · 3 own tags · 4 unacked index · 5… consumers of each queue
-- ARGV 1 consumer · 2 lease in ms · 3 ms to remember the node
-- Returns {1, the server's time in ms}, or {0, time} when the consumer was declared dead.
-- Works on a full server: PEXPIRE, a write that needs no memory, comes first.
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0, now} end
local lease_end = now + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], lease_end, ARGV[1])
local seconds = time[1] .. '.' .. string.format('%06d', time[2])
for _, tag in ipairs(redis.call('SMEMBERS', KEYS[3])) do redis.call('ZADD', KEYS[4], 'XX', seconds, tag) end
for k = 5, #KEYS do
  redis.call('ZADD', KEYS[k], lease_end, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[k], '-inf', now - tonumber(ARGV[3]))
end
return {1, now}
