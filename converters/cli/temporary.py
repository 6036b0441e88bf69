"""One folder for all that is temporary, which goes with the process. Standard library only."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def temporary_folder() -> Iterator[None]:
    """Has this process and its children make temporary files in a folder that is removed at last.

    However the process ends: a shell waits beside it for the end of a pipe, which the system
    closes for one that is killed, too. After the block no other folder takes its place, so that a
    thread that is left behind cannot make any more.

    Raises:
        OSError: If there is nowhere to make it.
    """
    folder = tempfile.mkdtemp(prefix="ulsam-")
    watcher = _watch(folder)
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if watcher is not None:
            watcher.communicate()


# What still writes may keep the first try from its end.
_REMOVE = 'read -r _; for _ in 1 2 3 4 5; do rm -rf -- "$1" && break; sleep 0.1; done'


def _watch(folder: str) -> "subprocess.Popen[bytes] | None":
    if os.name != "posix":
        return None
    with suppress(OSError):  # no shell here
        return subprocess.Popen(
            ["/bin/sh", "-c", _REMOVE, "sh", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it.
        )
    return None
