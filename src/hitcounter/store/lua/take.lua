#!lua flags=allow-oom
-- Take pages and counters of one site out, at one moment between two commits.
--
-- A script may write with one command only (see commit.lua), so what goes is set to "removed" here,
-- which stands for nothing everywhere, and is deleted by sweep.lua. That makes room, so it is allowed
-- where the store is full.
--
-- KEYS  1 the number of the site's stored pages, then P pages, then counters, then its tombstone
-- ARGV  1 P; 2 take only pages with fewer pageviews than this; 3 the value of the tombstone, or
--       empty to set none. With it, the site goes as a whole: nothing is done if it has other pages.
--
-- Returns per page and counter what it held, or empty where it stays or is not there; or nothing at
-- all if the site has other pages.

local pages, below, tombstone = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local stored = redis.call('MGET', unpack(KEYS))
local taken, n_pages, writes = {}, 0, {}

for i = 2, #KEYS - 1 do
  local value = tonumber(stored[i] or '')
  taken[i - 1] = ''
  if value and (i > pages + 1 or value < below) then
    taken[i - 1] = stored[i]
    n_pages = n_pages + (i > pages + 1 and 0 or 1)
    writes[#writes + 1] = KEYS[i]
    writes[#writes + 1] = 'removed'
  end
end

local left = (tonumber(stored[1] or '') or 0) - n_pages
if tombstone ~= '' then
  if left > 0 then
    return {}
  end
  writes[#writes + 1] = KEYS[#KEYS]
  writes[#writes + 1] = tombstone
end
if #writes > 0 then
  writes[#writes + 1] = KEYS[1]
  writes[#writes + 1] = left > 0 and string.format('%.0f', left) or 'removed'
  redis.call('MSET', unpack(writes))
end
return taken
