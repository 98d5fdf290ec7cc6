-- wrk: GETs with the credentials of a file in turn: tokens, or API keys.
--
-- usage: wrk … -s get.lua URL -- FILE token|api-key [once]
--   once    ends when each line has been used. wrk itself would sleep until -d is over, so this prints the
--           report by itself, without latencies, and exits
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local ffi = require "ffi"
ffi.cdef "typedef struct { long s, us; } time_now; int gettimeofday(time_now *now, void *zone);"

local UNDER_WAY = 64 -- connections: that many answers more, and the first round is over
local requests, at, answers, refused, begun = {}, 0, 0, 0, nil

local function seconds_now()
    local now = ffi.new("time_now")
    ffi.C.gettimeofday(now, nil)
    return tonumber(now.s) + tonumber(now.us) / 1e6
end

local function exit_after_one_round(status)
    answers = answers + 1
    if status >= 400 then refused = refused + 1 end
    if answers < #requests + UNDER_WAY then return end
    io.write(string.format('{"requests":%d,"seconds":%.6f,"lost":0,"refused":%d}\n', answers, seconds_now() - begun, refused))
    io.flush()
    os.exit(0)
end

function init(args)
    local bearer = args[2] == "token"
    for line in io.lines(args[1]) do
        wrk.headers[bearer and "Authorization" or "X-API-Key"] = (bearer and "Bearer " or "") .. line
        requests[#requests + 1] = wrk.format()
    end
    if args[3] == "once" then
        response, begun = exit_after_one_round, seconds_now()
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
