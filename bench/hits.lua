-- Hits as the widget sends them from Chrome on an Android phone, each for a random page of a random site.
-- wrk -s hits.lua URL -- SITES PAGES THINK_MS ADDRESSES AGENT
-- With ADDRESSES > 0 they come through a proxy, from so many visitors, and with an AGENT from a robot.
-- The requests are made before the run, so that wrk spends its time on sending. With THINK_MS > 0 every connection
-- waits for a random time of that mean before each request (exponential, as independent visitors arrive).
-- done() prints one line of JSON; `sent` also counts the request that wrk makes once to check the script.
local threads = {}
local requests = {}
sent = 0

local function headers(origin, address, agent)
  return {
    ["X-Forwarded-For"] = address,
    ["Content-Type"] = "text/plain;charset=UTF-8",
    ["Connection"] = "keep-alive",
    ["sec-ch-ua-platform"] = '"Android"',
    ["User-Agent"] = agent or "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
      .. "Chrome/130.0.0.0 Mobile Safari/537.36",
    ["sec-ch-ua"] = '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    ["sec-ch-ua-mobile"] = "?1",
    ["Accept"] = "*/*",
    ["Origin"] = origin,
    ["Sec-Fetch-Site"] = "cross-site",
    ["Sec-Fetch-Mode"] = "cors",
    ["Sec-Fetch-Dest"] = "empty",
    ["Referer"] = origin .. "/",
    ["Accept-Encoding"] = "gzip, deflate, br, zstd",
    ["Accept-Language"] = "vi-VN,vi;q=0.9,en-US;q=0.6,en;q=0.5",
  }
end

local function add(number, sites, pages, addresses, agent)
  local name = "site" .. number % sites + 1 .. ".example.vn"
  local body = string.format('{"path":"/tin-tuc/%d"}', math.floor(number / sites) % pages + 1)
  local n = number % math.max(addresses, 1)
  local address = addresses > 0 and string.format("203.0.%d.%d", n / 250, n % 250) or nil
  local path = "/v1/sites/" .. name .. "/hits"
  requests[#requests + 1] = wrk.format("POST", path, headers("https://" .. name, address, agent), body)
end

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(args)
  math.randomseed(os.time() * 64 + number)
  local sites, pages, addresses = tonumber(args[1]), tonumber(args[2]), tonumber(args[4])
  for number = 0, math.max(sites * pages, addresses) - 1 do
    add(number, sites, pages, addresses, args[5])
  end
  local think_ms = tonumber(args[3])
  if think_ms > 0 then
    -- wrk cuts the delay to whole milliseconds; the added random fraction keeps the mean.
    delay = function()
      return math.floor(-think_ms * math.log(1 - math.random()) + math.random())
    end
  end
end

function request()
  sent = sent + 1
  return requests[math.random(#requests)]
end

function done(summary, latency, _)
  local total = 0
  for _, thread in ipairs(threads) do
    total = total + thread:get("sent")
  end
  local errors = summary.errors
  io.write(string.format(
    '{"sent": %d, "answered": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, "timeout": %d, '
      .. '"status": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    total, summary.requests, summary.duration / 1e6, errors.connect, errors.read, errors.write,
    errors.timeout, errors.status, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3))
end
