#!lua
-- Claim ids of hits, unless somebody did so before.
--
-- All reads come first, then one HSET: a server that loses the end of its log cannot be left with
-- half of the claims. Claiming the same ids again for the same record succeeds.
--
-- KEYS  1 the ids claimed in this stretch of time, 2 those of the stretch before
-- ARGV  1 who claims: writer:record, then one id each
--
-- Returns per id who holds it: ARGV[1] if it was free or already its own, else what ARGV[1] was then.

local holder = ARGV[1]
local ids = {unpack(ARGV, 2)}
local now, before = redis.call('HMGET', KEYS[1], unpack(ids)), redis.call('HMGET', KEYS[2], unpack(ids))
local holders, writes = {}, {}

for i, id in ipairs(ids) do
  holders[i] = now[i] or before[i] or holder
  if not now[i] and not before[i] then
    writes[#writes + 1] = id
    writes[#writes + 1] = holder
  end
end

if #writes > 0 then
  redis.call('HSET', KEYS[1], unpack(writes))
end
return holders
