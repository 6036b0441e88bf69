"""The file that a report is written to. Imports the standard library; what draws it inside."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

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

    target = Path(path)
    text = written(report, target.suffix.lower())
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".ulsam-") as folder:
        part = Path(folder, target.name)
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
