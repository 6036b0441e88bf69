"""`verify`: two models, or a model and a recording, side by side.

Imports NumPy only; TensorFlow and Keras are imported for a Keras model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from converters.fidelity import AttentionFidelity
from converters.report.comparison import AttentionComparison, Comparison, measure
from converters.runtime import RunResult
from converters.tflite import INTEGER_PRECISIONS
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.precision import why_not_on_gpu
from converters.verification import CPU, GPU, Target, Tolerances, first, keras_outputs, run_on
from converters.verify.attention import LeftOut, compare_sites, measure_integer_sites
from converters.verify.inputs import common_inputs
from converters.verify.limits import Limits
from converters.verify.side import PRECISIONS, Side, load_side, taken_by, whole_batches

# What a side answered, by what ran it.
Answer = tuple[str, RunResult]


@dataclass(frozen=True)
class Verification:
    """What a comparison of two sides found.

    Attributes:
        names: What the sides are called.
        precision: The coarser of the sides' precisions, whose limits are the default.
        comparisons: The outputs: one for every kernel that ran a `.tflite` file, or one alone.
        attention: The attention of each site, by what ran it, of files of floats.
        fidelity: The attention of each site, likewise, where a side is a file of integers.
        attention_left_out: Why the attention was not compared; empty if it was.
        gpu_left_out: Why a file was not run on the GPU that is there; empty if it was.
        inputs: What both were given, `"recorded"` or `"random"` inputs.
    """

    names: tuple[str, str]
    precision: str
    comparisons: list[Comparison]
    attention: list[AttentionComparison] = field(default_factory=list)
    fidelity: list[AttentionFidelity] = field(default_factory=list)
    attention_left_out: str = ""
    gpu_left_out: str = ""
    inputs: str = "random"

    @property
    def checks(self) -> list[Comparison | AttentionComparison | AttentionFidelity]:
        """Everything that was compared."""
        return [*self.comparisons, *self.attention, *self.fidelity]

    @property
    def holds(self) -> bool:
        """Whether every comparison holds."""
        return all(check.holds for check in self.checks)


def verify(
    source: str,
    reference: str,
    *,
    tolerance: float | None = None,
    attention_tolerance: float | None = None,
    attention_snr: float | None = None,
    top1: float | None = None,
    input_size: tuple[int, int] = (224, 224),
    inputs: str | None = None,
    gpu: bool = False,
    require_gpu: bool = False,
) -> Verification:
    """Runs two models on the same inputs and compares what they answer.

    Args:
        source: A `.keras`, `.tflite` or `.npz` file, or `module:function`.
        reference: The same; what the other is compared with.
        tolerance: Largest difference of an output, relative to the reference's largest absolute
            value. `None` takes that of `Tolerances` for the coarser precision of the two.
        attention_tolerance: Largest difference of the attention, likewise.
        attention_snr: Smallest signal-to-noise ratio of the attention, in dB, where a side is a
            file of integers. `None` takes that of `Tolerances`.
        top1: Smallest share of equal top-1 classes on recorded inputs. `None` likewise.
        input_size: Height and width where neither side fixes them.
        inputs: An `.npz` file with the array `inputs`, or one for each input by its name, that two
            models are given; `None` gives them random numbers in the range of the inputs.
        gpu: Whether to run `.tflite` files on the GPU too, in float32.
        require_gpu: Whether it is an error that a file is of integers that no GPU takes.

    Returns:
        What was compared, with limits.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is none of these, or if the two do not belong together.
    """
    a, b = load_side(source), load_side(reference)
    models = [side for side in (a, b) if side.recorded is None]
    if not models:
        raise ValueError(
            "At least one side must be a model, a .keras or .tflite file. "
            f"Received: {source!r} and {reference!r}"
        )
    refusals = [why_not_on_gpu(read_graphs(s.tflite)[0]) for s in models if s.tflite is not None]
    gpu_left_out = next((why for why in refusals if why), "")
    if gpu_left_out and require_gpu:
        raise ValueError(
            f"With --require-gpu the files must be for the GPU, and {gpu_left_out}. "
            f"Received: {source!r} and {reference!r}"
        )
    targets = CPU + GPU[:1] if gpu and not gpu_left_out else CPU
    precision = max((a.precision, b.precision), key=PRECISIONS.index)
    usual = Tolerances()
    limits = Limits(
        precision,
        tolerance,
        attention_tolerance,
        usual.attention_snr if attention_snr is None else attention_snr,
        usual.agreement(precision) if top1 is None else top1,
    )
    a, b = _without_further_attention(a, b)
    a, b, arrays, given = common_inputs(a, b, models, inputs, input_size)
    comparisons = []
    for target, (ours, result), (theirs, expected) in _runs(a, b, arrays, targets):
        limit = limits.output(target)
        kernels = ours if ours == theirs else f"{ours}, {theirs}"
        problem = next((f"{r.outcome}: {r.message}" for r in (result, expected) if not r.ok), "")
        if result.outputs is None or expected.outputs is None:
            comparisons.append(Comparison(a.name, b.name, kernels, None, limit, problem=problem))
            continue
        answer, wanted = _matched(_own(a, result.outputs), _own(b, expected.outputs))
        samples = min(len(value) for value in (*answer.values(), *wanted.values()))
        recorded = a.recorded or b.recorded
        labels = None if recorded is None else recorded.labels
        comparison = measure(
            a.name,
            first(answer, samples),
            b.name,
            first(wanted, samples),
            kernels=kernels,
            limit=limit,
            least_agreement=limits.top1,
            real_inputs=given != "random",
            labels=None if labels is None else labels[:samples],
        )
        comparisons.append(replace(comparison, milliseconds=result.milliseconds))
    found = Verification(
        names=(a.name, b.name),
        precision=precision,
        comparisons=comparisons,
        gpu_left_out=gpu_left_out if gpu else "",
        inputs=given,
    )
    try:
        if precision in INTEGER_PRECISIONS:
            return replace(found, fidelity=measure_integer_sites(a, b, arrays, targets, limits))
        return replace(found, attention=compare_sites(a, b, arrays, targets, limits))
    except LeftOut as reason:
        return replace(found, attention_left_out=str(reason))


def _without_further_attention(a: Side, b: Side) -> tuple[Side, Side]:
    """Both sides without the attention outputs that the other does not have.

    A file that was converted with its attention as further outputs belongs to a model without.
    """

    def own(side: Side, other: Side) -> Side:
        kept = {n: s for n, s in side.outputs.items() if not n.endswith("_attention")}
        kept |= {n: s for n, s in side.outputs.items() if n in other.outputs}
        return replace(side, outputs={n: s for n, s in side.outputs.items() if n in kept})

    return own(a, b), own(b, a)


def _own(side: Side, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: value for n, value in outputs.items() if n in side.outputs or not side.outputs}


def _runs(
    a: Side, b: Side, arrays: list[np.ndarray], targets: tuple[Target, ...]
) -> list[tuple[Target, Answer, Answer]]:
    """What both sides answer: two files on each target, a file and another side likewise."""
    ours, theirs = _answers(a, arrays, targets), _answers(b, arrays, targets)
    count = max(len(ours), len(theirs))
    both = zip(_repeated(ours, count), _repeated(theirs, count), strict=True)
    return [
        (target, one, other) for target, (one, other) in zip(targets[:count], both, strict=True)
    ]


def _repeated(answers: list[Answer], count: int) -> list[Answer]:
    return answers if len(answers) == count else answers * count


def _answers(side: Side, arrays: list[np.ndarray], targets: tuple[Target, ...]) -> list[Answer]:
    """What a side answers to the inputs, by the kernels that ran it."""
    if side.recorded is not None:
        return [("recorded", RunResult("ok", outputs={"output": side.recorded.outputs}))]
    named = taken_by(side, arrays)
    if side.model is not None:
        outputs = keras_outputs(side.model, named, list(side.outputs))
        return [("TensorFlow", RunResult("ok", outputs=outputs))]
    assert side.tflite is not None
    return [
        (
            target.name,
            run_on(side.tflite, first(named, whole_batches(side, target.samples)), target),
        )
        for target in targets
    ]


def _matched(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both sides' outputs under one set of names: the common ones, or a single output's."""
    if set(ours) == set(theirs):
        return ours, theirs
    if len(ours) == len(theirs) == 1:
        return {"output": next(iter(ours.values()))}, {"output": next(iter(theirs.values()))}
    raise ValueError(
        "Both models must have outputs of the same names. "
        f"Received: {sorted(ours)} and {sorted(theirs)}"
    )
