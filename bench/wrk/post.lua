-- wrk: POSTs the lines of a file in turn, so that no branch predictor learns one body by heart, and
-- prints what happened as one JSON object on the last line.
--
-- usage: wrk … -s post.lua URL -- BODIES_FILE [TOKEN_FILE]
local requests, at = {}, 0

function init(args)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    if args[2] then
        local file = assert(io.open(args[2]))
        wrk.headers["Authorization"] = "Bearer " .. file:read("*l")
        file:close()
    end
    for line in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format(nil, nil, nil, line)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format('{"requests":%d,"seconds":%.6f,"lost":%d,"refused":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
        summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout,
        errors.status, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
