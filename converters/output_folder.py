"""A folder that receives all of a command's files or none. Imports the standard library only."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType


class OutputFolder:
    """Collects files beside their destination and moves them in at the end.

    As a context manager: files written to `path(name)` lie in a hidden folder inside the
    destination until `commit()`; without a commit everything is removed, the destination too if
    it was made here, and what was there before is as it was.

    Args:
        destination: The folder; made, with its parents, if it is not there.

    Raises:
        OSError: On entering, if the destination is a file or cannot be made or written to.
        ValueError: On entering, if it has no name.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        self._given = os.fspath(destination)
        self.destination = Path(destination)
        self._made: list[Path] = []
        self._staging: Path | None = None

    def __enter__(self) -> "OutputFolder":
        if not self._given:
            raise ValueError("The output folder must have a name. Received: ''")
        if self.destination.exists() and not self.destination.is_dir():
            raise NotADirectoryError(
                f"The output folder must be a folder; choose another one. "
                f"Received: {str(self.destination)!r}, which is a file"
            )
        missing = [p for p in (self.destination, *self.destination.parents) if not p.exists()]
        try:
            self._made = missing
            self.destination.mkdir(parents=True, exist_ok=True)
            staging = tempfile.mkdtemp(prefix=".ulsam-", dir=self.destination)
        except OSError as error:
            self._remove()
            raise type(error)(
                f"The output folder cannot be written to ({error.strerror}); choose another one. "
                f"Received: {str(self.destination)!r}"
            ) from error
        self._staging = Path(staging)
        return self

    def path(self, name: str) -> Path:
        """Where to write the file that will be called `name`."""
        if self._staging is None:
            raise RuntimeError("An OutputFolder is used inside its `with` block only.")
        return self._staging / name

    def commit(self) -> list[Path]:
        """Moves every file into the destination, replacing those of the same name."""
        assert self._staging is not None
        names = sorted(p.name for p in self._staging.iterdir())
        blocked = [n for n in names if (self.destination / n).is_dir()]
        if blocked:
            raise IsADirectoryError(
                f"A folder stands where a file is to be written; remove it or choose another "
                f"output folder. Received: {str(self.destination / blocked[0])!r}"
            )
        for name in names:
            os.replace(self._staging / name, self.destination / name)
        self._made = []
        return [self.destination / name for name in names]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        # Only what is empty: others may have put files there in the meantime.
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()
