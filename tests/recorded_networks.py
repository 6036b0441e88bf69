"""MobileNets as their authors' code makes them: keys, shapes, and what PyTorch computes with them.

`scripts/record_mobilenets.py` ran torchvision, tonylins/pytorch-mobilenet-v2 (its newest version
and the one whose first block expands) and wjc852456/pytorch-mobilenet-v1, and wrote
`data/mobilenets.json.gz` with the versions. Weights are not in it: `weights` draws them from a seed
in the order of the keys. Imports NumPy only.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "data" / "mobilenets.json.gz"
# Path of the nn.Sequential of stem, blocks and head.
BODY = {
    "torchvision": "features",
    "tonylins": "features",
    "older_tonylins": "features",
    "wjc852456": "model",
}
SOURCES = tuple(BODY)
Shapes = dict[str, tuple[int, ...]]
NONE: Mapping[int, int] = {}


@dataclass(frozen=True)
class Case:
    """One network that was run.

    Attributes:
        source: Whose code.
        alpha: Its width multiplier.
        classes: Its classes.
        size: Height and width of its input.
        after: Blocks that a ULSAM follows, with its splits.
        instead_of: Blocks that a ULSAM stands in the place of.
    """

    source: str
    alpha: float
    classes: int
    size: tuple[int, int]
    after: Mapping[int, int]
    instead_of: Mapping[int, int]

    @property
    def name(self) -> str:
        """What it is recorded under."""
        return json.dumps(
            [self.source, self.alpha, self.classes, self.size, *map(_text, self.sites)]
        )

    @property
    def sites(self):
        return self.after, self.instead_of

    @property
    def shapes(self) -> Shapes:
        """Its state dict's keys, in order, and shapes."""
        return shapes(self.source, self.alpha, self.classes, *self.sites)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The state dict that it was run with."""
        return weights(self.shapes)

    @property
    def images(self) -> np.ndarray:
        """What it was run on, (2, 3, H, W)."""
        return np.random.default_rng(1).normal(size=(2, 3, *self.size)).astype("float32")

    @property
    def recorded(self) -> dict:
        """`parameters`, `multiply_adds`, `logits`; of each stage `samples` and `largest`."""
        return load()["cases"][self.name]


def _text(sites):
    return ",".join(f"{block}:{splits}" for block, splits in sites.items())


@cache
def load() -> dict:
    """All that was recorded."""
    return json.loads(gzip.decompress(FILE.read_bytes()))


def shapes(source, alpha, classes=1000, after=NONE, instead_of=NONE) -> Shapes:
    """Keys and shapes of a network: the recorded ones, and ULSAM where it is asked for."""
    recorded = load()["networks"][source]
    plain = dict(zip(recorded["keys"], map(tuple, recorded["shapes"][str(alpha)]), strict=True))
    head = list(plain)[-2:]
    plain[head[0]], plain[head[1]] = (classes, plain[head[0]][1]), (classes,)
    return with_ulsam(plain, BODY[source], after, instead_of)


def with_ulsam(plain: Shapes, body: str, after=NONE, instead_of=NONE) -> Shapes:
    """The shapes with the modules of ULSAM, the later numbers of the body moved up."""
    result, index = {}, -1
    for block, module in modules(plain, body):
        if block is None:
            result |= module
            continue
        index += 1
        # The last matrix of a module gives its channels.
        channels = [shape[0] for shape in module.values() if len(shape) == 4][-1]
        if block in instead_of:
            result |= ulsam(f"{body}.{index}", channels, instead_of[block])
        else:
            result |= {f"{body}.{index}.{key}": shape for key, shape in module.items()}
        if block in after:
            index += 1
            result |= ulsam(f"{body}.{index}", channels, after[block])
    return result


def modules(plain: Shapes, body: str):
    """(number, keys inside and shapes) of the body's modules; (None, keys and shapes) besides."""
    numbered: dict[int, Shapes] = {}
    rest = {}
    for key, shape in plain.items():
        if key.startswith(f"{body}."):
            number, _, inside = key.removeprefix(f"{body}.").partition(".")
            numbered.setdefault(int(number), {})[inside] = shape
        else:
            rest[key] = shape
    return [*numbered.items(), (None, rest)]


def ulsam(path: str, channels: int, splits: int) -> Shapes:
    """Keys and shapes of the official module."""
    result = {}
    for index in range(splits):
        result |= subspace(f"{path}.subspaces.{index}.", channels // splits)
    return result


def subspace(prefix: str, channels: int) -> Shapes:
    """Keys and shapes of one of its subspaces."""
    result = {}
    for end, into, out in [("dws", 1, channels), ("point", channels, 1)]:
        conv, norm = f"{prefix}conv_{end}", f"{prefix}bn_{end}"
        result |= {f"{conv}.weight": (out, into, 1, 1), f"{conv}.bias": (out,)}
        for name in ("weight", "bias", "running_mean", "running_var"):
            result[f"{norm}.{name}"] = (out,)
        result[f"{norm}.num_batches_tracked"] = ()
    return result


def weights(shapes: Shapes) -> dict[str, np.ndarray]:
    """Random weights and batch statistics under which activations keep their scale."""
    draw = np.random.default_rng(0)
    state = {}
    for key, shape in shapes.items():
        name = key.rpartition(".")[2]
        if name == "num_batches_tracked":
            state[key] = np.asarray(7, "int64")
            continue
        if name == "running_var":
            value = draw.uniform(0.5, 2.0, shape)
        elif len(shape) > 1:
            value = draw.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:]))
        elif name == "weight":
            value = draw.uniform(0.5, 1.5, shape)
        else:
            value = draw.uniform(-0.5, 0.5, shape)
        state[key] = value.astype("float32")
    return state


def samples(value: np.ndarray, count: int = 24) -> np.ndarray:
    """A few values of each sample of an output in PyTorch's layout, always the same ones."""
    flat = value.reshape(len(value), -1)
    return flat[:, np.random.default_rng(2).integers(flat.shape[1], size=count)]


def _cases():
    square = {64: (64, 64), 224: (224, 224)}
    four = {12: 4, 13: 4, 15: 4, 16: 4}
    rows = [
        ("torchvision", 0.35, 10, (33, 47), {}, {}),
        ("torchvision", 0.35, 10, (32, 96), {1: 1, 8: 4}, {9: 2, 13: 8}),
        ("torchvision", 0.35, 10, square[64], {}, four),
        ("torchvision", 0.75, 1000, square[64], {}, {12: 4, 13: 2, 15: 8, 16: 1}),
        ("torchvision", 0.75, 10, square[64], {5: 4}, {3: 4}),
        ("torchvision", 1.0, 3, square[64], {1: 2, 14: 4, 17: 5}, {}),
        ("torchvision", 1.4, 1, square[64], {3: 4, 16: 16}, {5: 2, 12: 8}),
        ("torchvision", 1.0, 1000, square[224], {}, four),
        ("tonylins", 0.35, 1000, square[64], {2: 4, 10: 4}, {}),
        ("tonylins", 0.75, 7, square[64], {7: 1, 11: 9}, {15: 3, 16: 20}),
        ("tonylins", 1.0, 1000, square[224], {14: 4}, {13: 2}),
        ("older_tonylins", 0.35, 10, square[64], {10: 2}, {6: 11, 16: 8}),
        ("older_tonylins", 1.4, 5, (65, 64), {}, {}),
        ("wjc852456", 0.25, 10, square[64], {11: 4}, {8: 2}),
        ("wjc852456", 0.35, 5, square[64], {1: 2, 8: 1}, {3: 4, 13: 2}),
        ("wjc852456", 0.75, 1000, (65, 96), {}, {7: 4, 8: 4, 9: 4, 10: 4, 11: 4}),
        ("wjc852456", 1.4, 2, square[64], {13: 1}, {}),
        ("wjc852456", 1.0, 1000, square[224], {}, {11: 4}),
    ]
    return [Case(*row) for row in rows]


CASES = _cases()
ALPHAS = (0.1, 0.25, 0.35, 0.5, 0.6, 0.75, 1.0, 1.3, 1.4)


def case(source, alpha, size=None, **sites) -> Case:
    """The one case of this source and width that has this size and these sites, where given."""
    found = [
        c
        for c in CASES
        if (c.source, c.alpha) == (source, alpha)
        and size in (None, c.size)
        and all(getattr(c, name) == value for name, value in sites.items())
    ]
    (only,) = found
    return only
