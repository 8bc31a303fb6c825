-- SETTLE: answer held messages, each only if it is still held by this consumer.
-- KEYS 1 unacked · 2 unacked index · 3 own tags · 4 node · 5 delayed lists · 6 dead · 7 dead index
--      8… pairs: a list, its delayed set
-- ARGV 1 number of this call, grows with each (0: keep no receipt) · 2 most dead letters
--      3 ms to keep dead letters · 4 how many tags to acknowledge · those tags
--      then five values for each other answer: word, tag, key, message, due in ms
--      release: to the end of the list KEYS[key] that is read next · delay: into its delayed set
--      bury: the message is the dead letter's record
-- Returns the tags that were not ours any more, separated by spaces. The same number again returns the same.
-- Works on a full server, because its first write frees.
local number = tonumber(ARGV[1])
if number > 0 and tonumber(redis.call('HGET', KEYS[4], 'settled') or 0) >= number then
  return redis.call('HGET', KEYS[4], 'lost')
end
local lost = {}
local function take(tag)
  if redis.call('HDEL', KEYS[1], tag) == 1 then return true end
  lost[#lost + 1] = tag
  return false
end
local last = 4 + tonumber(ARGV[4])
if last > 4 then
  redis.call('SREM', KEYS[3], unpack(ARGV, 5, last))
  redis.call('ZREM', KEYS[2], unpack(ARGV, 5, last))
  for i = 5, last do take(ARGV[i]) end
end
local time, now
if #ARGV > last then
  time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local buried = false
for i = last + 1, #ARGV, 5 do
  local word, tag, key, message = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  redis.call('SREM', KEYS[3], tag)
  redis.call('ZREM', KEYS[2], tag)
  if take(tag) then
    if word == 'release' then
      redis.call('RPUSH', KEYS[key], message)
    elseif word == 'delay' then
      -- What this server's clock calls past would come back at once, again and again: at least a second.
      local due = math.max(tonumber(ARGV[i + 4]), now + 1000)
      -- Equal messages must not become one; JSON may end in spaces.
      while redis.call('ZADD', KEYS[key + 1], 'NX', due, message) == 0 do message = message .. ' ' end
      redis.call('SADD', KEYS[5], KEYS[key])
    else
      redis.call('HSET', KEYS[6], tag, message)
      redis.call('ZADD', KEYS[7], now, tag)
      buried = true
    end
  end
end
if buried then
  local old = redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, 100)
  local over = redis.call('ZCARD', KEYS[7]) - #old - tonumber(ARGV[2])
  if over > 0 then old = redis.call('ZRANGE', KEYS[7], 0, #old + math.min(over, 100) - 1) end
  if #old > 0 then
    redis.call('ZREM', KEYS[7], unpack(old))
    redis.call('HDEL', KEYS[6], unpack(old))
  end
end
local answer = table.concat(lost, ' ')
if number > 0 then redis.call('HSET', KEYS[4], 'settled', ARGV[1], 'lost', answer) end
return answer
