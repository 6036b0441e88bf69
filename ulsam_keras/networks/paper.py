"""The configurations of the ULSAM paper's tables, by name, with what the paper printed of them.

The printed numbers are those of the paper's slides and poster (Saini et al., WACV 2020). These do
not print the sites: where a ULSAM stands is worked out from the printed parameters and FLOPs.
`paper.json` holds the numbers.

Imports `ulsam_keras.networks`' modules; building a configuration needs Keras.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
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


def _accuracies(printed: Any) -> dict[Any, Any]:
    """Lists of JSON as pairs, and its keys as numbers of splits where they are such."""
    return {
        int(key) if key.isdigit() else key: tuple(value) if isinstance(value, list) else value
        for key, value in printed.items()
    }


_PRINTED = json.loads(
    (resources.files("ulsam_keras.networks") / "paper.json").read_text(encoding="utf-8"),
    object_hook=_accuracies,
)

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {name: Baseline(**row) for name, row in _PRINTED["baselines"].items()}
)
"""The networks without ULSAM that the paper compares with, by name."""


PAPER: Mapping[str, PaperConfiguration] = MappingProxyType(
    {
        name: PaperConfiguration(
            name,
            **{
                **row,
                "baseline": BASELINES[row["baseline"]],
                "certainty": _PRINTED["certainty"][row["certainty"]],
            },
        )
        for name, row in _PRINTED["rows"].items()
    }
)
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
