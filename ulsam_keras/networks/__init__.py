"""MobileNetV1 and MobileNetV2 with ULSAM, the configurations of the paper, and their counts."""

from ulsam_keras.networks.counts import Count, LayerCount, count
from ulsam_keras.networks.mobilenet_v1 import MobileNetV1
from ulsam_keras.networks.mobilenet_v2 import MobileNetV2
from ulsam_keras.networks.outputs import block_output_names
from ulsam_keras.networks.paper import BASELINES, PAPER, Baseline, PaperConfiguration

__all__ = [
    "BASELINES",
    "PAPER",
    "Baseline",
    "Count",
    "LayerCount",
    "MobileNetV1",
    "MobileNetV2",
    "PaperConfiguration",
    "block_output_names",
    "count",
]
