-- SCHEDULE: keep messages of one list until they are due. Without a living djqueue consumer of the queue they
-- go into the list at once: stock workers hold them by their eta header.
-- KEYS 1 the list · 2 the sender's marker · 3 consumers of the queue · 4 delayed of the list · 5 delayed lists
-- ARGV 1 number of this publish · 2 seconds to keep the marker · 3… pairs: due in ms, message
-- Returns 1, or 0 when it was done before.
local done = redis.call('GET', KEYS[2])
if done and tonumber(done) >= tonumber(ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZCOUNT', KEYS[3], now, '+inf') > 0 then
  for i = 3, #ARGV, 2 do redis.call('ZADD', KEYS[4], ARGV[i], ARGV[i + 1]) end
  redis.call('SADD', KEYS[5], KEYS[1])
else
  for i = 3, #ARGV, 2 do redis.call('LPUSH', KEYS[1], ARGV[i + 1]) end
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
