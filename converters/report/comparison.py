"""What a verification measures, and when it holds. Imports NumPy only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from converters.runtime import compare


@dataclass(frozen=True)
class Comparison:
    """One model's outputs beside those that they should be.

    Attributes:
        subject: What was run: `"keras"`, `"float32"` and so on.
        reference: What it is compared with: `"pytorch"` or `"keras"`.
        kernels: What ran it: `"TensorFlow"`, `"XNNPACK"`, `"reference"`, …
        difference: Largest absolute difference of any output, relative to the largest absolute
            value of the reference; `None` if it did not run.
        limit: Largest difference that holds.
        agreement: Share of samples with the same top-1 class; `None` without a classifier's
            recorded inputs.
        least_agreement: Smallest agreement that holds.
        correct: Number of samples whose top-1 class is the label; `None` without labels.
        samples: Number of samples compared.
        milliseconds: Median time of one run on one sample; `None` if it was not timed.
        adapter: What ran it, in the runtime's own words.
        fully_accelerated: Whether every operator was on the GPU; `None` on the CPU.
        gpu_precision: The precision that really ran; empty if it is not known.
        problem: Why it did not run, in one line; empty if it did.
    """

    subject: str
    reference: str
    kernels: str
    difference: float | None
    limit: float
    agreement: float | None = None
    least_agreement: float = 0.0
    correct: int | None = None
    samples: int = 0
    milliseconds: float | None = None
    adapter: str = ""
    fully_accelerated: bool | None = None
    gpu_precision: str = ""
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the outputs are as near as they should be."""
        if self.problem or self.difference is None or self.fully_accelerated is False:
            return False
        # Written so that a NaN does not hold.
        near = self.difference <= self.limit
        return near and (self.agreement is None or self.agreement >= self.least_agreement)


@dataclass(frozen=True)
class AttentionComparison:
    """The attention of one site beside Keras's.

    Attributes:
        subject: Precision of the file.
        site: Name of the ULSAM layer.
        kernels: What ran it.
        limit: Largest relative error that holds.
        relative_error: Largest absolute difference of any attention, relative to the largest
            attention; `None` if it did not run. A dead map, all zeros, has 1.
        correlation: Smallest correlation of one map with its reference.
        row_sum_error: Largest distance from 1 of the sum over a map.
        map_size: Height and width.
        problem: Why it did not run; empty if it did.
    """

    subject: str
    site: str
    kernels: str
    limit: float
    relative_error: float | None = None
    correlation: float | None = None
    row_sum_error: float | None = None
    map_size: tuple[int, int] | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the attention is as near as it should be."""
        return (
            not self.problem
            and self.relative_error is not None
            and (self.relative_error <= self.limit)
        )


def measure(
    subject: str,
    outputs: Mapping[str, np.ndarray],
    reference: str,
    expected: Mapping[str, np.ndarray],
    *,
    kernels: str,
    limit: float,
    least_agreement: float,
    real_inputs: bool,
    labels: np.ndarray | None = None,
) -> Comparison:
    """Compares outputs with those expected, by output name.

    Args:
        subject: What was run.
        outputs: Its outputs by name, the samples first.
        reference: What it is compared with.
        expected: The reference's outputs, by the same names.
        kernels: What ran the subject.
        limit: Largest relative difference that holds.
        least_agreement: Smallest share of equal top-1 classes that holds.
        real_inputs: Whether the inputs were recorded ones; the classes of noise say nothing.
        labels: True classes, `(N,)`.
    """
    differences = compare(dict(outputs), dict(expected))
    first = next(iter(expected))
    ours, theirs = outputs[first], expected[first]
    classifies = real_inputs and len(expected) == 1 and theirs.ndim == 2 and theirs.shape[1] > 1
    top1 = ours.argmax(1) if classifies else None
    return Comparison(
        subject=subject,
        reference=reference,
        kernels=kernels,
        difference=max(d.largest for d in differences.values()),
        limit=limit,
        agreement=None if top1 is None else float((top1 == theirs.argmax(1)).mean()),
        least_agreement=least_agreement,
        correct=None if top1 is None or labels is None else int((top1 == labels).sum()),
        samples=len(theirs),
    )
