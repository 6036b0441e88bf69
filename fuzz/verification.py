"""`verify` of a `.tflite` file: with a stand-in for the runtime, or by the runtime itself."""

import io
import random
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from converters.runtime import RunResult
    from converters.tflite.flatbuffer import TfliteFile
    from converters.verify.compare import Verification

_SIZE = (8, 8)  # of an image whose size is open
_MOST = 1 << 20  # numbers of a tensor: larger ones take the memory that they may


def stood_in(path: str) -> None:
    """A file beside itself, beside another or beside a reference, drawn from its content.

    The stand-in answers with what the file says it does.
    """
    from converters.tflite.flatbuffer import TfliteFile
    from converters.verify import targets
    from converters.verify.compare import Judge, verify

    file = TfliteFile(path)
    for tensor in (*file.graph.inputs, *file.graph.outputs):
        _numbers(tensor.shape, "float32")
    draw, b, inputs = random.Random(zlib.crc32(file.content)), path, None
    kind = draw.randrange(6)
    if kind < 3:
        arrays = f"{path}.npz"
        np.savez(arrays, **_arrays(file, draw))
        b = draw.choice((path, path, arrays)) if kind == 0 else arrays
        inputs = arrays if kind == 0 else None
    elif kind < 5:
        b = str(draw.choice(sorted(Path(path).parent.glob("*.tflite"))))
    with mock.patch.object(targets, "run", _answer):
        found = verify(
            *((path, b) if draw.random() < 0.8 else (b, path)),
            judge=Judge(classifier=draw.choice((None, None, True))),
            targets=(*targets.CPU[2:], *targets.GPU[: draw.randrange(3)]),
            runner=targets.Runner(),
            input_size=_SIZE,
            inputs=inputs,
            require_gpu=draw.random() < 0.1,
        )
    _check(found)
    if found.comparisons and draw.random() < 0.1:
        _report(found)


def native(path: str) -> None:
    """By the runtime, which may crash in its own process: an outcome that is told."""
    from converters.verify.compare import Judge, verify
    from converters.verify.targets import CPU, Runner

    runner = Runner(timeout=8)
    _check(verify(path, path, judge=Judge(), targets=CPU[:1], runner=runner, input_size=_SIZE))


def _check(found: "Verification") -> None:
    told = [*found.notes, *(check.problem for check in found.checks)]
    told += [failure for row in found.comparisons for failure in row.failures]
    told += [site.lost_in for site in found.attention if site.visible in (None, True, False)]
    assert all(map(str.isprintable, told)), told
    assert isinstance(found.passed, bool)


def _report(found: "Verification") -> None:
    """What the command prints of it."""
    from rich.console import Console

    from converters.report.document import Compared
    from converters.report.terminal import print_comparison

    assert Compared(found, None, 1).to_dict()
    print_comparison(found, None, Console(emoji=False, file=io.StringIO(), width=80))


def _numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    if np.prod(shape, dtype=float) > _MOST:
        raise ValueError(f"more numbers than are tried. Received: {shape}")
    named = dtype.lower() if dtype.lower() in np.sctypeDict else "float32"
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(named)


def _answer(content: bytes, named: dict[str, np.ndarray], **_: object) -> "RunResult":
    from converters.runtime import RunResult
    from converters.tflite.flatbuffer import TfliteFile

    graph, drawn = TfliteFile(content).graph, zlib.crc32(content)
    if drawn % 16 == 0:
        return RunResult("crashed", message="ended by SIGSEGV", signal="SIGSEGV")
    if drawn % 16 == 2:
        return RunResult("timed_out", message="not done in 8 seconds")
    batch = next((tensor.shape[0] for tensor in graph.inputs if tensor.shape), 1)
    times = max(len(next(iter(named.values()))) // max(batch, 1), 1)
    outputs = {}
    for name, tensor in graph.answered.items():
        # Those of a reference, or others: by the content, so that a file answers the same again.
        seeds = range(min(times, 8)) if drawn % 3 else [0] * min(times, 8)
        answers = [_numbers(tensor.shape, tensor.dtype, seed * drawn) for seed in seeds]
        outputs[name] = np.concatenate([np.atleast_1d(answer) for answer in answers])
        if drawn % 16 == 1 and outputs[name].dtype.kind == "f":
            outputs[name].flat[::3] = np.nan
    return RunResult("ok", outputs, milliseconds=1.0)


def _arrays(file: "TfliteFile", draw: random.Random) -> dict[str, np.ndarray]:
    """A reference for a file: in either layout, with labels and what modules answered, or not."""
    from converters.tflite.sites import find_sites

    graph, arrays, count = file.graph, {}, draw.choice((1, 4))
    renamed = draw.random() < 0.2
    torch, shares = draw.random() < 0.5, draw.random() < 0.2
    for what, ends in (("inputs", graph.given), ("outputs", graph.answered)):
        for number, (name, tensor) in enumerate(ends.items()):
            dtype = "float32" if tensor.scales else tensor.dtype
            whole = [_numbers(tensor.shape, dtype, seed) for seed in range(count)]
            value = np.concatenate([np.atleast_1d(each) for each in whole])
            if shares and what == "outputs" and value.dtype.kind == "f":
                value = _softmax(value)
            if torch and value.ndim == 4:
                value = value.transpose(0, 3, 1, 2)
            called = f"other {number}" if renamed else draw.choice((name, name, name, "x"))
            arrays[f"{what}.{called}" if len(ends) > 1 else what] = value
    samples = len(next(iter(arrays.values())))
    if draw.random() < 0.3:
        arrays["labels"] = np.arange(samples) % draw.choice((1, 2, 9)) * draw.choice((1, 1, 1.5))
    if draw.random() < 0.5:
        for number, site in enumerate(find_sites(graph)):
            _, height, width, groups = site.attention.shape
            for group in range(groups):
                scores = _numbers((samples, height * width), "float32", group)
                arrays[f"layers.block{number}.{group}.softmax"] = _softmax(scores)
    return arrays


def _softmax(scores: np.ndarray) -> np.ndarray:
    values = np.exp(scores)
    return values / values.sum(axis=-1, keepdims=True)
