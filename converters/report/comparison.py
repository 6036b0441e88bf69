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
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the outputs are as near as they should be."""
        if self.problem or self.difference is None:
            return False
        # Written so that a NaN does not hold.
        near = self.difference <= self.limit
        return near and (self.agreement is None or self.agreement >= self.least_agreement)


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
    milliseconds: float | None = None,
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
        milliseconds: Median time of one run.
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
        milliseconds=milliseconds,
    )
