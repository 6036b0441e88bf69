"""What a report says in words, on the terminal and on a page.

Imports `runtime`, `tflite` and `verify`.
"""

from collections.abc import Sequence

from converters.report.document import Report
from converters.runtime import is_software
from converters.tflite.options import INTEGER_PRECISIONS
from converters.verify.attention import AttentionSNR
from converters.verify.compare import Verification
from converters.verify.outputs import OutputComparison

SAMPLES = {
    "reference": "the reference's inputs",
    "given": "the given inputs",
    "calibration": "calibration samples",
    "example": "the program's example inputs",
    "random": "random inputs",
}
_NO_REFERENCE = (
    "Nothing was compared with PyTorch: what follows says only that the files compute what the "
    "Keras model does. Record what PyTorch answers with converters.record(module, inputs, "
    '"reference.npz") and give --reference reference.npz.'
)
_LABEL = {"pytorch": "PyTorch", "keras": "Keras"}
_INTEGERS = (
    "Calibrate on a few hundred samples of what the model is for; where that does not help, try "
    "int16x8, or train with quantisation (docs/int8.md, docs/qat.md)."
)
_FLOATS = (
    "A file of floats computes what the Keras model does, to its rounding: see what `ulsam-keras "
    "lint` finds in it. Where a larger difference is no harm, say so with --tolerance."
)
_NOT_RUN = (
    "See what `ulsam-keras lint` finds in the file; where an operator is named, replace its layer."
)
_GPU = f"{_NOT_RUN} A file for the CPU alone is verified with --no-gpu."
_REFERENCE = (
    "The Keras model does not compute what was recorded: the notes tell the likely cause. A "
    "reference with layers=True tells the first layer that drifts (docs/references.md)."
)


def label(name: str) -> str:
    """What a side is called in sentences."""
    return _LABEL.get(name, name)


def weights(report: Report) -> str:
    """How many weights there are, and where they came from."""
    ported = "" if report.port_report is None else f" from {report.keys} tensors of PyTorch"
    return f"{report.parameters:,} weights{ported}"


def no_reference(report: Report) -> str:
    """That nothing was compared with PyTorch, of what came from there; or empty."""
    return _NO_REFERENCE if report.reference is None and report.port_report is not None else ""


def gpu(adapter: str | None, verification: Verification) -> str:
    """Which GPU ran files, or that none did; empty without files, or where a note says why."""
    runtimes = {row.runtime for row in verification.checks}
    if adapter:
        ran = any(runtime.startswith("GPU") for runtime in runtimes)
        software = "; a driver in software, whose times are of no GPU"
        return f"GPU: {adapter}{software if is_software(adapter) else ''}" if ran else ""
    if runtimes <= {"TensorFlow"}:
        return ""
    return "GPU: not run, without a Vulkan driver or with --no-gpu; see `ulsam-keras doctor`"


def verdict(verification: Verification) -> str:
    """The verdict, in a sentence or two."""
    checks = verification.checks
    failed, count = sum(not check.passed for check in checks), len(checks)
    names = ", ".join(map(label, verification.undecided))
    told = [f"Undecided, and so not passed: {names}."] if names else []
    if failed or not names:
        result, number = ("failed", f"{failed} of") if failed else ("passed", "All")
        one = f"The one comparison {result}."
        told.append(one if count == 1 else f"{number} {count} comparisons {result}.")
    return " ".join(told)


def accuracies(report: Report) -> dict[str, tuple[int, int]]:
    """Of every model that classified all labelled samples, how many are right, and of how many."""
    comparisons = report.verification.comparisons
    samples = max((row.samples for row in comparisons), default=0)
    rows = {}
    if report.reference_correct is not None:
        rows["PyTorch (recorded)"] = (report.reference_correct, samples)
    for row in comparisons:
        if row.correct is not None and row.samples == samples:
            rows.setdefault(label(row.subject), (row.correct, samples))
    return rows


def what_failed(row: OutputComparison | AttentionSNR) -> str:
    """What does not pass, in words; empty if all does."""
    if isinstance(row, OutputComparison):
        return "; ".join(row.failures)
    if row.passed or row.problem:
        return row.problem
    if row.snr_limit is not None and row.snr is not None and row.snr < row.snr_limit:
        return f"attention dead: SNR {row.snr:.1f} dB"
    if row.pattern_snr is not None and row.pattern_snr < row.pattern_limit:
        return f"attention points nowhere: SNR of its pattern {row.pattern_snr:.1f} dB"
    return f"attention: difference {row.difference:.1e}" if row.difference is not None else ""


def what_to_do(row: OutputComparison | AttentionSNR) -> str:
    """What helps against a comparison that does not pass, in Keras's terms."""
    integer = row.subject in INTEGER_PRECISIONS or getattr(row, "precision", "") in (
        INTEGER_PRECISIONS
    )
    if row.runtime.startswith("GPU"):
        return _GPU
    if row.problem:
        return _NOT_RUN
    if isinstance(row, OutputComparison):
        if row.reference == "pytorch" and row.subject == "keras":
            return _REFERENCE
        return _INTEGERS if integer else _FLOATS
    if row.lost_in == "softmax":
        return "It is lost in the softmax: try another form with --attention (docs/int8.md)."
    return _INTEGERS if integer else _FLOATS


def share_of_limit(row: OutputComparison | AttentionSNR) -> float | None:
    """How much of what is allowed is used, 1 at the limit; `None` where nothing was measured.

    It is the largest of difference, noise and changed classes. A ratio in dB counts by the size of
    the noise that it leaves.
    """
    shares = []
    if isinstance(row, OutputComparison):
        differences = [o.difference for o in row.outputs if o.numbers is None]
        ratios = [(row.snr, row.snr_limit)]
        if row.top1 is not None and row.top1_limit < 1:
            shares.append((1 - row.top1) / (1 - row.top1_limit))
    else:
        differences = [] if row.difference is None else [row.difference]
        pattern = None if row.pattern_snr is None else row.pattern_limit
        ratios = [(row.snr, row.snr_limit), (row.pattern_snr, pattern)]
    if row.limit:
        shares += [difference / row.limit for difference in differences]
    shares += [_noise(snr, least) for snr, least in ratios if snr is not None and least is not None]
    return max(shares, default=None)


def _noise(snr: float, least: float) -> float:
    return float(10 ** ((least - snr) / 20)) if snr < 6000 else 0.0


def which(row: OutputComparison | AttentionSNR) -> str:
    """What was compared: of what, on which runtime, and with what."""
    ran = f"{label(row.subject)} on {row.runtime}"
    if isinstance(row, AttentionSNR):
        return f"{row.site} in {ran}"
    return f"{ran} against {label(row.reference)}"


def failures(
    checks: Sequence[OutputComparison | AttentionSNR],
) -> dict[str, list[tuple[str, str]]]:
    """What did not pass by what to do: of each what it is, and what failed."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in checks:
        if not row.passed:
            found.setdefault(what_to_do(row), []).append((which(row), what_failed(row)))
    return found
