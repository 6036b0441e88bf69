"""Reports as tables for a terminal of 80 columns or more. Imports rich."""

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from converters.fidelity import AttentionFidelity
from converters.report.comparison import AttentionComparison, Comparison
from converters.report.document import File, Report
from converters.tflite import INTEGER_PRECISIONS
from converters.verify import Verification

_LABEL = {"pytorch": "PyTorch", "keras": "Keras", "dynamic_range": "dyn_range"}


def print_report(report: Report, console: Console) -> None:
    """Prints what was converted, the files, the accuracies, the comparisons and the verdict."""
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in report.input_shapes.items())
    console.print(f"{report.checkpoint}: {report.architecture}", markup=False, highlight=False)
    weights = f"{report.parameters:,} weights from {len(report.port_report['sources'])} keys"
    console.print(f"{weights}; input {shapes}", highlight=False)
    for line in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(line)}", highlight=False)
    files = _table()
    files.add_column("file", overflow="fold")
    files.add_column("KiB", justify="right")
    files.add_column("operators", justify="right")
    for file in report.files:
        files.add_row(escape(file.name), f"{file.size / 1024:,.1f}", str(file.operators))
    _print_titled("Files", files, console)
    _print_accuracy(report.comparisons, console, report.recorded_correct)
    _print_comparisons(report.comparisons, console, "recorded" if report.real_inputs else "random")
    if report.attention:
        _print_attention(report.attention, console, "Keras")
    if report.fidelity:
        _print_fidelity(report.fidelity, console, "Keras")
        for file in report.files:
            if file.precision in {row.subject for row in report.fidelity}:
                floats = ", ".join(file.float_operators) or "none"
                console.print(f"Float operators in {file.name}: {floats}.", highlight=False)
                _print_integer_ends(file, console)
        console.print(f"Ranges of activations from {report.calibration}.", highlight=False)
    _print_gpu(report.gpu, console)
    if report.gpu:
        for precision, why in report.not_on_gpu.items():
            console.print(f"{precision} not run on it: {why}.", highlight=False, markup=False)
    _print_verdict([*report.comparisons, *report.attention, *report.fidelity], console)


def _print_integer_ends(file: File, console: Console) -> None:
    """Prints what the integers that a file takes and gives stand for."""
    told = [
        f"{name} {end.dtype}, number = {end.scale:.6g} * (integer - {end.zero_point})"
        for name, end in (*file.inputs.items(), *file.outputs.items())
        if end.scale is not None
    ]
    if told:
        console.print(f"It takes and gives {'; '.join(told)}.", highlight=False, markup=False)


def print_verification(
    found: Verification, console: Console, adapter: str | None, files: bool
) -> None:
    """Prints what was compared, the comparisons and the verdict.

    Args:
        found: What `verify` found.
        console: Where to.
        adapter: Name of the GPU adapter; `None` if there is none.
        files: Whether a side is a `.tflite` file, for which a GPU counts.
    """
    for side, name in zip("AB", found.names, strict=True):
        console.print(f"{side}: {name}", markup=False, highlight=False, soft_wrap=True)
    _print_comparisons(found.comparisons, console, found.inputs, sides=True)
    if found.attention:
        _print_attention(found.attention, console, "B")
    if found.fidelity:
        _print_fidelity(found.fidelity, console, "the other side")
    if found.attention_left_out:
        console.print(
            f"Attention not compared: {found.attention_left_out}.", markup=False, highlight=False
        )
    console.print(
        f"Limits that were not given are those of {found.precision}, the coarser of A and B.",
        highlight=False,
    )
    if files and adapter and found.gpu_left_out:
        console.print(f"GPU: not run: {found.gpu_left_out}", markup=False, highlight=False)
    elif files:
        _print_gpu(adapter, console)
    if found.inputs == "random" and found.precision in INTEGER_PRECISIONS and not found.holds:
        console.print(
            "Files of integers hold what is in the ranges of their calibration data, and random "
            "inputs may be beyond: compare on some of that with --inputs.",
            style="yellow",
            highlight=False,
        )
    _print_verdict(found.checks, console)


def _table(padding: int = 1) -> Table:
    """A table whose columns are one character apart and the padding."""
    return Table(box=SIMPLE_HEAD, padding=(0, padding, 0, 0))


def _print_titled(title: str, table: Table, console: Console) -> None:
    """Prints a title above a table; the title of a rich table is wrapped at the table's width."""
    console.print(f"\n[italic]{escape(title)}[/]", highlight=False)
    console.print(table)


def _print_comparisons(
    comparisons: Sequence[Comparison], console: Console, inputs: str, sides: bool = False
) -> None:
    """Prints one row per comparison; `sides` leaves out what is compared, as it is in all rows."""
    classified = any(c.agreement is not None for c in comparisons)
    table = _table()
    for column in () if sides else ("model", "against"):
        table.add_column(column, no_wrap=True)
    table.add_column("run by", overflow="fold")
    for column in ("n", "largest", "limit", *(["top-1"] if classified else []), "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for c in comparisons:
        what = (_LABEL.get(c.subject, c.subject), _LABEL.get(c.reference, c.reference))
        table.add_row(
            *(() if sides else what),
            c.kernels,
            str(c.samples),
            "–" if c.difference is None else f"{c.difference:.1e}",
            f"{c.limit:.0e}",
            *([f"{c.agreement:.1%}" if c.agreement is not None else ""] if classified else []),
            "" if c.milliseconds is None else f"{c.milliseconds:.2f}",
            _verdict(c.holds),
        )
    title = "A against B" if sides else "Differences"
    _print_titled(f"{title} on {inputs} inputs, relative to the largest value", table, console)


def _print_gpu(adapter: str | None, console: Console) -> None:
    """Prints which GPU ran, or that none did."""
    text = adapter or "not run: no Vulkan driver (`ulsam-keras doctor` says how to get one)"
    console.print(f"GPU: {text}", markup=False, highlight=False)


def _print_verdict(
    comparisons: Sequence[Comparison | AttentionComparison | AttentionFidelity], console: Console
) -> None:
    """Prints what did not run, and why, and whether all hold."""
    problems = [f"{c.subject} on {c.kernels}: {c.problem}" for c in comparisons if c.problem]
    for line in dict.fromkeys(problems):
        console.print(line, style="red", highlight=False, markup=False)
    failed, count = sum(not c.holds for c in comparisons), len(comparisons)
    if count == 1:
        text = "fails" if failed else "holds"
        text = f"The one comparison {text}."
    elif failed:
        text = f"{failed} of {count} comparisons {'fails' if failed == 1 else 'fail'}."
    else:
        text = f"All {count} comparisons hold."
    console.print(text, style="bold red" if failed else "green", highlight=False)


def _print_attention(
    attention: Sequence[AttentionComparison], console: Console, against: str
) -> None:
    """One row per file and target: the worst site of each."""
    table = _table()
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
    _print_titled(f"Attention of every site against {against}, the worst of each", table, console)
    wrong = [c for c in attention if not c.holds and not c.problem]
    if wrong:
        names = ", ".join(dict.fromkeys(f"{c.site} ({c.subject})" for c in wrong))
        console.print(
            f"Attention beyond its limit: {names}.", style="bold red", highlight=False, markup=False
        )


def _print_fidelity(fidelity: Sequence[AttentionFidelity], console: Console, against: str) -> None:
    """One table per file of integers, one row per site and target; dead attention in words."""
    files: dict[str, dict[str, list[AttentionFidelity]]] = {}
    for row in fidelity:
        files.setdefault(row.subject, {}).setdefault(row.kernels, []).append(row)
    for subject, targets in files.items():
        table = _table(padding=0)
        table.add_column("site", overflow="fold")
        for column in ("run by", "map"):
            table.add_column(column, no_wrap=True)
        for column in ("SNR", "cosine", "zeros", "effect", "rounding"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for number, (kernels, sites) in enumerate(targets.items()):
            # Every site where applications run it; on the other targets, the worst of all.
            whole = number == 0 or len(sites) == 1
            for rows in [[row] for row in sites] if whole else [sites]:
                sizes = {row.map_size for row in rows}
                table.add_row(
                    escape(rows[0].site) if whole else f"worst of {len(rows)}",
                    kernels,
                    "x".join(map(str, rows[0].map_size or ())) if len(sizes) == 1 else "",
                    _worst([row.snr for row in rows], min, ".1f"),
                    _worst([row.cosine for row in rows], min, ".3f"),
                    _worst([row.zeros for row in rows], max, ".0%"),
                    _worst([row.without_snr for row in rows], max, ".0f"),
                    _worst([row.rounding_snr for row in rows], min, ".0f"),
                    _alive(rows),
                )
        title = (
            f"Attention inside {subject} against {against}. In dB: its SNR, at least "
            f"{next(iter(targets.values()))[0].limit:g}, and how far its effect and the rounding "
            "are below the block's output"
        )
        _print_titled(title, table, console)
    hidden = [row for row in fidelity if row.visible is False]
    names = ", ".join(dict.fromkeys(f"{row.site} ({row.subject})" for row in hidden))
    if names:
        console.print(
            "The effect of the attention on the block's output is smaller than the output's own "
            f"rounding, whatever the form of the softmax: {names}.",
            highlight=False,
            markup=False,
        )
    dead = [row for row in fidelity if not row.holds and not row.problem]
    lost = {row: f"in the {row.lost_in} of " if row.lost_in else "in " for row in dead}
    names = ", ".join(dict.fromkeys(f"{row.site} ({lost[row]}{row.subject})" for row in dead))
    if names:
        console.print(
            f"Dead attention, its SNR below the limit (attention_snr): {names}.",
            style="bold red",
            highlight=False,
            markup=False,
        )


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
    table = _table()
    table.add_column("model")
    table.add_column("correct", justify="right")
    table.add_column("accuracy", justify="right")
    for name, correct in rows.items():
        table.add_row(name, f"{correct} of {samples}", f"{correct / samples:.2%}")
    _print_titled("Held-out accuracy", table, console)
