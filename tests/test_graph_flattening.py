"""A global pool gives (N, C) where only channels are read of it, and a map where more is."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import converters
from converters.tflite.flatbuffer import read_graphs
from graph_tools import compare

SHAPE = (1, 6, 5, 7)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mean(nn.Module):
    def __init__(self, function: Any = torch.mean) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, (2, 3), keepdim=True)


class Head(nn.Module):
    """A convolution, a pool, what follows it, and a dense layer."""

    def __init__(self, pool: nn.Module, *after: nn.Module, flat: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3)
        self.after = nn.Sequential(pool, *after)
        self.flat = flat or nn.Flatten()
        self.dense = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.flat(self.after(self.conv(x))))


class Squeeze(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(-1).squeeze(-1)


class View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.gamma - 0.5) / 2


class Dropped(Head):
    """In place, the pool's own name is read afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.after(self.conv(x))
        nn.functional.relu_(y)
        return self.dense(y.flatten(1))


POOL = nn.AdaptiveAvgPool2d(1)
FLAT = {
    "dropout": lambda: Head(POOL, nn.Dropout(0.2), nn.Identity()),
    "LayerNorm of channels": lambda: Head(POOL, LayerNorm2d(8)),
    "LayerNorm of all": lambda: Head(POOL, nn.LayerNorm((8, 1, 1))),
    "BatchNorm, ReLU": lambda: Head(POOL, nn.BatchNorm2d(8), nn.ReLU()),
    "PReLU, GELU": lambda: Head(POOL, nn.PReLU(8), nn.GELU()),
    "numbers and weights": lambda: Head(POOL, Scaled()),
    "in place": lambda: Dropped(POOL),
    "squeeze": lambda: Head(POOL, nn.Hardswish(), flat=Squeeze()),
    "view": lambda: Head(nn.AdaptiveMaxPool2d(1), nn.SiLU(), flat=View()),
    "mean": lambda: Head(Mean(), LayerNorm2d(8)),
    "amax": lambda: Head(Mean(torch.amax), nn.Dropout(0.2)),
    "a window as large as the map": lambda: Head(nn.AvgPool2d((3, 5)), nn.Dropout(0.2)),
}


def operators(model: Any) -> Counter[str]:
    content = converters.to_tflite(model, input_shape=(1, 5, 7, 6))
    return Counter(operator.name for operator in read_graphs(content)[0].operators)


DECOMPOSED = ("dropout", "LayerNorm of channels", "BatchNorm, ReLU", "squeeze", "mean")


@pytest.mark.parametrize(
    ("name", "decomposed"),
    [*((name, False) for name in FLAT), *((name, True) for name in DECOMPOSED)],
)
def test_a_pool_gives_channels_where_only_they_are_read(
    name: str, decomposed: bool, tmp_path: Path
) -> None:
    model, report = compare(FLAT[name](), [SHAPE], tmp_path, decomposed=decomposed)
    kinds = Counter(type(layer).__name__ for layer in model.layers)
    assert kinds["Reshape"] == 0 and report.transposes == ()
    pools = [layer for layer in model.layers if "Global" in type(layer).__name__]
    assert [tuple(pool.output.shape) for pool in pools] == [(None, 8)]


@pytest.mark.parametrize("name", ["LayerNorm of channels", "numbers and weights"])
def test_the_file_has_no_reshape(name: str, tmp_path: Path) -> None:
    model, _ = compare(FLAT[name](), [SHAPE], tmp_path)
    assert operators(model)["RESHAPE"] == 0


class Gated(Head):
    """Squeeze and excitation reads the pooled map, which is answered for too."""

    def __init__(self, pool: nn.Module, *after: nn.Module) -> None:
        super().__init__(pool, *after)
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        pooled = self.after(x)
        return self.dense(pooled.flatten(1)), x * self.gate(pooled).sigmoid()


class Answered(Head):
    def forward(self, x: Tensor) -> Any:
        pooled = self.after(self.conv(x))
        return pooled, self.dense(pooled.flatten(1))


class Residual(Head):
    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return self.dense((self.after(x) + x[:, :, :1, :1]).flatten(1))


MAPS = {
    "a convolution after it": lambda: Head(POOL, nn.Dropout(0.2), nn.Conv2d(8, 8, 1)),
    "Dropout2d": lambda: Head(POOL, nn.Dropout2d(0.2)),
    "GroupNorm": lambda: Head(POOL, nn.GroupNorm(2, 8)),
    "squeeze and excitation": lambda: Gated(POOL, nn.ReLU()),
    "an output": lambda: Answered(POOL, nn.ReLU()),
    "a sum with a map": lambda: Residual(POOL, nn.ReLU()),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_pool_gives_a_map_where_more_is_read(name: str, tmp_path: Path) -> None:
    model, report = compare(MAPS[name](), [SHAPE], tmp_path)
    pools = [layer for layer in model.layers if "Global" in type(layer).__name__]
    assert [tuple(pool.output.shape) for pool in pools] == [(None, 1, 1, 8)]
