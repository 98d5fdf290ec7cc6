-- wrk: GETs with the credentials of a file in turn: tokens, or API keys.
--
-- usage: wrk … -s get.lua URL -- FILE token|api-key [once]
--   once    ends when each line has been used. wrk itself would sleep until -d is over, so this prints the
--           report by itself, without latencies, and exits
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local ffi = require "ffi"
ffi.cdef "typedef struct { long s, us; } time_now; int gettimeofday(time_now *now, void *zone);"

local UNDER_WAY = 64 -- connections: that many answers more, and the first round is over
local PLACE = "@credential@"
local file, head, tail, only
local lines, answers, refused, begun = 0, 0, 0, nil

local function seconds_now()
    local now = ffi.new("time_now")
    ffi.C.gettimeofday(now, nil)
    return tonumber(now.s) + tonumber(now.us) / 1e6
end

local function exit_after_one_round(status)
    answers = answers + 1
    if status >= 400 then refused = refused + 1 end
    if answers < lines + UNDER_WAY then return end
    io.write(string.format('{"requests":%d,"seconds":%.6f,"lost":0,"refused":%d}\n', answers, seconds_now() - begun, refused))
    io.flush()
    os.exit(0)
end

function init(args)
    local bearer = args[2] == "token"
    wrk.headers[bearer and "Authorization" or "X-API-Key"] = (bearer and "Bearer " or "") .. PLACE
    head, tail = wrk.format():match("^(.*)" .. PLACE .. "(.*)$")
    for line in io.lines(args[1]) do
        lines, only = lines + 1, line
    end
    only = lines == 1 and head .. only .. tail
    file = assert(io.open(args[1]))
    if args[3] == "once" then
        response, begun = exit_after_one_round, seconds_now()
    end
end

-- Read and joined when needed: LuaJIT looks at 16 bytes of a long string to hash it, and 100,000 requests kept
-- at once that differ elsewhere would share one bucket.
function request()
    if only then return only end
    local line = file:read("*l")
    if not line then
        file:seek("set")
        line = file:read("*l")
    end
    return head .. line .. tail
end
