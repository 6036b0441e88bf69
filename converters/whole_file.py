"""Files that are written whole or not at all. Imports the standard library only."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a block another path to write to, whose file then takes the place of an older one.

    What is not a regular file, `/dev/stdout` for example, is written to as it is. Of a link the
    file that it points to is replaced.

    Raises:
        OSError: If it cannot be written; an older file is as it was then.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    try:
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix=".ulsam-", ignore_cleanup_errors=True
        ) as folder:
            part = Path(folder, target.name)
            yield part
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
    except OSError as error:
        if error.errno is None:
            raise
        # The name that the caller gave, not ours.
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def write_whole(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: As `whole_file`.
    """
    with whole_file(path) as part:
        part.write_bytes(content)
