"""`python -m opskit.system.end_process PID BEGAN`: end one process and wait until it is gone.

What a repair runs in place of `kill PID`: between its plan and its command the process may have ended and
its id may have been given to another, which must not be hit. BEGAN is when it began, in seconds since the
epoch. Exits 0 when it is gone, 1 when it is still there or may not be ended, 2 for wrong arguments.
"""

import sys

from opskit.system.process import end

#: How long a server may take to end by itself.
PATIENCE_S = 10.0


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    try:
        pid, began = arguments
        gone = end(int(pid), float(began), patience_s=PATIENCE_S)
    except PermissionError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    except ValueError:
        sys.stderr.write("usage: python -m opskit.system.end_process PID BEGAN\n")
        return 2
    if not gone:
        sys.stderr.write(f"process {arguments[0]} is still there\n")
    return 0 if gone else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
