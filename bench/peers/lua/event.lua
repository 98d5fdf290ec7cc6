-- What a client may publish, checked with cjson, and the names of what is stored. Less is checked than
-- at the edge: cjson knows neither UTF-8 nor doubled members, and takes an empty array for an object.
local cjson = require "cjson.safe"

local matches = ngx.re.find -- compiled (`jo`), where Lua's own patterns would leave LuaJIT's compiled code

cjson.decode_max_depth(64)

local _M = {}

-- True, the type, the source and the payload; or a status and what is wrong.
function _M.check(body)
    local event, failure = cjson.decode(body)
    if event == nil then return 400, failure end
    if type(event) ~= "table" then return 422, "not an object" end
    local kind, source, payload = event.type, event.source, event.payload
    if type(kind) ~= "string" or not matches(kind, [[\A(?!webhook\.)[A-Za-z0-9_.:-]{1,128}\z]], "jo") then return 422, "type" end
    if type(source) ~= "string" or not matches(source, [[\A[^\x00-\x1f\x7f]{1,256}\z]], "jo") then return 422, "source" end
    if type(payload) ~= "table" or payload[1] ~= nil then return 422, "payload" end
    return true, kind, source, payload
end

-- UUIDv7 from nginx's clock and the worker's generator.
function _M.new_id(now_ms)
    local random = math.random
    return ("%08x-%04x-7%03x-%04x-%06x%06x"):format(math.floor(now_ms / 65536), now_ms % 65536, random(0, 0xfff),
        random(0x8000, 0xbfff), random(0, 0xffffff), random(0, 0xffffff))
end

-- RFC 3339; the part up to the second is made once a second.
local at_second, second_text = -1, ""
function _M.timestamp(now_ms)
    local second = math.floor(now_ms / 1000)
    if second ~= at_second then
        at_second, second_text = second, os.date("!%Y-%m-%dT%H:%M:%S", second)
    end
    return ("%s.%03dZ"):format(second_text, now_ms % 1000)
end

return _M
