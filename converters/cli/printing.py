"""Printing that can neither fail nor change the exit status, and the progress of a conversion.

Imports click only; rich where there is a terminal to draw a bar on.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from converters.plain import plain


class _Careful(io.RawIOBase):
    """A raw stream that writes as far as it can, and remembers why it could no further."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of the data, or takes it for written."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while self.error is None and rest:
            try:
                rest = rest[self._raw.write(rest) or 0 :]
            except OSError as error:
                self.error = error
        return size

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()


@contextmanager
def careful_streams() -> Iterator[None]:
    """Makes standard output and error such that printing never raises.

    A reader may leave, a disk be full, a stream be closed from the start; what an encoding does not
    have is replaced. That output was lost, other than by a reader who left, is said on stderr.
    """
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, raw = _careful(sys.stdout, "replace")
    err, _ = _careful(sys.stderr, "backslashreplace")
    sys.stdout, sys.stderr = out, err
    try:
        yield
        out.flush()
        lost = None if raw is None else raw.error
        if lost is not None and lost.errno not in (errno.EPIPE, errno.EINVAL):
            stderr_line(f"warning: what was printed is incomplete: {lost.strerror}")
    finally:
        for stream in (out, err):
            with suppress(ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _occupy_closed_descriptors() -> None:
    """Nothing that is opened later may get the number of a closed standard stream."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _careful(stream: Any, errors: str) -> tuple[Any, _Careful | None]:
    if stream is None:
        return io.TextIOWrapper(_Careful(open(os.devnull, "wb", 0)), "utf-8"), None
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if raw is None:  # another program's stream, which has no bytes below
        return stream, None
    careful = _Careful(raw)
    text = io.TextIOWrapper(
        io.BufferedWriter(careful), stream.encoding, errors, line_buffering=stream.isatty()
    )
    return text, careful


def stderr_line(text: str, fold: bool = True) -> None:
    """Prints a line on stderr at once, line breaks folded into spaces."""
    click.echo(plain(" ".join(text.split())) if fold else text, err=True)


def stdout_line(text: str) -> None:
    """Prints a line of what was found."""
    click.echo(plain(text))


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Tells of each stage on stderr: a bar on a terminal, a line each where it is none."""
    if not sys.stderr.isatty():
        yield (
            lambda name, number, count: (
                stderr_line(f"[{number + 1}/{count}] {name}") if number < count else None
            )
        )
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # A descriptor of its own: TensorFlow's logs are held back by turning stderr away for a while.
    console = Console(file=os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8"))
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=None)

        def update(name: str, number: int, count: int) -> None:
            bar.update(task, description=name, completed=number, total=count)

        yield update
