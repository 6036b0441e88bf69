"""Two sides on the same samples: what is compared, and whether all of it passes.

Imports `runtime`, `tflite`, `data` and NumPy; TensorFlow and Keras for a Keras model only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from converters.tflite.precision import why_not_on_gpu
from converters.verify.attention import AttentionSNR, compare_attention
from converters.verify.causes import likely_cause
from converters.verify.inputs import Samples, common_samples
from converters.verify.layers import first_drift
from converters.verify.limits import Limits, coarser
from converters.verify.maps import FEW, SiteMaps
from converters.verify.outputs import (
    OutputComparison,
    compare_outputs,
    count_correct,
    find_classifiers,
)
from converters.verify.sides import (
    FileSide,
    LeftOutError,
    OtherSitesError,
    ReferenceSide,
    Side,
    load_side,
)
from converters.verify.targets import CPU, Runner, Target


@dataclass(frozen=True)
class Verification:
    """What comparisons found.

    Attributes:
        comparisons: The outputs: one row for every runtime that ran a `.tflite` file, or one alone.
        attention: The attention of each site, by what ran it.
        notes: What was not compared and why, and what else is to be known; one line each.
        maps: The attention itself over a few samples.
        pictures: The first input that may be a picture of the same samples, `(n, H, W, C)`; `None`
            if there is none.
    """

    comparisons: tuple[OutputComparison, ...] = ()
    attention: tuple[AttentionSNR, ...] = ()
    notes: tuple[str, ...] = ()
    maps: tuple[SiteMaps, ...] = field(default=(), repr=False, compare=False)
    pictures: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __add__(self, other: "Verification") -> "Verification":
        """Both, the same note and the same attention once."""
        return Verification(
            self.comparisons + other.comparisons,
            self.attention + other.attention,
            tuple(dict.fromkeys(self.notes + other.notes)),
            tuple({each.key: each for each in self.maps + other.maps}.values()),
            other.pictures if self.pictures is None else self.pictures,
        )

    @property
    def checks(self) -> "tuple[OutputComparison | AttentionSNR, ...]":
        """Everything that was compared."""
        return self.comparisons + self.attention

    @property
    def undecided(self) -> tuple[str, ...]:
        """The files of rounded numbers of which no comparison tells whether they are right."""
        decided = {row.subject for row in self.comparisons if not row.undecided}
        return tuple(dict.fromkeys(r.subject for r in self.comparisons if r.subject not in decided))

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all of it is as near as it should be."""
        return (
            bool(self.checks) and all(check.passed for check in self.checks) and not self.undecided
        )


@dataclass(frozen=True)
class Judge:
    """What comparisons are judged by.

    Attributes:
        limits: What passes.
        classifier: Whether the user says that the model is a classifier; `None` if he does not.
    """

    limits: Limits = field(default_factory=Limits)
    classifier: bool | None = None

    def compare(
        self,
        a: Side,
        b: Side,
        samples: Samples,
        targets: tuple[Target, ...] = CPU,
        *,
        attention: bool | None = None,
    ) -> Verification:
        """The outputs of a side beside those of another, and their attention.

        Args:
            a: What is judged.
            b: What it is compared with, its inputs and outputs in the order of the other's.
            samples: What both are given.
            targets: What runs files.
            attention: Whether the attention must be compared, as of a file that was made of the
                model; `None` compares it where both sides show it, and says why if not.
        """
        rows, notes = [], []
        files = [side for side in (a, b) if isinstance(side, FileSide)]
        for side in files:
            if why := why_not_on_gpu(side.file.graph):
                if any(target.accelerator == "gpu" for target in targets):
                    notes.append(f"{side.name} not run on the GPU: {why}")
                targets = tuple(target for target in targets if target.accelerator != "gpu")
        if self.classifier and samples.kind == "random":
            notes.append(
                "Top-1 was not compared, as the classes of random inputs say nothing: give inputs "
                "of your own or a reference"
            )
        targets = targets if files else targets[:1]
        for target in targets:
            count = min(side.samples(target, samples.count) for side in (a, b))
            if not count:
                notes.append(
                    f"{target.name} was not run: one sample would last beyond the time limit"
                )
                continue
            row = self._outputs(a, b, samples, target, count)
            same = [o.name for o in row.outputs if o.snr is None and o.numbers is None]
            if row.snr_limit is not None and same:
                notes.append(
                    f"{row.subject} is judged by its largest difference alone, as "
                    f"{', '.join(same)} is the same for all samples given ({count}); give more, "
                    "and such that differ"
                )
            rows.append(row)
        found = Verification(tuple(rows), notes=tuple(notes))
        return (
            found
            if attention is False
            else found + self._attention(a, b, samples, targets, attention)
        )

    def _outputs(
        self, a: Side, b: Side, samples: Samples, target: Target, count: int
    ) -> OutputComparison:
        ours, theirs = (side.answer(samples.of(side, count), target) for side in (a, b))
        precision = coarser(a.precision, b.precision)
        limit = self.limits.output(precision, target.gpu_precision)
        if isinstance(b, ReferenceSide) or isinstance(a, ReferenceSide):
            # What Keras may differ from the reference by, and a file from Keras.
            exact = precision == "float32" and not any(isinstance(s, FileSide) for s in (a, b))
            limit = self.limits.reference + (0.0 if exact else limit)
        # What is told of the run is told of a file, whichever side it is.
        files = [r for s, r in ((a, ours), (b, theirs)) if isinstance(s, FileSide)]
        ran = files[0] if files else ours
        on_gpu = ran.ok and target.accelerator == "gpu"
        row = OutputComparison(
            a.name,
            b.name,
            runtime=target.name if files else "TensorFlow",
            samples=count,
            limit=limit,
            snr_limit=self.limits.output_snr(precision),
            top1_limit=self.limits.agreement(precision),
            milliseconds=ran.milliseconds,
            adapter=ran.adapter,
            fully_accelerated=ran.fully_accelerated if on_gpu else None,
            gpu_precision=(ran.gpu_precision or "") if on_gpu else "",
            data=samples.kind,
            precision=precision,
            problem=ours.problem or theirs.problem,
        )
        if ours.outputs is None or theirs.outputs is None:
            return row
        given: Mapping[str, np.ndarray] = ours.outputs
        wanted = _under(given, theirs.outputs)
        # The finer side is what the coarser should be, whichever is A.
        finer = b
        if coarser(a.precision, b.precision) != a.precision:
            finer, given, wanted = a, wanted, given
        whole = wanted
        if not isinstance(finer, FileSide) and count < samples.count:
            whole = _under(given, finer.answer(samples.of(finer), target).outputs or {})
        # The classes of random numbers say nothing.
        asked = False if samples.kind == "random" else self.classifier
        classifiers = find_classifiers(whole, samples.labels, asked)
        return replace(
            row,
            outputs=compare_outputs(given, wanted, classifiers, whole),
            correct=count_correct(given, whole, samples.labels),
        )

    def _attention(
        self,
        a: Side,
        b: Side,
        samples: Samples,
        targets: tuple[Target, ...],
        required: bool | None,
    ) -> Verification:
        rows, maps = [], []
        try:
            for target in targets:
                some, seen = compare_attention(a, b, samples, target, self.limits)
                rows += some
                maps += seen
        except LeftOutError as reason:
            if required and isinstance(reason, OtherSitesError):
                # What is missing in the file was lost.
                row = AttentionSNR("every site", a.name, "every runtime", problem=str(reason))
                return Verification(attention=(row,))
            return Verification(notes=(f"Attention not compared: {reason}",))
        if not any(isinstance(side, FileSide) for side in (a, b)):
            rows = [replace(row, runtime="TensorFlow") for row in rows]
        pictures = next((x[:FEW] for x in samples.inputs if x.ndim == 4), None)
        return Verification(attention=tuple(rows), maps=tuple(maps), pictures=pictures)


def verify(
    source: str,
    reference: str,
    *,
    judge: Judge | None = None,
    input_size: tuple[int, int] | None = None,
    inputs: str | None = None,
    targets: tuple[Target, ...] = CPU,
    runner: Runner | None = None,
    require_gpu: bool = False,
) -> Verification:
    """Runs two models on the same inputs and compares what they answer.

    Args:
        source: A `.keras`, `.tflite` or `.npz` file, or `module:function`.
        reference: The same; what the other is compared with.
        judge: What it is judged by; `None` for the default limits.
        input_size: Height and width where neither side fixes them; `None` for 224.
        inputs: An `.npz` file with the array `inputs`, or `inputs.NAME` for each, that two models
            are given; `None` gives them random numbers in the range of the inputs.
        targets: What runs `.tflite` files. Defaults to the kernels of the CPU.
        runner: How it does; `None` for the default limits of a run.
        require_gpu: Whether it is an error that no GPU takes a file.

    Returns:
        What was compared, with limits.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is none of these, or if the two do not belong together.
    """
    judge, runner = judge or Judge(), runner or Runner()
    a, b = load_side(source, runner), load_side(reference, runner)
    if a.name == b.name:
        a, b = replace(a, name=source), replace(b, name=reference)
    for side in (a, b):
        if require_gpu and isinstance(side, FileSide):
            refuse_off_gpu(side)
    a, b, samples, notes = common_samples(a, b, inputs, input_size)
    found = Verification(notes=notes) + judge.compare(a, b, samples, targets)
    for model, other in ((a, b), (b, a)):
        if isinstance(other, ReferenceSide):
            found += explain(model, other, found, judge.limits)
    return found


def refuse_off_gpu(side: FileSide) -> None:
    """Raises ValueError for a file that no GPU takes."""
    if why := why_not_on_gpu(side.file.graph):
        raise ValueError(
            f"With `require_gpu` files must be for the GPU, and {why}. Received: {side.name!r}"
        )


def explain(
    model: Side,
    reference: ReferenceSide,
    found: Verification,
    limits: Limits,
    modules: Mapping[str, str] | None = None,
) -> Verification:
    """What is to be known of a comparison with a reference: how they were matched, why it fails.

    Args:
        model: What was compared.
        reference: What with.
        found: What was found.
        limits: What passes.
        modules: PyTorch's path of each layer by its name, where it is known.
    """
    kept, notes = reference.reference, []
    if any(theirs for theirs, _ in kept.taken_as):
        notes.append(
            "The reference's names are not the model's; its arrays were taken in order: "
            + ", ".join(f"{theirs} as {ours}" for theirs, ours in kept.taken_as)
        )
    right = count_correct(kept.outputs, kept.outputs, kept.labels)
    if right is not None and kept.labels is not None:
        commonest = int(np.unique(kept.labels, return_counts=True)[1].max())
        if right < commonest:
            notes.append(
                f"The reference itself is right on {right} of {len(kept.labels)} labels, and the "
                f"commonest label is right on {commonest}: they may be in another order, or "
                "numbered otherwise"
            )
    if any(not row.passed and not row.problem for row in found.comparisons):
        notes.append(likely_cause(model, reference, limits))
        notes.append(first_drift(model, reference, limits, modules))
    return Verification(notes=tuple(filter(None, notes)))


def _under(
    names: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Outputs under these names; if their own are others, in order."""
    if set(names) == set(outputs):
        return {name: outputs[name] for name in names}
    return dict(zip(names, outputs.values(), strict=True))
