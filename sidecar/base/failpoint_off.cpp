// The failpoints of a released sidecar: nothing. In a library, so that an executable with failpoint_on.cpp has its own.
#include "sidecar/base/failpoint.h"

namespace headgate {

void failpoint(const char*) noexcept {}

}  // namespace headgate
