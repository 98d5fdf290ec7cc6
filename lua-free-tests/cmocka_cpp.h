// cmocka for C++. Include it last: its macros have names of other headers' functions. What it needs
// before itself, and C linkage, which its own header does not give.
//
// A failed assertion leaves the test by longjmp, so that no destructor runs: what leaks then is the
// report of a failure, nothing else.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
#undef fail  // headgate::fail
