"""`python -m opskit.system.end_process PID BEGAN`: end one process and wait until it is gone.

What a repair runs in place of `kill PID`: between its plan and its command the process may have ended and
its id may have been given to another, which must not be hit. BEGAN is when it began, in seconds since the
epoch. Exits 0 when it is gone, 1 when it is still there or may not be ended, 2 for wrong arguments.
"""

import os
import site
import sys
from pathlib import Path

from opskit.system.process import end

#: How long a server may take to end by itself.
PATIENCE_S = 10.0


def command(pid: int, began: float) -> tuple[str, ...]:
    """Return the command line that ends a process.

    It is isolated, or a package `opskit` in the folder that a person stands in would be run in its place;
    but an isolated interpreter does not see what is installed for one user alone, or found by PYTHONPATH.
    """
    is_shared = not Path(__file__).is_relative_to(site.getusersitepackages())
    switch = "-I" if is_shared and "PYTHONPATH" not in os.environ else "-P"
    return (sys.executable, switch, "-m", "opskit.system.end_process", str(pid), f"{began:.2f}")


def main(arguments: list[str]) -> int:
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
