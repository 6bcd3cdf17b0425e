#!lua
-- Move pages and counters of one site to another, at one moment between two commits.
--
-- A script may write with one command only (see commit.lua), so what goes is set to "removed" here,
-- which stands for nothing everywhere, and is deleted by sweep.lua. What is cut off and begun again
-- goes on: what has gone is not there any more.
--
-- KEYS  1 the number of the old site's stored pages, 2 that of the new one's; N names of the old
--       site, pages first; the same N of the new one; the old site's tombstone
-- ARGV  1 how many of the N are pages; 2 the value of the tombstone, or empty to set none. With
--       it, the old site goes as a whole: nothing is done if it has other pages.
--
-- Returns how much was moved of each of the N; or nothing at all if the old site has other pages.

local LIMIT = 9007199254740992 -- 2^53: up to here a Lua number is an exact integer
local pages, tombstone = tonumber(ARGV[1]), ARGV[2]
local n = (#KEYS - 3) / 2
local stored = redis.call('MGET', unpack(KEYS))
local moved, writes, left, held = {}, {}, 0, 0

local function number(i)
  if not stored[i] or stored[i] == 'removed' then
    return nil
  end
  local value = tonumber(stored[i])
  if not value or value ~= math.floor(value) then
    error({err = 'ERR ' .. KEYS[i] .. ' does not hold an integer'})
  end
  return value
end

local function write(key, value)
  writes[#writes + 1] = key
  writes[#writes + 1] = type(value) == 'number' and string.format('%.0f', value) or value
end

left, held = number(1) or 0, number(2) or 0
for i = 1, n do
  local value, before = number(2 + i), number(2 + n + i)
  moved[i] = value or 0
  if value then
    local sum = (before or 0) + value
    -- MGET gives nothing for a hash or a list, and MSET would destroy it.
    if not stored[2 + n + i] and redis.call('EXISTS', KEYS[2 + n + i]) == 1 then
      error({err = 'ERR ' .. KEYS[2 + n + i] .. ' does not hold an integer'})
    end
    if sum >= LIMIT then
      error({err = 'ERR ' .. KEYS[2 + n + i] .. ' would be beyond 2^53'})
    end
    write(KEYS[2 + i], 'removed')
    write(KEYS[2 + n + i], sum)
    if i <= pages then
      left, held = left - 1, held + (before and 0 or 1)
    end
  end
end

if tombstone ~= '' then
  if left > 0 then
    return {}
  end
  write(KEYS[#KEYS], tombstone)
end
if #writes > 0 then
  write(KEYS[1], left > 0 and left or 'removed')
  write(KEYS[2], held)
  redis.call('MSET', unpack(writes))
end
return moved
