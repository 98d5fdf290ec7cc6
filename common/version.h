// The one place where the version is written.
#pragma once

#define HEADGATE_VERSION "0.1.0"
