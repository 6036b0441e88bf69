"""MobileNetV1 and MobileNetV2 in PyTorch, with ULSAM, in the layouts that checkpoints come in.

Written from the tables of the two papers and the names of the layouts' state dicts:

* `TorchvisionV2`: `features.{i}.conv.0.0.weight`, ..., `classifier.1.weight`;
* `TonylinsV2`: `features.{i}.conv.{0..7}`, `classifier.weight`; widths rounded up, the stem and
  the first bottleneck as wide at every alpha; `expand_first=True` for its older form, whose first
  bottleneck expands by 1;
* `MarvisV1`: `model.{i}.{0,1,3,4}`, `fc.weight`.

All take `after` and `instead_of`, block number to number of splits. In place of block i a ULSAM has
the keys `features.{i}.subspaces.{k}.`; after a block it is one more module of the `nn.Sequential`,
so that every later index shifts by one.

Imports PyTorch and `torch_reference` only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from torch_reference import ULSAM

NONE: Mapping[int, int] = {}

V1_STEM = 32
# Channels and stride of the 13 blocks.
V1_BLOCKS = (
    [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    + [(512, 1)] * 5
    + [(1024, 2), (1024, 1)]
)
V2_STEM, V2_HEAD = 32, 1280
# Expansion, channels, repeats and first stride, as in the paper's table 2.
V2_TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def nearest_multiple_of_8(width: float) -> int:
    """torchvision's rounding."""
    rounded = max(8, math.floor((width + 4) / 8) * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def next_multiple_of_8(width: float) -> int:
    """tonylins' rounding."""
    return math.ceil(width / 8) * 8


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every weight and running statistic a random value; activations keep their scale."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                noise = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(noise * math.sqrt(2 / fan_in))
                if module.bias is not None:
                    uniform(module.bias, -0.5, 0.5)
            elif isinstance(module, nn.BatchNorm2d):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 2.0)
                module.num_batches_tracked.fill_(7)
    return network.eval()


def _place(modules, block, number, channels, after, instead_of):
    """Appends a block, or the ULSAM in its place, and the ULSAM after it."""
    modules.append(ULSAM(channels, instead_of[number]) if number in instead_of else block)
    if number in after:
        modules.append(ULSAM(channels, after[number]))


class _Network(nn.Module):
    """What the networks have in common: where their blocks end.

    Attributes:
        stages: Indices into the body of the module that each stage ends in, `"stem"`, `"block_1"`,
            ... and `"head"`.
    """

    body: nn.Sequential
    stages: dict[str, int]

    def stage_outputs(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, names = {}, {index: name for name, index in self.stages.items()}
        for index, module in enumerate(self.body):
            x = module(x)
            if index in names:
                outputs[names[index]] = x
        return outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.body(x).mean(dim=(2, 3)))


class _ConvNorm(nn.Sequential):
    """Keys 0 (convolution) and 1 (batch normalization)."""

    def __init__(self, channels_in, channels_out, kernel_size, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(
                channels_in,
                channels_out,
                kernel_size,
                stride,
                padding=(kernel_size - 1) // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(channels_out),
            nn.ReLU6(inplace=True),
        )


class _Bottleneck(nn.Module):
    def __init__(self, channels_in, channels_out, stride, layers):
        super().__init__()
        self.shortcut = stride == 1 and channels_in == channels_out
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class _V2(_Network):
    """MobileNetV2 but for the bottleneck and the classifier, which its layouts name differently.

    Attributes:
        widths: Channels of the stem, the bottlenecks' outputs and the head.
        hidden_widths: Channels inside the bottlenecks; `None` where nothing expands.
    """

    def __init__(self, widths, expand_first, after, instead_of):
        super().__init__()
        self.widths, self.hidden_widths = widths, []
        stem, *blocks, head = widths
        strides = [s if r == 0 else 1 for _, _, n, s in V2_TABLE for r in range(n)]
        expansions = [t for t, _, n, _ in V2_TABLE for _ in range(n)]
        modules = [_ConvNorm(3, stem, 3, stride=2)]
        self.stages = {"stem": 0}
        channels = stem
        for number, (out, stride, t) in enumerate(zip(blocks, strides, expansions, strict=True), 1):
            expand = t > 1 or expand_first
            self.hidden_widths.append(t * channels if expand else None)
            block = self.bottleneck(channels, out, stride, t * channels, expand)
            _place(modules, block, number, out, after, instead_of)
            self.stages[f"block_{number}"] = len(modules) - 1
            channels = out
        modules.append(_ConvNorm(channels, head, 1))
        self.stages["head"] = len(modules) - 1
        self.features = nn.Sequential(*modules)
        self.last = head

    @property
    def body(self):
        return self.features

    def classify(self, x):
        return self.classifier(x)


class TorchvisionV2(_V2):
    """torchvision.models.mobilenet_v2's keys and widths."""

    def __init__(self, alpha=1.0, classes=1000, after=NONE, instead_of=NONE):
        widths = [nearest_multiple_of_8(V2_STEM * alpha)]
        widths += [nearest_multiple_of_8(c * alpha) for _, c, n, _ in V2_TABLE for _ in range(n)]
        widths.append(nearest_multiple_of_8(V2_HEAD * max(1.0, alpha)))
        super().__init__(widths, False, after, instead_of)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.last, classes))

    @staticmethod
    def bottleneck(channels, out, stride, hidden, expand):
        layers = [_ConvNorm(channels, hidden, 1)] if expand else []
        layers += [
            _ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
        return _Bottleneck(channels, out, stride, layers)


class TonylinsV2(_V2):
    """The keys and widths of tonylins/pytorch-mobilenet-v2."""

    def __init__(self, alpha=1.0, classes=1000, after=NONE, instead_of=NONE, expand_first=False):
        widths = [V2_STEM]
        widths += [
            next_multiple_of_8(c * alpha) if t > 1 else c
            for t, c, n, _ in V2_TABLE
            for _ in range(n)
        ]
        widths.append(next_multiple_of_8(V2_HEAD * alpha) if alpha > 1 else V2_HEAD)
        super().__init__(widths, expand_first, after, instead_of)
        self.classifier = nn.Linear(self.last, classes)

    @staticmethod
    def bottleneck(channels, out, stride, hidden, expand):
        layers = list(_ConvNorm(channels, hidden, 1)) if expand else []
        layers += [
            *_ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
        return _Bottleneck(channels, out, stride, layers)


class MarvisV1(_Network):
    """The keys of marvis/pytorch-mobilenet and wjc852456/pytorch-mobilenet-v1."""

    def __init__(self, alpha=1.0, classes=1000, after=NONE, instead_of=NONE):
        super().__init__()
        channels = int(V1_STEM * alpha)
        modules = [
            nn.Sequential(
                nn.Conv2d(3, channels, 3, 2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
        ]
        self.stages = {"stem": 0}
        for number, (width, stride) in enumerate(V1_BLOCKS, 1):
            out = int(width * alpha)
            block = nn.Sequential(
                nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, out, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            )
            _place(modules, block, number, out, after, instead_of)
            self.stages[f"block_{number}"] = len(modules) - 1
            channels = out
        # Without parameters, so without keys; the layout pools inside `model`.
        modules.append(nn.AdaptiveAvgPool2d(1))
        self.model = nn.Sequential(*modules)
        self.fc = nn.Linear(channels, classes)

    @property
    def body(self):
        return self.model

    def classify(self, x):
        return self.fc(x)
