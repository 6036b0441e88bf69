"""What holds in a comparison of two sides: limits of the user's own, or those of a precision.

Imports the default limits only.
"""

from dataclasses import dataclass

from converters.verification import Target, Tolerances


@dataclass(frozen=True)
class Limits:
    """What holds: the user's own limits, or those of a precision."""

    precision: str
    outputs: float | None
    attention_error: float | None
    snr: float
    top1: float

    def output(self, target: Target) -> float:
        default = Tolerances().output(self.precision, target)
        return default if self.outputs is None else self.outputs

    def attention(self, target: Target) -> float:
        default = Tolerances().attention(self.precision, target)
        return default if self.attention_error is None else self.attention_error
