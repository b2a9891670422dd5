-- Writes conversations of one account: each all or not at all, and only if its rev is still the one that the fold started from.
--
-- KEYS  inbox, awaiting, due, priority; then for each conversation its hash, and its fan stream if it has fan events
-- ARGV  ttl ms, inbox max, due max, fan stream max, fan stream ttl ms, priority max, priority ttl ms; then for each conversation
--       id, expected rev, rev, snapshot, fold, active at, awaiting since or '', due at or '', number of fan events, number of
--       priority entries, the fan events, the priority entries
-- Returns one digit a conversation: 1 written, 0 conflict.
--
-- Redis refuses for lack of memory only before a script's first write, so a script never stops half-way for that.
-- What is per key and not per conversation is gathered and done once at the end: every redis.call costs about a microsecond.
-- The rest of the cost is size: Redis' Lua hashes every byte of every argument, which makes a kilobyte another 1.5 microseconds.
local call = redis.call
local inbox, awaiting, due, priority = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl, fan_max, fan_ttl, priority_max = ARGV[1], ARGV[4], ARGV[5], ARGV[6]

local active, waiting, answered, timers, timeless = {}, {}, {}, {}, {}
local outcomes, alerted = {}, false
local k, a, n = 5, 8, #KEYS

while k <= n do
  local key, fan_events, entries = KEYS[k], tonumber(ARGV[a + 8]), tonumber(ARGV[a + 9])
  local fan_key = fan_events > 0 and KEYS[k + 1]
  local first_event = a + 10
  local first_entry = first_event + fan_events
  local after = first_entry + entries
  if (call('HGET', key, 'rev') or '0') == ARGV[a + 1] then
    local id = ARGV[a]
    call('HSET', key, 'rev', ARGV[a + 2], 'snapshot', ARGV[a + 3], 'fold', ARGV[a + 4])
    call('PEXPIRE', key, ttl)
    active[#active + 1] = ARGV[a + 5]
    active[#active + 1] = id
    if ARGV[a + 6] == '' then
      answered[#answered + 1] = id
    else
      waiting[#waiting + 1] = ARGV[a + 6]
      waiting[#waiting + 1] = id
    end
    if ARGV[a + 7] == '' then
      timeless[#timeless + 1] = id
    else
      timers[#timers + 1] = ARGV[a + 7]
      timers[#timers + 1] = id
    end
    if fan_key then
      for i = first_event, first_entry - 1 do
        call('XADD', fan_key, 'MAXLEN', '~', fan_max, '*', 'event', ARGV[i])
      end
      call('PEXPIRE', fan_key, fan_ttl)
    end
    for i = first_entry, after - 1 do
      call('XADD', priority, 'MAXLEN', '~', priority_max, '*', 'entry', ARGV[i])
      alerted = true
    end
    outcomes[#outcomes + 1] = '1'
  else
    outcomes[#outcomes + 1] = '0'
  end
  k = k + (fan_key and 2 or 1)
  a = after
end

-- Beyond the cap the lowest or the highest scores go: in the inbox the longest inactive; of those who wait, and of the timers, the latest,
-- so that whoever waits longest is never forgotten.
local function index(key, members, gone, max, lowest_go)
  if #gone > 0 then
    call('ZREM', key, unpack(gone))
  end
  if #members > 0 then
    call('ZADD', key, unpack(members))
    if lowest_go then
      call('ZREMRANGEBYRANK', key, 0, -1 - max)
    else
      call('ZREMRANGEBYRANK', key, max, -1)
    end
    call('PEXPIRE', key, ttl)
  end
end

index(inbox, active, {}, ARGV[2], true)
index(awaiting, waiting, answered, ARGV[2], false)
index(due, timers, timeless, ARGV[3], false)
if alerted then
  call('PEXPIRE', priority, ARGV[7])
end
return table.concat(outcomes)
