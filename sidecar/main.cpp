// headgate: parse, run, exit code. See cli/cli.cpp for the commands, app.cpp for `serve`.
#include "sidecar/cli/cli.h"

int main(int argc, char** argv) { return headgate::run_command_line(argc, argv); }
