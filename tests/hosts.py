"""Networks that carry ULSAM, in PyTorch, as those that are published describe themselves.

`HOSTS` has each with the shape of a sample, at full size and small: `width` divides the channels
(1 is the full network), and the number of groups stays. Written from descriptions, with the idioms
of each kind: the attention is called and spelt differently from host to host.

Imports PyTorch, NumPy and `torch_reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from torch_reference import ULSAM

# The attention, as other people's code spells it


class DSC(nn.Module):
    """A subspace with other names, other order of operands and `expand`."""

    def __init__(self, channels):
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 1, groups=channels)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.pw = nn.Conv2d(channels, 1, 1)
        self.norm2 = nn.BatchNorm2d(1)
        self.act = nn.ReLU(inplace=True)
        self.softmax = nn.Softmax(dim=2)

    def forward(self, x):
        a = self.pool(self.act(self.norm1(self.dw(x))))
        a = self.act(self.norm2(self.pw(a)))
        n, c, h, w = a.shape
        a = self.softmax(a.view(n, c, -1)).view(n, c, h, w).expand_as(x)
        return x + torch.mul(x, a)


class EFF(nn.Module):
    """ULSAM by `split` instead of `chunk`."""

    def __init__(self, channels, groups):
        super().__init__()
        self.size = channels // groups
        self.branches = nn.ModuleList([DSC(self.size) for _ in range(groups)])

    def forward(self, x):
        parts = torch.split(x, self.size, dim=1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts)], 1)  # noqa: B905


class EarlySubSpace(nn.Module):
    """The early version: the pool reads the input, and what the depthwise half gives is lost."""

    def __init__(self, channels):
        super().__init__()
        self.conv_dws = nn.Conv2d(channels, channels, 1, groups=channels)
        self.bn_dws = nn.BatchNorm2d(channels)
        self.relu_dws = nn.ReLU(inplace=False)
        self.maxpool = nn.MaxPool2d(3, 1, 1)
        self.conv_point = nn.Conv2d(channels, 1, 1)
        self.bn_point = nn.BatchNorm2d(1)
        self.relu_point = nn.ReLU(inplace=False)

    def forward(self, x):
        self.relu_dws(self.bn_dws(self.conv_dws(x)))
        a = self.relu_point(self.bn_point(self.conv_point(self.maxpool(x))))
        a = torch.softmax(a.flatten(2), dim=2).reshape(a.shape)
        return a * x + x


class EarlyULSAM(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.subspaces = nn.ModuleList(EarlySubSpace(channels // groups) for _ in range(groups))

    def forward(self, x):
        parts = torch.chunk(x, len(self.subspaces), dim=1)
        return torch.cat([s(part) for s, part in zip(self.subspaces, parts, strict=True)], dim=1)


# Blocks that several hosts are made of


def conv(channels_in, channels_out, kernel_size=3, stride=1, groups=1, act=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel_size,
            stride,
            (kernel_size - 1) // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels_out),
        act() if act is nn.SiLU else act(inplace=True),
    )


def double_conv(channels_in, channels_out):
    return nn.Sequential(conv(channels_in, channels_out), conv(channels_out, channels_out))


class Bottleneck(nn.Module):
    """A residual bottleneck, and ULSAM on its last map before the sum where there are groups."""

    def __init__(self, channels_in, channels, stride=1, groups=0, attention=ULSAM):
        super().__init__()
        out = 4 * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.attention = attention(out, groups) if groups else nn.Identity()
        self.downsample = None
        if stride != 1 or channels_in != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.attention(self.bn3(self.conv3(out)))
        out += identity
        return self.relu(out)


# The hosts


class RestorationBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.eff = EFF(channels, 4)

    def forward(self, x):
        return x + 0.1 * self.eff(self.body(x))


class Restoration(nn.Module):
    """Hyperspectral images restored: 31 bands in and out, a residual body at full resolution."""

    def __init__(self, width=1, blocks=16, bands=31):
        super().__init__()
        channels = 64 // width
        self.head = nn.Conv2d(bands, channels, 3, padding=1)
        self.body = nn.Sequential(*[RestorationBlock(channels) for _ in range(blocks)])
        self.fuse = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, bands, 3, padding=1)

    def forward(self, noisy):
        shallow = self.head(noisy)
        return noisy + self.tail(shallow + self.fuse(self.body(shallow)))


class CrackUNet(nn.Module):
    """Cracks segmented: ULSAM on the two widest maps of the decoder, a mask and a side output."""

    def __init__(self, width=1):
        super().__init__()
        c = [32 // width, 64 // width, 128 // width, 256 // width]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([3, *c[:-1]], c, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.up3 = nn.ConvTranspose2d(c[3], c[2], 2, stride=2)
        self.merge3 = double_conv(2 * c[2], c[2])
        self.up2 = nn.ConvTranspose2d(c[2], c[1], 3, stride=2, padding=1, output_padding=1)
        self.merge2 = double_conv(2 * c[1], c[1])
        self.attend2 = ULSAM(c[1], 4)
        self.merge1 = double_conv(c[1] + c[0], c[0])
        self.attend1 = ULSAM(c[0], 4)
        self.side = nn.Conv2d(c[1], 1, 1)
        self.mask = nn.Conv2d(c[0], 1, 1)

    def forward(self, image):
        skips = []
        x = image
        for index, block in enumerate(self.down):
            x = block(self.pool(x) if index else x)
            skips.append(x)
        x = self.merge3(torch.cat([skips[2], self.up3(x)], dim=1))
        x = self.attend2(self.merge2(torch.cat([skips[1], self.up2(x)], dim=1)))
        side = F.interpolate(
            self.side(x), size=image.shape[2:], mode="bilinear", align_corners=True
        )
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.attend1(self.merge1(torch.cat([skips[0], x], dim=1)))
        return torch.sigmoid(self.mask(x)), torch.sigmoid(side)


class NucleiDecoder(nn.Module):
    """From the bottom to full resolution, with ULSAM on two maps."""

    def __init__(self, channels, outputs):
        super().__init__()
        a, b, c = channels
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.merge1 = conv(a + b, b // 4)
        self.attend1 = ULSAM(b // 4, 16)
        self.up2 = nn.UpsamplingNearest2d(scale_factor=2)
        self.merge2 = conv(b // 4 + c, c // 4)
        self.attend2 = ULSAM(c // 4, 16)
        self.out = nn.Conv2d(c // 4, 4 * outputs, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, bottom, middle, top):
        x = self.attend1(self.merge1(torch.cat([self.up1(bottom), middle], dim=1)))
        x = self.attend2(self.merge2(torch.cat([self.up2(x), top], dim=1)))
        return self.shuffle(self.out(x))


class Nuclei(nn.Module):
    """Nuclei segmented and classified: seven sites of 16 groups, three decoders."""

    def __init__(self, width=1, depth=(3, 4, 6)):
        super().__init__()
        c = [64 // width, 128 // width, 256 // width]
        self.register_buffer("mean", torch.tensor([0.7, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1))
        self.stem = conv(3, 64 // width, 7, stride=2)
        stages, channels = [], 64 // width
        for index, (inner, count) in enumerate(zip(c, depth, strict=True)):
            blocks = []
            for number in range(count):
                blocks.append(Bottleneck(channels, inner, 1 + (number == 0 and index > 0)))
                channels = 4 * inner
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.attend = ULSAM(channels, 16)
        wide = [4 * k for k in reversed(c)]
        self.decoders = nn.ModuleDict(
            {
                "np": NucleiDecoder(wide, 2),
                "hv": NucleiDecoder(wide, 2),
                "tp": NucleiDecoder(wide, 6),
            }
        )

    def forward(self, image):
        top = self.stages[0](self.stem((image - self.mean) / self.std))
        middle = self.stages[1](top)
        bottom = self.attend(self.stages[2](middle))
        maps = {name: d(bottom, middle, top) for name, d in self.decoders.items()}
        return maps | {"np": F.softmax(maps["np"], dim=1)}


class C3(nn.Module):
    """A cross-stage block."""

    def __init__(self, channels_in, channels, count=1):
        super().__init__()
        half = channels // 2
        self.cv1 = conv(channels_in, half, 1, act=nn.SiLU)
        self.cv2 = conv(channels_in, half, 1, act=nn.SiLU)
        self.m = nn.ModuleList(
            nn.Sequential(conv(half, half, 1, act=nn.SiLU), conv(half, half, 3, act=nn.SiLU))
            for _ in range(count)
        )
        self.cv3 = conv(2 * half, channels, 1, act=nn.SiLU)

    def forward(self, x):
        y = self.cv1(x)
        for m in self.m:
            y = y + m(y)
        return self.cv3(torch.cat((y, self.cv2(x)), dim=1))


class SPPF(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cv1 = conv(channels, channels // 2, 1, act=nn.SiLU)
        self.cv2 = conv(2 * channels, channels, 1, act=nn.SiLU)
        self.m = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x):
        x = self.cv1(x)
        y = self.m(x)
        z = self.m(y)
        return self.cv2(torch.cat([x, y, z, self.m(z)], 1))


class YoloHead(nn.Module):
    """A detector of three scales, ULSAM before each head; boxes in pixels, not suppressed."""

    ANCHORS = (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    )
    STRIDES = (8, 16, 32)

    def __init__(self, width=1, size=320, classes=20):
        super().__init__()
        c = [k // width for k in (32, 64, 128, 256, 512)]
        self.stem = conv(3, c[0], 6 - 1, 2, act=nn.SiLU)
        self.stages = nn.ModuleList(
            nn.Sequential(conv(a, b, 3, 2, act=nn.SiLU), C3(b, b, n))
            for a, b, n in zip(c[:-1], c[1:], (1, 2, 2, 1), strict=True)
        )
        self.sppf = SPPF(c[4])
        self.lateral = nn.ModuleList(
            [conv(c[4], c[3], 1, act=nn.SiLU), conv(c[3], c[2], 1, act=nn.SiLU)]
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = nn.ModuleList([C3(2 * c[3], c[3]), C3(2 * c[2], c[2])])
        self.attend = nn.ModuleList(ULSAM(k, 4) for k in c[2:])
        self.outputs = 5 + classes
        self.detect = nn.ModuleList(nn.Conv2d(k, 3 * self.outputs, 1) for k in c[2:])
        self.register_buffer("anchors", torch.tensor(self.ANCHORS, dtype=torch.float32))
        for index, stride in enumerate(self.STRIDES):
            cells = torch.arange(size // stride, dtype=torch.float32)
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            grid = torch.stack((x, y), dim=2)[None, None] - 0.5
            self.register_buffer(f"grid{index}", grid, persistent=False)

    def forward(self, image):
        maps = []
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        p5 = self.sppf(maps[3])
        p4 = self.fuse[0](torch.cat([self.up(self.lateral[0](p5)), maps[2]], dim=1))
        p3 = self.fuse[1](torch.cat([self.up(self.lateral[1](p4)), maps[1]], dim=1))
        boxes, scores = [], []
        for index, (p, stride) in enumerate(zip((p3, p4, p5), self.STRIDES, strict=True)):
            y = self.detect[index](self.attend[index](p))
            n, _, h, w = y.shape
            y = y.view(n, 3, self.outputs, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            xy = (y[..., 0:2] * 2 + getattr(self, f"grid{index}")) * stride
            wh = (y[..., 2:4] * 2) ** 2 * self.anchors[index].view(1, 3, 1, 1, 2)
            boxes.append(torch.cat((xy, wh), -1).view(n, -1, 4))
            scores.append((y[..., 4:5] * y[..., 5:]).view(n, 3 * h * w, self.outputs - 5))
        return {"boxes": torch.cat(boxes, 1), "scores": torch.cat(scores, 1)}


class ResNet(nn.Module):
    """ResNet-50, ULSAM in every bottleneck."""

    def __init__(self, width=1, depth=(3, 4, 6, 3), groups=4, classes=100, attention=ULSAM):
        super().__init__()
        channels = 64 // width
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate(depth):
            inner = (64 << stage) // width
            blocks = []
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                blocks.append(Bottleneck(channels, inner, stride, groups, attention))
                channels = 4 * inner
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(depth)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    def __init__(self, channels_in, channels, stride, expansion):
        super().__init__()
        hidden = channels_in * expansion
        layers = [conv(channels_in, hidden, 1, act=nn.ReLU6)] if expansion > 1 else []
        layers += [
            conv(hidden, hidden, 3, stride, hidden, act=nn.ReLU6),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """The paper's row with ULSAM in the place of four blocks."""

    TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    TABLE += ((6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, width=1, instead_of=(12, 13, 15, 16), groups=4, classes=100):
        super().__init__()
        channels = 32 // width
        features = [conv(3, channels, 3, 2, act=nn.ReLU6)]
        for expansion, out, count, stride in self.TABLE:
            for number in range(count):
                block = InvertedResidual(
                    channels, out // width, stride if number == 0 else 1, expansion
                )
                channels = out // width
                replaced = len(features) in instead_of
                features.append(ULSAM(channels, groups) if replaced else block)
        features.append(conv(channels, 1280 // width, 1, act=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280 // width, classes))

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.mean([2, 3]))


class MobileNetV1(nn.Module):
    """The paper's row with ULSAM in the place of block 11, one group per subspace of 4."""

    TABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    TABLE += ((512, 1),) * 5 + ((1024, 2), (1024, 1))

    def __init__(self, width=1, instead_of=(8, 9, 10, 11), groups=4, classes=100):
        super().__init__()
        channels = 32 // width
        layers = [conv(3, channels, 3, 2)]
        for number, (out, stride) in enumerate(self.TABLE, 1):
            if number in instead_of:
                layers.append(ULSAM(channels, groups))
            else:
                layers.append(
                    nn.Sequential(
                        conv(channels, channels, 3, stride, channels),
                        conv(channels, out // width, 1),
                    )
                )
            channels = out // width
        self.model = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.model(x), 1)
        return self.fc(x.view(x.size(0), -1))


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        build: Makes it at full size; with `small` as its arguments, small.
        shape: A sample, at full size.
        small: Arguments of the small network.
        small_shape: A sample of it.
        sites: ULSAM in the full and in the small one; the early version is none.
    """

    build: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    small: dict
    small_shape: tuple[int, int, int]
    sites: tuple[int, int]


def early(**options):
    return ResNet(**{"depth": (2, 2, 2), "attention": EarlyULSAM, **options})


HOSTS = {
    "restoration": Host(
        Restoration, (31, 256, 256), {"width": 4, "blocks": 2, "bands": 5}, (5, 24, 20), (16, 2)
    ),
    "crack_unet": Host(CrackUNet, (3, 256, 256), {"width": 4}, (3, 32, 48), (2, 2)),
    "nuclei": Host(Nuclei, (3, 256, 256), {"width": 4, "depth": (1, 1, 1)}, (3, 32, 32), (7, 7)),
    "yolo_head": Host(YoloHead, (3, 320, 320), {"width": 8, "size": 64}, (3, 64, 64), (3, 3)),
    "resnet50_ulsam": Host(
        ResNet, (3, 224, 224), {"width": 16, "depth": (1, 1, 2)}, (3, 64, 64), (16, 4)
    ),
    "mobilenet_v2_ulsam": Host(MobileNetV2, (3, 224, 224), {"width": 4}, (3, 64, 64), (4, 4)),
    "mobilenet_v1_ulsam": Host(MobileNetV1, (3, 224, 224), {"width": 8}, (3, 64, 64), (4, 4)),
    "early_version": Host(
        early, (3, 224, 224), {"width": 16, "depth": (1, 1)}, (3, 64, 64), (0, 0)
    ),
}


# Random values under which outputs neither vanish nor grow

BATCH_NORMS = nn.modules.batchnorm._BatchNorm
NORMS = (BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


def images(shape, count, seed):
    """Random images that differ as photographs do: coarse patches, fine noise, a mean each."""
    draw = np.random.default_rng(seed)
    channels, height, width = shape
    coarse = torch.from_numpy(draw.normal(size=(count, channels, 8, 8)).astype("float32"))
    coarse = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    fine = draw.normal(scale=0.3, size=(count, *shape))
    fine += draw.normal(scale=0.7, size=(count, channels, 1, 1))
    return coarse + torch.from_numpy(fine.astype("float32"))


@torch.no_grad()
def randomise(module, sample, seed=0):
    """Random weights and random batch statistics, in evaluation mode.

    Weights keep the scale of what they read. Batch statistics are those that the sample shows, each
    moved by a random part of itself, so that none can be left out or taken for another.

    Args:
        module: Any network.
        sample: A batch of its input.
        seed: Of the random values.

    Returns:
        The module.
    """
    torch.manual_seed(seed)
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if isinstance(owner, NORMS) and name == "weight":
                parameter.uniform_(0.4, 1.0)
            elif isinstance(owner, BATCH_NORMS):
                # Above 0: deep random networks of ReLU amplify rounding else.
                parameter.uniform_(0.0, 1.0)
            elif name == "bias" or parameter.ndim == 0:
                parameter.uniform_(-0.2, 0.2)
            elif parameter[0].numel() == 1:
                # Scales of layers or channels; some networks begin them near 0.
                parameter.uniform_(0.3, 1.0)
            elif isinstance(owner, nn.modules.conv._ConvNd):
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    module.eval()
    batch_norms = [m for m in module.modules() if isinstance(m, BATCH_NORMS)]
    momenta = [m.momentum for m in batch_norms]
    for norm in batch_norms:
        norm.train().momentum = 1.0
    module(sample)
    for norm, momentum in zip(batch_norms, momenta, strict=True):
        norm.eval().momentum = momentum
        deviation = norm.running_var.sqrt()
        norm.running_mean += deviation * torch.empty_like(deviation).uniform_(-0.3, 0.3)
        norm.running_var *= torch.empty_like(deviation).uniform_(0.7, 1.4)
        norm.running_var.clamp_(min=float(norm.running_var.mean()) / 4)
        norm.num_batches_tracked.fill_(7)
    return module


def deviation(outputs):
    """How much a network's outputs differ between samples, of their largest value; the least."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    outputs = [outputs] if torch.is_tensor(outputs) else outputs
    return min(float(o.std(0).mean() / o.abs().max()) for o in outputs)
