#!lua flags=allow-oom
-- Delete what take.lua has marked, unless it was counted again since.
--
-- KEYS  counters, pages, and the number of a site's stored pages

local stored = redis.call('MGET', unpack(KEYS))
local marked = {}

for i, value in ipairs(stored) do
  if value == 'removed' then
    marked[#marked + 1] = KEYS[i]
  end
end

return #marked > 0 and redis.call('DEL', unpack(marked)) or 0
