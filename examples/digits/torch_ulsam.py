"""The ULSAM module in PyTorch, written from the paper's maths.

It is the module the digits network is trained with, and the oracle the Keras layer is tested
against. Parameter names are those of the official implementation, so that checkpoints written by
either load into the other. Imports PyTorch only.

Reference: Saini et al., "ULSAM: Ultra-Lightweight Subspace Attention Module for Compact
Convolutional Neural Networks", WACV 2020, https://arxiv.org/abs/2006.15102.
"""

from __future__ import annotations

import torch
from torch import nn

# PyTorch's meaning of momentum: running = 0.1 * running + 0.9 * batch. Keras calls this 0.1.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


class SubSpace(nn.Module):
    """One attention map for one group of channels.

    Args:
        channels: Number of channels of the group.

    Shape:
        `(N, channels, H, W)` in, the same out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_dws = nn.Conv2d(channels, channels, kernel_size=1, groups=channels)
        self.bn_dws = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
        self.conv_point = nn.Conv2d(channels, 1, kernel_size=1)
        self.bn_point = nn.BatchNorm2d(1, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores before the softmax, `(N, 1, H, W)`."""
        x = torch.relu(self.bn_dws(self.conv_dws(x)))
        x = nn.functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        return torch.relu(self.bn_point(self.conv_point(x)))

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the attention after the softmax, `(N, 1, H, W)`; each map sums to 1."""
        scores = self.scores(x)
        return torch.softmax(scores.flatten(start_dim=2), dim=2).view_as(scores)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x * attention + x`, `(N, channels, H, W)`."""
        return x * self.attention(x) + x


class ULSAM(nn.Module):
    """One `SubSpace` for each of `num_splits` contiguous groups of channels.

    Args:
        channels: Number of channels of the input; `num_splits` must divide it.
        num_splits: Number of groups, g in the paper.

    Shape:
        `(N, channels, H, W)` in, the same out.

    Raises:
        ValueError: If `num_splits` is below 1 or does not divide `channels`.
    """

    def __init__(self, channels: int, num_splits: int) -> None:
        super().__init__()
        if num_splits < 1 or channels % num_splits:
            raise ValueError(
                "`num_splits` must be at least 1 and divide `channels`. "
                f"Received: channels={channels}, num_splits={num_splits}"
            )
        self.num_splits = num_splits
        self.subspaces = nn.ModuleList(SubSpace(channels // num_splits) for _ in range(num_splits))

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the attention maps of all groups, `(N, num_splits, H, W)`."""
        groups = x.chunk(self.num_splits, dim=1)
        maps = [s.attention(group) for s, group in zip(self.subspaces, groups, strict=True)]
        return torch.cat(maps, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the attended features, `(N, channels, H, W)`."""
        groups = x.chunk(self.num_splits, dim=1)
        return torch.cat([s(group) for s, group in zip(self.subspaces, groups, strict=True)], dim=1)
