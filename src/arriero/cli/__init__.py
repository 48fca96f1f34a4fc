"""The command line: one module a command, which parses, calls, prints and sets the exit code."""
