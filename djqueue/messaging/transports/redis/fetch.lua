-- FETCH: take messages and record them as held, in one step.
-- KEYS 1 unacked · 2 unacked index · 3 own tags · 4 leases · 5 node · 6… lists, in the order to look
-- ARGV 1 consumer · 2 most messages · 3 number of the first tag · 4… for each list the end of its records
-- Returns {list, messages, list, messages…}, lists counted from 0. The tag of the n-th message is
-- consumer:(first + n). Errors: LEASELOST, the consumer was declared dead; STALE, a late copy of an old call.
-- Works on a full server, because its first write frees.
local consumer, most, number = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not redis.call('ZSCORE', KEYS[4], consumer) then return redis.error_reply('LEASELOST ' .. consumer) end
if number < tonumber(redis.call('HGET', KEYS[5], 'floor') or 0) then return redis.error_reply('STALE') end
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local reply, taken = {}, 0

-- Lua passes on a few thousand arguments at most, so messages are taken a thousand at a time.
local function take(k)
  local messages = redis.call('RPOP', KEYS[k], math.min(most - taken, 1000))
  if not messages then return 0 end
  local ending = ARGV[k - 2]
  local records, index, own = {}, {}, {}
  for i = 1, #messages do
    local tag = consumer .. ':' .. string.format('%d', number + taken + i - 1)
    own[i] = tag
    records[2 * i - 1], records[2 * i] = tag, '[' .. messages[i] .. ending
    index[2 * i - 1], index[2 * i] = now, tag
  end
  redis.call('HSET', KEYS[1], unpack(records))
  redis.call('ZADD', KEYS[2], unpack(index))
  redis.call('SADD', KEYS[3], unpack(own))
  reply[#reply + 1] = k - 6
  reply[#reply + 1] = messages
  taken = taken + #messages
  return #messages
end

for k = 6, #KEYS do
  while taken < most and take(k) == 1000 do end
  if taken >= most then break end
end
return reply
