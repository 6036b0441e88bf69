"""The networks of the zoo: where each comes from, and its input.

Imports PyTorch and the tests' `hosts`; torchvision and timm inside functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from hosts import HOSTS


class Heads(nn.Module):
    """A detector of torchvision up to its decoding: backbone and heads, a dictionary of tensors."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Class logits and boxes of every anchor."""
        return self.head(list(self.backbone(images).values()))


def torchvision_network(name: str) -> nn.Module:
    """A network of torchvision, random weights."""
    import torchvision

    options = {"weights": None}
    if name.startswith(("googlenet", "inception")):
        options["init_weights"] = False
    if "ssdlite" in name or "raspp" in name or "deeplab" in name:
        options["weights_backbone"] = None
    network = torchvision.models.get_model(name, **options)
    return Heads(network) if "ssdlite" in name else network


def timm_network(name: str) -> nn.Module:
    """A network of timm, random weights."""
    import timm

    return timm.create_model(name, pretrained=False)


def host(name: str) -> nn.Module:
    """One of the hosts with ULSAM that the tests are made of, at full size."""
    return HOSTS[name].build()


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        family: The rows of the table it stands in.
        build: Makes it.
        size: Height and width of its input; None where the network itself says.
        free_batch: Whether the exported program leaves the batch free.
    """

    family: str
    build: Callable[[str], nn.Module]
    size: int | None = 224
    free_batch: bool = False

    def shape(self, name: str, network: nn.Module) -> tuple[int, ...]:
        """The shape of a sample."""
        if self.build is host:
            return HOSTS[name].shape
        if self.build is timm_network:
            return tuple(network.default_cfg["input_size"])
        return (3, self.size, self.size)


def _entries(family, build, names, **options) -> dict[str, Entry]:
    return {name: Entry(family, build, **options) for name in names.split()}


MOBILE = "mobile families"

NETWORKS: dict[str, Entry] = {
    **_entries(
        MOBILE,
        torchvision_network,
        "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet1_0 "
        "shufflenet_v2_x0_5 shufflenet_v2_x1_0 efficientnet_b0 squeezenet1_1",
    ),
    **_entries(
        MOBILE,
        timm_network,
        "mobilenetv1_100 mobilenetv2_100 mobilenetv3_small_050 mobilenetv4_conv_small "
        "mobilenetv4_hybrid_medium tf_mobilenetv3_small_minimal_100 mobilenet_edgetpu_v2_xs "
        "mnasnet_small semnasnet_075 fbnetc_100 fbnetv3_b spnasnet_100 mixnet_s "
        "efficientnet_lite0 tf_efficientnet_lite0 ghostnet_100 ghostnetv2_100 ghostnetv3_100 "
        "repghostnet_050 tinynet_e lcnet_050 hardcorenas_a repvgg_a0 mobileone_s0 fastvit_t8 "
        "efficientformer_l1 efficientformerv2_s0",
    ),
    # With a free batch the exporter takes minutes for hundreds of subspaces.
    **_entries("hosts with ULSAM", host, " ".join(HOSTS), free_batch=True),
    **_entries("hosts with ULSAM", host, "restoration nuclei resnet50_ulsam"),
    **_entries(
        "segmentation and detection",
        torchvision_network,
        "lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large",
        size=320,
    ),
    **_entries(
        "segmentation and detection",
        torchvision_network,
        "ssdlite320_mobilenet_v3_large",
        size=320,
    ),
    **_entries(
        "torchvision",
        torchvision_network,
        "resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 googlenet "
        "regnet_x_400mf regnet_y_400mf efficientnet_v2_s convnext_tiny swin_t swin_v2_t "
        "maxvit_t vit_b_32 alexnet vgg11_bn",
    ),
    **_entries("torchvision", torchvision_network, "inception_v3", size=299),
    **_entries(
        "timm",
        timm_network,
        "edgenext_xx_small efficientvit_b0 efficientvit_m0 mobilevit_xxs mobilevitv2_050 "
        "vit_tiny_patch16_224 poolformer_s12 convnextv2_atto resnet10t resnest14d cspresnet50 "
        "dla34 hrnet_w18_small res2net50_26w_4s pvt_v2_b0 levit_128s mixer_s32_224 "
        "inception_next_atto repvit_m1 rexnet_100 ese_vovnet19b_dw gernet_s hgnetv2_b0 "
        "starnet_s1 swiftformer_xs tiny_vit_5m_224 xcit_nano_12_p16_224 resnetv2_50 "
        "visformer_tiny fasternet_t0",
    ),
}
