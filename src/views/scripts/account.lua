-- Writes one account's hash, only if its rev is still the one that the fold started from.
--
-- KEYS  account hash, priority
-- ARGV  expected rev, rev, fold, ttl ms, priority max, priority ttl ms, number of fields; then name and value of each field; then the
--       priority entries
-- Returns 1 written, 0 conflict.
local call = redis.call
if (call('HGET', KEYS[1], 'rev') or '0') ~= ARGV[1] then
  return 0
end
local first_entry = 8 + 2 * ARGV[7]
call('HSET', KEYS[1], 'rev', ARGV[2], 'fold', ARGV[3], unpack(ARGV, 8, first_entry - 1))
call('PEXPIRE', KEYS[1], ARGV[4])
for i = first_entry, #ARGV do
  call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'entry', ARGV[i])
end
if #ARGV >= first_entry then
  call('PEXPIRE', KEYS[2], ARGV[6])
end
return 1
