-- ADD: let a chord wait for one end more, unless this one was added before.
-- KEYS 1 how many were added · 2 which were added
-- ARGV 1 the name of the one · 2 seconds to keep the chord, 0 for ever
-- Returns how many were added so far.
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then redis.call('INCR', KEYS[1]) end
if ARGV[2] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return tonumber(redis.call('GET', KEYS[1]) or 0)
