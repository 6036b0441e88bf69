"""Two sides on the same samples: what is compared, and whether all of it passes.

Imports `runtime`, `tflite`, `data` and NumPy; TensorFlow and Keras for a Keras model only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from converters.tflite.precision import why_not_on_gpu
from converters.verify.attention import AttentionSNR, compare_attention
from converters.verify.causes import likely_cause
from converters.verify.inputs import Kind, Samples, common_samples
from converters.verify.layers import first_drift
from converters.verify.limits import Limits, coarser
from converters.verify.outputs import (
    OutputComparison,
    compare_outputs,
    count_correct,
    find_classifiers,
    labelled_output,
)
from converters.verify.sides import (
    FileSide,
    KerasSide,
    LeftOutError,
    OtherSitesError,
    ReferenceSide,
    Side,
    load_side,
)
from converters.verify.targets import CPU, Runner, Target, Targets

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Verification:
    """What comparisons found.

    Attributes:
        comparisons: The outputs: one row for every runtime that ran a `.tflite` file, or one alone.
        attention: The attention of each site, by what ran it.
        notes: What was not compared and why, and what else is to be known; one line each.
    """

    comparisons: tuple[OutputComparison, ...] = ()
    attention: tuple[AttentionSNR, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Verification") -> "Verification":
        """Both, the same note once."""
        return Verification(
            self.comparisons + other.comparisons,
            self.attention + other.attention,
            tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def checks(self) -> "tuple[OutputComparison | AttentionSNR, ...]":
        """Everything that was compared."""
        return self.comparisons + self.attention

    @property
    def passed(self) -> bool:
        """Whether everything that was compared is as near as it should be."""
        return all(check.passed for check in self.checks)


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
        names: tuple[str, str] | None = None,
        attention: bool = True,
    ) -> Verification:
        """The outputs of a side beside those of another, and their attention.

        Args:
            a: What is judged.
            b: What it is compared with.
            samples: What both are given.
            targets: What runs files.
            names: What the two are called in tables, if not by their own names.
            attention: Whether the attention is compared too.
        """
        files = [side for side in (a, b) if isinstance(side, FileSide)]
        notes = [n for side in files for n in _left_out(side, targets)]
        if self.classifier and samples.kind == "random":
            notes.append(
                "Top-1 was not compared, as the classes of random inputs say nothing: give inputs "
                "of your own or a reference"
            )
        refused = {side.name for side in files if why_not_on_gpu(side.file.graph)}
        targets = tuple(t for t in targets if t.accelerator != "gpu" or not refused)
        found = Verification(notes=tuple(notes))
        for target in targets if files else targets[:1]:
            count = min(side.samples(target, samples.count) for side in (a, b))
            if not count:
                note = f"{target.name} was not run: one sample would last beyond the time limit"
                found += Verification(notes=(note,))
                continue
            row = self._outputs(a, b, samples, target, count, names or (a.name, b.name))
            found += Verification((row,), notes=_unjudged(row))
        if attention:
            found += self._attention(a, b, samples, targets if files else targets[:1], names)
        return found

    def _outputs(
        self, a: Side, b: Side, samples: Samples, target: Target, count: int, names: tuple[str, str]
    ) -> OutputComparison:
        ours, theirs = (side.answer(samples.of(side, count), target) for side in (a, b))
        precision = coarser(a.precision, b.precision)
        limit = self.limits.output(precision, target.gpu_precision)
        if isinstance(b, ReferenceSide) or isinstance(a, ReferenceSide):
            # What Keras may differ from the reference by, and a file from Keras.
            exact = precision == "float32" and not any(isinstance(s, FileSide) for s in (a, b))
            limit = self.limits.reference + (0.0 if exact else limit)
        # What is told of the run is told of a file, whichever side it is.
        ran = theirs if isinstance(b, FileSide) and not isinstance(a, FileSide) else ours
        of_files = [x.runtime for s, x in ((a, ours), (b, theirs)) if isinstance(s, FileSide)]
        row = OutputComparison(
            *names,
            runtime=of_files[0] if of_files else "TensorFlow",
            samples=count,
            limit=limit,
            snr_limit=self.limits.output_snr(precision),
            top1_limit=self.limits.agreement(precision),
            milliseconds=ran.milliseconds,
            adapter=ran.adapter,
            fully_accelerated=ran.fully_accelerated,
            gpu_precision=ran.gpu_precision,
            data=samples.kind,
            problem=ours.problem or theirs.problem,
        )
        if ours.outputs is None or theirs.outputs is None:
            return row
        # The finer side is what the coarser should be, whichever is A.
        finer = b if coarser(a.precision, b.precision) == a.precision else a
        given, wanted = _matched(ours.outputs, theirs.outputs)
        if finer is a:
            given, wanted = {n: wanted[n] for n in given}, given
        labels = samples.labels
        # The classes of random numbers say nothing.
        asked = False if samples.kind == "random" else self.classifier
        whole = wanted
        if not isinstance(finer, FileSide) and count < samples.count:
            answers = finer.answer(samples.of(finer), target).outputs or {}
            whole = dict(zip(wanted, answers.values(), strict=True))
        classifiers = find_classifiers(whole, labels, asked)
        outputs = compare_outputs(given, wanted, classifiers, whole)
        correct = count_correct(given, labelled_output(whole, labels), labels)
        return replace(row, outputs=outputs, correct=correct)

    def _attention(
        self,
        a: Side,
        b: Side,
        samples: Samples,
        targets: tuple[Target, ...],
        names: tuple[str, str] | None,
    ) -> Verification:
        rows: list[AttentionSNR] = []
        try:
            for target in targets:
                found = compare_attention(a, b, samples, target, self.limits)
                rows += (
                    found
                    if any(isinstance(s, FileSide) for s in (a, b))
                    else [replace(row, runtime="TensorFlow") for row in found]
                )
        except OtherSitesError as reason:
            if isinstance(b, KerasSide) and isinstance(a, FileSide) and names is not None:
                # The file was made of the model: what is missing in it was lost.
                row = AttentionSNR("every site", names[0], "every runtime", problem=str(reason))
                return Verification(attention=(row,))
            return Verification(notes=(f"Attention not compared: {reason}",))
        except LeftOutError as reason:
            return Verification(notes=(f"Attention not compared: {reason}",))
        return Verification(attention=tuple(rows))


@dataclass(frozen=True)
class SidesCompared:
    """What `verify` found.

    Attributes:
        names: What the sides are called.
        precision: The coarser of the sides' precisions, whose limits hold.
        kind: Where the samples come from.
        samples: Number of samples.
        verification: What was compared.
        adapter: Name of the GPU adapter; `None` if there is none, or none was wanted.
        files: Whether a side is a `.tflite` file, for which a GPU counts.
    """

    names: tuple[str, str]
    precision: str
    kind: Kind
    samples: int
    verification: Verification
    adapter: str | None
    files: bool

    @property
    def passed(self) -> bool:
        """Whether everything that was compared is as near as it should be."""
        return self.verification.passed


def verify(
    source: str,
    reference: str,
    *,
    judge: Judge | None = None,
    input_size: tuple[int, int] | None = None,
    inputs: str | None = None,
    targets: Targets | None = None,
    runner: Runner | None = None,
    require_gpu: bool = False,
) -> SidesCompared:
    """Runs two models on the same inputs and compares what they answer.

    Args:
        source: A `.keras`, `.tflite` or `.npz` file, or `module:function`.
        reference: The same; what the other is compared with.
        judge: What it is judged by; `None` for the default limits.
        input_size: Height and width where neither side fixes them; `None` for 224.
        inputs: An `.npz` file with the array `inputs`, or `inputs.NAME` for each, that two models
            are given; `None` gives them random numbers in the range of the inputs.
        targets: What runs `.tflite` files; `None` for the kernels of the CPU.
        runner: How it does; `None` for the default limits of a run.
        require_gpu: Whether it is an error that a file is of integers that no GPU takes.

    Returns:
        What was compared, with limits.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is none of these, or if the two do not belong together.
    """
    judge, runner, targets = judge or Judge(), runner or Runner(), targets or Targets()
    a, b = load_side(source, runner), load_side(reference, runner)
    files = [side for side in (a, b) if isinstance(side, FileSide)]
    refusals = [why for side in files if (why := why_not_on_gpu(side.file.graph))]
    if refusals and require_gpu:
        raise ValueError(
            f"With `require_gpu` the files must be for the GPU, and {refusals[0]}. "
            f"Received: {source!r} and {reference!r}"
        )
    a, b, samples = common_samples(a, b, inputs, input_size)
    found = judge.compare(a, b, samples, targets.all)
    fitted = next((side for side in (a, b) if isinstance(side, ReferenceSide)), None)
    if fitted is not None:
        found += explain(a if b is fitted else b, fitted, found, judge.limits)
    return SidesCompared(
        names=(a.name, b.name),
        precision=coarser(a.precision, b.precision),
        kind=samples.kind,
        samples=samples.count,
        verification=found,
        adapter=targets.adapter,
        files=bool(files),
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
    notes = []
    kept = reference.reference
    if any(theirs for theirs, _ in kept.taken_as):
        notes.append(
            "The reference's names are not the model's; its arrays were taken in order: "
            + ", ".join(f"{theirs} as {ours}" for theirs, ours in kept.taken_as)
        )
    if any(not row.passed and not row.problem for row in found.comparisons):
        notes += [note for note in (likely_cause(model, reference, limits),) if note]
        notes += [note for note in (first_drift(model, reference, limits, modules),) if note]
    return Verification(notes=tuple(notes))


def _unjudged(row: OutputComparison) -> tuple[str, ...]:
    """That a file of rounded numbers could not be judged by what tells samples apart."""
    same = [output.name for output in row.outputs if output.snr is None]
    if row.snr_limit is None or not same:
        return ()
    return (
        f"{row.subject} is judged by its largest difference alone, as {', '.join(same)} is the "
        f"same for all samples given ({row.samples}); give more, and such that differ",
    )


def _left_out(side: FileSide, targets: tuple[Target, ...]) -> Iterator[str]:
    why = why_not_on_gpu(side.file.graph)
    if why and any(target.accelerator == "gpu" for target in targets):
        yield f"{side.name} not run on the GPU: {why}"


def _matched(ours: Outputs, theirs: Outputs) -> tuple[Outputs, Outputs]:
    """Both sides' outputs under one set of names: the common ones, or a single output's."""
    if len(ours) == len(theirs) == 1:
        [name] = theirs
        return {name: next(iter(ours.values()))}, theirs
    return ours, theirs  # names that differ are an error of the comparison
