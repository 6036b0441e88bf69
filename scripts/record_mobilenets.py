"""Records MobileNets of other people's code for the tests: `tests/data/mobilenets.json.gz`.

    python scripts/record_mobilenets.py TONYLINS OLDER_TONYLINS WJC852456

The arguments are three files: `MobileNetV2.py` of tonylins/pytorch-mobilenet-v2 at 99f2136 and at
86dfc79, and `benchmark.py` of wjc852456/pytorch-mobilenet-v1 at 8b3bde3 (the network of
marvis/pytorch-mobilenet, under the same keys). Runs in an environment with torchvision.

Where a case has ULSAM, modules of the network's nn.Sequential are replaced, or one is put behind
them, as its users do. wjc852456's network has one width: for others its layers are made narrower.

Imports PyTorch, torchvision, NumPy and the tests' `recorded_networks`.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples" / "digits")]

import recorded_networks as recorded  # noqa: E402
from torch_ulsam import ULSAM  # noqa: E402


def load(path):
    """A file of Python as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TONYLINS, OLDER_TONYLINS, WJC852456 = map(load, sys.argv[1:4])


def older_tonylins(alpha, classes):
    """Its pool is written for Python 2, whose 224 / 32 is an integer; it has no weights."""
    pool, nn.AvgPool2d = nn.AvgPool2d, lambda size: pool(int(size))
    try:
        return OLDER_TONYLINS.MobileNetV2(classes, width_mult=alpha)
    finally:
        nn.AvgPool2d = pool


def wjc852456(alpha, classes):
    """The network, each layer as wide as the multiplier makes it."""
    network = WJC852456.MobileNet()

    def narrow(channels):
        return channels if channels == 3 else int(channels * alpha)

    for module in network.model:
        for index, layer in enumerate(module.children()):
            if isinstance(layer, nn.BatchNorm2d):
                module[index] = nn.BatchNorm2d(narrow(layer.num_features))
            elif isinstance(layer, nn.Conv2d):
                module[index] = nn.Conv2d(
                    narrow(layer.in_channels),
                    narrow(layer.out_channels),
                    layer.kernel_size,
                    layer.stride,
                    layer.padding,
                    groups=1 if layer.groups == 1 else narrow(layer.groups),
                    bias=False,
                )
    network.fc = nn.Linear(narrow(1024), classes)
    return network


BUILD = {
    "torchvision": lambda alpha, classes: torchvision.models.mobilenet_v2(
        width_mult=alpha, num_classes=classes
    ),
    "tonylins": lambda alpha, classes: TONYLINS.MobileNetV2(classes, width_mult=alpha),
    "older_tonylins": older_tonylins,
    "wjc852456": wjc852456,
}


def place(network, case):
    """Puts ULSAM where the case has it; returns the stages' modules by name."""
    body = network.get_submodule(recorded.BODY[case.source])
    modules = [m for m in body if not isinstance(m, nn.AvgPool2d)]
    blocks = 13 if case.source == "wjc852456" else 17
    placed, stages = [], {}
    for number, module in enumerate(modules):
        channels = [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
        if number in case.instead_of:
            module = ULSAM(channels, case.instead_of[number])
        placed.append(module)
        if number in case.after:
            placed.append(ULSAM(channels, case.after[number]))
        name = "head" if number > blocks else f"block_{number}" if number else "stem"
        stages[name] = placed[-1]
    setattr(network, recorded.BODY[case.source], nn.Sequential(*placed))
    return stages


def forward(network, source, images):
    """The logits at any size; the pools in the networks' own code fit one size only."""
    body = network.get_submodule(recorded.BODY[source])
    classifier = network.get_submodule("fc" if source == "wjc852456" else "classifier")
    return classifier(body(images).mean(dim=(2, 3)))


@torch.no_grad()
def check_forward(source):
    """`forward` computes what the network's own code does."""
    network = BUILD[source](1.0, 1000)
    network.load_state_dict(
        {k: torch.from_numpy(v) for k, v in recorded.weights(recorded.shapes(source, 1.0)).items()}
    )
    images = torch.randn(2, 3, 224, 224)
    own = network.eval()(images)
    torch.testing.assert_close(
        forward(network, source, images), own, rtol=0, atol=1e-5 * float(own.max())
    )


@torch.no_grad()
def run(case):
    """What the tests compare with."""
    network = BUILD[case.source](case.alpha, case.classes)
    stages = place(network, case)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if list(shapes.items()) != list(case.shapes.items()):
        raise SystemExit(f"{case.name}: the keys are not those that the tests derive")
    network.load_state_dict({k: torch.from_numpy(v) for k, v in case.state.items()})
    network.eval()
    outputs, products = {}, [0]

    def keep(name):
        return lambda module, args, output: outputs.__setitem__(name, output.numpy())

    def add(module, args, output):
        positions = output[0, 0].numel() if output.ndim == 4 else 1
        products[0] += positions * module.weight.numel()

    for name, module in stages.items():
        module.register_forward_hook(keep(name))
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    logits = forward(network, case.source, torch.from_numpy(case.images)).numpy()
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "multiply_adds": products[0],
        "logits": logits.tolist(),
        "stages": {
            name: {"samples": recorded.samples(v).tolist(), "largest": float(np.abs(v).max())}
            for name, v in outputs.items()
        },
    }


def rounded(value):
    """Values as short as float32 allows."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def main():
    """Writes keys and shapes of every width, then runs the cases."""
    networks = {}
    for source, build in BUILD.items():
        with torch.device("meta"):
            states = {alpha: build(alpha, 1000).state_dict() for alpha in recorded.ALPHAS}
        keys = list(states[1.0])
        assert all(list(state) == keys for state in states.values())
        widths = {a: [list(v.shape) for v in state.values()] for a, state in states.items()}
        networks[source] = {"keys": keys, "shapes": widths}
    versions = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "tonylins/pytorch-mobilenet-v2": "99f2136, older 86dfc79",
        "wjc852456/pytorch-mobilenet-v1": "8b3bde3",
    }
    data = {"versions": versions, "networks": networks, "cases": {}}

    def write():
        text = json.dumps(rounded(data), separators=(",", ":"))
        recorded.FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
        recorded.load.cache_clear()

    write()
    for source in BUILD:
        check_forward(source)
    for case in recorded.CASES:
        data["cases"][case.name] = run(case)
        print(case.name, flush=True)
    write()


if __name__ == "__main__":
    main()
