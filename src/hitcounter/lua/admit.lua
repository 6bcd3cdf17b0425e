-- Register a site, unless it is new and there are as many as there may be.
--
-- KEYS  1 the set of sites
-- ARGV  1 the site, 2 how many sites there may be
--
-- Returns 1 if the site is registered, else 0.

if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
  return 1
end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
return redis.call('SADD', KEYS[1], ARGV[1])
