"""What a child process hangs on: it ends with this one, however this one ends.

Imports the standard library only.
"""

import contextlib
import os
import signal
import sys


class Lifeline:
    """A pipe to which nothing is ever written, whose end the system takes for an order.

    On Linux it kills the whole process group of `hold` when this process is gone, be it by SIGKILL;
    elsewhere nothing happens. The child keeps `end` open, and no code of it takes part: it may hang
    in native code.
    """

    def __init__(self) -> None:
        self.end, self._ours = os.pipe()

    def hold(self, group: int) -> None:
        """Lets a process group hang on it, whose leader has been given `end`; closes that here."""
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # a system that only looks like Linux
                fcntl.fcntl(self.end, fcntl.F_SETOWN, -group)
                fcntl.fcntl(self.end, fcntl.F_SETSIG, signal.SIGKILL)
                flags = fcntl.fcntl(self.end, fcntl.F_GETFL)
                fcntl.fcntl(self.end, fcntl.F_SETFL, flags | os.O_ASYNC)
        os.close(self.end)

    def close(self) -> None:
        """Ends what still hangs on it."""
        os.close(self._ours)
