-- STORE: keep documents and tell who waits for them, unless what is kept is newer or final.
-- KEYS one for each document; it is the name of its channel, too
-- ARGV four for each document: its attempt · seconds to keep it, 0 for ever · the SHA-1 of the compressed
--      document that it may replace, "" when nobody has looked · the document
-- Returns how many were kept; or, when some meet a compressed document that nobody has looked at, the error
-- UNDECIDED: the others are kept then, and doing it all again does no harm.
-- An attempt is retries * 65536 + starts. A stored document tells its own at its end, as the last of what is
-- ours; one by Celery may tell its retries. A success is final but for further retries, any other end for its
-- attempt; a success of which neither is known is final. What is compressed tells nothing here.
local ENDS = {SUCCESS = true, FAILURE = true, REVOKED = true}
local COMPRESSED = '\0celery-compressed\0'

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

local kept, undecided = 0, 0
for i, key in ipairs(KEYS) do
  local attempt, seconds, seen, document = ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i]
  local head = redis.call('GETRANGE', key, 0, 63)
  local may = head == ''
  if string.sub(head, 1, #COMPRESSED) == COMPRESSED then
    local stored = redis.call('GET', key)
    if stored ~= document then -- else this very document was stored before, and the reply was lost
      may = redis.sha1hex(stored) == seen
      if not may then undecided = undecided + 1 end
    end
  elseif not may then
    may = may_replace(key, tonumber(attempt), head)
  end
  if may then
    if seconds == '0' then
      redis.call('SET', key, document)
    else
      redis.call('SET', key, document, 'EX', seconds)
    end
    redis.call('PUBLISH', key, document)
    kept = kept + 1
  end
end
if undecided > 0 then return redis.error_reply('UNDECIDED ' .. undecided .. ' documents') end
return kept
