"""Runs a program at a terminal of its own and types a secret where it asks for one.

    terminal.py SECRET PROGRAM ARGS...

Prints what the terminal showed. Ends with the program's exit code; with 99 when the terminal would
have shown what is typed.
"""

import os
import pty
import sys
import termios
import time

LIMIT = 60


def shows(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def main():
    secret, program = sys.argv[1], sys.argv[2:]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(program[0], program)
    seen = b""
    while not seen.rstrip().endswith(b":"):
        seen += os.read(terminal, 4096)
    # The prompt may be there a moment before the terminal is told to be discreet.
    deadline = time.monotonic() + LIMIT
    while shows(terminal):
        if time.monotonic() > deadline:
            print("the terminal shows what is typed", file=sys.stderr)
            os.kill(child, 9)
            sys.exit(99)
        time.sleep(0.01)
    os.write(terminal, secret.encode() + b"\n")
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # How Linux says that nobody has the terminal open any more.
            break
        if not more:
            break
        seen += more
    print(seen.decode(errors="replace"))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


main()
