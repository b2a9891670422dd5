-- Tells messages and their deletes of each other, whichever is claimed first.
--
-- KEYS  messages: ZSET by rank of '<length of id>:<id><conversation>'; deleted: ZSET by rank of '<length of id>:<id><deleted at, ms>'
-- ARGV  max of each, ttl ms, number of messages; then rank, '<length>:<id>', conversation of each message; then rank, '<length>:<id>',
--       deleted at of each delete. Ranks grow with time, so what is dropped at the cap is the oldest.
-- Returns for each message when it was deleted or '', then for each delete the conversation or false.
local call = redis.call
local messages, deleted = KEYS[1], KEYS[2]
local max, ttl, first_delete = ARGV[1], ARGV[2], 4 + 3 * ARGV[3]
local answer = {}

-- What stands behind the id in the member of that rank that begins with it.
local function find(key, rank, id)
  for _, member in ipairs(call('ZRANGEBYSCORE', key, rank, rank)) do
    if string.sub(member, 1, #id) == id then
      return string.sub(member, #id + 1)
    end
  end
  return false
end

local added, lowest, highest = {}, nil, nil
for a = 4, first_delete - 1, 3 do
  local rank = tonumber(ARGV[a])
  if not lowest or rank < lowest then lowest = rank end
  if not highest or rank > highest then highest = rank end
  added[#added + 1] = ARGV[a]
  added[#added + 1] = ARGV[a + 1] .. ARGV[a + 2]
end
if #added > 0 then
  call('ZADD', messages, unpack(added))
end

local conversations = {}
for a = first_delete, #ARGV, 3 do
  local rank, id, at = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  -- Of a delete that is said twice the earlier time stays, in whichever order the two come.
  local known = find(deleted, rank, id)
  if not known or tonumber(at) < tonumber(known) then
    if known then call('ZREM', deleted, id .. known) end
    call('ZADD', deleted, rank, id .. at)
  end
  conversations[#conversations + 1] = find(messages, rank, id)
end

if lowest then
  -- Deletes are few: one look usually sees all that these messages can have. Where it does not, each message is looked up.
  local most, times = 256, {}
  local near = call('ZRANGEBYSCORE', deleted, string.format('%.0f', lowest), string.format('%.0f', highest), 'LIMIT', 0, most + 1)
  for _, member in ipairs(near) do
    local colon = string.find(member, ':', 1, true)
    local id_end = colon + tonumber(string.sub(member, 1, colon - 1))
    times[string.sub(member, 1, id_end)] = string.sub(member, id_end + 1)
  end
  for a = 4, first_delete - 1, 3 do
    if #near <= most then
      answer[#answer + 1] = times[ARGV[a + 1]] or ''
    else
      answer[#answer + 1] = find(deleted, ARGV[a], ARGV[a + 1]) or ''
    end
  end
end
for _, conversation in ipairs(conversations) do
  answer[#answer + 1] = conversation
end

if #added > 0 then
  call('ZREMRANGEBYRANK', messages, 0, -1 - max)
  call('PEXPIRE', messages, ttl)
end
if #ARGV >= first_delete then
  call('ZREMRANGEBYRANK', deleted, 0, -1 - max)
  call('PEXPIRE', deleted, ttl)
end
return answer
