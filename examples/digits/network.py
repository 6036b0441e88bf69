"""The digits network in PyTorch: a small MobileNetV2-style classifier with three ULSAM.

Two of them come right after a residual addition, one after a block without one; they work on 16,
32 and 48 channels. `model.py` is its twin in Keras. Imports PyTorch and `torch_ulsam.py` only.
"""

from __future__ import annotations

import torch
from torch import nn

from torch_ulsam import ULSAM

CLASSES = 10
NUM_SPLITS = 4


class ConvNorm(nn.Module):
    """Convolution without bias, padded symmetrically, then batch normalization, then ReLU6."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the feature map, `(N, out_channels, H / stride, W / stride)`."""
        x = self.norm(self.conv(x))
        return nn.functional.relu6(x) if self.activate else x


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual, expanding the channels by a factor of four."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 4 * in_channels
        self.expand = ConvNorm(in_channels, hidden)
        self.depthwise = ConvNorm(hidden, hidden, kernel_size=3, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, activate=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the feature map, `(N, out_channels, H / stride, W / stride)`."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class DigitsNet(nn.Module):
    """Ten-class classifier of small RGB pictures.

    Shape:
        `(N, 3, 32, 32)` floats in [0, 1] in, `(N, 10)` logits out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, kernel_size=3, stride=2)  # 16 x 16
        self.block1 = Bottleneck(16, 16)
        self.ulsam1 = ULSAM(16, NUM_SPLITS)
        self.block2 = Bottleneck(16, 32, stride=2)  # 8 x 8
        self.block3 = Bottleneck(32, 32)
        self.ulsam2 = ULSAM(32, NUM_SPLITS)
        self.block4 = Bottleneck(32, 48)
        self.ulsam3 = ULSAM(48, NUM_SPLITS)
        self.head = ConvNorm(48, 96)
        self.classifier = nn.Linear(96, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits, `(N, 10)`."""
        x = self.ulsam1(self.block1(self.stem(x)))
        x = self.ulsam2(self.block3(self.block2(x)))
        x = self.head(self.ulsam3(self.block4(x)))
        return self.classifier(x.mean(dim=(2, 3)))


def attention_maps(network: DigitsNet, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns every ULSAM's attention on the images, `(N, num_splits, H, W)`, by module name."""
    maps = {}

    def record(name):
        def hook(module, inputs):
            maps[name] = module.attention(inputs[0])

        return hook

    hooks = [
        module.register_forward_pre_hook(record(name))
        for name, module in network.named_modules()
        if isinstance(module, ULSAM)
    ]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def peakedness(attention: torch.Tensor) -> torch.Tensor:
    """Returns the largest over the mean attention, averaged over the images, for each group.

    It is 1 for an attention that has died (all positions equal) and H * W for a single position.
    """
    flat = attention.flatten(start_dim=2)
    return (flat.amax(dim=2) / flat.mean(dim=2)).mean(dim=0)
