-- The script wrk runs: publish over and over, then print the outcome as a line of JSON.
-- Arguments after `--`: content type; file with the body; number of partition keys to rotate over.
-- Twelve @ in the body stand for the number of the request, which makes the ids in it unique.

local PLACEHOLDER = "@@@@@@@@@@@@"
local requests = {}
local sent = 0

local function split(text)
  local chunks, from = {}, 1
  repeat
    local start = text:find(PLACEHOLDER, from, true)
    chunks[#chunks + 1] = text:sub(from, (start or 0) - 1)
    from = start and start + #PLACEHOLDER
  until not start
  return chunks
end

function init(args)
  local content_type, path, keys = args[1], args[2], tonumber(args[3])
  local file = assert(io.open(path, "rb"))
  local body = file:read("*a")
  file:close()

  wrk.headers["Content-Type"] = content_type
  for key = 1, math.max(keys, 1) do
    if keys > 0 then wrk.headers["ce-partitionkey"] = "key-" .. key end
    requests[key] = split(wrk.format("POST", nil, nil, body))
  end
end

function request()
  sent = sent + 1
  return table.concat(requests[sent % #requests + 1], string.format("%012d", sent))
end

function done(summary)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local outcome = 'outcome {"seconds": %.6f, "answered": %d, "refused": %d, "broken": %d}'
  print(outcome:format(summary.duration / 1e6, summary.requests, errors.status, broken))
end
