"""load_checkpoint against PyTorch's own readers: alternating pairs in one process, as ratios."""

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from converters import load_checkpoint


def _legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _copied(path):
    return {key: tensor.clone() for key, tensor in load_file(path).items()}


FORMATS = {
    "zip": (torch.save, torch.load),
    "stream before 1.6": (_legacy, torch.load),
    "safetensors": (save_file, _copied),
}


def timed(read, path):
    gc.collect()
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    count = max(1, options.megabytes // 16)
    state = {f"layers.{i}.weight": torch.randn(1024, 4096) for i in range(count)}
    state |= {f"layers.{i}.bias": torch.randn(4096) for i in range(300)}
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, read) in FORMATS.items():
            path = Path(folder, "checkpoint")
            write(state, path)
            timed(load_checkpoint, path), timed(read, path)
            ratios = [
                timed(load_checkpoint, path) / timed(read, path) for _ in range(options.pairs)
            ]
            print(
                f"{name}: {path.stat().st_size >> 20} MB, median {statistics.median(ratios):.2f} "
                f"of PyTorch's time ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
