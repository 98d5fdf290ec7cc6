// Reading hiredis replies, as the edge's files call it: see common/redis_reply.h.
#pragma once

#include "common/redis_reply.h"

namespace headgate::edge {

using redis::element_text;
using redis::info_field;
using redis::text_of;

}  // namespace headgate::edge
