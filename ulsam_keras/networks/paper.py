"""The configurations of the ULSAM paper's tables, by name, with what the paper printed of them.

The printed numbers are those of the paper's slides and poster (Saini et al., WACV 2020). These do
not print the sites: where a ULSAM stands is worked out from the printed parameters and FLOPs.

Imports `ulsam_keras.networks`' modules; building a configuration needs Keras.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import keras

from ulsam_keras.networks.counts import Count, count
from ulsam_keras.networks.mobilenet_v1 import MobileNetV1
from ulsam_keras.networks.mobilenet_v2 import MobileNetV2

_NETWORKS = {"MobileNetV1": MobileNetV1, "MobileNetV2": MobileNetV2}
_MILLION = 1e6

# Top-1 and top-5 accuracy in percent; None where the paper prints only the first.
Accuracy = tuple[float, float | None]


@dataclass(frozen=True)
class Baseline:
    """A network without ULSAM, as the paper prints it.

    Attributes:
        network: `"MobileNetV1"` or `"MobileNetV2"`.
        alpha: The width multiplier.
        params_millions: Parameters as printed, in millions.
        flops_millions: Multiply-adds as printed, in millions.
        accuracy: Top-1 and top-5 accuracy in percent, by data set.
    """

    network: str
    alpha: float
    params_millions: str
    flops_millions: str
    accuracy: Mapping[str, Accuracy] = field(repr=False)

    def build(self, **kwargs: Any) -> keras.Model:
        """The network; `kwargs` are the other arguments of `MobileNetV1` or `MobileNetV2`."""
        return _NETWORKS[self.network](alpha=self.alpha, **kwargs)


@dataclass(frozen=True)
class PaperConfiguration:
    """One row of the paper's tables: a network, and where its ULSAM stand.

    Attributes:
        name: Its key in `PAPER`.
        baseline: The network without ULSAM.
        ulsam_after: The blocks that a ULSAM comes after.
        ulsam_instead_of: The blocks that a ULSAM takes the place of.
        certainty: What of the sites is certain and what is a reconstruction.
        params_millions: Parameters as printed, in millions.
        flops_millions: Multiply-adds as printed, in millions.
        flops_reproduced: Whether the sites give the printed multiply-adds, rounded or truncated.
            All give the printed parameters.
        accuracy: Top-1 and top-5 accuracy in percent, by data set and number of splits.
    """

    name: str
    baseline: Baseline
    params_millions: str
    flops_millions: str
    certainty: str
    ulsam_after: tuple[int, ...] = ()
    ulsam_instead_of: tuple[int, ...] = ()
    flops_reproduced: bool = True
    accuracy: Mapping[str, Mapping[int, Accuracy]] = field(default_factory=dict, repr=False)

    @property
    def network(self) -> str:
        """`"MobileNetV1"` or `"MobileNetV2"`."""
        return self.baseline.network

    @property
    def alpha(self) -> float:
        """The width multiplier."""
        return self.baseline.alpha

    def build(self, num_splits: int | Mapping[int, int] = 4, **kwargs: Any) -> keras.Model:
        """The network.

        Args:
            num_splits: The number of groups of every ULSAM. Defaults to 4.
            **kwargs: The other arguments of `MobileNetV1` or `MobileNetV2`, such as `input_shape`
                and `classes`.
        """
        return self.baseline.build(
            ulsam_after=self.ulsam_after,
            ulsam_instead_of=self.ulsam_instead_of,
            num_splits=num_splits,
            name=kwargs.pop("name", self.name),
            **kwargs,
        )

    def count_as_printed(self) -> tuple[float, float]:
        """Parameters and multiply-adds in millions, counted as the paper counted them.

        It started from its rounded numbers of the baseline, took off what the replaced blocks have
        in them (exactly, without batch normalization) and added `2 * C` parameters and
        `2 * C * H * W` multiply-adds for each ULSAM.
        """
        with_ulsam = count(self.build(), convention="paper")
        without = _baseline_count(self.network, self.alpha)
        params = with_ulsam.parameters - without.parameters
        flops = with_ulsam.multiply_adds - without.multiply_adds
        return (
            float(self.baseline.params_millions) + params / _MILLION,
            float(self.baseline.flops_millions) + flops / _MILLION,
        )


@cache
def _baseline_count(network: str, alpha: float) -> Count:
    return count(_NETWORKS[network](alpha=alpha), convention="paper")


_MV1_100 = Baseline(
    "MobileNetV1",
    1.0,
    "4.2",
    "569",
    {
        "ImageNet": (70.65, 89.76),
        "Food-101": (81.31, 95.24),
        "Birds": (62.88, 86.05),
        "Dogs": (62.2, 89.66),
    },
)
_MV1_075 = Baseline("MobileNetV1", 0.75, "2.6", "325", {"ImageNet": (67.48, 88.0)})
_MV1_050 = Baseline("MobileNetV1", 0.5, "1.3", "149", {"ImageNet": (63.22, 84.63)})
_MV2 = Baseline(
    "MobileNetV2",
    1.0,
    "3.4",
    "300",
    {"ImageNet": (71.25, 90.19), "Food-101": (81.51, 95.24), "Birds": (62.94, None)},
)

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {"mv1_1.0": _MV1_100, "mv1_0.75": _MV1_075, "mv1_0.50": _MV1_050, "mv2": _MV2}
)
"""The networks without ULSAM that the paper compares with, by name."""


# What is certain of the sites.
_CERTAIN = "Certain: no other set of bottlenecks gives the printed numbers."
_UP_TO_REPEAT = (
    "Certain but for which of the repeats: another bottleneck of the same shape gives the same "
    "numbers (8, 9 or 10; 12 or 13; 15 or 16)."
)
_REPLACED_512 = (
    "The kind of block, 512 channels at alpha 1 on a sixteenth of the input's size, is certain: no "
    "other that can be replaced gives the printed numbers, rounded or truncated. Which of the "
    "five, 7 to 11, is a guess."
)
_INSERTED_512 = (
    "A reconstruction. 512 channels at 14x14 fit, and of all places only 128 at 28x28, inside "
    "block 4, fits too. Which one, after block 6 to 11 or between the two convolutions of 7 to 11, "
    "is a guess."
)
_INSERTED_1024 = (
    "A reconstruction, likely but not certain: the places inside block 12 (512 channels at 7x7) "
    "and inside block 6 (256 at 14x14) print the same number."
)
_INSERTED_160 = (
    "A reconstruction: 160 channels at 7x7 are certain if the printed number was truncated. Which "
    "bottleneck, 14, 15 or 16, is a guess."
)
_UNEXPLAINED = (
    "The sites are those of mv2_G_in1k, and the printed parameters agree. The printed 224.16 M "
    "multiply-adds do not: no set of replaced bottlenecks gives them."
)

_ROWS = (
    PaperConfiguration(
        "mv1_ins_a",
        _MV1_100,
        "4.2",
        "569.2",
        _INSERTED_512,
        ulsam_after=(8,),
        accuracy={
            "ImageNet": {
                1: (70.69, 89.85),
                2: (70.84, 89.87),
                4: (70.77, 89.91),
                8: (70.59, 89.83),
                16: (70.89, 89.74),
            },
        },
    ),
    PaperConfiguration(
        "mv1_ins_b",
        _MV1_100,
        "4.2",
        "569.2",
        _INSERTED_512,
        ulsam_after=(10,),
        accuracy={
            "ImageNet": {
                1: (70.62, 89.86),
                2: (70.88, 89.88),
                4: (70.61, 89.79),
                8: (70.92, 89.98),
                16: (70.73, 89.78),
            },
        },
    ),
    PaperConfiguration(
        "mv1_ins_c",
        _MV1_100,
        "4.2",
        "569.1",
        _INSERTED_1024,
        ulsam_after=(12,),
        accuracy={
            "ImageNet": {
                1: (70.63, 89.6),
                2: (70.85, 89.97),
                4: (70.86, 89.85),
                8: (70.74, 89.81),
                16: (70.82, 90.05),
            },
        },
    ),
    PaperConfiguration(
        "mv1_sub_1.0",
        _MV1_100,
        "3.9",
        "517",
        _REPLACED_512,
        ulsam_instead_of=(11,),
        accuracy={
            "ImageNet": {
                1: (69.92, 89.25),
                2: (70.14, 89.67),
                4: (70.43, 89.92),
                8: (70.29, 89.96),
                16: (70.04, 89.98),
            },
            "Food-101": {1: (81.28, 95.5), 4: (81.3, 95.37), 8: (81.19, 95.41), 16: (81.62, 95.33)},
            "Birds": {1: (62.46, 86.01), 4: (63.52, 85.8), 8: (64.44, 86.6), 16: (63.47, 84.9)},
            "Dogs": {1: (62.73, 88.8), 4: (63.06, 89.58), 8: (63.3, 89.68), 16: (62.75, 89.35)},
        },
    ),
    PaperConfiguration(
        "mv1_sub_0.75",
        _MV1_075,
        "2.4",
        "296",
        _REPLACED_512,
        ulsam_instead_of=(11,),
        accuracy={
            "ImageNet": {1: (67.98, 88.06), 4: (67.81, 88.43)},
        },
    ),
    PaperConfiguration(
        "mv1_sub_0.50",
        _MV1_050,
        "1.2",
        "136",
        _REPLACED_512,
        ulsam_instead_of=(11,),
        accuracy={
            "ImageNet": {1: (63.42, 84.7), 4: (63.25, 84.81)},
        },
    ),
    PaperConfiguration(
        "mv2_ins",
        _MV2,
        "3.4",
        "300.01",
        _INSERTED_160,
        ulsam_after=(14,),
        accuracy={
            "ImageNet": {
                1: (71.31, 90.28),
                2: (71.39, 90.34),
                4: (71.64, 90.27),
                8: (71.35, 90.36),
                16: (71.42, 90.43),
            },
        },
    ),
    PaperConfiguration(
        "mv2_B",
        _MV2,
        "3.28",
        "277.34",
        _UP_TO_REPEAT,
        ulsam_instead_of=(13,),
        accuracy={
            "Food-101": {
                1: (81.67, 95.82),
                4: (81.71, 95.47),
                8: (81.76, 95.51),
                16: (81.94, 95.63),
            },
            "Birds": {1: (63.01, None), 4: (63.05, None), 8: (63.11, None), 16: (64.32, None)},
        },
    ),
    PaperConfiguration(
        "mv2_C",
        _MV2,
        "3.08",
        "284.54",
        _UP_TO_REPEAT,
        ulsam_instead_of=(16,),
        accuracy={
            "Food-101": {
                1: (82.05, 95.56),
                4: (82.02, 95.48),
                8: (81.74, 95.4),
                16: (81.54, 95.14),
            },
            "Birds": {1: (63.98, None), 4: (64.44, None), 8: (65.03, None), 16: (63.47, None)},
        },
    ),
    PaperConfiguration(
        "mv2_D",
        _MV2,
        "3.23",
        "267.06",
        _UP_TO_REPEAT,
        ulsam_instead_of=(10, 13),
        accuracy={
            "Birds": {1: (63.43, None), 4: (63.47, None), 8: (63.1, None), 16: (62.21, None)},
        },
    ),
    PaperConfiguration(
        "mv2_E",
        _MV2,
        "2.77",
        "269.08",
        _CERTAIN,
        ulsam_instead_of=(15, 16),
        accuracy={
            "Birds": {1: (64.19, None), 4: (64.57, None), 8: (64.61, None), 16: (65.03, None)},
        },
    ),
    PaperConfiguration(
        "mv2_E_in1k",
        _MV2,
        "2.77",
        "269.07",
        _CERTAIN,
        ulsam_instead_of=(15, 16),
        accuracy={
            "ImageNet": {4: (70.74, 89.15)},
        },
    ),
    PaperConfiguration(
        "mv2_F",
        _MV2,
        "2.97",
        "261.88",
        _UP_TO_REPEAT,
        ulsam_instead_of=(13, 16),
        accuracy={
            "Food-101": {
                1: (81.57, 95.44),
                4: (81.69, 95.36),
                8: (82.13, 95.42),
                16: (81.84, 95.4),
            },
            "Birds": {1: (63.35, None), 4: (64.7, None), 8: (65.41, None), 16: (63.31, None)},
        },
    ),
    PaperConfiguration(
        "mv2_F_in1k",
        _MV2,
        "2.96",
        "261.88",
        _UP_TO_REPEAT,
        ulsam_instead_of=(13, 16),
        accuracy={
            "ImageNet": {4: (71.52, 90.25)},
        },
    ),
    PaperConfiguration(
        "mv2_G",
        _MV2,
        "2.54",
        "224.16",
        _UNEXPLAINED,
        ulsam_instead_of=(12, 13, 15, 16),
        flops_reproduced=False,
        accuracy={
            "Food-101": {
                1: (82.38, 95.76),
                4: (82.31, 95.8),
                8: (82.59, 95.82),
                16: (82.91, 95.77),
            },
            "Birds": {1: (64.11, None), 4: (64.15, None), 8: (63.22, None), 16: (63.98, None)},
        },
    ),
    PaperConfiguration(
        "mv2_G_in1k",
        _MV2,
        "2.54",
        "223.77",
        _CERTAIN,
        ulsam_instead_of=(12, 13, 15, 16),
        accuracy={
            "ImageNet": {4: (69.72, 87.79)},
        },
    ),
)

PAPER: Mapping[str, PaperConfiguration] = MappingProxyType({row.name: row for row in _ROWS})
"""The rows of the paper's tables, by name.

A name tells the network and the table: `mv1_ins_a`, `mv1_ins_b` and `mv1_ins_c` are MobileNetV1
with one ULSAM inserted, `mv1_sub_1.0`, `mv1_sub_0.75` and `mv1_sub_0.50` MobileNetV1 at three
widths with one block replaced; `mv2_ins` is MobileNetV2 with one ULSAM inserted, `mv2_B` to
`mv2_G` have one to four bottlenecks replaced. Three of these the paper prints again, with other
digits, for ImageNet: `mv2_E_in1k`, `mv2_F_in1k` and `mv2_G_in1k`.

The paper prints no sites; those here are worked out from the printed parameters and multiply-adds.

* Certain: `mv2_E`, `mv2_E_in1k` and `mv2_G_in1k`.
* Certain but for which of several blocks of one shape: `mv1_sub_*`, `mv2_B`, `mv2_C`, `mv2_D`,
  `mv2_F` and `mv2_F_in1k`.
* Reconstructions with a choice of places: `mv1_ins_*` and `mv2_ins`.
* `mv2_G`: the sites give the printed parameters, but no set of replaced bottlenecks gives the
  printed 224.16 M multiply-adds; these sites give 223.77 M, which the paper prints for ImageNet.

Each entry's `certainty` says it for that row. Accuracies are as printed; nothing here was trained.

Example:

>>> PAPER["mv2_G_in1k"].ulsam_instead_of
(12, 13, 15, 16)
>>> model = PAPER["mv2_G_in1k"].build(num_splits=4, classes=10, input_shape=(96, 96, 3))
"""
