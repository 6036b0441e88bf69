"""Which lines of given files run. Imports the standard library only."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


def executable(file: Path, without: Iterable[str] = ()) -> set[int]:
    """The lines of a file's functions: what runs at import is not counted.

    Args:
        file: The file.
        without: Functions, methods and classes that are not counted either, by their names.
    """
    lines: set[int] = set()
    pending = [compile(file.read_text(), str(file), "exec")]
    while pending:
        code = pending.pop()
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        pending += inner
        skipped = any(f"{code.co_qualname}.".startswith(f"{name}.") for name in without)
        if code.co_name != "<module>" and not skipped and not _is_class(code):
            own = {line for *_, line in code.co_lines() if line}
            lines |= own - {code.co_firstlineno}
    return lines


def _is_class(code: CodeType) -> bool:
    return "__module__" in code.co_names and "__qualname__" in code.co_names


@contextmanager
def recorded(files: Iterable[str]) -> Iterator[dict[str, set[int]]]:
    """Records the lines of these files that run meanwhile, by the file's path."""
    found: dict[str, set[int]] = {file: set() for file in files}

    left: dict[CodeType, set[int]] = {}  # to be seen: a function that ran whole is let run

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        lines = found.get(code.co_filename)
        if lines is None:
            return None
        if code not in left:
            left[code] = {line for *_, line in code.co_lines() if line}
        missing = left[code]

        def on_line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            missing.discard(frame.f_lineno)
            return on_line

        return on_line if missing - {code.co_firstlineno} else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield found
    finally:
        sys.settrace(before)
