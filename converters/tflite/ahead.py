"""Work that is done ahead of its being asked for. Imports the standard library only."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def done_ahead(work: Callable[[str], Result], names: Sequence[str]) -> dict[str, Future[Result]]:
    """Does one piece of work after the other in a thread, up to the first that fails.

    An executor's threads are waited for when the process ends; this one is not, so that who gives
    up does so at once. The work must not warn: filters of warnings are those of all threads.

    Returns:
        The results to come, by name; what fails is raised for its own and for those after it.
    """
    pending: list[tuple[str, Future[Result]]] = [(name, Future()) for name in names]

    def run() -> None:
        try:
            for name, result in pending:
                result.set_result(work(name))
        except BaseException as error:
            for _, result in pending:
                if not result.done():
                    result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return dict(pending)
