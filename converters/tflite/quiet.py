"""Keeps the converter's native log lines off the user's terminal.

Imports `scratch`. TensorFlow's C++ code writes to file descriptor 2 past Python, and its one
switch is an environment variable that counts only before the import.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from converters.scratch import scratch_folder

# absl's log lines ("I0000 00:00:1795362269.803458    9584 loader.cc:236] ..."), TensorFlow's own
# before 2.20 ("2026-11-27 12:31:18.487788: E xla/cuda_fft.cc:467] ..."), and those that it writes
# without the prefix.
_LOG_LINE = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:\d[\d.]*\s+\d+ \S+:\d+\] "
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] \S+:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|To enable the following instructions: "
    rb"|fully_quantize: \d, inference_type: "
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate "
)
# One redirection at a time: two that overlap would put back each other's descriptor.
_LOCK = threading.Lock()


@contextlib.contextmanager
def without_native_logs() -> Iterator[None]:
    """Holds native standard error back, and passes on what is not TensorFlow's own log.

    What Python writes to `sys.stderr` meanwhile, a progress bar for example, is shown at once. The
    descriptor is put back however the block ends. If it ends with an exception, nothing held back
    is shown: the converter writes the same text there that its exception carries. If the process
    dies in it, all of it is shown.
    """
    with _LOCK, scratch_folder("ulsam-log-") as folder:
        _flush()
        try:
            os.fstat(2)
        except OSError:  # No standard error, as in a windowed program: nothing to keep clean.
            yield
            return
        path = str(folder / "native.log")
        with open(path, "w+b") as held, _shown_if_it_dies(path):
            # Both at once: in a thread that outlives its caller, they may be changed meanwhile.
            terminal, shown = os.dup(2), sys.stderr
            now = _Terminal(terminal, "w", closefd=False)
            # With the last who writes to it, which may be later, in another thread.
            weakref.finalize(now, os.close, terminal).atexit = False
            ours = shown
            if shown is not None:
                ours = io.TextIOWrapper(now, shown.encoding, shown.errors, write_through=True)
                sys.stderr = ours
            try:
                os.dup2(held.fileno(), 2)
                yield
                for line in _lines(path):
                    if not _LOG_LINE.match(line):
                        now.write(line)
            finally:
                _flush()
                # Both may be another's by now.
                if sys.stderr is ours:
                    sys.stderr = shown
                if os.path.sameopenfile(2, held.fileno()):
                    os.dup2(terminal, 2)


def _lines(path: str) -> Iterator[bytes]:
    # Opened again: `held` shares its position with descriptor 2.
    with open(path, "rb") as file:
        yield from file


class _Terminal(io.FileIO):
    """Writes as far as it can: nobody may be reading."""

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or 0 :]
        return len(data)


@contextlib.contextmanager
def _shown_if_it_dies(path: str) -> Iterator[None]:
    """Has a shell wait beside the process, and show and remove the log if that ends unexpectedly.

    An abort in native code gives Python no chance to. The end of a pipe tells the shell, which the
    system closes for a dead process; a line on it tells that all went well.
    """
    if os.name != "posix":
        yield
        return
    # It is given the log as its input, whose folder may be gone by then, and the pipe as its error.
    script = 'exec 3<&2 2> /dev/null; read -r _ <&3 || { cat; rm -rf "$1"; }'
    awaited, ours = os.pipe()
    try:
        with open(path, "rb") as log:
            watcher = subprocess.Popen(
                ["/bin/sh", "-c", script, "sh", os.path.dirname(path)],
                stdin=log,
                stdout=2,
                stderr=awaited,
                start_new_session=True,  # Ctrl-C is not meant for it.
            )
    except OSError:  # no shell here
        os.close(awaited)
        os.close(ours)
        yield
        return
    os.close(awaited)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # somebody has ended it
            os.write(ours, b"\n")
        os.close(ours)
        watcher.wait()


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
