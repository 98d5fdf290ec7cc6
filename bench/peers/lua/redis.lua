-- A Redis client for this peer: cosockets from a keep-alive pool, and any number of commands in one
-- write. What lua-resty-redis does, without the parts that are not needed here (Debian has no package
-- of it). A cosocket belongs to one request, so commands of different requests cannot share a
-- connection: there are as many connections as requests under way.
local tcp = ngx.socket.tcp
local tonumber = tonumber

local _M = {}
local TIMEOUT_MS, IDLE_MS = 1000, 60000
local POOL = { pool = "redis", pool_size = 256 }
local port

function _M.setup(redis_port)
    port = redis_port
end

-- A command's head and its words, as RESP, into a string.buffer.
function _M.head(out, count)
    out:put("*", count, "\r\n")
end

function _M.word(out, word)
    out:put("$", #word, "\r\n", word, "\r\n")
end

-- A reply: a string, a number, a table, false for null; or nil and what went wrong. `broken` says
-- that the connection cannot be used again.
local function read_reply(sock)
    local line, failure = sock:receive("*l")
    if not line then return nil, failure, true end
    local kind, rest = line:byte(), line:sub(2)
    if kind == 36 then -- $
        local bytes = tonumber(rest)
        if bytes < 0 then return false end
        local data
        data, failure = sock:receive(bytes)
        if not data then return nil, failure, true end
        local _, missing = sock:receive(2)
        if missing then return nil, missing, true end
        return data
    elseif kind == 58 then -- :
        return tonumber(rest)
    elseif kind == 43 then -- +
        return rest
    elseif kind == 42 then -- *
        local items = {}
        for i = 1, tonumber(rest) do
            local item, broken
            item, failure, broken = read_reply(sock)
            if broken then return nil, failure, true end
            items[i] = item
        end
        return items
    end
    return nil, rest, kind ~= 45 -- an error reply leaves the connection sound
end

-- Sends `out` (text with `count` commands) in one write. Returns the list of replies, or nil
-- and the first error.
function _M.pipeline(out, count)
    local sock = tcp()
    sock:settimeouts(TIMEOUT_MS, TIMEOUT_MS, TIMEOUT_MS)
    local ok, failure = sock:connect("127.0.0.1", port, POOL)
    if not ok then return nil, failure end
    ok, failure = sock:send(out)
    if not ok then return nil, failure end
    local replies, first_error = {}, nil
    for i = 1, count do
        local reply, broken
        reply, failure, broken = read_reply(sock)
        if broken then
            sock:close()
            return nil, failure
        end
        if reply == nil then first_error = first_error or failure end
        replies[i] = reply
    end
    sock:setkeepalive(IDLE_MS)
    if first_error then return nil, first_error end
    return replies
end

return _M
