// The texts of `headgate init`; see init_files.h. Next file: init.cpp.
#include "sidecar/cli/init_files.h"

#include "common/problem.h"

namespace headgate {
namespace {

// JSON's strings are TOML's basic strings.
std::string toml_string(std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
}

std::string redis_directive(const InitPlan& plan) {
    const RedisAddress& address = plan.redis;
    std::string text = address.unix_path.empty() ? std::string() : "unix:" + address.unix_path;
    for (const redis::HostPort& server : address.servers()) text += (text.empty() ? "" : " ") + redis::text_of(server);
    if (address.wants_tls) text += " tls=on";
    if (address.database != 0) text += " db=" + std::to_string(address.database);
    if (!address.username.empty()) text += " username=" + address.username;
    if (plan.has_redis_password) text += " password_file=" + plan.directory + "/redis.password";
    return text;
}

std::string upstream(const InitPlan& plan) {
    if (plan.listen.starts_with("unix:")) return "http://" + plan.listen + ":";
    std::string listen = plan.listen;
    for (std::string_view any : {"0.0.0.0:", "*:", "[::]:"})
        if (listen.starts_with(any)) listen = "127.0.0.1:" + listen.substr(any.size());
    return "http://" + listen;
}

}  // namespace

std::string toml_text(const InitPlan& plan) {
    std::string text = R"(# Headgate. `headgate check-config --config THIS` explains what is wrong with it.
# Relative paths are relative to this file. Each key can also be given in the environment, as
# HEADGATE_<SECTION>_<KEY>: HEADGATE_REDIS_URL, HEADGATE_LOG_LEVEL.

[redis]
url = )" + toml_string(plan.redis_url) +
                       R"(
# The edge's headgate_shards must be the same. Changing it needs empty streams.
shards = 8
)";
    if (!plan.redis.username.empty()) text += "username = " + toml_string(plan.redis.username) + "\n";
    if (plan.has_redis_password) text += "password_file = \"redis.password\"\n";
    text += R"(# users.acl, beside this file, holds two Redis users with no more rights than the edge and the
# sidecar need. To put it in force: copy it to where redis-server can read it, set `aclfile` in
# redis.conf, then give each side its name and its password (username = "sidecar" and password_file here;
# `username=edge password_file=…` on headgate_redis in nginx.conf).

[store]
url = )" + toml_string(plan.store_url) +
            R"(

[http]
# Reached through nginx, never by clients directly.
listen = )" +
            toml_string(plan.listen) +
            R"(
# Whose X-Forwarded-For is believed: nginx's own addresses.
trusted_proxies = ["127.0.0.1", "::1"]

[tokens]
key_file = "token.key"
lifetime = "24h"

[delivery]
max_in_flight = 256

[security]
pepper_file = "pepper"
master_key_file = "master.key"
# Networks that are not public and that webhooks may reach all the same, for example ["10.1.0.0/16"].
allow_networks = []

[retention]
events = "90d"
attempts = "30d"
quarantine = "90d"
audit = "365d"

[log]
level = "info"
)";
    return text;
}

std::string plans_text() {
    return R"(# Rate plans by name, for nginx (included by nginx.conf). An API key names its plan.
headgate_plan free       rate=60r/m   rate=1000r/h;
headgate_plan pro        rate=300r/m  rate=10000r/h;
headgate_plan enterprise rate=1000r/m rate=50000r/h;
)";
}

std::string nginx_text(const InitPlan& plan) {
    const std::string& dir = plan.directory;
    std::string proxy = "            proxy_pass       " + upstream(plan) + ";\n";
    std::string text = "# nginx in front of Headgate, to start from: nginx -c " + dir + R"(/nginx.conf
load_module modules/ngx_http_headgate_module.so;

pid        )" + dir + R"(/nginx.pid;
error_log  )" + dir + R"(/nginx-error.log;

events {
    worker_connections 1024;
}

http {
    access_log )" + dir +
                       R"(/nginx-access.log;
)";
    if (!plan.is_root) {
        // An ordinary user may not write to the directories that the package was built with.
        for (const char* name : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
            text += std::string("    ") + name + "_temp_path " + dir + "/nginx-" + name + ";\n";
    }
    text += R"(
    headgate_zone                 edge:16m;
    headgate_redis                )" +
            redis_directive(plan) + R"(;
    headgate_api_key_pepper_file  )" +
            dir + R"(/pepper;
    headgate_jwt_key_file         )" +
            dir + R"(/token.key alg=HS256;
    include                       )" +
            dir + R"(/plans.conf;

    # The sidecar believes this header from nginx alone; what a client sent under its name is dropped.
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header Host            $host;

    server {
        listen 8080;

        location = /events {
            headgate_auth           jwt api_key;
            headgate_require_scope  events:write;
            headgate_limit          plan;
            headgate_publish        event;
        }

        # Up to 1,000 of them in one request, as a JSON array or a line each.
        location = /events/batch {
            headgate_auth           jwt api_key;
            headgate_require_scope  events:write;
            headgate_limit          plan;
            headgate_publish        batch;
        }
        location = /token {
            headgate_limit   rate=30r/m key=$binary_remote_addr;
)" + proxy + R"(        }
        location ~ ^/(health|live|docs|openapi\.json|\.well-known/(jwks\.json|webhooks/)) {
)" + proxy + R"(        }
        location / {
            headgate_auth    jwt api_key;
            headgate_limit   plan;
)" + proxy + R"(        }
    }
}
)";
    return text;
}

// Redis takes no comments in this file: headgate.toml says how to use it. The edge adds events, and reads no stream but
// headgate:control; keys and revocations it only reads. The sidecar may do to our keys what it does, and nothing to the
// server.
std::string acl_text(const InitPlan& plan) {
    return "user default off\n"
           "user edge on >" +
           plan.edge_password +
           " -@all ~headgate:{*}:* ~headgate:limit:* ~headgate:usage:* ~headgate:status:* ~headgate:meta "
           "%R~headgate:key:* %R~headgate:revoked +auth +hello +ping +select +asking +info +role +config|get "
           "+cluster|slots +time +wait +multi +exec +discard +eval +evalsha +script|load +xadd +xlen +get +set +del "
           "+hget "
           "+hmget +hgetall +hset +hsetnx +hincrby +expire +pexpire +pexpireat +pttl +zscore +zmscore +zscan +zrange "
           "+zrangebyscore (%R~headgate:control +xread +xrange +xrevrange)\n"
           "user sidecar on >" +
           plan.sidecar_password +
           " -@all ~headgate:* +auth +hello +ping +select +asking +info +role +config|get +cluster|slots +time +multi "
           "+exec +discard +xadd +xlen +xread +xrange +xrevrange +xreadgroup +xack +xdel +xgroup +xinfo +xpending +get "
           "+set +del +hget +hmget +hgetall +hset +hsetnx +hdel +hincrby +expire +pexpire +zadd +zrem +zscore +zrange "
           "+zrangebyscore +zremrangebyscore\n";
}

}  // namespace headgate
