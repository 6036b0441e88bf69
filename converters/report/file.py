"""The file that `--report` names. Imports `whole_file`; what writes it inside functions."""

from pathlib import Path
from typing import TYPE_CHECKING

from converters.whole_file import check_path, write_whole

if TYPE_CHECKING:
    from converters.report.document import Report
    from converters.report.page import Compared

SUFFIXES = (".html", ".json", ".md")


def check_report_path(path: str) -> None:
    """Refuses a file that no report can be written to, as `check_path`."""
    check_path(path, "report", SUFFIXES)


def write_report(report: "Report | Compared", path: str) -> None:
    """Writes a report as the suffix of its file says; an older one is replaced when it is whole."""
    from converters.report.page import written

    write_whole(path, written(report, Path(path).suffix.lower()).encode())
