"""`ulsam-keras lint`."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from converters.cli.guard import CHECK_FAILED, CONTEXT
from converters.cli.paths import ModelFile
from converters.cli.printing import stdout_line
from converters.cli.words import in_options

if TYPE_CHECKING:
    from converters.tflite.static_check import Finding


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras lint model.tflite")
@click.argument("file", type=ModelFile())
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning"]),
    default="error",
    show_default=True,
    help="What exit status 1 is for: error, findings that keep the file from running as a static "
    "model; warning, also what some runtimes refuse or compute wrongly.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every place by itself.")
def lint(file: str, fail_on: str, as_json: bool) -> int:
    """Check a .tflite FILE for what phones refuse or compute wrongly, without running it.

    Exit status 0: nothing found that --fail-on speaks of; 1: something is; 2: bad input. The reason
    codes are listed in docs/lint.md. That a file passes does not mean that a GPU runs it: run it
    with verify.
    """
    from dataclasses import asdict

    from converters.tflite import lint as check

    findings = check(file)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for line in _lines(findings):
            stdout_line(line)
    failing = {"error", fail_on}
    return CHECK_FAILED if any(finding.severity in failing for finding in findings) else 0


def _lines(findings: Sequence["Finding"]) -> Iterator[str]:
    from converters.tflite.static_check import grouped

    for first, count, places in grouped(findings):
        times = f", {count} times:" if count > 1 else " at"
        yield f"{first.code} ({first.severity}){times} {places}"
        yield in_options(f"  {first.symptom} {first.meaning} {first.advice}")
    errors = sum(finding.severity == "error" for finding in findings)
    told = [
        f"{count} {what}{'s' if count > 1 else ''}"
        for count, what in ((errors, "error"), (len(findings) - errors, "warning"))
        if count
    ]
    yield ", ".join(told) or "nothing found"
