-- The script wrk runs: publish over and over, then print the outcome as a line of JSON.
-- Arguments after `--`: content type; file with the body; number of variants; `ordered` or `scattered`
-- numbers; headers as `Name: value`.
-- Requests rotate over the variants: {n} in the URL and in a header's value is the variant's number.
-- Twelve @ in the body or a header stand for a number that no other request of this run has. Scattered
-- ones come in no order, as ids made by chance do.

local PLACEHOLDER = "@@@@@@@@@@@@"
local NUMBERS = 1e9
-- Has no divisor in common with NUMBERS, so that no number comes twice; bench/fill.py has it too.
local STRIDE = 618033989
local requests = {}
local sent = 0
local stride = 1

local function split(text)
  local chunks, from = {}, 1
  repeat
    local start = text:find(PLACEHOLDER, from, true)
    chunks[#chunks + 1] = text:sub(from, (start or 0) - 1)
    from = start and start + #PLACEHOLDER
  until not start
  return chunks
end

local function variant(text, number)
  return (text:gsub("{n}", tostring(number)))
end

function init(args)
  local content_type, file_name, variants = args[1], args[2], tonumber(args[3])
  stride = args[4] == "scattered" and STRIDE or 1
  local file = assert(io.open(file_name, "rb"))
  local body = file:read("*a")
  file:close()

  wrk.headers["Content-Type"] = content_type
  for number = 1, variants do
    for position = 5, #args do
      local name, value = args[position]:match("^(.-): (.*)$")
      wrk.headers[name] = variant(value, number)
    end
    requests[number] = split(wrk.format("POST", variant(wrk.path, number), nil, body))
  end
end

function request()
  sent = sent + 1
  local id = string.format("%012d", (sent * stride) % NUMBERS)
  return table.concat(requests[sent % #requests + 1], id)
end

function done(summary)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local outcome = 'outcome {"seconds": %.6f, "answered": %d, "refused": %d, "broken": %d}'
  print(outcome:format(summary.duration / 1e6, summary.requests, errors.status, broken))
end
