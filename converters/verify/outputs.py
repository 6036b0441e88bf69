"""How far outputs are from those that they should be. Imports NumPy and the limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from converters.verify.limits import rejected

# Below it, the values that an output has on different samples differ by float32's own rounding.
_CONSTANT = 1e-6
# Sums of a softmax's float16 values are off 1 by as much.
_SUM_OF_SHARES = 5e-3


@dataclass(frozen=True)
class OutputDifference:
    """One output beside the one that it should be.

    Attributes:
        name: The output.
        difference: Largest absolute difference, relative to the largest absolute value of the
            reference; infinite where one of the two is NaN or infinite and the other is not, NaN
            where nothing is finite. Of whole numbers the share that differs.
        snr: Energy of the reference, its mean over the samples taken off, over that of the
            difference, in dB; `None` where the reference is the same for every sample.
        sample_snr: The same with the mean of each sample taken off too, from the reference and
            from the difference: what tells the classes of a sample apart. `None` where there are
            no classes.
        channel_snr: The SNR of the middle channel: half of them keep less. A detector's scores of 0
            to 1 beside boxes of hundreds of pixels are nothing in the ratio of the whole output.
        equal: Number of samples with the same top-1 class, `None` likewise; of an output of whole
            numbers how many are the same.
        masks_differ: Whether NaN or infinite values are at other places than the reference's.
        numbers: How many whole numbers the output has, if it is one of such: classes or counts,
            whose size says nothing of how near they are.
    """

    name: str
    difference: float
    snr: float | None = None
    sample_snr: float | None = None
    channel_snr: float | None = None
    equal: int | None = None
    masks_differ: bool = False
    numbers: int | None = None

    @property
    def least_snr(self) -> float | None:
        """The smaller of the ratios that there are."""
        return _least((self.snr, self.sample_snr))


@dataclass(frozen=True)
class OutputComparison:
    """One model's outputs beside those that they should be.

    Attributes:
        subject: What was run: `"keras"`, `"float32"` and so on, or a file's name.
        reference: What it is compared with: `"pytorch"`, `"keras"`, or a file's name.
        runtime: What ran the subject: `"TensorFlow"`, `"XNNPACK"`, `"reference"`, …
        samples: Number of samples compared.
        limit: Largest difference that passes.
        snr_limit: Least SNR that passes, in dB; `None` where none is asked for.
        top1_limit: Least share of equal top-1 classes.
        outputs: What was found of each output; empty if it did not run.
        correct: Number of samples whose top-1 class is the label; `None` without labels.
        milliseconds: Median time of one run on one batch; `None` if it was not timed.
        adapter: What ran it, in the runtime's own words.
        fully_accelerated: Whether every operator was on the GPU; `None` on the CPU.
        gpu_precision: The precision that the GPU really computed in; empty on the CPU.
        data: Where the samples come from, as `samples` of the whole report.
        precision: The coarser of the two precisions, whose limits hold.
        problem: Why it did not run, in one line; empty if it did.
    """

    subject: str
    reference: str
    runtime: str
    samples: int
    limit: float
    snr_limit: float | None = None
    top1_limit: float = 0.0
    outputs: tuple[OutputDifference, ...] = field(default=())
    correct: int | None = None
    milliseconds: float | None = None
    adapter: str = ""
    fully_accelerated: bool | None = None
    gpu_precision: str = ""
    data: str = ""
    precision: str = "float32"
    problem: str = ""

    @property
    def difference(self) -> float | None:
        """The largest difference of any output."""
        return max((output.difference for output in self.outputs), default=None)

    @property
    def snr(self) -> float | None:
        """The smallest SNR of any output."""
        return _least(output.least_snr for output in self.outputs)

    @property
    def top1(self) -> float | None:
        """The smallest share of equal top-1 classes of any classifier."""
        equal = _least(output.equal for output in self.outputs if output.numbers is None)
        return None if equal is None else equal / self.samples

    @property
    def failures(self) -> list[str]:
        """What does not pass, in words; empty if all does."""
        if self.problem:
            return [self.problem]
        found = ["not every operator ran on the GPU"] if self.fully_accelerated is False else []
        for output in self.outputs:
            name, snr, count = output.name, output.least_snr, output.numbers or self.samples
            if output.masks_differ:
                found.append(f"{name}: NaN or infinite values at other places")
            # Written so that a NaN does not pass.
            elif output.numbers is None and not output.difference <= self.limit:
                found.append(f"{name}: difference {output.difference:.1e}")
            if self.snr_limit is not None and snr is not None and not snr >= self.snr_limit:
                found.append(f"{name}: SNR {snr:.1f} dB")
            elif self.snr_limit and output.channel_snr is not None and output.channel_snr < 0:
                found.append(f"{name}: half of its channels are lost")
            if output.equal is not None and rejected(output.equal, count, self.top1_limit):
                what = "top-1 equal on" if output.numbers is None else "equal in"
                found.append(f"{name}: {what} {output.equal} of {count}")
        return found

    @property
    def undecided(self) -> bool:
        """Whether nothing tells if a file of rounded numbers keeps what tells samples apart.

        Its largest difference is small, and every output is the same for all samples.
        """
        several = self.samples > 1
        judged = (o.snr is not None or (several and o.numbers is not None) for o in self.outputs)
        return self.snr_limit is not None and bool(self.outputs) and not any(judged)

    @property
    def passed(self) -> bool:
        """Whether the outputs are as near as they should be."""
        return bool(self.outputs) and not self.failures


def compare_outputs(
    outputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    classifiers: set[str] | frozenset[str] = frozenset(),
) -> tuple[OutputDifference, ...]:
    """Compares outputs with those expected, by output name, the samples first.

    Those expected may be of more samples behind the same: the signal is taken from all, as a few
    say little of what samples share. Of `classifiers` the largest value is a class.
    """
    return tuple(
        _difference(name, outputs[name], wanted, name in classifiers)
        for name, wanted in expected.items()
    )


def class_count(output: np.ndarray) -> int:
    """The classes that an output can tell apart: of `(N, k)` k, of one value two; of others 0."""
    return max(output.shape[1], 2) if output.ndim == 2 else 0


def classes_of(output: np.ndarray) -> np.ndarray:
    """The class of every sample by an output with a `class_count`.

    Of `(N, k)` the place of the largest value. Of `(N, 1)` 1 where the value is above 0.5 if all
    are shares, 0 to 1, as a sigmoid gives them; else where it is above 0.
    """
    if output.shape[1] > 1:
        return np.where(np.isnan(output), -np.inf, output).argmax(axis=1)  # NaN is no largest value
    shares = ((output >= 0) & (output <= 1)).all()
    return (output[:, 0] > (0.5 if shares else 0)).astype(int)


def find_classifiers(
    expected: Mapping[str, np.ndarray], labels: np.ndarray | None, asked: bool | None
) -> set[str]:
    """The outputs whose largest value is a class.

    Of the outputs `(N, k)`, k above 1, all or none if the user has said (`asked`) that the model is
    a classifier or that it is none; else that which `labels`, the true classes, are of, and those
    that are shares, not negative and of the sum 1, as a softmax gives them.
    """
    several = {n: v for n, v in expected.items() if v.ndim == 2 and v.shape[1] > 1}
    if asked is not None:
        return set(several) if asked else set()
    labelled = labelled_output(expected, labels)
    return {name for name, value in several.items() if name == labelled or _shares(value)}


def labelled_output(expected: Mapping[str, np.ndarray], labels: np.ndarray | None) -> str | None:
    """The output that labels, the true classes, are of: that of a reference that agrees most."""
    if labels is None:
        return None
    right = {
        name: _hits(value, labels)
        for name, value in expected.items()
        if class_count(value) > labels.max(initial=0)
    }
    return max(right, key=lambda name: right[name], default=None)


def count_correct(
    outputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    labels: np.ndarray | None,
) -> int | None:
    """How many samples the output that labels are of is right on; `None` if they are of none."""
    name = labelled_output(expected, labels)
    return None if labels is None or name is None else _hits(outputs[name], labels)


def _hits(output: np.ndarray, labels: np.ndarray) -> int:
    classes = classes_of(output)
    return int((classes == labels[: len(classes)]).sum())


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _shares(value: np.ndarray) -> bool:
    """Whether every row is of shares, as a softmax gives them."""
    return bool((value >= 0).all() and (np.abs(value.sum(axis=1) - 1) < _SUM_OF_SHARES).all())


def relative_difference(value: np.ndarray, reference: np.ndarray) -> float:
    """The `difference` of `OutputDifference`, of any numbers; of nothing finite it is 0."""
    if value.shape != reference.shape:
        raise ValueError(
            f"Both sides must have the same shape. Received: {value.shape} and {reference.shape}"
        )
    if not _same_mask(value, reference):
        return float("inf")
    finite = np.isfinite(reference)
    wanted = reference[finite].astype("float64")
    largest = float(np.abs(value[finite].astype("float64") - wanted).max(initial=0.0))
    scale = float(np.abs(wanted).max(initial=0.0))
    return largest / scale if scale else float("inf") if largest else 0.0


def decibels(signal: np.ndarray, error: np.ndarray) -> float:
    """Ten times the logarithm of the ratio of two energies; infinite without an error."""
    wanted, noise = (float(np.square(part, dtype="float64").sum()) for part in (signal, error))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(wanted / noise)) if wanted else float("-inf")


def centred(values: np.ndarray, *axes: int) -> np.ndarray:
    """Values with their mean over axes taken off."""
    return values - values.mean(axis=axes, keepdims=True)


def _difference(
    name: str, value: np.ndarray, whole: np.ndarray, classifies: bool
) -> OutputDifference:
    reference = whole[: len(value)]
    largest = relative_difference(value, reference)
    if value.dtype.kind in "iub" and reference.dtype.kind in "iub":
        equal = int((value == reference).sum())
        share = 1 - equal / max(value.size, 1)
        return OutputDifference(name, share, equal=equal, numbers=value.size)
    finite = np.isfinite(reference)
    if largest == 0 and finite.size and not finite.any():  # nothing was compared
        largest = float("nan")
    if not np.isfinite(largest):
        return OutputDifference(name, largest, masks_differ=not _same_mask(value, reference))
    error = np.where(finite, value, 0).astype("float64") - np.where(finite, reference, 0)
    wanted = np.where(np.isfinite(whole), whole, 0).astype("float64")
    signal = centred(wanted, 0)
    # Element by element: a mask of -1e9 is constant, and what stands beside it is not.
    varies = np.abs(signal).max(axis=0) > _CONSTANT * np.abs(wanted).max(axis=0)
    snr = sample_snr = channel_snr = None
    if len(wanted) > 1 and varies.any():
        # Nor may it hide what is off beside it.
        scale = np.abs(wanted[:, varies]).max()
        largest = max(largest, float(np.abs(error[:, varies]).max(initial=0.0) / scale))
        # As many samples of the one as of the other.
        signal *= (len(reference) / len(whole)) ** 0.5
        snr, channel_snr = decibels(signal, error), _of_channels(signal * varies, error)
        if classifies:
            sample_snr = decibels(centred(signal, 1), centred(error, 1))
    same = int((classes_of(value) == classes_of(reference)).sum()) if classifies else None
    return OutputDifference(name, largest, snr, sample_snr, channel_snr, same)


def _of_channels(signal: np.ndarray, error: np.ndarray) -> float | None:
    """The SNR of the middle channel that varies, channels being last or second."""
    found = []
    for axis in {1, signal.ndim - 1} - {0}:
        others = tuple(i for i in range(signal.ndim) if i != axis)
        wanted, noise = (np.square(part).sum(axis=others) for part in (signal, error))
        varies = wanted > 0
        with np.errstate(divide="ignore"):
            found.append(float(np.median(-10 * np.log10(noise[varies] / wanted[varies]))))
    return min(found, default=None)


def _same_mask(value: np.ndarray, reference: np.ndarray) -> bool:
    """Whether NaN and infinities are at the same places, and the same ones."""
    finite = np.isfinite(reference)
    same = np.array_equal(value[~finite], reference[~finite], equal_nan=True)
    return same and bool(np.isfinite(value[finite]).all())
