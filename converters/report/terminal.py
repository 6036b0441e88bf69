"""Reports as tables for a terminal of 80 columns or more. Imports rich."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from converters.data.calibration import Calibration
from converters.data.channels import Channel
from converters.report.document import File, Report
from converters.report.words import (
    SAMPLES,
    accuracies,
    gpu,
    label,
    no_reference,
    verdict,
    weights,
    what_failed,
    which,
)
from converters.tflite.options import INTEGER_PRECISIONS
from converters.verify.attention import AttentionSNR
from converters.verify.compare import Verification
from converters.verify.outputs import OutputComparison

Row = TypeVar("Row", OutputComparison, AttentionSNR)


def print_report(report: Report, console: Console) -> None:
    """Prints what was converted, the files, the accuracies, the comparisons and the verdict."""
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in report.input_shapes.items())
    _line(console, f"{report.source}: {report.architecture}")
    _line(console, f"{weights(report)}; input {shapes}")
    _line(console, no_reference(report), "yellow")
    for text in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False)
    files = _table("file", right=("KiB", "operators"))
    for file in report.files:
        files.add_row(escape(file.name), f"{file.size / 1024:,.1f}", str(file.operators))
    _print_titled("Files", files, console)
    if report.calibration is not None:
        _print_calibration(report.calibration, console)
    _print_accuracy(report, console)
    _print_outputs(report.verification, console, report.samples)
    _print_attention(report.verification, console)
    for file in report.files:
        if file.precision in INTEGER_PRECISIONS:
            floats = ", ".join(file.float_operators) or "none"
            _line(console, f"Float operators in {file.name}: {floats}.")
            _print_integer_ends(file, console)
    _line(console, gpu(report.gpu, report.verification))
    _print_verdict(report.verification, console)


def print_comparison(found: Verification, adapter: str | None, console: Console) -> None:
    """Prints what was compared, the comparisons and the verdict."""
    first = found.comparisons[0]
    for what, name in (("Compared", first.subject), ("With", first.reference)):
        console.print(f"{what}: {name}", markup=False, highlight=False, soft_wrap=True)
    _print_outputs(found, console, first.data, sides=True)
    _print_attention(found, console)
    _line(
        console,
        f"Limits that were not given are those of {first.precision}, the coarser of the two.",
    )
    _line(console, gpu(adapter, found))
    if first.data == "random" and first.precision in INTEGER_PRECISIONS and not found.passed:
        _line(
            console,
            "Files of integers hold what is in the ranges of their calibration data, and random "
            "inputs may be beyond: compare on some of that with --inputs.",
            "yellow",
        )
    _print_verdict(found, console)


def _print_outputs(
    verification: Verification, console: Console, samples: str, sides: bool = False
) -> None:
    """Prints one row per comparison; `sides` leaves out what is compared, as it is in all rows."""
    rows = verification.comparisons
    with_snr = any(row.snr is not None and row.snr_limit is not None for row in rows)
    with_top1 = any(row.top1 is not None for row in rows)
    table = _table(*(() if sides else ("model", "against")), padding=0)
    table.add_column("run by", overflow="fold")
    right = ("n", "largest", "limit", *(("SNR",) * with_snr), *(("top-1",) * with_top1), "ms")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        what = (_short(row.subject), _short(row.reference))
        snr = "" if row.snr is None or row.snr_limit is None else f"{row.snr:.1f}"
        table.add_row(
            *(() if sides else what),
            row.runtime if row.data in ("", samples) else f"{row.runtime}, {row.data}",
            str(row.samples),
            "–" if row.difference is None else f"{row.difference:.1e}",
            f"{row.limit:.0e}",
            *((snr,) * with_snr),
            *(("" if row.top1 is None else f"{row.top1:.1%}",) * with_top1),
            "" if row.milliseconds is None else f"{row.milliseconds:.2f}",
            "[yellow]undecided[/]" if row.passed and row.undecided else _verdict(row.passed),
        )
    text = f"Differences on {SAMPLES[samples]}, relative to the largest value"
    if with_snr:
        least = {_short(r.subject): r.snr_limit for r in rows if r.snr_limit}
        one = sides or len(set(least.values())) == 1
        told = (f"{limit:g}" + ("" if one else f" ({name})") for name, limit in least.items())
        text += "; SNR in dB, without what all samples share, at least " + ", ".join(
            dict.fromkeys(told)
        )
    _print_titled(text, table, console)


def _print_calibration(calibration: Calibration, console: Console) -> None:
    """Prints what each channel of the data looks like, and what the model answers to it."""
    both = bool(calibration.reference_channels)
    table = _table("channel", right=("range", "mean", "deviation"))
    if both:
        for column in ("reference's range", "mean", "deviation"):
            table.add_column(column, justify="right", no_wrap=True)
    for number, channel in enumerate(calibration.channels):
        cells = _cells(channel)
        if both:
            cells += _cells(calibration.reference_channels[number])
        table.add_row(escape(channel.name), *cells)
    _print_titled(f"Ranges of activations from {calibration.description}", table, console)
    _line(console, f"Float's answers on it: {calibration.answers}.")


def _cells(channel: Channel) -> list[str]:
    return [
        f"{channel.least:.3g} to {channel.largest:.3g}",
        f"{channel.mean:.3g}",
        f"{channel.deviation:.3g}",
    ]


def _print_attention(verification: Verification, console: Console) -> None:
    """Prints the attention of files of floats in one table, of each file of integers in another."""
    rows = verification.attention
    integers = [row for row in rows if row.subject in INTEGER_PRECISIONS]
    floats = [row for row in rows if row.subject not in INTEGER_PRECISIONS]
    if floats:
        _print_float_attention(floats, console)
    for subject in dict.fromkeys(row.subject for row in integers):
        _print_integer_attention([row for row in integers if row.subject == subject], console)
    wrong = [row for row in floats if not row.passed and not row.problem]
    if wrong:
        names = ", ".join(dict.fromkeys(f"{row.site} ({row.subject})" for row in wrong))
        _line(console, f"Attention beyond its limit: {names}.", "bold red")
    hidden = [row for row in rows if row.visible is False]
    if hidden:
        names = ", ".join(dict.fromkeys(f"{row.site} ({row.subject})" for row in hidden))
        _line(
            console,
            "The attention's part in the block's output is smaller than the output's own "
            f"rounding, whatever the form of the softmax: {names}.",
        )
    dead = [row for row in integers if not row.passed and not row.problem]
    if dead:
        where = {row: f"in the {row.lost_in} of " if row.lost_in else "in " for row in dead}
        names = ", ".join(dict.fromkeys(f"{row.site} ({where[row]}{row.subject})" for row in dead))
        text = f"Dead attention, its SNR below the limit (attention_snr): {names}."
        _line(console, text, "bold red")


def _print_float_attention(rows: Sequence[AttentionSNR], console: Console) -> None:
    """One row per file and target: the worst site of each."""
    table = _table("model", "run by", right=("sites", "largest", "limit", "SNR"))
    table.add_column("", no_wrap=True)
    for (subject, runtime), sites in _grouped(rows):
        table.add_row(
            _short(subject),
            runtime,
            str(len(sites)),
            _worst([row.difference for row in sites], max, ".1e"),
            f"{sites[0].limit:.0e}" if sites[0].limit is not None else "",
            _worst([row.snr for row in sites], min, ".1f"),
            _verdict(all(row.passed for row in sites)),
        )
    title = "Attention of every site, in the very file, the worst of each; SNR in dB"
    _print_titled(title, table, console)


def _print_integer_attention(rows: Sequence[AttentionSNR], console: Console) -> None:
    """Every site where applications run it; on the other targets, the worst of all."""
    table = _table("site", padding=0)
    for column in ("run by", "map"):
        table.add_column(column, no_wrap=True)
    for column in ("SNR", "cosine", "zeros", "without", "rounding"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for number, ((_, runtime), sites) in enumerate(_grouped(rows)):
        whole = number == 0 or len(sites) == 1
        for some in [[row] for row in sites] if whole else [sites]:
            sizes = {row.map_size for row in some}
            dead = any(not row.passed and not row.problem for row in some)
            table.add_row(
                escape(some[0].site) if whole else f"worst of {len(some)}",
                runtime,
                "x".join(map(str, some[0].map_size or ())) if len(sizes) == 1 else "",
                _worst([row.snr for row in some], min, ".1f"),
                _worst([row.cosine for row in some], min, ".3f"),
                _worst([row.zeros for row in some], max, ".0%"),
                _worst([row.without_attention_snr for row in some], max, ".0f"),
                _worst([row.rounding_snr for row in some], min, ".0f"),
                "[bold red]DEAD[/]" if dead else _verdict(all(row.passed for row in some)),
            )
    least = rows[0].snr_limit or 0
    title = (
        f"Attention inside {rows[0].subject}. In dB: its SNR, at least {least:g}; the block's "
        "output over its own rounding, and over the attention's part in it (without)"
    )
    _print_titled(title, table, console)


def _print_accuracy(report: Report, console: Console) -> None:
    """One row per model that classified every labelled sample."""
    rows = accuracies(report)
    if not rows:
        return
    table = _table("model", right=("correct", "accuracy"))
    for name, (correct, samples) in rows.items():
        table.add_row(name, f"{correct} of {samples}", f"{correct / samples:.2%}")
    _print_titled("Held-out accuracy", table, console)


def _print_integer_ends(file: File, console: Console) -> None:
    """Prints what the integers that a file takes and gives stand for."""
    told = [
        f"{name} {end.dtype}, number = {end.scale:.6g} * (integer - {end.zero_point})"
        for name, end in (*file.inputs.items(), *file.outputs.items())
        if end.scale is not None
    ]
    if told:
        _line(console, f"It takes and gives {'; '.join(told)}.")


def _print_verdict(verification: Verification, console: Console) -> None:
    """Prints what did not run or pass, and why, and whether all passed."""
    for note in verification.notes:
        _line(console, note if note.endswith((".", ":")) else f"{note}.")
    # What else is wrong with the attention is told below its tables.
    failed = (
        f"{which(row)}: {what_failed(row)}"
        for row in verification.checks
        if not row.passed and (row.problem or isinstance(row, OutputComparison))
    )
    for text in dict.fromkeys(failed):
        _line(console, text, "red")
    _line(console, verdict(verification), "green" if verification.passed else "bold red")


def _grouped(rows: Sequence[Row]) -> list[tuple[tuple[str, str], list[Row]]]:
    """The rows of each subject and runtime."""

    def key(row: Row) -> tuple[str, str]:
        return row.subject, row.runtime

    return [(which, list(some)) for which, some in groupby(rows, key)]


def _table(*left: str, right: Sequence[str] = (), padding: int = 1) -> Table:
    """A table whose columns are one character apart and the padding."""
    table = Table(box=SIMPLE_HEAD, padding=(0, padding, 0, 0))
    for column in left:
        table.add_column(column, overflow="fold", no_wrap=column in ("model", "against", "run by"))
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print_titled(title: str, table: Table, console: Console) -> None:
    """Prints a title above a table; the title of a rich table is wrapped at the table's width."""
    console.print(f"\n[italic]{escape(title)}[/]", highlight=False)
    console.print(table)


def _short(name: str) -> str:
    """What a side is called in a column, which is narrow."""
    return "dyn_range" if name == "dynamic_range" else label(name)


def _line(console: Console, text: str, style: str | None = None) -> None:
    """Prints a line, if there is one."""
    if text:
        console.print(text, style=style, markup=False, highlight=False)


def _worst(values: Sequence[float | None], pick: Callable[..., float], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(pick(known), form) if known else "–"


def _verdict(passed: bool) -> str:
    return "[green]passed[/]" if passed else "[bold red]FAILED[/]"
