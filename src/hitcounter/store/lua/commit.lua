#!lua
-- Apply a chunk exactly once: compare the writer's watermark, then swap it together with the counters.
--
-- All reads come first, then one MSET: a server that loses the end of its log cannot be left with
-- half a chunk. Every counter is a plain integer string; one that says "removed" was taken out a moment ago.
--
-- KEYS  1         the writer's watermark
--       2 .. C+1  C counters
--       then, per site with pages: the number of its stored pages, then each page
-- ARGV  1         MessagePack of {expect, last, increments of the counters, sites}:
--                 apply if the watermark is `expect`, and make it `last`; 0 only reads;
--                 per site with pages {how many pages it may store, increments of its pages}
--
-- Returns {watermark, value of KEYS[2], value of KEYS[3], …}, the values of now, also where the
-- watermark was not `expect` and nothing was applied. A page that is not stored, because there
-- are as many as there may be, has the value -1.

local LIMIT = 9007199254740992 -- 2^53: up to here a Lua number is an exact integer
local expect, last, increments, sites = unpack(cmsgpack.unpack(ARGV[1]))
local stored = redis.call('MGET', unpack(KEYS))

local function is_held(i)
  return stored[i] and stored[i] ~= 'removed'
end

local function number(i)
  local value = tonumber(is_held(i) and stored[i] or '0')
  if not value or value ~= math.floor(value) then
    error({err = 'ERR ' .. KEYS[i] .. ' does not hold an integer'})
  end
  return value
end

local watermark = number(1)
local applies = watermark == expect
local writes = {KEYS[1], string.format('%.0f', last)}
local values = {applies and last or watermark}

local function add(i, increment)
  if not applies then
    increment = 0
  end
  local value = number(i) + increment
  if value >= LIMIT or value <= -LIMIT then
    error({err = 'ERR ' .. KEYS[i] .. ' is beyond 2^53'})
  end
  if increment < 0 and value < 0 then
    error({err = 'ERR ' .. KEYS[i] .. ' has less than is to be taken from it'})
  end
  values[i] = value
  if increment ~= 0 then
    -- MGET gives nothing for a hash or a list, and MSET would destroy it.
    if not stored[i] and redis.call('EXISTS', KEYS[i]) == 1 then
      error({err = 'ERR ' .. KEYS[i] .. ' does not hold an integer'})
    end
    writes[#writes + 1] = KEYS[i]
    writes[#writes + 1] = string.format('%.0f', value)
  end
end

for i, increment in ipairs(increments) do
  add(i + 1, increment)
end

local count_key = #increments + 2
for _, site in ipairs(sites) do
  local limit, pageviews = unpack(site)
  local new, free = 0, limit - number(count_key)
  for page, increment in ipairs(pageviews) do
    local i = count_key + page
    if is_held(i) or (applies and (new < free or increment < 0)) then
      new = new + (is_held(i) and 0 or 1)
      add(i, increment)
    else
      values[i] = -1
    end
  end
  add(count_key, new)
  count_key = count_key + #pageviews + 1
end

if applies then
  redis.call('MSET', unpack(writes))
end
return values
