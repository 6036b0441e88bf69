"""What other tools do with the hosts that carry ULSAM, and this project beside them.

    python benchmarks/zoo/others.py TOOL FOLDER [HOST ...]

FOLDER holds what `export.py` wrote. TOOL is, each in its environment (Linux, x86-64):

- `litert-torch` and `onnx` (the first half of onnx2tf's way): Python 3.11, `pip install
  torch==2.13.0` (a CPU build where there is one), then `litert-torch==0.10.* onnx onnxscript`;
- `onnx2tf`, after `onnx`: Python 3.12, `pip install 'onnx2tf==2.6.*'`;
- `ulsam-keras`: this project's, with PyTorch;
- `measure`, last: this project's, with a Vulkan driver on `LD_LIBRARY_PATH`.

Each tool gets the module in memory, or what PyTorch's exporter writes of it, one image and its
defaults. `FOLDER/others/` gets HOST.TOOL.tflite and HOST.TOOL.json: the seconds from the module to
the file, without imports, or the error. Each conversion has a process and a time limit of its own;
what has a row is left out unless named. `table.py` writes the section.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

# Of the processor that a conversion may take, and for a run of the file.
SECONDS = 600
HOSTS = (
    "mobilenet_v1_ulsam",
    "mobilenet_v2_ulsam",
    "early_version",
    "restoration",
    "crack_unet",
    "yolo_head",
    "resnet50_ulsam",
    "nuclei",
)
# What stands in the table, in its order.
TOOLS = ("ulsam-keras", "litert-torch", "onnx2tf")
# Between tensors in float32: more is another network.
RIGHT = 1e-4
# Characters of a message that the table shows.
WORDS = 160


def module(folder: Path, host: str):
    """The network as it was exported, and an image; checked against what was recorded."""
    import numpy as np
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    import hosts

    network = hosts.HOSTS[host].build()
    network.load_state_dict(torch.export.load(folder / f"{host}.pt2").state_dict)
    network.eval()
    with np.load(folder / f"{host}.npz") as file:
        image = torch.from_numpy(file["inputs"][:1])
        expected = {key: file[key][:1] for key in file if key != "inputs"}
    with torch.no_grad():
        answers = network(image)
    if torch.is_tensor(answers):
        answers = [answers]
    values = list(answers.values() if isinstance(answers, dict) else answers)
    for theirs, found in zip(expected.values(), values, strict=True):
        off = np.abs(found.numpy() - theirs).max() / np.abs(theirs).max()
        assert off < RIGHT, f"the module is not the one that was exported: {off}"
    return network, image


def litert_torch(folder: Path, host: str, target: Path) -> Callable[[], Any]:
    import litert_torch

    network, image = module(folder, host)
    return lambda: litert_torch.convert(network, (image,)).export(str(target))


def onnx(folder: Path, host: str, target: Path) -> Callable[[], Any]:
    import torch

    network, image = module(folder, host)
    path = target.with_suffix(".onnx")
    return lambda: torch.onnx.export(network, (image,), path, external_data=False)


def onnx2tf(folder: Path, host: str, target: Path) -> Callable[[], Any]:
    from onnx2tf import convert

    source = target.with_name(f"{host}.onnx.onnx")
    output = target.with_suffix("")

    def work():
        convert(str(source), output_folder_path=str(output), non_verbose=True)
        (file,) = output.glob("*_float32.tflite")
        file.replace(target)

    return work


def ulsam_keras(folder: Path, host: str, target: Path) -> Callable[[], Any]:
    import keras  # noqa: F401
    import tensorflow  # noqa: F401
    import torch

    from converters import to_keras, to_tflite

    network, image = module(folder, host)

    def work():
        program = target.with_suffix(".pt2")
        torch.export.save(torch.export.export(network, (image,)), program)
        model, _ = to_keras(program)
        program.unlink()
        _, channels, height, width = image.shape
        target.write_bytes(to_tflite(model, input_shape=(1, height, width, channels)))

    return work


WAYS = {
    "ulsam-keras": ulsam_keras,
    "litert-torch": litert_torch,
    "onnx": onnx,
    "onnx2tf": onnx2tf,
}
PACKAGES = {"onnx": "torch"}


def convert(folder: Path, host: str, tool: str) -> None:
    """Converts in this process and writes the row."""
    target = folder / "others" / f"{host}.{tool}.tflite"
    row: dict[str, Any] = {"host": host, "tool": tool}
    row["version"] = version(PACKAGES.get(tool, tool))
    work = WAYS[tool](folder, host, target)
    begun, spent = time.time(), _processor()
    try:
        work()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        row["error"] = f"{type(error).__name__}: {lines[0].strip()[:300]}"
    row |= {"seconds": time.time() - begun, "processor": _processor() - spent}
    target.with_suffix(".json").write_text(json.dumps(row, indent=1))


def _processor() -> float:
    """Seconds of the processor that this process and those that it waited for have used."""
    used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(folder: Path, host: str, tool: str) -> None:
    """Adds to a row what the file holds, and how far it is from PyTorch on the CPU and the GPU."""
    import numpy as np

    from converters.runtime import run
    from converters.tflite.flatbuffer import read_graphs

    target = folder / "others" / f"{host}.{tool}.tflite"
    path = target.with_suffix(".json")
    row = json.loads(path.read_text())
    content = target.read_bytes()
    graphs = read_graphs(content)
    row["operators"] = sum(len(graph.operators) for graph in graphs)
    row["bytes"] = len(content)
    with np.load(folder / f"{host}.npz") as file:
        images = file["inputs"]
        expected = {key: file[key] for key in file if key != "inputs"}
    (given,) = graphs[0].inputs
    if given.shape[1:] != images.shape[1:]:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    for key, options in (("cpu", {"num_threads": 2}), ("gpu", {"accelerator": "gpu"})):
        result = run(content, images, repeats=0, timeout=SECONDS, **options)
        if result.ok:
            found = list(result.outputs.values())
            row[key] = max(nearest(theirs, found) for theirs in expected.values())
        else:
            row[key] = f"{result.outcome}: {result.signal or result.message}"[:300]
    path.write_text(json.dumps(row, indent=1))


def nearest(theirs, found) -> float:
    """The difference of the output that is nearest, relative to the largest value.

    Tools name and order outputs as they like, and some put the channels last.
    """
    import numpy as np

    seen = []
    for value in found:
        views = [value]
        if value.ndim > 2:
            views += [np.moveaxis(value, -1, 1), np.moveaxis(value, 1, -1)]
        seen += [view for view in views if view.shape == theirs.shape]
    if not seen:
        shapes = ", ".join(str(value.shape) for value in found)
        raise ValueError(f"no output has shape {theirs.shape}: {shapes}")
    return min(float(np.abs(view - theirs).max() / np.abs(theirs).max()) for view in seen)


def section(measured: list[dict]) -> str:
    """The table, as Markdown."""
    rows = {(row["host"], row["tool"]): row for row in measured}
    versions = {tool: row["version"] for (_, tool), row in rows.items()}
    said = ", ".join(f"{tool} {versions[tool]}" for tool in TOOLS[1:])
    text = f"""## Other tools

The hosts with ULSAM by {said} (from the ONNX
file of PyTorch {versions["onnx"]}) and by this project, each with its defaults, from the same
module in memory, compared as above on the same runtime. **s** is seconds of the processor from the
module to the file, without imports.

| host | tool | operators | MB | CPU | GPU | s |
|---|---|---|---|---|---|---|
"""
    for host in HOSTS:
        for tool in TOOLS:
            if (host, tool) not in rows:
                text += f"| {host} | {tool} | not run | | | | |\n"
                continue
            row = rows[host, tool]
            spent = row["processor"]
            if tool == "onnx2tf":
                spent += rows[host, "onnx"]["processor"]
            if "error" in row:
                cells = ["", "", _cell(f"not converted: {row['error']}"), ""]
            else:
                cells = [str(row["operators"]), f"{row['bytes'] / 1e6:.1f}"]
                cells += [_cell(row["cpu"]), _cell(row["gpu"])]
            text += f"| {host} | {tool} | {' | '.join(cells)} | {spent:.0f} |\n"
    return text


def _cell(value) -> str:
    """A difference, or the first words of what was said instead, without paths."""
    if isinstance(value, float):
        return f"{value:.1e}" if value < RIGHT else f"**wrong** {value:.1e}"
    text = re.sub(r"/\S*/", "", value).replace("|", "\\|")
    return text if len(text) <= WORDS else f"{text[:WORDS]} …"


def main() -> None:
    """Converts or measures those asked for, or all, one process each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tool", choices=[*WAYS, "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("hosts", nargs="*", metavar="host")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    if options.here:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        convert(options.folder, options.hosts[0], options.tool)
        return
    (options.folder / "others").mkdir(exist_ok=True)
    for host in options.hosts or HOSTS:
        if options.tool == "measure":
            for tool in TOOLS:
                path = options.folder / "others" / f"{host}.{tool}.json"
                row = json.loads(path.read_text()) if path.exists() else {"error": "not run"}
                if "error" in row or ("gpu" in row and not options.hosts):
                    continue
                measure(options.folder, host, tool)
                print(path.read_text(), flush=True)
            continue
        path = options.folder / "others" / f"{host}.{options.tool}.json"
        if path.exists() and not options.hosts:
            continue
        path.unlink(missing_ok=True)
        command = [sys.executable, __file__, options.tool, str(options.folder), host, "--here"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not path.exists():
            lines = done.stderr.strip().splitlines() or [""]
            failure = f"status {done.returncode}: {lines[-1][:300]}"
            if done.returncode == -signal.SIGXCPU:
                failure = f"took more than {SECONDS} s"
            row = {"host": host, "tool": options.tool, "error": failure, "processor": SECONDS}
            row["version"] = version(PACKAGES.get(options.tool, options.tool))
            path.write_text(json.dumps(row, indent=1))
        print(path.read_text(), flush=True)


if __name__ == "__main__":
    main()
