// Named places at which a test can cut the sidecar down, as a crash of the machine would. The places are in every
// build; what happens there is decided by the linker: failpoint_off.cpp (an empty function, in `headgate`) or
// failpoint_on.cpp (in `headgate-failpoints` and in the unit tests that ask for it), so that the tests run the very
// objects that are released. Off, a place costs a call that returns: about a nanosecond, and none of them is passed
// more often than once for each attempt.
#pragma once

namespace headgate {

// Does nothing unless failpoint_on.cpp is linked and HEADGATE_FAILPOINT names this place; that file says how. Any
// thread.
void failpoint(const char* name) noexcept;

}  // namespace headgate
