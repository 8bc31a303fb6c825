-- COUNT: note ends of a chord's parts, each once; when none is missing, hand all of them to one who asks.
-- KEYS 1 the ends, by place or as they came · 2 how many were added · 3 how many there were at first
--      4 which ends were noted · 5 the saved group · 6 who completes the chord, or "done"
-- ARGV 1 "1" to order by place · 2 seconds to keep the chord, 0 for ever · 3 seconds to keep the saved group
--      4 seconds to have the chord to oneself · 5 the one who asks · then triples: name of an end, place, end
-- Returns "done" after the end, "open" while ends are missing, "held" while somebody else completes it; to
-- the one who shall complete it "ours", the saved group ("" if there is none) and the ends.
local claim = redis.call('GET', KEYS[6])
if claim == 'done' then return {'done'} end

for i = 6, #ARGV, 3 do
  if redis.call('SADD', KEYS[4], ARGV[i]) == 1 then
    if ARGV[1] == '1' then
      redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i + 2])
    else
      redis.call('RPUSH', KEYS[1], ARGV[i + 2])
    end
  end
end
if ARGV[2] ~= '0' then
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
  if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[5], ARGV[3]) end
end

local size = redis.call('GET', KEYS[3])
local wanted = tonumber(size or 0) + tonumber(redis.call('GET', KEYS[2]) or 0)
local noted = redis.call(ARGV[1] == '1' and 'ZCARD' or 'LLEN', KEYS[1])
if not size or noted < wanted then return {'open'} end
if claim and claim ~= ARGV[5] then return {'held'} end

redis.call('SET', KEYS[6], ARGV[5], 'EX', ARGV[4])
local ends = redis.call(ARGV[1] == '1' and 'ZRANGE' or 'LRANGE', KEYS[1], 0, -1)
return {'ours', redis.call('GET', KEYS[5]) or '', ends}
