"""No orphans: under the supervisor every process asks the kernel to end it when its parent ends, however that ends."""

import ctypes
import os
import signal
import sys

#: Set by the supervisor for everything it starts: its own process id.
SUPERVISOR = "FALSIFY_SUPERVISOR"
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, with_signal: signal.Signals) -> None:
    """Ask Linux to send ``with_signal`` to this process when its parent, process ``parent``, ends.

    Elsewhere than on Linux nothing happens. What counts is the parent's thread that started this process: start
    children from the main thread.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), with_signal)


def die_with_parent() -> None:
    """For a server's own children: end with the server. Does nothing outside the supervisor."""
    supervisor = os.environ.get(SUPERVISOR)
    if not supervisor:
        return
    end_with_parent(os.getppid(), signal.SIGKILL)
    try:
        os.kill(int(supervisor), 0)
    except ProcessLookupError:  # the server may have ended before it was asked about
        os._exit(1)
