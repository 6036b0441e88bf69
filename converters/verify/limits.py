"""How near is near enough: every limit of a comparison, with its reason, in one place.

Imports the standard library only, so that the command can say the limits without loading NumPy.
"""

from dataclasses import dataclass
from math import exp, fsum, inf, lgamma, log

# The finest first: two models are as near as the coarser of them is.
PRECISIONS = ("float32", "float16", "dynamic_range", "int16x8", "int8")
# Seconds that one run of a file may take.
TIMEOUT = 300.0
# Too few equal classes are a failure where chance would give as few in one of a hundred runs.
SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Limits:
    """What passes.

    Differences are the largest absolute one, relative to the reference's largest absolute value.
    Signal-to-noise ratios (SNR) are in dB, the mean over the samples taken off the signal, so that
    a bias that all samples share is no signal: 10 dB is where a tenth of the energy that tells the
    samples apart is error.

    Attributes:
        reference: Difference of Keras from the recorded outputs: the order of sums, no more.
        float32: Difference of the float32 file from Keras: likewise.
        float16: Of the float16 file: weights rounded to 11 bits.
        dynamic_range: Of the dynamic range file: weights rounded to 8 bits, and activations around
            each convolution.
        int8: Of the int8 file: weights and activations rounded to 8 bits.
        int16x8: Of the int16x8 file: weights rounded to 8 bits.
        gpu_float16: What float16 arithmetic on the GPU adds to the difference.
        snr_dynamic_range: Least SNR of every output of the dynamic range file. The trained digits
            network has 43, small networks of random weights 36 and 43, whatever their bias.
        snr_int8: Of the int8 file. The digits network has 35, with no other class on 360 images; a
            MobileNetV2 of 2 to 6 channels 20, with 5 % other classes and 1.4 points less accuracy;
            trained from another seed 10, with 15 % and 7.8 points. Classifiers whose bias hides
            what they say have 0.6, with 22 % other classes, and 2.6, with 52 %.
        snr_int16x8: Of the int16x8 file, whose weights are rounded to 8 bits and whose activations
            lose nothing: 38 for the digits network, 23 and 28 for the two narrow ones.
        attention_float32: Difference of the attention of a site in the float32 file. The
            exponential turns a relative error of the scores, which reach ten and more, into ten
            times that of the attention: ten times the limit of the outputs, here and below.
        attention_float16: In the float16 file.
        attention_dynamic_range: In the dynamic range file.
        attention_gpu_float16: What float16 arithmetic on the GPU adds.
        attention_snr: Least SNR of the attention of a site in a file of integers; below, the
            attention is dead: it points elsewhere than the model's. And in every file that of its
            pattern, each map's mean taken off: an attention that is the same everywhere has 0,
            float files 66 and more, int8 files 19 to 27 where the output shows the pattern.
        top1: Least share of samples whose top-1 class is the same. It fails where the share of the
            samples that were run is so low that an exact binomial test rejects the limit at 1 %.
        top1_integer: The same in a file of integers, whose rounding turns the closest decisions one
            way or the other without a loss of accuracy: 98.3 % the same in int8 on a MobileNetV2
            (alpha 0.35) that was right on 94.7 % before and on 95.8 % after; 97.0 % in int16x8 on a
            narrow one, right on 89.6 % and 89.4 %.
    """

    reference: float = 1e-4
    float32: float = 1e-4
    float16: float = 5e-3
    dynamic_range: float = 5e-2
    int8: float = 2e-1
    int16x8: float = 1e-1
    gpu_float16: float = 2e-2
    snr_dynamic_range: float = 20.0
    snr_int8: float = 15.0
    snr_int16x8: float = 15.0
    attention_float32: float = 1e-3
    attention_float16: float = 5e-2
    attention_dynamic_range: float = 2e-1
    attention_gpu_float16: float = 1e-1
    attention_snr: float = 10.0
    top1: float = 0.99
    top1_integer: float = 0.95

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < inf:
                raise ValueError(f"A limit must be at least 0. Received: {name}={value!r}")

    def output(self, precision: str, gpu_precision: str | None = None) -> float:
        """The largest difference of a file's outputs that passes."""
        return getattr(self, precision) + self.gpu_float16 * (gpu_precision == "float16")

    def output_snr(self, precision: str) -> float | None:
        """The least SNR of a file's outputs that passes; `None` for files of floats."""
        return getattr(self, f"snr_{precision}", None)

    def attention(self, precision: str, gpu_precision: str | None = None) -> float | None:
        """The largest difference of the attention that passes; `None` for files of integers."""
        limit = getattr(self, f"attention_{precision}", None)
        extra = self.attention_gpu_float16 * (gpu_precision == "float16")
        return None if limit is None else limit + extra

    def least_attention_snr(self, precision: str) -> float | None:
        """The least SNR of the attention that passes; `None` for files of floats."""
        return self.attention_snr if precision in ("int8", "int16x8") else None

    def agreement(self, precision: str) -> float:
        """The least share of equal top-1 classes."""
        return self.top1_integer if precision in ("int8", "int16x8") else self.top1


def rejected(equal: int, samples: int, share: float) -> bool:
    """Whether so few equal classes show that the true share is below a limit.

    An exact binomial test: whether the chance of `equal` or fewer of `samples`, each the same with
    probability `share`, is below `SIGNIFICANCE`.
    """
    different = samples - equal
    if not 0 < share < 1 or not different:
        return share >= 1 and different > 0

    def chance(k: int) -> float:  # that exactly k differ
        ways = lgamma(samples + 1) - lgamma(k + 1) - lgamma(samples - k + 1)
        return exp(ways + k * log(1 - share) + (samples - k) * log(share))

    return 1 - fsum(chance(k) for k in range(different)) < SIGNIFICANCE
