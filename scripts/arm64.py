"""Converted files in LiteRT's arm64 wheel under QEMU, beside the same files on x86-64.

    PYTHONPATH=.:tests python scripts/arm64.py [--update docs/android.md]

`scripts/arm64.sh` sets up what it needs. Three networks in every precision, with the attention of
every site as further outputs, on the same inputs.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.tflite.options import FLOAT_PRECISIONS, PRECISIONS

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".arm64"
CPUS = ("cortex-a53", "cortex-a76", "max")
SAMPLES = 4
CALIBRATION = 16


@dataclass(frozen=True)
class Row:
    """One file on one arm64 CPU, beside x86-64.

    Attributes:
        network: Which network.
        precision: Its precision.
        cpu: The CPU.
        difference: Largest difference of any output, of the output's largest value.
        values: Number of values in all outputs.
        differing: How many of them are not the same.
        steps: The largest difference in steps of integers; `None` of floats.
        snr: The worst output beside that of the float32 file on x86-64, in dB, here and on x86-64;
            `None` of integers, and of the float32 file.
    """

    network: str
    precision: str
    cpu: str
    difference: float
    values: int
    differing: int
    steps: int | None
    snr: tuple[float, float] | None


def networks(folder: Path) -> dict[str, tuple[Any, np.ndarray]]:
    """A Keras model with its attention as outputs, and samples, by name.

    A classifier with trained weights on real pictures, MobileNetV2 with two ULSAM, and a U-Net that
    becomes Keras from its program.
    """
    import torch

    from converters import to_keras
    from example_files import digits_model, digits_pixels
    from hosts import HOSTS, images, randomise
    from litert_models import mobilenet
    from ulsam_keras import with_attention

    host = HOSTS["crack_unet"]
    unet = randomise(host.build(**host.small), images(host.small_shape, 8, seed=1))
    photos = images(host.small_shape, CALIBRATION, seed=2)
    torch.export.save(torch.export.export(unet, (photos[:1],)), folder / "unet.pt2")
    noise = np.random.default_rng(1).normal(size=(CALIBRATION, 96, 96, 3)).astype("float32")
    return {
        "digits": (with_attention(digits_model()), digits_pixels(CALIBRATION) / np.float32(255)),
        "mobilenet_v2": (mobilenet(96, 0.35, ("block_6_project_BN", "block_12_add")), noise),
        "unet": (
            with_attention(to_keras(folder / "unet.pt2")[0]),
            photos.numpy().transpose(0, 2, 3, 1),
        ),
    }


def write_files(folder: Path) -> None:
    """NETWORK.PRECISION.tflite of each, integers to their ends, and NETWORK.npy of its inputs."""
    from converters.tflite.export import Exporter

    for name, (model, samples) in networks(folder).items():
        np.save(folder / f"{name}.npy", samples[:SAMPLES])
        exporter = Exporter(model)
        for precision in FLOAT_PRECISIONS:
            content = exporter.convert(precision).content
            (folder / f"{name}.{precision}.tflite").write_bytes(content)
        for precision, ends in (("int8", "int8"), ("int16x8", "int16")):
            file = exporter.convert(precision, representative_data=samples, inference_type=ends)
            (folder / f"{name}.{precision}.tflite").write_bytes(file.content)


def rows(folder: Path) -> list[Row]:
    """Every file of a folder on every CPU, beside x86-64.

    Raises:
        RuntimeError: If a process did not get through all files.
    """
    for cpu in ("x86-64", *CPUS):
        python = sys.executable if cpu == "x86-64" else HOME / cpu / "python"
        command = [python, ROOT / "scripts" / "run_tflite.py", folder, folder / cpu]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{cpu} ended with {result.returncode}: {result.stderr[-500:]}")
    found = []
    for network in sorted(file.stem for file in folder.glob("*.npy")):
        floats = _outputs(folder, "x86-64", network, "float32")
        for precision in PRECISIONS:
            there = _outputs(folder, "x86-64", network, precision)
            for cpu in CPUS:
                here = _outputs(folder, cpu, network, precision)
                found.append(_row(network, precision, cpu, here, there, floats))
    return found


def _outputs(folder: Path, cpu: str, network: str, precision: str) -> dict[str, np.ndarray]:
    with np.load(folder / cpu / f"{network}.{precision}.npz") as file:
        return dict(file)


def _row(network: str, precision: str, cpu: str, here: dict, there: dict, floats: dict) -> Row:
    apart = {name: np.abs(here[name].astype("f8") - there[name]) for name in there}
    integer = all(value.dtype.kind == "i" for value in there.values())
    return Row(
        network,
        precision,
        cpu,
        max(apart[name].max() / np.abs(there[name].astype("f8")).max() for name in there),
        sum(value.size for value in there.values()),
        sum(int((value != 0).sum()) for value in apart.values()),
        int(max(value.max() for value in apart.values())) if integer else None,
        None if integer or precision == "float32" else (_snr(here, floats), _snr(there, floats)),
    )


def _snr(outputs: dict, floats: dict) -> float:
    return min(
        10 * np.log10(np.square(floats[name]).sum() / np.square(outputs[name] - floats[name]).sum())
        for name in floats
    )


def table(found: list[Row]) -> str:
    """The rows as Markdown, a line for every file."""
    lines = [
        f"| network | precision | values | {' | '.join(CPUS)} | float32 beside x86-64, arm64 |",
        "|---|---|---|" + "---|" * len(CPUS) + "---|",
    ]
    for first in range(0, len(found), len(CPUS)):
        of_file = found[first : first + len(CPUS)]
        cells = [of_file[0].network, of_file[0].precision, str(of_file[0].values)]
        cells += [_cell(row) for row in of_file]
        pairs = [row.snr for row in of_file if row.snr]
        cells.append(f"{pairs[0][1]:.1f}, {min(here for here, _ in pairs):.1f} dB" if pairs else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    if row.steps is None:
        return f"{row.difference:.1e}"
    return f"{row.differing} differ" + (f", {row.steps} steps at most" if row.differing else "")


def main() -> None:
    """Prints the table, or puts it into a page in place of the one there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", type=Path, help="page whose table is replaced")
    page = parser.parse_args().update
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        lines = table(rows(Path(folder)))
    print(lines, end="")
    if page:
        text = page.read_text(encoding="utf-8")
        old = re.compile(r"^\| network \| precision .*\n(?:\|.*\n)*", re.MULTILINE)
        page.write_text(old.sub(lambda _: lines, text), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    main()
