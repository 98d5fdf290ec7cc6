-- POST /events as a good team would write it in lua-nginx-module: what the edge does, in the order that
-- is cheapest here. START HERE.
--
-- Three ways:
--   `plain`: the limit first, before the body is read (INCR and PEXPIRE of all windows in one write), then XADD with
--     the payload encoded again by cjson: what one usually writes. Two round trips; digits beyond the 14th and the
--     difference between [] and {} are lost.
--   `script`: one EVALSHA counts the windows and appends the event, so that a refused one is never stored.
--   `pipeline`: INCR, PEXPIRE and XADD in one write. An event over the limit is taken out again afterwards, which
--     the edge would not allow itself.
-- The latter two store the body as it came, which is cheaper than encoding and loses nothing; whoever reads the
-- stream would have to take the payload out.
--
-- Chosen in this peer's favour, always:
--   Fixed windows (INCR), not GCRA: twice the rate passes around a window's edge.
--   No revocation, no counters, no fields in the log.
local event = require "event"
local redis = require "redis"
local token = require "token"
local encode = require("cjson").encode
local new_buffer = require("string.buffer").new

local _M = {}
local SHARDS = 8
local SCOPE = "events:write"
local plans, mode
local streams = {}

local SCRIPT = [[
local tightest, left = tonumber(ARGV[1]), -1
for i = 2, #KEYS do
    local used = redis.call('INCR', KEYS[i])
    if used == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[2 * i - 1]) end
    left = tonumber(ARGV[2 * i - 2]) - used
    if left < 0 then return {0, redis.call('PTTL', KEYS[i])} end
    if left < tightest then tightest = left end
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2 * #KEYS))
return {1, tightest}
]]
local script_sha1

-- settings: redis_port, secret, mode (`plain`, `script`, `pipeline`), plans: name -> list of {requests, seconds}.
function _M.setup(settings)
    mode = settings.mode
    plans = {}
    for name, windows in pairs(settings.plans) do
        plans[name] = {}
        for i, window in ipairs(windows) do
            plans[name][i] = { limit = window[1], requests = tostring(window[1]), period_ms = tostring(window[2] * 1000) }
        end
    end
    redis.setup(settings.redis_port)
    token.setup(settings.secret)
    for shard = 0, SHARDS - 1 do streams[shard] = "headgate:{peer-" .. shard .. "}:events" end
    script_sha1 = ngx.sha1_bin(SCRIPT):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
end

-- In each worker: a seed of its own.
function _M.init_worker()
    local file = assert(io.open("/dev/urandom", "rb"))
    local a, b, c, d = file:read(4):byte(1, 4)
    file:close()
    math.randomseed(((a * 256 + b) * 256 + c) * 256 + d)
end

local function answer(status, body)
    ngx.status = status
    local header = ngx.header
    header["Content-Type"] = status < 300 and "application/json" or "application/problem+json"
    header["Content-Length"] = #body
    ngx.print(body)
    return ngx.exit(ngx.OK)
end

local function refuse(status, detail)
    return answer(status, ('{"status":%d,"detail":"%s"}'):format(status, detail:gsub('[%c"\\]', " ")))
end

local function request_body()
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then return body end
    local path = ngx.req.get_body_file()
    if not path then return "" end
    local file = assert(io.open(path, "rb"))
    body = file:read("*a")
    file:close()
    return body
end

-- One buffer for each worker: it is filled and emptied without a yield in between.
local out = new_buffer(4096)
local head, word = redis.head, redis.word

-- The fields of an entry, without the two words in front of them: 22 words.
local ENTRY_WORDS = 22
local function append_entry(entry)
    for i = 1, ENTRY_WORDS do word(out, entry[i]) end
end

local function append_script_call(how, script, caller, windows, stream, entry)
    local count = #windows
    head(out, 5 + 3 * count + ENTRY_WORDS)
    word(out, how)
    word(out, script)
    word(out, tostring(count + 1))
    word(out, stream)
    for i = 1, count do word(out, "limit:" .. caller.key .. ":" .. windows[i].period_ms) end
    word(out, "2000000000")
    for i = 1, count do
        word(out, windows[i].requests)
        word(out, windows[i].period_ms)
    end
    append_entry(entry)
    return out:get()
end

-- Counts and stores in one call. Returns what is left of the tightest window (negative: refused), or nil.
local function limit_and_store(caller, windows, stream, entry)
    local replies, failure = redis.pipeline(append_script_call("EVALSHA", script_sha1, caller, windows, stream, entry), 1)
    if not replies and failure:find("NOSCRIPT", 1, true) then
        replies, failure = redis.pipeline(append_script_call("EVAL", SCRIPT, caller, windows, stream, entry), 1)
    end
    if not replies then return nil, failure end
    local reply = replies[1]
    return reply[1] == 1 and reply[2] or -1
end

local function append_counts(caller, windows)
    for i = 1, #windows do
        local key = "limit:" .. caller.key .. ":" .. windows[i].period_ms
        head(out, 2)
        word(out, "INCR")
        word(out, key)
        head(out, 4)
        word(out, "PEXPIRE")
        word(out, key)
        word(out, windows[i].period_ms)
        word(out, "NX")
    end
end

local function tightest_of(windows, replies)
    local tightest
    for i = 1, #windows do
        local left = windows[i].limit - replies[2 * i - 1]
        if not tightest or left < tightest then tightest = left end
    end
    return tightest
end

local function append_xadd(stream, entry)
    head(out, 3 + ENTRY_WORDS)
    word(out, "XADD")
    word(out, stream)
    word(out, "*")
    append_entry(entry)
end

-- The two steps of `plain`.
local function count(caller, windows)
    append_counts(caller, windows)
    local replies, failure = redis.pipeline(out:get(), 2 * #windows)
    return replies and tightest_of(windows, replies), failure
end

local function store(_, _, stream, entry)
    append_xadd(stream, entry)
    return redis.pipeline(out:get(), 1)
end

-- INCR and PEXPIRE for each window and XADD, in one write.
local function count_and_store(caller, windows, stream, entry)
    append_counts(caller, windows)
    append_xadd(stream, entry)
    local replies, failure = redis.pipeline(out:get(), 2 * #windows + 1)
    if not replies then return nil, failure end
    local tightest = tightest_of(windows, replies)
    if tightest < 0 then
        head(out, 3)
        word(out, "XDEL")
        word(out, stream)
        word(out, replies[#replies])
        redis.pipeline(out:get(), 1)
    end
    return tightest
end

local steps = { plain = store, script = limit_and_store, pipeline = count_and_store }

local function limit_headers(windows, left)
    local header = ngx.header
    header["X-RateLimit-Limit"] = windows[1].requests
    header["X-RateLimit-Remaining"] = left < 0 and 0 or left
end

local function limited(windows, left)
    limit_headers(windows, left)
    return refuse(429, "too many requests")
end

local function unavailable(failure)
    ngx.log(ngx.ERR, "redis: ", failure)
    return refuse(503, "not stored")
end

function _M.handle()
    if ngx.req.get_method() ~= "POST" then return refuse(405, "POST only") end
    local var = ngx.var
    local caller = token.caller(var.http_authorization)
    if not caller then return refuse(401, "invalid token") end
    if not caller.scopes[SCOPE] then return refuse(403, "insufficient scope") end
    local windows = plans[caller.plan]
    if not windows then return refuse(403, "no plan") end
    if not (var.content_type or ""):find("application/json", 1, true) then return refuse(415, "not JSON") end
    local left, failure
    if mode == "plain" then
        left, failure = count(caller, windows)
        if not left then return unavailable(failure) end
        if left < 0 then return limited(windows, left) end
    end
    local body = request_body()
    local ok, kind, source, payload = event.check(body)
    if ok ~= true then return refuse(ok, kind) end

    local now_ms = ngx.now() * 1000
    now_ms = now_ms - now_ms % 1
    local id = event.new_id(now_ms)
    local stream = streams[tonumber(id:sub(-1), 16) % SHARDS]
    local entry = {
        "v", "1", "id", id, "org", caller.org, "key", caller.key, "type", kind, "source", source, "payload",
        mode == "plain" and encode(payload) or body,
        "ord", "", "tp", var.http_traceparent or "", "via", "api", "at", ("%.0f"):format(now_ms),
    }
    local stored
    stored, failure = steps[mode](caller, windows, stream, entry)
    if not stored then return unavailable(failure) end
    left = left or stored
    if left < 0 then return limited(windows, left) end
    limit_headers(windows, left)
    return answer(201, '{"id":"' .. id .. '","status":"pending","timestamp":"' .. event.timestamp(now_ms) .. '"}')
end

return _M
