"""Two sides on the same samples: what is compared, and whether all of it passes."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from converters.tflite.flatbuffer import TfliteFile
from converters.verify.attention import SAMPLES, AttentionSNR, compare_attention
from converters.verify.causes import allowed, likely_cause
from converters.verify.layers import first_drift
from converters.verify.limits import PRECISIONS, Limits
from converters.verify.maps import FEW, SiteMaps, attention_of, recorded_maps
from converters.verify.outputs import (
    OutputComparison,
    OutputDifference,
    compare_outputs,
    count_correct,
    find_classifiers,
)
from converters.verify.samples import Reference, Samples, Side, common_samples, load_reference
from converters.verify.sides import FileSide, LeftOutError, NotRunError, file_side, keras_side
from converters.verify.targets import CPU, TENSORFLOW, Runner, Target


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
        every = [check.passed for check in self.checks]
        return bool(every) and all(every) and not self.undecided


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
        """The outputs of two sides beside each other, and their attention.

        The coarser of the two is judged by the finer, a model by a reference, else A by B.

        Args:
            a: A side.
            b: Another, its inputs and outputs in the order of the first one's.
            samples: What both are given.
            targets: What runs files.
            attention: Whether the attention must be compared, as of a file that was made of the
                model; `None` compares it where both sides show it, and says why if not.
        """

        def coarseness(side: Side) -> tuple[bool, int, bool]:
            rank = PRECISIONS.index(side.precision)
            return not isinstance(side, Reference), rank, isinstance(side, FileSide)

        a, b = sorted((a, b), key=coarseness, reverse=True)
        rows, notes, ran = [], [], []
        if self.classifier and samples.kind == "random":
            notes.append(
                "Top-1 was not compared, as the classes of random inputs say nothing: give inputs "
                "of your own or a reference"
            )
        files = isinstance(a, FileSide) or isinstance(b, FileSide)
        for target in targets if files else (TENSORFLOW,):
            try:
                count = min(side.samples(target, samples.count) for side in (a, b))
            except NotRunError as reason:
                notes.append(str(reason))
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
            ran.append((target, count))
        # The first input that may be pictures.
        pictures = next((x for x in samples.first(FEW) if x.ndim == 4), None)
        found = Verification(tuple(rows), (), tuple(dict.fromkeys(notes)), pictures=pictures)
        if attention is False:
            return found
        try:
            for target, count in ran:
                some = samples.first(min(SAMPLES, count))
                sites, maps = compare_attention(a, b, some, target, self.limits, bool(attention))
                found += Verification(attention=tuple(sites), maps=tuple(maps))
        except LeftOutError as reason:
            found += Verification(notes=(f"Attention not compared: {reason}",))
        return found

    def _outputs(
        self, a: Side, b: Side, samples: Samples, target: Target, count: int
    ) -> OutputComparison:
        whole = count if isinstance(b, FileSide) else samples.count
        given = a.answer(samples.first(count), target)
        wanted = b.answer(samples.first(whole), target)
        # What is told of the run is told of a file, whichever side it is.
        ran = given if isinstance(a, FileSide) or not isinstance(b, FileSide) else wanted
        on_gpu = ran.ok and target.accelerator == "gpu"
        limit = self.limits.output(a.precision, target.gpu_precision)
        if isinstance(b, Reference):
            limit = allowed(a, self.limits, target.gpu_precision)
        outputs: tuple[OutputDifference, ...] = ()
        correct = None
        if given.outputs is not None and wanted.outputs is not None:
            # Their names may be others; the order is the same.
            expected = dict(zip(given.outputs, wanted.outputs.values(), strict=True))
            # The classes of random numbers say nothing.
            asked = False if samples.kind == "random" else self.classifier
            classifiers = find_classifiers(expected, samples.labels, asked)
            outputs = compare_outputs(given.outputs, expected, classifiers)
            correct = count_correct(given.outputs, expected, samples.labels)
        return OutputComparison(
            a.name,
            b.name,
            runtime=target.name,
            samples=count,
            limit=limit,
            snr_limit=self.limits.output_snr(a.precision),
            top1_limit=self.limits.agreement(a.precision),
            outputs=outputs,
            correct=correct,
            milliseconds=ran.milliseconds,
            adapter=ran.adapter,
            fully_accelerated=ran.fully_accelerated if on_gpu else None,
            gpu_precision=(ran.gpu_precision or "") if on_gpu else "",
            data=samples.kind,
            precision=a.precision,
            problem=given.problem or wanted.problem,
        )


def verify(
    a_path: str,
    b_path: str,
    *,
    judge: Judge,
    runner: Runner,
    targets: tuple[Target, ...],
    input_size: tuple[int, int] | None = None,
    inputs: str | None = None,
    require_gpu: bool = False,
) -> Verification:
    """Runs two sides, as `load_side` reads them, on the same inputs and compares their answers.

    These inputs are a reference's, or of an `.npz` file (`inputs`), or random numbers, then with
    images of `input_size`, `None` for 224, where neither side fixes it. With `require_gpu` it is an
    error that no GPU takes a file.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is none of these, or if the two do not belong together.
    """
    a, b = load_side(a_path, runner), load_side(b_path, runner)
    if a.name == b.name:
        a, b = replace(a, name=a_path), replace(b, name=b_path)
    for side in (a, b):
        if require_gpu and isinstance(side, FileSide):
            side.refuse_off_gpu()
    a, b, samples = common_samples(a, b, inputs, input_size)
    found = Verification(notes=a.notes + b.notes + samples.notes)
    found += judge.compare(a, b, samples, targets)
    if isinstance(b, Reference):
        found += explain(a, b, found, judge.limits)
        if b.layers:
            found += Verification(maps=attention_of(a, samples, targets))
    return found + Verification(maps=recorded_maps(samples.layers, found.maps))


def load_side(source: str, runner: Runner) -> Side:
    """One side: a `.keras` file, a `.tflite` file, which a runner runs, a reference, an `.npz`
    file, or a model by `module:function`.
    """
    path = Path(source)
    if path.suffix.lower() == ".npz":
        return load_reference(path)
    if path.suffix.lower() == ".tflite":
        return file_side(TfliteFile(path), path.name, runner)
    from converters.model_source import load_model
    from converters.start import start_tensorflow

    start_tensorflow()
    return keras_side(load_model(source), path.name)


def explain(model: Side, reference: Reference, found: Verification, limits: Limits) -> Verification:
    """Why a comparison with a reference fails: its likely cause, and where it begins to differ."""
    if all(row.passed or row.problem for row in found.comparisons):
        return Verification()
    notes = likely_cause(model, reference, limits), first_drift(model, reference, limits)
    return Verification(notes=tuple(filter(None, notes)))
