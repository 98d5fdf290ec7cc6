-- POST /events as a good team would write it in lua-nginx-module: what the edge does, in the order that
-- is cheapest here. START HERE.
--
-- Chosen in this peer's favour:
--   One round trip to Redis for each request. `script`: one EVALSHA that counts the plan's windows and
--     appends the event, so that a refused one is never stored. `pipeline`: INCR, PEXPIRE and XADD in one write;
--     an event over the limit is taken out again afterwards, which the edge would not allow itself.
--   Fixed windows (INCR), not GCRA: twice the rate passes around a window's edge.
--   The body is stored as it came. cjson would lose digits and turn [] into {} if the payload alone were encoded
--     again, and encoding costs more than it saves; whoever reads the stream takes the payload out.
--   No revocation, no counters, no fields in the log.
local event = require "event"
local redis = require "redis"
local token = require "token"
local new_table = require "table.new"

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

-- settings: redis_port, secret, mode (`script`, `pipeline`), plans: name -> list of {requests, seconds}.
function _M.setup(settings)
    plans, mode = settings.plans, settings.mode
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

-- Counts and stores in one call. Returns what is left of the tightest window (negative: refused), or nil.
local function limit_and_store(caller, windows, stream, entry)
    local count = #windows
    local words, out = new_table(32 + 3 * count, 0), new_table(192, 0)
    words[1], words[2], words[3], words[4] = "EVALSHA", script_sha1, tostring(count + 1), stream
    words[5 + count] = "2000000000"
    for i = 1, count do
        local window = windows[i]
        words[4 + i] = "limit:" .. caller.key .. ":" .. window[2]
        words[4 + count + 2 * i], words[5 + count + 2 * i] = window[1], window[2] .. "000"
    end
    local at = 5 + 3 * count
    for i = 1, #entry do words[at + i] = entry[i] end
    redis.append(out, 1, words, at + #entry)
    local replies, failure = redis.pipeline(out, 1)
    if not replies and failure:find("^NOSCRIPT") then
        words[1], words[2], out = "EVAL", SCRIPT, {}
        redis.append(out, 1, words, at + #entry)
        replies, failure = redis.pipeline(out, 1)
    end
    if not replies then return nil, failure end
    local reply = replies[1]
    return reply[1] == 1 and reply[2] or -1
end

-- INCR and PEXPIRE for each window and XADD, in one write.
local function count_and_store(caller, windows, stream, entry)
    local out, at = new_table(192, 0), 1
    for i = 1, #windows do
        local key = "limit:" .. caller.key .. ":" .. windows[i][2]
        at = redis.append(out, at, { "INCR", key }, 2)
        at = redis.append(out, at, { "PEXPIRE", key, windows[i][2] .. "000", "NX" }, 4)
    end
    local command = { "XADD", stream, "*" }
    for i = 1, #entry do command[3 + i] = entry[i] end
    redis.append(out, at, command, #command)
    local replies, failure = redis.pipeline(out, 2 * #windows + 1)
    if not replies then return nil, failure end
    local tightest
    for i = 1, #windows do
        local left = tonumber(windows[i][1]) - replies[2 * i - 1]
        if not tightest or left < tightest then tightest = left end
    end
    if tightest < 0 then
        local undo = {}
        redis.append(undo, 1, { "XDEL", stream, replies[#replies] }, 3)
        redis.pipeline(undo, 1)
    end
    return tightest
end

function _M.handle()
    if ngx.req.get_method() ~= "POST" then return refuse(405, "POST only") end
    local var = ngx.var
    local caller = token.caller(var.http_authorization)
    if not caller then return refuse(401, "invalid token") end
    if not caller.scopes[SCOPE] then return refuse(403, "insufficient scope") end
    local windows = plans[caller.plan]
    if not windows then return refuse(403, "no plan") end
    if not (var.content_type or ""):find("^application/json") then return refuse(415, "not JSON") end
    local body = request_body()
    local ok, kind, source = event.check(body)
    if ok ~= true then return refuse(ok, kind) end

    local now_ms = ngx.now() * 1000
    now_ms = now_ms - now_ms % 1
    local id = event.new_id(now_ms)
    local stream = streams[tonumber(id:sub(-1), 16) % SHARDS]
    local entry = {
        "v", "1", "id", id, "org", caller.org, "key", caller.key, "type", kind, "source", source, "payload", body,
        "ord", "", "tp", var.http_traceparent or "", "via", "api", "at", ("%.0f"):format(now_ms),
    }
    local left, failure = (mode == "pipeline" and count_and_store or limit_and_store)(caller, windows, stream, entry)
    if not left then
        ngx.log(ngx.ERR, "redis: ", failure)
        return refuse(503, "not stored")
    end
    local header = ngx.header
    header["X-RateLimit-Limit"] = windows[1][1]
    header["X-RateLimit-Remaining"] = left < 0 and 0 or left
    if left < 0 then return refuse(429, "too many requests") end
    return answer(201, '{"id":"' .. id .. '","status":"pending","timestamp":"' .. event.timestamp(now_ms) .. '"}')
end

return _M
