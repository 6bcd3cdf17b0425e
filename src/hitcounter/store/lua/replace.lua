#!lua
-- Set pages and counters of one site to given numbers.
--
-- KEYS  1 the number of the site's stored pages, then P pages, then counters
-- ARGV  1 P, 2 whether to only raise (1) or to set (0), then one number per page and counter
--
-- Returns how many pages and counters changed.

local pages, only_raise = tonumber(ARGV[1]), ARGV[2] == '1'
local stored = redis.call('MGET', unpack(KEYS))
local changed, new_pages, writes = 0, 0, {}

for i = 2, #KEYS do
  local old, new = stored[i] ~= 'removed' and stored[i], ARGV[i + 1]
  if not old or (old ~= new and not (only_raise and tonumber(old) >= tonumber(new))) then
    changed = changed + 1
    writes[#writes + 1] = KEYS[i]
    writes[#writes + 1] = new
    if not old and i <= pages + 1 then
      new_pages = new_pages + 1
    end
  end
end

if new_pages > 0 then
  writes[#writes + 1] = KEYS[1]
  writes[#writes + 1] = string.format('%.0f', (tonumber(stored[1] or '0') or 0) + new_pages)
end
if changed > 0 then
  redis.call('MSET', unpack(writes))
end
return changed
