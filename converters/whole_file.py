"""Files that the user names, written whole or not at all. Imports the standard library only."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


def check_path(path: str, what: str, suffixes: Sequence[str]) -> None:
    """Refuses a file that cannot be written, before there is anything to write.

    Args:
        path: The file.
        what: What is written to it.
        suffixes: Those that it may have, in lower case.

    Raises:
        OSError: If it is a folder, or in none that is there.
        ValueError: If its suffix is none of `suffixes`.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"The {what}'s file must end in {', '.join(suffixes)}. Received: {path!r}")
    if target.is_dir() or not target.absolute().parent.is_dir():
        found = "a folder" if target.is_dir() else "which is in no folder that is there"
        raise FileNotFoundError(f"The {what} is written to a file. Received: {path!r}, {found}")


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
