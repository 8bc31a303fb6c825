-- PUSH: put messages into one list, unless this very publish was carried out before.
-- KEYS 1 the list · 2 the sender's marker
-- ARGV 1 number of this publish, grows with each · 2 seconds to keep the marker · 3… messages, oldest first
-- Returns 1, or 0 when the marker says that it was done: then only the reply had been lost.
local done = redis.call('GET', KEYS[2])
if done and tonumber(done) >= tonumber(ARGV[1]) then return 0 end
redis.call('LPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
