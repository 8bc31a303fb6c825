-- PROMOTE: messages that are due go into their lists, behind what waits there.
-- KEYS 1 delayed lists · 2… pairs: a list, its delayed set
-- ARGV 1 most messages for each list · 2 'all' to promote whether due or not
-- Returns {how many were moved, ms until the next is due or -1, 1 if more are due now, delayed lists}.
-- Works on a full server, because its first write frees.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local horizon = ARGV[2] == 'all' and '+inf' or string.format('%.0f', now)
local moved, soonest, more = 0, -1, 0
for k = 2, #KEYS, 2 do
  local due = redis.call('ZRANGEBYSCORE', KEYS[k + 1], '-inf', horizon, 'LIMIT', 0, ARGV[1])
  if #due > 0 then
    redis.call('ZREM', KEYS[k + 1], unpack(due))
    redis.call('LPUSH', KEYS[k], unpack(due))
    moved = moved + #due
    if #due == tonumber(ARGV[1]) then more = 1 end
  end
  local first = redis.call('ZRANGE', KEYS[k + 1], 0, 0, 'WITHSCORES')
  if not first[2] then
    redis.call('SREM', KEYS[1], KEYS[k])
  elseif soonest < 0 or first[2] - now < soonest then
    soonest = math.max(first[2] - now, 0)
  end
end
return {moved, math.ceil(soonest), more, redis.call('SMEMBERS', KEYS[1])}
