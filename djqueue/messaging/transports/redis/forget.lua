-- FORGET: a consumer has left, or all it held was taken over. Its node is remembered for a while, for receipts.
-- KEYS 1 graves · 2 own tags · 3 consumers of its machine · 4 leases · 5… consumers of each queue
-- ARGV 1 consumer
-- Returns -1 when it still holds messages; else the server's time in ms, then for each queue how many living
-- consumers are left.
if redis.call('SCARD', KEYS[2]) > 0 then return {-1} end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {now}
for k = 5, #KEYS do
  redis.call('ZREM', KEYS[k], ARGV[1])
  reply[#reply + 1] = redis.call('ZCOUNT', KEYS[k], now, '+inf')
end
return reply
