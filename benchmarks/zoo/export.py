"""Exports the networks of the zoo: `NAME.pt2`, a reference `NAME.npz` and `NAME.export.json` each.

    python benchmarks/zoo/export.py FOLDER [NAME ...]

Runs in an environment with PyTorch, torchvision and timm; nothing is downloaded. What is there
already is left as it is, but for the names given. Each network has a process and a time limit of
its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 1800
SAMPLES = 4
# Of the largest output: what the samples' outputs differ by at least on average.
ALIVE = 5e-3


def export(folder: Path, name: str) -> dict:
    """Exports one network; what its row says of it."""
    import numpy as np
    import torch
    from networks import NETWORKS

    from hosts import images, randomise

    begun = time.time()
    entry = NETWORKS[name]
    torch.manual_seed(0)
    network = entry.build(name)
    shape = entry.shape(name, network)
    randomise(network, images(shape, 8, seed=1))
    inputs = images(shape, SAMPLES, seed=2)
    answers = run(network, inputs)
    deviation = {}
    for key, value in answers.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"output {key!r} of {name} is not finite")
        deviation[key] = float((value.std(0).mean() / value.abs().max()).item())
    if min(deviation.values()) < ALIVE:
        raise ValueError(f"outputs of {name} hardly differ between samples: {deviation}")
    example, options = inputs[:1], {}
    if entry.free_batch:
        example = inputs[:2]
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(network, (example,), **options)
    torch.export.save(program, folder / f"part-{name}.pt2")
    arrays = {f"outputs.{k}" if k else "outputs": v.numpy() for k, v in answers.items()}
    np.savez(folder / f"part-{name}.npz", inputs=inputs.numpy(), **arrays)
    for end in ("pt2", "npz"):
        (folder / f"part-{name}.{end}").replace(folder / f"{name}.{end}")
    exact = run(network.double(), inputs.double())
    rounding = {k: ((v - exact[k]).abs().max() / v.abs().max()).item() for k, v in answers.items()}
    return {
        "name": name,
        "family": entry.family,
        "shape": list(shape),
        "free_batch": entry.free_batch,
        "parameters": sum(p.numel() for p in network.parameters()),
        "deviation": deviation,
        "rounding": rounding,
        "seconds": round(time.time() - begun, 1),
        "versions": versions(),
    }


def run(network, inputs) -> dict:
    """The outputs by name or number; '' for a single one."""
    import torch

    with torch.no_grad():
        answers = network(inputs)
    if isinstance(answers, (tuple, list)):
        return {str(index): value for index, value in enumerate(answers)}
    return answers if isinstance(answers, dict) else {"": answers}


def versions() -> dict[str, str]:
    """Those of what the networks come from."""
    import importlib.metadata

    return {p: importlib.metadata.version(p) for p in ("torch", "torchvision", "timm")}


def main() -> None:
    """Exports those asked for, or all, one process each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.here:
        for name in options.names:
            row = export(options.folder, name)
            (options.folder / f"{name}.export.json").write_text(json.dumps(row, indent=1))
        return
    from networks import NETWORKS

    for number, name in enumerate(options.names or NETWORKS, 1):
        if not options.names and (options.folder / f"{name}.export.json").exists():
            continue
        command = [sys.executable, __file__, str(options.folder), name, "--here"]
        begun = time.time()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            lines = done.stderr.strip().splitlines() or ["?"]
            outcome = "exported" if done.returncode == 0 else f"failed: {lines[-1][:300]}"
        except subprocess.TimeoutExpired:
            outcome = f"failed: took more than {SECONDS} s"
        print(f"{number:3} {name:36} {time.time() - begun:5.1f} s  {outcome}", flush=True)


if __name__ == "__main__":
    main()
