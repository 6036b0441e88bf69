"""Keeps the converter's native log lines off the user's terminal.

Imports the standard library only. TensorFlow's C++ code writes to file descriptor 2 past Python,
and its one switch is an environment variable that counts only before the import.
"""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# absl's log lines ("I0000 00:00:1795362269.803458    9584 loader.cc:236] ..."), and those that
# TensorFlow writes without the prefix.
_LOG_LINE = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:\d[\d.]*\s+\d+ \S+:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|To enable the following instructions: "
    rb"|fully_quantize: \d, inference_type: "
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate "
)
# One redirection at a time: two that overlap would put back each other's descriptor.
_LOCK = threading.Lock()


@contextmanager
def without_native_logs() -> Iterator[None]:
    """Holds standard error back, and passes on what is not TensorFlow's own log.

    The descriptor is put back however the block ends. If it ends with an exception, nothing held
    back is shown: the converter writes the same text there that its exception carries.
    """
    with _LOCK, tempfile.TemporaryFile() as held:
        _flush()
        try:
            terminal = os.dup(2)
        except OSError:  # No standard error, as in a windowed program: nothing to keep clean.
            yield
            return
        try:
            os.dup2(held.fileno(), 2)
            yield
            _flush()
            held.seek(0)
            for line in held:
                if not _LOG_LINE.match(line):
                    os.write(terminal, line)
        finally:
            _flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
