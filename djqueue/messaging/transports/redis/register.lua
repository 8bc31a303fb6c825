-- REGISTER: make a consumer known, with its first lease.
-- KEYS 1 leases · 2 node · 3 consumers of this machine · 4… consumers of each queue
-- ARGV 1 consumer · 2 lease in ms · 3 ms to remember the node · 4… fields and values of the node
-- Returns the server's time in ms. Works on a full server: PEXPIRE, a write that needs no memory, comes first.
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_end = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[1], lease_end, ARGV[1])
for k = 4, #KEYS do redis.call('ZADD', KEYS[k], lease_end, ARGV[1]) end
return now
