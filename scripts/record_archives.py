"""Writes the program archives that the reader is tested with, and what PyTorch answers.

    python scripts/record_archives.py FOLDER

Run it once in an environment of each PyTorch version (2.2 and newer; the version is in the files'
names): three small networks with random weights and batch statistics, as `VERSION_NAME.pt2` and a
reference `VERSION_NAME.npz`. Two of them are kept in `tests/data/`, deflated.

Imports PyTorch, NumPy and the PyTorch module of the digits example.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "digits"))

from torch_ulsam import ULSAM


def conv(channels_in, channels_out, stride=1, groups=1):
    """A 3x3 convolution, batch normalization and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )


class Net(nn.Module):
    """A classifier that scales its input by a buffer and shifts it by a constant of its code."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1))
        self.stem = conv(3, 16, stride=2)
        self.depthwise = conv(16, 16, groups=16)
        self.ulsam = ULSAM(16, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, 5)

    def forward(self, images):
        """Logits of images (N, 3, H, W)."""
        shifted = images * self.scale + torch.tensor([0.1, -0.2, 0.3]).reshape(1, 3, 1, 1)
        maps = self.ulsam(self.depthwise(self.stem(shifted)))
        return self.classifier(torch.flatten(self.pool(maps), 1))


class Two(nn.Module):
    """Two inputs of different sizes, two outputs by name."""

    def __init__(self):
        super().__init__()
        self.left = conv(3, 8, stride=2)
        self.right = conv(1, 8)
        self.mix = nn.Conv2d(16, 6, 1)

    def forward(self, image, depth):
        """A dictionary: `mask` (N, 6, H, W) and `score` (N, 6)."""
        mask = self.mix(torch.cat([self.left(image), self.right(depth)], dim=1))
        return {"mask": mask, "score": torch.sigmoid(mask.mean(dim=(2, 3)))}


# Name: the network, the shape of a sample of each of its inputs, whether the batch is free.
NETWORKS = {
    "block": (lambda: ULSAM(8, 4), OrderedDict(x=(8, 6, 6)), False),
    "net": (Net, OrderedDict(images=(3, 16, 16)), True),
    "two": (Two, OrderedDict(image=(3, 16, 16), depth=(1, 8, 8)), False),
}
SAMPLES = 2


def randomise(module, seed):
    """Random weights and batch statistics, the same in every version of PyTorch."""
    draw = np.random.default_rng(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var"):
            tensor.copy_(torch.from_numpy(draw.uniform(0.5, 2.0, tensor.shape)))
        elif name != "scale":
            tensor.copy_(torch.from_numpy(draw.normal(0.0, 0.4, tensor.shape)))
    return module.eval()


def record(folder, name):
    """Writes one network's archive and reference."""
    build, shapes, free_batch = NETWORKS[name]
    module = randomise(build(), seed=1)
    draw = np.random.default_rng(2)
    inputs = {}
    for key, shape in shapes.items():
        # A mean for each sample and channel: averages over the map differ too.
        means = draw.normal(size=(SAMPLES, shape[0], 1, 1))
        inputs[key] = torch.from_numpy((draw.normal(size=(SAMPLES, *shape)) + means).astype("f4"))
    # PyTorch 2.2 finds 15 to be the most that its convolutions allow.
    batch = torch.export.Dim("batch", min=2, max=15) if free_batch else None
    options = {"dynamic_shapes": {key: {0: batch} for key in shapes}} if free_batch else {}
    with torch.no_grad():
        program = torch.export.export(module, tuple(inputs.values()), **options)
        outputs = module(*inputs.values())
    stem = folder / f"{torch.__version__.partition('+')[0]}_{name}"
    torch.export.save(program, f"{stem}.pt2")
    arrays = {f"inputs.{k}": v.numpy() for k, v in inputs.items()}
    if len(inputs) == 1:
        arrays = {"inputs": next(iter(arrays.values()))}
    if isinstance(outputs, dict):
        arrays |= {f"outputs.{k}": v.numpy() for k, v in outputs.items()}
    else:
        arrays["outputs"] = outputs.numpy()
    np.savez_compressed(f"{stem}.npz", **arrays)
    deviation = {k: float(v.std(0).mean()) for k, v in arrays.items() if k.startswith("outputs")}
    print(stem.name, "deviation between samples", deviation)


def main():
    """Writes every network into the folder given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        record(folder, name)


if __name__ == "__main__":
    main()
