// The texts of the files that `headgate init` writes. Pure.
#pragma once

#include <string>

#include "sidecar/io/redis_client.h"

namespace headgate {

struct InitPlan {
    std::string directory;  // absolute
    std::string redis_url;  // without user and password
    RedisAddress redis;
    std::string store_url;
    std::string listen;
    bool has_redis_password = false;              // then it is in DIR/redis.password
    bool is_root = false;                         // nginx may use its own directories
    std::string edge_password, sidecar_password;  // of the ACL file
};

[[nodiscard]] std::string toml_text(const InitPlan& plan);
[[nodiscard]] std::string plans_text();
[[nodiscard]] std::string nginx_text(const InitPlan& plan);
[[nodiscard]] std::string acl_text(const InitPlan& plan);

}  // namespace headgate
