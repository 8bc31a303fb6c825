-- RESYNC: after a lost reply, say what the consumer holds, and make sure that late copies of old calls fail.
-- KEYS 1 unacked · 2 own tags · 3 node
-- ARGV 1 number below which no FETCH is carried out any more
-- Returns {tags, records}; a record is false where another took the message over.
redis.call('HSET', KEYS[3], 'floor', ARGV[1])
local tags = redis.call('SMEMBERS', KEYS[2])
local records = {}
for i = 1, #tags do records[i] = redis.call('HGET', KEYS[1], tags[i]) end
return {tags, records}
