-- CLOSE: forget a chord whose body was sent, and remember for a while that it was.
-- KEYS 1 who completes the chord, or "done" · 2… what is kept of it
-- ARGV 1 the one who asks · 2 seconds to remember it
-- Returns 1, or 0 when somebody else has taken the chord over meanwhile.
local claim = redis.call('GET', KEYS[1])
if claim and claim ~= ARGV[1] then return 0 end
redis.call('DEL', unpack(KEYS, 2))
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
