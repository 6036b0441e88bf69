"""The file that a report is written to. Imports `whole_file`; what draws it inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from converters.whole_file import write_whole

if TYPE_CHECKING:
    from converters.report.document import Report
    from converters.report.page import Compared

SUFFIXES = (".html", ".json", ".md")


def check_report_path(path: str) -> None:
    """Refuses a file that no report can be written to, before anything is measured.

    Raises:
        OSError: If it is a folder, or in none that is there.
        ValueError: If its suffix is none of `SUFFIXES`.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"The report's file must end in {', '.join(SUFFIXES)}. Received: {path!r}")
    if target.is_dir() or not target.absolute().parent.is_dir():
        what = "a folder" if target.is_dir() else "which is in no folder that is there"
        raise FileNotFoundError(f"The report is written to a file. Received: {path!r}, {what}")


def write_report(report: "Report | Compared", path: str) -> None:
    """Writes a report as the suffix of its file says; an older one is replaced when it is whole."""
    from converters.report.page import written

    write_whole(path, written(report, Path(path).suffix.lower()).encode())
