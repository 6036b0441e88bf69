"""The report as tables for a terminal. Imports rich."""

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from converters.fidelity import AttentionFidelity
from converters.report.comparison import AttentionComparison, Comparison
from converters.report.document import Report

_LABEL = {"pytorch": "PyTorch", "keras": "Keras", "dynamic_range": "dyn_range"}


def print_report(report: Report, console: Console) -> None:
    """Prints what was converted, the files, the accuracies, the comparisons and the verdict."""
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in report.input_shapes.items())
    console.print(f"{report.checkpoint}: {report.architecture}", markup=False, highlight=False)
    weights = f"{report.parameters:,} weights from {len(report.ledger['sources'])} keys"
    console.print(f"{weights}; input {shapes}", highlight=False)
    for line in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(line)}", highlight=False)
    files = Table(title="Files", title_justify="left", box=SIMPLE_HEAD)
    files.add_column("file", overflow="fold")
    files.add_column("KiB", justify="right")
    files.add_column("operators", justify="right")
    for file in report.files:
        files.add_row(escape(file.name), f"{file.size / 1024:,.1f}", str(file.operators))
    console.print(files)
    _print_accuracy(report.comparisons, console, report.recorded_correct)
    print_comparisons(report.comparisons, console, report.real_inputs)
    if report.attention:
        _print_attention(report.attention, console)
    if report.fidelity:
        _print_fidelity(report, console)
    print_gpu(report.gpu, console)
    print_verdict([*report.comparisons, *report.attention, *report.fidelity], console)


def print_comparisons(
    comparisons: Sequence[Comparison],
    console: Console,
    real_inputs: bool,
) -> None:
    """Prints one row per comparison."""
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
            escape(_LABEL.get(c.subject, c.subject)),
            escape(_LABEL.get(c.reference, c.reference)),
            c.kernels,
            str(c.samples),
            "–" if c.difference is None else f"{c.difference:.1e}",
            f"{c.limit:.0e}",
            *([f"{c.agreement:.1%}" if c.agreement is not None else ""] if classified else []),
            "" if c.milliseconds is None else f"{c.milliseconds:.2f}",
            _verdict(c.holds),
        )
    console.print(table)


def print_gpu(adapter: str | None, console: Console) -> None:
    """Prints which GPU ran, or that none did."""
    text = adapter or "not run: no Vulkan driver (`ulsam-keras doctor` says how to get one)"
    console.print(f"GPU: {text}", markup=False, highlight=False)


def print_verdict(
    comparisons: Sequence[Comparison | AttentionComparison | AttentionFidelity], console: Console
) -> None:
    """Prints what did not run, and why, and whether all hold."""
    problems = [f"{c.subject} on {c.kernels}: {c.problem}" for c in comparisons if c.problem]
    for line in dict.fromkeys(problems):
        console.print(line, style="red", highlight=False, markup=False)
    failed = sum(not c.holds for c in comparisons)
    if failed:
        console.print(f"[bold red]{failed} of {len(comparisons)} comparisons fail.[/]")
    else:
        console.print(f"[green]All {len(comparisons)} comparisons hold.[/]")


def _print_attention(attention: Sequence[AttentionComparison], console: Console) -> None:
    """One row per file and target: the worst site of each."""
    table = Table(
        title="Attention of every site against Keras, the worst of each",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("model", "run by"):
        table.add_column(column, no_wrap=True)
    for column in ("sites", "error", "limit", "correlation", "sum - 1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    groups: dict[tuple[str, str], list[AttentionComparison]] = {}
    for c in attention:
        groups.setdefault((c.subject, c.kernels), []).append(c)
    for (subject, kernels), sites in groups.items():
        table.add_row(
            _LABEL.get(subject, subject),
            kernels,
            str(len(sites)),
            _worst([c.relative_error for c in sites], max, ".1e"),
            f"{sites[0].limit:.0e}",
            _worst([c.correlation for c in sites], min, ".5f"),
            _worst([c.row_sum_error for c in sites], max, ".0e"),
            _verdict(all(c.holds for c in sites)),
        )
    console.print(table)


def _print_fidelity(report: Report, console: Console) -> None:
    """One row per site, file of integers and target; dead attention in words."""
    table = Table(
        title="Attention inside the files of integers against Keras; in dB its SNR, and how far "
        "its effect and the rounding are below the block's output",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model", no_wrap=True)
    table.add_column("site", overflow="fold")
    for column in ("run by", "map"):
        table.add_column(column, no_wrap=True)
    for column in ("SNR", "limit", "cosine", "zeros", "effect", "rounding"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    groups: dict[tuple[str, str], list[AttentionFidelity]] = {}
    for row in report.fidelity:
        groups.setdefault((row.subject, row.kernels), []).append(row)
    seen: set[str] = set()
    for (subject, kernels), sites in groups.items():
        # Every site where applications run it; on the other targets, the worst of all.
        whole = subject not in seen
        seen.add(subject)
        for rows in [[row] for row in sites] if whole else [sites]:
            sizes = {row.map_size for row in rows}
            table.add_row(
                subject,
                rows[0].site if whole else f"all {len(rows)}, worst",
                kernels,
                "x".join(map(str, rows[0].map_size or ())) if len(sizes) == 1 else "",
                _worst([row.snr for row in rows], min, ".1f"),
                f"{rows[0].limit:g}",
                _worst([row.cosine for row in rows], min, ".3f"),
                _worst([row.zeros for row in rows], max, ".0%"),
                _worst([row.without_snr for row in rows], max, ".0f"),
                _worst([row.rounding_snr for row in rows], min, ".0f"),
                _alive(rows),
            )
    console.print(table)
    hidden = [row for row in report.fidelity if row.visible is False]
    names = ", ".join(dict.fromkeys(f"{row.site} ({row.subject})" for row in hidden))
    if names:
        console.print(
            "The effect of the attention on the block's output is smaller than the output's own "
            f"rounding, whatever the form of the softmax: {names}.",
            highlight=False,
        )
    for file in report.files:
        if file.precision in {row.subject for row in report.fidelity}:
            floats = ", ".join(file.float_operators) or "none"
            console.print(f"Float operators in {file.name}: {floats}.", highlight=False)
    console.print(f"Ranges of activations from {report.calibration}.", highlight=False)


def _alive(rows: Sequence[AttentionFidelity]) -> str:
    dead = any(not row.holds and not row.problem for row in rows)
    return "[bold red]DEAD[/]" if dead else _verdict(all(row.holds for row in rows))


def _worst(values: Sequence[float | None], pick: Callable[..., float], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(pick(known), form) if known else "–"


def _verdict(holds: bool) -> str:
    return "[green]holds[/]" if holds else "[bold red]FAILS[/]"


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
