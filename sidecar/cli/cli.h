// The command line. Exit codes: 0 done, 1 failed, 2 used wrongly. Results go to standard output,
// everything else to standard error.
#pragma once

namespace headgate {

int run_command_line(int argc, char** argv);

}  // namespace headgate
