-- PART: a consumer receives nothing more from one queue, and goes on with its others.
-- KEYS 1 consumers of the queue
-- ARGV 1 consumer
-- Returns how many living consumers the queue is left with.
redis.call('ZREM', KEYS[1], ARGV[1])
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), '+inf')
