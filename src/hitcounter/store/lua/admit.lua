#!lua
-- Register sites, as long as there are no more than there may be.
--
-- KEYS  1 the set of sites
-- ARGV  1 how many sites there may be, then the sites
--
-- Returns per site 1 if it is registered, else 0.

local sites = {unpack(ARGV, 2)}
local admitted = redis.call('SMISMEMBER', KEYS[1], unpack(sites))
local free = tonumber(ARGV[1]) - redis.call('SCARD', KEYS[1])
local new = {}

for i, site in ipairs(sites) do
  if admitted[i] == 0 and #new < free then
    admitted[i] = 1
    new[#new + 1] = site
  end
end

if #new > 0 then
  redis.call('SADD', KEYS[1], unpack(new))
end
return admitted
