-- SWEEP: declare consumers dead. Their leases end here and now, so that nobody wakes up in the middle of it.
-- KEYS 1 leases · 2 graves · 3 consumers of this machine
-- ARGV 1 latest time in ms at which leases that have ended count (0: they do not count now)
--      2… consumers that are known to be dead
-- Returns {the server's time in ms, consumers whose messages are to be taken over, consumers of this machine}.
-- Works on a full server, because its first write frees.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function declare_dead(consumer)
  redis.call('ZREM', KEYS[1], consumer)
  redis.call('ZADD', KEYS[2], now, consumer)
end
for i = 2, #ARGV do declare_dead(ARGV[i]) end
if now <= tonumber(ARGV[1]) then
  local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, 20)
  for _, consumer in ipairs(ended) do declare_dead(consumer) end
end
return {now, redis.call('ZRANGE', KEYS[2], 0, 19), redis.call('SMEMBERS', KEYS[3])}
