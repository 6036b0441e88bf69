"""Folders for what is temporary, and the line that says that there is no room for it.

Imports the standard library only.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that is removed at the end of the block.

    Raises:
        OSError: If it cannot be made, or written to in the block; one line that names the folder
            that all temporary ones are in.
    """
    name = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
            yield Path(name)
    except OSError as error:
        if reason := _reason(name, error):
            raise unwritable(reason) from error
        raise


def _reason(folder: str, error: OSError) -> str:
    """Why a folder could not be written to; empty for an error of something else."""
    full = os.strerror(errno.ENOSPC)
    if error.errno is None:  # only the words of a library below; a sentence of ours has a cause
        return full if full in str(error) and error.__cause__ is None else ""
    # What a write raises names no file.
    no_room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    ours = isinstance(error.filename, str) and error.filename.startswith(folder)
    return os.strerror(error.errno) if ours or (error.filename is None and no_room) else ""


def unwritable(reason: str) -> OSError:
    """The error that temporary files cannot be written."""
    return OSError(
        f"Temporary files cannot be written ({reason}); make room, or name another folder with "
        f"the environment variable TMPDIR. Received: {tempfile.gettempdir()!r}"
    )
