-- Bearer tokens, HS256 only. A token that has been verified is remembered by each worker (lrucache:
-- Lua tables, no decoding on a hit; lua_shared_dict would have to serialize them), so that the HMAC and
-- the JSON of a token are paid once. libcrypto through the FFI: nginx is linked with it.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local lrucache = require "resty.lrucache"

ffi.cdef [[
    const void *EVP_sha256(void);
    unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *data, size_t data_len,
                        unsigned char *out, unsigned int *out_len);
    int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]

local _M = {}
local REMEMBERED, REMEMBERED_SECONDS = 10000, 30
local known = assert(lrucache.new(REMEMBERED))
local mac = ffi.new("unsigned char[32]")
local secret

function _M.setup(token_secret)
    secret = token_secret
end

local function decode(text)
    return ngx.decode_base64(text:gsub("-", "+"):gsub("_", "/") .. ("="):rep(-#text % 4))
end

local function verify(token)
    local signed, header, payload, signature = token:match("^(([%w_-]+)%.([%w_-]+))%.([%w_-]+)$")
    if not signed then return nil end
    header, payload, signature = cjson.decode(decode(header) or ""), cjson.decode(decode(payload) or ""), decode(signature)
    if type(header) ~= "table" or type(payload) ~= "table" or header.alg ~= "HS256" or #(signature or "") ~= 32 then
        return nil
    end
    ffi.C.HMAC(ffi.C.EVP_sha256(), secret, #secret, signed, #signed, mac, nil)
    if ffi.C.CRYPTO_memcmp(mac, signature, 32) ~= 0 then return nil end
    if payload.iss ~= "headgate" or type(payload.sub) ~= "string" or type(payload.org) ~= "string"
        or type(payload.exp) ~= "number" then
        return nil
    end
    local scopes = {}
    for scope in (payload.scope or ""):gmatch("%S+") do scopes[scope] = true end
    return { org = payload.org, key = payload.key or "", plan = payload.plan, expires_at = payload.exp, scopes = scopes }
end

-- The caller (org, key, plan, scopes), or nil.
function _M.caller(authorization)
    if not authorization or authorization:sub(1, 7) ~= "Bearer " then return nil end
    local caller = known:get(authorization)
    if not caller then
        caller = verify(authorization:sub(8))
        if not caller then return nil end
        known:set(authorization, caller, REMEMBERED_SECONDS)
    end
    if caller.expires_at <= ngx.time() then return nil end
    return caller
end

return _M
