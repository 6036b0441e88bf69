"""A folder that receives all of a conversion's files or none. Imports the standard library only.

What a conversion writes lies in a hidden folder inside the destination until all of it is there.
One rename then decides: from there on a run that is killed is finished by the next one. So a
destination may be a mount point, a link or the current folder, which could not be renamed itself.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

# What is being written; what is whole; the same, once the earlier conversion is gone; the lock.
_STAGING, _DECIDED, _CLEARED = ".ulsam-new-", ".ulsam-decided", ".ulsam-cleared"
_LOCK = ".ulsam-lock"
# What every conversion writes, beside the files that its report lists.
REPORT = "report.json"
_ALWAYS = (REPORT, "report.html", "model_card.md", "model.keras")
# The field of a report by which a conversion is known as one of ours.
TOOL = "ulsam-keras"
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class OutputFolder:
    """Collects files inside their destination and moves them into place at the end.

    As a context manager: files written to `path(name)` lie in a hidden folder inside the
    destination until `commit()`; without a commit everything is removed, the destination too if
    it was made here, and what was there before is as it was.

    An earlier conversion in the destination, known by its `report.json`, is replaced whole. Files
    beside one are not touched, nor are hidden files. A destination with files and no conversion in
    it is refused.

    Args:
        destination: The folder; made, with its parents, if it is not there.

    Raises:
        OSError: On entering, if the destination is a file or cannot be made or written to, or if
            another conversion is writing into it; on committing, if files cannot be moved.
        ValueError: On entering, if it has no name, or holds files that are of no conversion; on
            committing, if such a file has the name of one of ours.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        self._given = os.fspath(destination)
        self.destination = Path(destination)
        self._made: list[Path] = []
        self._staging: Path | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "OutputFolder":
        if not self._given:
            raise ValueError("The output folder must have a name. Received: ''")
        if self.destination.exists() and not self.destination.is_dir():
            raise NotADirectoryError(
                f"The output folder must be a folder; choose another one. "
                f"Received: {self._given!r}, which is a file"
            )
        try:
            with self._as_one_line():
                folders = (self.destination, *self.destination.parents)
                self._made = [folder for folder in folders if not folder.exists()]
                self.destination.mkdir(parents=True, exist_ok=True)
                self._held.enter_context(_locked(self.destination))
                self._finish_earlier()
                self._refuse_foreign()
                self._staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.destination))
        except BaseException:
            self._remove()
            raise
        return self

    def path(self, name: str) -> Path:
        """Where to write the file that will be called `name`."""
        if self._staging is None:
            raise RuntimeError("An OutputFolder is used inside its `with` block only.")
        return self._staging / name

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Gives `path(name)` to a block that writes it.

        Raises:
            OSError: If it cannot be written: the disk is full, the folder is gone.
        """
        with self._as_one_line():
            yield self.path(name)

    def commit(self) -> list[Path]:
        """Replaces an earlier conversion by the files written; gives their paths."""
        if self._staging is None:
            raise RuntimeError("An OutputFolder is used inside its `with` block only.")
        with self._as_one_line():
            names = sorted(os.listdir(self._staging))
            ours = _files_of(self.destination)
            blocked = [n for n in names if n not in ours and (self.destination / n).exists()]
            if blocked:
                path = self.destination / blocked[0]
                raise FileExistsError(
                    "A file that is of no conversion has the name of one to be written; move it or "
                    f"choose another output folder. Received: {str(path)!r}"
                )
            try:
                os.rename(self._staging, self.destination / _DECIDED)
                self._made = []
                self._staging = None
                _move_in(self.destination)
            except BaseException:
                # A signal, for example: what is decided is done, from wherever it was.
                _move_in(self.destination)
                raise
        return [self.destination / name for name in names]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _finish_earlier(self) -> None:
        """Finishes what a killed run had decided, and removes what one had not."""
        _move_in(self.destination)
        # Whoever wrote them is gone: the lock is ours.
        for folder in self.destination.glob(f"{_STAGING}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _refuse_foreign(self) -> None:
        ours = _files_of(self.destination)
        foreign = sorted(n for n in os.listdir(self.destination) if not n.startswith("."))
        if foreign and not ours:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise ValueError(
                "The output folder holds files that are not of an earlier conversion; choose "
                "another one, or a new folder inside it. "
                f"Received: {self._given!r} with {', '.join(map(repr, foreign[:3]))}{more}"
            )

    def _remove(self) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        self._held.close()
        # Only what is empty: others may have put files there in the meantime.
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    @contextlib.contextmanager
    def _as_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.strerror is None:  # a sentence of our own
                raise
            raise type(error)(
                f"The output folder cannot be written to ({error.strerror}); choose another one. "
                f"Received: {self._given!r}"
            ) from error


def _files_of(folder: Path) -> set[str]:
    """The names of the files of the conversion in a folder; none if there is no such report."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        if report["tool"] != TOOL:
            return set()
        listed = {file["name"] for file in report["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    # What a report names elsewhere is not ours to remove.
    return {name for name in listed if isinstance(name, str) and name == os.path.basename(name)} | {
        *_ALWAYS
    }


def _move_in(folder: Path) -> None:
    """Puts the decided files in place of the earlier ones, from wherever a killed run was."""
    decided, cleared = folder / _DECIDED, folder / _CLEARED
    if decided.is_dir():
        for name in _files_of(folder) - set(os.listdir(decided)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(folder / name)
        os.rename(decided, cleared)
    if cleared.is_dir():
        for name in os.listdir(cleared):
            os.replace(cleared / name, folder / name)
        os.rmdir(cleared)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a folder against other conversions, for as long as this process lives."""
    path = folder / _LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in _BUSY:
                os.close(descriptor)
                raise BlockingIOError(
                    "Another conversion is writing into the output folder; wait for its end or "
                    f"choose another folder. Received: {str(folder)!r}"
                ) from None
            # A file system without locks: two at once are the user's to avoid.
        # The one who had it may have removed it after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        os.close(descriptor)
    try:
        yield
    finally:
        # Windows removes no file that is open; a lock file without a lock does no harm.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Locks an open file; the system unlocks it when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
