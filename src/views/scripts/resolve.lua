-- Tells messages and their deletes of each other, whichever is claimed first.
--
-- KEYS  messages, its older part, deleted, its older part: HASHes by message id of the conversation, and of when it was deleted, ms
-- ARGV  max of each part, ttl ms, number of messages; then id, conversation of each message; then id, deleted at of each delete
-- Returns of the messages that were deleted the place, from 0, and when, in a row; then for each delete the conversation or false.
--
-- A full part becomes the older one, and what was the older one goes: so an index holds the newest claims, at least `max` and at most twice as
-- many. A sorted set would always hold as many as it may, for four times the CPU.
local call = redis.call
local messages, messages_before, deleted, deleted_before = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local max, ttl, first_delete = tonumber(ARGV[1]), ARGV[2], 4 + 2 * ARGV[3]

local function add(key, before, first, last)
  local more = (last - first + 1) / 2
  local held = call('HLEN', key)
  if held > 0 and held + more > max then
    call('UNLINK', before)
    call('RENAME', key, before)
  end
  call('HSET', key, unpack(ARGV, first, last))
  call('PEXPIRE', key, ttl)
end

local function find(key, before, id)
  return call('HGET', key, id) or call('HGET', before, id)
end

if first_delete > 4 then
  add(messages, messages_before, 4, first_delete - 1)
end

local conversations = {}
for a = first_delete, #ARGV, 2 do
  local id, at = ARGV[a], ARGV[a + 1]
  -- Of a delete that is said twice the earlier time stays, in whichever order the two come.
  local known = find(deleted, deleted_before, id)
  if not known or tonumber(at) < tonumber(known) then
    add(deleted, deleted_before, a, a + 1)
  end
  conversations[#conversations + 1] = find(messages, messages_before, id)
end

local times = {}
if first_delete > 4 and call('EXISTS', deleted, deleted_before) > 0 then
  for a = 4, first_delete - 1, 2 do
    local at = find(deleted, deleted_before, ARGV[a])
    if at then
      times[#times + 1] = (a - 4) / 2
      times[#times + 1] = at
    end
  end
end
return {times, conversations}
