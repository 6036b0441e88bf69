"""The report as tables for a terminal. Imports rich."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from converters.report.comparison import Comparison
from converters.report.document import Report

_LABEL = {"pytorch": "PyTorch", "keras": "Keras"}


def print_report(report: Report, console: Console) -> None:
    """Prints what was converted, the files, the accuracies and the comparisons."""
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in report.input_shapes.items())
    console.print(f"[bold]{report.checkpoint}[/]: {report.architecture}", highlight=False)
    keys = len(report.ledger["sources"])
    console.print(
        f"{report.parameters:,} weights from {keys} keys; input {shapes}", highlight=False
    )
    for line in report.warnings:
        console.print(f"[yellow]warning:[/] {line}", highlight=False)
    files = Table(title="Files", title_justify="left", box=SIMPLE_HEAD)
    files.add_column("file", overflow="fold")
    files.add_column("KiB", justify="right")
    files.add_column("operators", justify="right")
    for file in report.files:
        files.add_row(file.name, f"{file.size / 1024:,.1f}", str(file.operators))
    console.print(files)
    print_comparisons(report.comparisons, console, report.real_inputs, report.recorded_correct)


def print_comparisons(
    comparisons: Sequence[Comparison],
    console: Console,
    real_inputs: bool,
    recorded_correct: int | None = None,
) -> None:
    """Prints the accuracies, if known, one row per comparison, and last whether all hold."""
    _print_accuracy(comparisons, console, recorded_correct)
    classified = any(c.agreement is not None for c in comparisons)
    table = Table(
        title=f"Differences on {'recorded' if real_inputs else 'random'} inputs, relative to the "
        "largest value",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("model", "against"):
        table.add_column(column, overflow="fold")
    table.add_column("run by", no_wrap=True)
    for column in ("n", "largest", "limit", *(["top-1"] if classified else []), "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for c in comparisons:
        table.add_row(
            _LABEL.get(c.subject, c.subject),
            _LABEL.get(c.reference, c.reference),
            c.kernels.removesuffix(" kernels"),
            str(c.samples),
            "–" if c.difference is None else f"{c.difference:.1e}",
            f"{c.limit:.0e}",
            *([f"{c.agreement:.1%}" if c.agreement is not None else ""] if classified else []),
            "" if c.milliseconds is None else f"{c.milliseconds:.2f}",
            "[green]holds[/]" if c.holds else "[bold red]FAILS[/]",
        )
    console.print(table)
    for c in comparisons:
        if c.problem:
            console.print(f"[red]{c.subject}, {c.kernels}:[/] {c.problem}", highlight=False)
    failed = sum(not c.holds for c in comparisons)
    if failed:
        console.print(f"[bold red]{failed} of {len(comparisons)} comparisons fail.[/]")
    else:
        console.print(f"[green]All {len(comparisons)} comparisons hold.[/]")


def _print_accuracy(
    comparisons: Sequence[Comparison], console: Console, recorded_correct: int | None
) -> None:
    """One row per model that classified every labelled sample."""
    samples = max((c.samples for c in comparisons), default=0)
    rows = {}
    if recorded_correct is not None:
        rows["PyTorch (recorded)"] = recorded_correct
    for c in comparisons:
        if c.correct is not None and c.samples == samples:
            rows.setdefault(_LABEL.get(c.subject, c.subject), c.correct)
    if not rows:
        return
    table = Table(title="Held-out accuracy", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("model")
    table.add_column("correct", justify="right")
    table.add_column("accuracy", justify="right")
    for name, correct in rows.items():
        table.add_row(name, f"{correct} of {samples}", f"{correct / samples:.2%}")
    console.print(table)
