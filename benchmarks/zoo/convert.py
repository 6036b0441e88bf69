"""Converts what `export.py` wrote and compares with PyTorch: `NAME.convert.json` for each network.

    python benchmarks/zoo/convert.py FOLDER [NAME ...] [--again] [--no-int8] [--no-gpu] [--no-files]

Runs in this project's environment, without PyTorch; the GPU column needs a Vulkan driver on
`LD_LIBRARY_PATH`. The smallest networks come first, and what has all that is asked for is left out,
but for those named and with `--again`: a run that was ended goes on where it was. Each network has
a process and a time limit of its own, and so has its run on the GPU (`--seconds`); a row is written
after every step, so that one that crashes says where.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

SECONDS = 900
# What can be left out, and the key of a row that it fills.
FLAGS = {"--no-files": "file", "--no-int8": "int8", "--no-gpu": "gpu"}
# Raised when the files that are written change, so that rows and cells of before are told apart.
# 1: batch normalizations are factors and shifts rounded once.
REVISION = 1


class Row:
    """What is known of one network so far, on disk after every step."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.convert.json"
        exported = json.loads((folder / f"{name}.export.json").read_text())
        kept = ("name", "family", "shape", "parameters", "deviation", "rounding")
        self.data = {key: exported.get(key) for key in kept} | {
            "exported_with": exported["versions"]
        }
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.quickest = before.get("seconds", {})
        # Cells of this file stay, those of an earlier one are told apart.
        known = {key: before[key] for key in ("gpu", "int8") if key in before}
        same = before.get("revision") == REVISION
        self.data |= known if same else {}
        self.data["earlier"] = before.get("earlier", {}) | ({} if same else known)
        self.data["revision"] = REVISION

    def step(self, name: str) -> None:
        """The step that begins now."""
        self.add(step=name)

    def add(self, **values) -> None:
        """Adds values and writes the row."""
        self.data |= values
        if "seconds" in values:
            # Of a machine that others use too, the quickest run says most.
            least = {k: min(v, self.quickest.get(k, v)) for k, v in values["seconds"].items()}
            self.data["seconds"] = least
        self.path.write_text(json.dumps(self.data, indent=1))


def convert(
    folder: Path, name: str, *, files: bool, int8: bool, gpu: bool, seconds_of_gpu: float
) -> None:
    """Writes the row of one network."""
    import numpy as np

    from converters import lint, to_keras, to_tflite
    from converters.runtime import run
    from converters.tflite.flatbuffer import read_graphs

    row, begun = Row(folder, name), time.time()
    row.step("to_keras")
    model, report = to_keras(folder / f"{name}.pt2")
    seconds = {"to_keras": round(time.time() - begun, 1)}
    row.add(
        layers=len(model.layers),
        ulsam=len(report.ulsam),
        transposes=len(report.transposes),
        transposed=list(report.transposes)[:20],
        warnings=list(report.warnings),
        seconds=seconds,
    )
    with np.load(folder / f"{name}.npz") as file:
        inputs = file["inputs"]
        expected = {k.removeprefix("outputs").lstrip("."): v for k, v in file.items()}
    expected.pop("inputs")
    (given,) = report.inputs
    images = np.ascontiguousarray(inputs.transpose(given.order))

    def in_order(outputs):
        """Of a dictionary, a list or one output: those recorded, in PyTorch's layout."""
        names = [end.name for end in report.outputs]
        if isinstance(outputs, dict):
            outputs = [outputs[_signature_name(n)] for n in names]
        elif not isinstance(outputs, (list, tuple)):
            outputs = [outputs]
        theirs = [n for n in names if n in expected] if set(names) == set(expected) else expected
        found = {}
        for key, end, value in zip(theirs, report.outputs, outputs, strict=True):
            found[key] = np.asarray(value).transpose(np.argsort(end.order))
        return found

    def difference(found):
        values = {}
        for key, theirs in expected.items():
            if found[key].shape != theirs.shape:
                raise ValueError(f"output {key!r} is {found[key].shape}, not {theirs.shape}")
            values[key] = float(np.abs(found[key] - theirs).max() / np.abs(theirs).max())
        return max(values.values())

    row.step("Keras against PyTorch")
    import keras

    def one(image):
        outputs = model(image[None], training=False)
        if isinstance(outputs, dict):
            outputs = {_signature_name(k): v for k, v in outputs.items()}
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    each = [in_order(one(image)) for image in images]
    row.add(keras=difference({k: np.concatenate([e[k] for e in each]) for k in expected}))

    if not files:
        row.step("Keras only")
        return
    row.step("float32 file")
    started = time.time()
    shape = (1, *images.shape[1:])
    float32 = to_tflite(model, input_shape=shape)
    seconds["float32"] = round(time.time() - started, 1)
    row.add(seconds=seconds)
    operators = [o.name for o in read_graphs(float32)[0].operators]
    row.add(operators=len(operators), kinds=dict(Counter(operators)), bytes=len(float32))
    row.add(lint=dict(Counter(f"{f.severity} {f.code}" for f in lint(float32))))

    def file_outputs(file, **options):
        options = {"timeout": SECONDS / 3, **options}
        result = run(file, images, repeats=0, **options)
        return result, in_order(_named(result.outputs, report)) if result.ok else None

    row.step("float32 file against PyTorch")
    result, floats = file_outputs(float32, num_threads=2)
    row.add(file=difference(floats) if result.ok else f"{result.outcome}: {result.message[:200]}")
    if gpu:
        row.step("GPU")
        result, found = file_outputs(float32, accelerator="gpu", timeout=seconds_of_gpu)
        row.add(gpu=difference(found) if result.ok else f"{result.outcome}: {result.message[:200]}")
    if int8 and floats:
        row.step("int8")
        row.add(int8=_int8(to_tflite, model, shape, images, file_outputs, floats))
    row.step("done")


def _int8(to_tflite, model, shape, images, file_outputs, floats):
    """SNR in dB of the worst output, each with its mean over the samples taken off; or why not."""
    import numpy as np

    try:
        file = to_tflite(model, input_shape=shape, precision="int8", representative_data=images)
    except ValueError as error:
        return str(error).splitlines()[0][:300]
    result, found = file_outputs(file, num_threads=2)
    if not result.ok:
        return f"{result.outcome}: {result.message[:200]}"
    decibels = []
    for key, value in floats.items():
        signal = np.square(value - value.mean(0)).sum()
        noise = np.square(found[key].astype("float64") - value).sum()
        decibels.append(10 * np.log10(signal / noise))
    return round(float(min(decibels)), 1)


def _signature_name(name: str) -> str:
    """The name of an output in the file's signature."""
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)


def _named(outputs, report):
    """A run's outputs by name, or the only one."""
    return next(iter(outputs.values())) if len(report.outputs) == 1 else outputs


def main() -> None:
    """Converts those asked for, or all, one process each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--again", action="store_true", help="also what has a row already")
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--seconds", type=float, default=300.0, help="that a GPU run may take")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    left_out = [f for f in FLAGS if getattr(options, f[2:].replace("-", "_"))]
    if options.here:
        asked = {f[5:]: f not in left_out for f in FLAGS}
        convert(options.folder, options.names[0], **asked, seconds_of_gpu=options.seconds)
        return
    exported = [json.loads(path.read_text()) for path in options.folder.glob("*.export.json")]
    exported.sort(key=lambda row: row["parameters"])
    wanted = {"keras", *(key for flag, key in FLAGS.items() if flag not in left_out)}
    for name in options.names or [row["name"] for row in exported]:
        path = options.folder / f"{name}.convert.json"
        if path.exists() and not options.again and not options.names:
            row = json.loads(path.read_text())
            if row.get("revision") == REVISION and ("failure" in row or wanted <= set(row)):
                continue
        command = [sys.executable, __file__, str(options.folder), name, "--here", *left_out]
        command += ["--seconds", str(options.seconds)]
        begun, failure = time.time(), None
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
                failure = lines[-1][:600]
        except subprocess.TimeoutExpired:
            failure = f"took more than {SECONDS} s"
        row = Row(options.folder, name)
        row.data |= json.loads(path.read_text()) if path.exists() else {"step": "start"}
        if failure:
            # The last step: all else is known.
            row.add(**{"int8" if row.data["step"] == "int8" else "failure": failure})
        print(f"{name:34} {time.time() - begun:5.0f} s  {_line(row.data)}", flush=True)


def _line(row: dict) -> str:
    if "failure" in row:
        return f"FAILED at {row['step']}: {row['failure']}"
    return ", ".join(
        f"{key} {row.get(key)}" for key in ("keras", "file", "operators", "ulsam", "gpu", "int8")
    )


if __name__ == "__main__":
    main()
