"""Whose socket it is, where a process inherits those of the one that started it."""

import os
import socket
import subprocess
import sys

from opskit.system.sockets import SocketTable, _oldest

#: Waits until its input ends.
WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


def test_a_socket_is_of_the_process_that_opened_it():
    """Not of one that was started with it, whichever has the lower id."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.set_inheritable(True)
        number = server.fileno()
        with subprocess.Popen(WAITS, stdin=subprocess.PIPE, pass_fds=(number,)) as child:
            assert _oldest(child.pid, number) == os.getpid()
            held = SocketTable.read(0.0).at("tcp", server.getsockname()[1])
            assert {each.pid for each in held} == {os.getpid()}
            assert child.stdin is not None
            child.stdin.close()


def test_who_has_a_socket_no_more_does_not_hold_it():
    """A process that runs its program by now has closed what it was started with."""
    with socket.socket() as server:
        number = server.fileno()
        with subprocess.Popen(WAITS, stdin=subprocess.PIPE) as child:
            assert _oldest(child.pid, number) is None
            assert child.stdin is not None
            child.stdin.close()
