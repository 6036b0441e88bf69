"""The options of a verification, which `convert` ends with and `verify` is. Imports click."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from converters.cli.guard import quiet_tensorflow
from converters.cli.paths import AnyPath
from converters.cli.shared import import_option
from converters.cli.types import LIMITS, Limit
from converters.verify.limits import SIGNIFICANCE, TIMEOUT

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--classifier/--no-classifier",
        default=None,
        help="Whether the outputs are classes, of which top-1 is compared. Default: where there "
        "are labels, or the outputs are shares, as after a softmax.",
    ),
    click.option(
        "--gpu/--no-gpu",
        default=True,
        show_default=True,
        help="Run .tflite files on the GPU too, where there is a Vulkan driver.",
    ),
    click.option("--require-gpu", is_flag=True, help="Make it an error that no GPU can run them."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long one run of a file may last.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="CPU threads of every run.",
    ),
    click.option(
        "--tolerance",
        "limits",
        type=Limit(),
        multiple=True,
        metavar="NAME=VALUE",
        help="What passes; repeatable. Largest difference, relative to the largest absolute value "
        "of the reference; of the names with snr, least signal-to-noise ratio in dB; of those with "
        "top1, least share of equal top-1 classes, which fails where a binomial test rejects "
        f"it at {SIGNIFICANCE:.0%}. Defaults: {', '.join(map('='.join, LIMITS.items()))}.",
    ),
    click.option(
        "--report",
        "report_path",
        type=AnyPath(),
        metavar="FILE",
        help="Write the report to this file too: .html, one page with pictures; .md, short, for a "
        "pull request; or .json.",
    ),
    import_option,
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, not tables."),
)


def verification_options(command: F) -> Callable[..., Any]:
    """Gives a command the options of a verification, some of them as a `judge` and a `runner`."""

    @wraps(command)
    def run(
        *,
        limits: tuple[tuple[str, float], ...],
        classifier: bool | None,
        timeout: float,
        threads: int,
        report_path: str | None,
        **others: Any,
    ) -> Any:
        quiet_tensorflow()
        if report_path is not None:
            from converters.report.file import check_report_path

            check_report_path(report_path)
        from converters.verify.compare import Judge
        from converters.verify.limits import Limits
        from converters.verify.targets import Runner

        judge = Judge(Limits(**dict(limits)), classifier)
        runner = Runner(timeout, threads)
        return command(judge=judge, runner=runner, report_path=report_path, **others)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
