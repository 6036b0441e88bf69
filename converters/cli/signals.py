"""Signals that end a run, such that what is half-written is cleared away. Standard library only."""

import atexit
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Seconds after which a signal is taken for lost in code that swallows exceptions.
_AGAIN = 0.25
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class Ended(BaseException):
    """A signal that ends the run; no `Exception`, so that nothing takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_end_the_run() -> Iterator[list[int]]:
    """Raises `Ended` for SIGINT, SIGTERM and SIGHUP; gives the list of those that came.

    A signal that the caller had ignored stays so: SIGHUP under nohup, for example. One that comes
    while an earlier one is being obeyed is passed over, so that impatience leaves nothing behind.
    And one is raised again until it is obeyed: an exception that comes up in a destructor, or in
    a callback of native code, goes no further.
    """
    came: list[int] = []
    over = False
    ending, timer = _numbers(*_ENDING), _numbers("SIGALRM")

    def end(number: int, _: FrameType | None) -> None:
        if number in timer:
            number = came[0]
        elif not came and timer:
            signal.signal(signal.SIGALRM, end)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        came.append(number)
        if not over and not _obeyed():
            raise Ended(number)

    hook = sys.unraisablehook

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        if not isinstance(found.exc_value, Ended):
            hook(found)

    before = {number: signal.getsignal(number) for number in ending + timer}
    for number in ending:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, end)
    sys.unraisablehook = unraisable
    try:
        yield came
    finally:
        over = True
        if came and timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        # Of a process that ends after this nothing is left to be interrupted.
        atexit.unregister(_ignore)
        atexit.register(_ignore)


def _numbers(*names: str) -> list[int]:
    """Those that the system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _obeyed() -> bool:
    """Whether the code that is interrupted clears away after an `Ended`."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Ended):
        error = error.__context__
    return error is not None


def _ignore() -> None:
    for number in _numbers(*_ENDING):
        signal.signal(number, signal.SIG_IGN)
