-- STORE: keep documents and tell who waits for them, unless what is kept is newer or final.
-- KEYS one for each document; it is the name of its channel, too
-- ARGV 1 seconds to keep them, 0 for ever · then pairs: attempt, document
-- Returns how many were kept.
-- An attempt is retries * 65536 + starts. A stored document tells its own at its end, as the last of what is
-- ours; one by Celery may tell its retries. A success is final but for further retries, any other end for its
-- attempt; a success of which neither is known is final.
local ENDS = {SUCCESS = true, FAILURE = true, REVOKED = true}

local function status_of(key, head)
  if string.sub(head, 1, 1) ~= '{' then return string.match(head, 'status[^%u]*(%u+)') end
  return string.match(head, '^{"status":%s*"([^"]*)"')
    or string.match(redis.call('GET', key), '"status":%s*"([^"]*)"')
end

local function may_replace(key, attempt, head)
  local status = status_of(key, head)
  local stored = tonumber(string.match(redis.call('GETRANGE', key, -64, -1), '"attempt": (%d+)}}$') or nil)
  if not stored then
    local retries = string.match(redis.call('GETRANGE', key, -512, -1), '"retries": (%d+), "queue"')
    if status == 'SUCCESS' and not retries then return false end
    stored = tonumber(retries or 0) * 65536
  end
  if status == 'SUCCESS' then return math.floor(attempt / 65536) > math.floor(stored / 65536) end
  return attempt > stored or (attempt == stored and not ENDS[status])
end

local kept = 0
for i, key in ipairs(KEYS) do
  local attempt, document = tonumber(ARGV[2 * i]), ARGV[2 * i + 1]
  local head = redis.call('GETRANGE', key, 0, 63)
  if head == '' or may_replace(key, attempt, head) then
    if ARGV[1] == '0' then
      redis.call('SET', key, document)
    else
      redis.call('SET', key, document, 'EX', ARGV[1])
    end
    redis.call('PUBLISH', key, document)
    kept = kept + 1
  end
end
return kept
