"""Every layer of Keras and some small graphs, in every precision, on data of five kinds.

    python benchmarks/layers.py measure [--cases PATTERN] [--again] [--results docs/layers.json]
    python benchmarks/layers.py write [--results docs/layers.json] [--page docs/layers.md]

The models are those of tests/layer_cases.py. Each is converted by `Exporter` and by TensorFlow's
converter as it is, calibrated on the same samples; both files run on LiteRT with XNNPACK on further
samples of the same kind, and are compared with Keras in float32. Every case is saved once it is
measured, and not measured again: about an hour for all of them. `--again` measures this project's
side of cases that are there, and keeps the other.

TensorFlow's converter and every file run in a process of their own, which may die.
"""

import argparse
import fnmatch
import itertools
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402

CALIBRATION, CHECKED = 50, 16
INTEGER = ("int8", "int16x8")
PRECISIONS = ("float32", "float16", "dynamic_range", *INTEGER)
DATA = ("live", "dead", "constant", "huge", "tiny")
# Decibels: beyond the rounding of float32, and below any use.
MOST, LEAST = 100.0, -20.0
# How much less than TensorFlow's own file is as good.
MARGIN = 1.0
TIMEOUT = 300.0
# Cases of one model.
COMPANY = 12

Data = Mapping[str, np.ndarray]

# ------------------------------------------------------------------------------- the process


class Died(Exception):
    """The process ended, and how."""


class Child:
    """A process that calls functions of this file, one after another; a new one if it dies.

    Its processes are forked from one that has TensorFlow loaded.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tensorflow"])
        self._process: Any = None

    def __call__(self, name: str, *arguments: Any) -> Any:
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send((name, arguments))
            if not self._pipe.poll(TIMEOUT):
                self._process.kill()
                raise EOFError
            done, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code, self._process = self._process.exitcode, None
            raise Died(signal.Signals(-code).name if code < 0 else f"status {code}") from error
        if not done:
            raise ValueError(result)
        return result


def _serve(pipe: Any) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.dup2(null, 1)
    while True:
        name, arguments = pipe.recv()
        try:
            pipe.send((True, globals()[name](*arguments)))
        except BaseException as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


def stock(saved: str, precision: str, data: Data | None) -> bytes:
    """A SavedModel by TensorFlow's converter, with the options that its guide names."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    sets = tf.lite.OpsSet
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if data is not None:
        converter.representative_dataset = lambda: (
            {name: value[i : i + 1] for name, value in data.items()} for i in range(CALIBRATION)
        )
        converter.target_spec.supported_ops = [
            sets.TFLITE_BUILTINS_INT8
            if precision == "int8"
            else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    return converter.convert()


def answers(content: bytes, data: Data) -> dict[str, np.ndarray]:
    """What a file answers to samples, by the names of its signature."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()
    found = defaultdict(list)
    for number in range(CHECKED):
        one = {name: value[number : number + 1] for name, value in data.items()}
        for name, value in runner(**one).items():
            found[name].append(value)
    return {name: np.concatenate(values) for name, values in found.items()}


# ------------------------------------------------------------------------------- cases together


class Together:
    """Cases side by side in one model: a conversion takes long however small the model is.

    Nothing connects them, so that each is converted as by itself. A case alone is its own model.
    """

    def __init__(self, cases: Sequence[str]) -> None:
        import keras

        import layer_cases

        models = {f"c{n}": layer_cases.build(case) for n, case in enumerate(cases)}
        self.cases = cases
        self._keys = {case: key for key, case in zip(models, cases, strict=True)}
        inputs = {
            f"{key}_{x.name}": keras.Input(x.shape[1:], dtype=x.dtype, name=f"{key}_{x.name}")
            for key, model in models.items()
            for x in model.inputs
        }
        outputs = {}
        self._data: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        self._wanted: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for key, model in models.items():
            own = [inputs[f"{key}_{x.name}"] for x in model.inputs]
            # Alone it is called as it was made: a message can say which layer of it fails.
            made = model.outputs if len(cases) == 1 else keras.tree.flatten(_called(model, own))
            outputs |= {f"{key}_y{n}": y for n, y in enumerate(made)}
        if len(cases) == 1:
            [(key, model)] = models.items()
            inputs = {f"{key}_{x.name}": x for x in model.inputs}
        self.model = keras.Model(inputs, outputs, name=next(iter(models.values())).name)
        for kind, (count, seed) in itertools.product(DATA, ((CALIBRATION, 1), (CHECKED, 2))):
            found = self._data[kind, count] = {}
            for key, model in models.items():
                drawn = layer_cases.samples(model, kind, count, seed)
                found |= {f"{key}_{name}": value for name, value in drawn.items()}
                if count == CHECKED:
                    values = keras.tree.flatten(_called(model, [*drawn.values()], training=False))
                    case = self.cases[int(key[1:])]
                    self._wanted[case, kind] = {
                        f"{key}_y{n}": np.asarray(y) for n, y in enumerate(values)
                    }
        if len(cases) == 1:
            self._names = {f"{key}_{x.name}": x.name for x in self.model.inputs}
        else:
            self._names = {name: name for name in inputs}
        self._exporter: Any = None
        self._folder = tempfile.TemporaryDirectory()

    def data(self, kind: str, count: int) -> Data:
        return {self._names[name]: value for name, value in self._data[kind, count].items()}

    def ours(self, precision: str, data: Data | None) -> bytes:
        from converters.tflite import Exporter

        self._exporter = self._exporter or Exporter(self.model)
        return self._exporter.convert(precision, representative_data=data).content

    def theirs(self, child: Child, precision: str, data: Data | None) -> bytes:
        import keras

        folder = Path(self._folder.name, "saved")
        if not folder.exists():
            signature = keras.tree.map_structure(
                lambda x: keras.InputSpec(shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name),
                self.model.input,
            )
            self.model.export(folder, verbose=False, input_signature=[signature])
        if data is not None:  # its signature has the keys of the dictionary
            data = {key: data[x.name] for key, x in self.model.input.items()}
        return child("stock", str(folder), precision, data)

    def compared(self, case: str, kind: str, found: Data) -> float | str:
        return snr(found, self._wanted[case, kind])


def _called(model: Any, values: list[Any], **options: Any) -> Any:
    return model(values if len(values) > 1 else values[0], **options)


class Side:
    """One converter's results, of ever fewer cases together where it fails."""

    def __init__(self, child: Child, ours: bool) -> None:
        self._child, self._ours = child, ours
        self._made: dict[tuple[str, ...], Together] = {}

    def measure(self, cases: Sequence[str], precision: str) -> dict[tuple[str, str], float | str]:
        """`{(case, data): decibels or words}`."""
        groups, found = [tuple(cases)], {}
        files: dict[tuple[str, ...], bytes] = {}  # of floats, which know no data
        dead = set()
        for kind in DATA:
            pending, done = groups, []
            while pending:
                group, *pending = pending
                if group in dead:  # what kills it once does so again
                    found[group[0], kind] = found[group[0], DATA[0]]
                    done.append(group)
                    continue
                result = self._one(group, precision, kind, files)
                if isinstance(result, str) and len(group) > 1:
                    middle = len(group) // 2
                    pending = [group[:middle], group[middle:], *pending]
                    continue
                if isinstance(result, str):
                    found[group[0], kind] = result
                    if not self._ours and result.startswith("dies") and kind == DATA[0]:
                        dead.add(group)
                else:
                    found |= {(case, kind): value for case, value in result.items()}
                done.append(group)
            groups = done
        return found

    def _one(self, group: tuple[str, ...], precision: str, kind: str, files: dict) -> Any:
        if group not in self._made:
            self._made[group] = Together(group)
        together = self._made[group]
        content = files.get(group)
        if content is None:
            data = together.data(kind, CALIBRATION) if precision in INTEGER else None
            content, words = _tried(
                lambda: (
                    together.ours(precision, data)
                    if self._ours
                    else together.theirs(self._child, precision, data)
                )
            )
            if content is None:
                return words
            if precision not in INTEGER:
                files[group] = content
        data = together.data(kind, CHECKED)
        if not self._ours:
            data = {key: data[x.name] for key, x in together.model.input.items()}
        run, words = _tried(lambda: self._child("answers", content, data))
        if run is None:
            return f"does not run: {words}"
        return {case: together.compared(case, kind, run) for case in group}


def _tried(call: Callable[[], Any]) -> tuple[Any, str]:
    """A result, or what was said instead of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(), ""
    except Died as error:
        return None, f"dies: {error}"
    except ValueError as error:
        return None, _short(str(error))
    except Exception as error:
        return None, f"raises {type(error).__name__}: {_short(str(error))}"


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:500] if lines else "nothing"


def snr(found: Data, wanted: Data) -> float | str:
    """Decibels of the worst output, or words where it is not finite and Keras's is."""
    least = MOST
    for name, reference in wanted.items():
        value = found[name]
        finite = np.isfinite(reference)
        if not np.isfinite(value[finite]).all():
            return "NaN or infinite where Keras is not"
        signal = reference[finite].astype("float64")
        energy, noise = np.square(signal).sum(), np.square(value[finite] - signal).sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(energy / noise) if noise else MOST
        least = min(least, float(np.clip(decibels, LEAST, MOST)))
    return round(least, 1)


# ------------------------------------------------------------------------------- the command


def measure(options: argparse.Namespace) -> None:
    import layer_cases

    results = _read(options.results)
    results["versions"] = {
        name: version(name) for name in ("tensorflow", "keras", "ai-edge-litert")
    }
    cells = results.setdefault("cells", {})
    patterns = options.cases.split(",")
    names = [n for n in layer_cases.CASES if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if options.again == "failed":
        names = [n for n in names if any(verdict(*cell) for *_, cell in _cells({n: cells[n]}))]
    elif not options.again:
        names = [n for n in names if n not in cells]
    child, begun = Child(), time.monotonic()
    for start in range(0, len(names), COMPANY):
        group = names[start : start + COMPANY]
        ours, theirs = Side(child, True), Side(child, False)
        for precision in PRECISIONS:
            mine = ours.measure(group, precision)
            other = {} if options.again else theirs.measure(group, precision)
            for (case, kind), value in mine.items():
                kept = cells[case][precision][kind][1] if options.again else other[case, kind]
                cells.setdefault(case, {}).setdefault(precision, {})[kind] = [value, kept]
            print(f"{time.monotonic() - begun:.0f} s: {precision} of {', '.join(group)}")
        _write(options.results, results)
        for case in group:
            failed = [
                f"{precision}/{kind} {verdict(*cell)}"
                for _, precision, kind, cell in _cells({case: cells[case]})
                if verdict(*cell)
            ]
            print(f"  {case}: {', '.join(failed) or 'well'}", flush=True)


def verdict(ours: float | str, theirs: float | str) -> str:
    """Why a cell fails; nothing if it does not."""
    if isinstance(ours, str):
        named = re.search(r"at layer '[^']+' \(\w+\); ", ours)
        return "" if named else "without a name"
    if isinstance(theirs, str) or ours >= theirs - MARGIN:
        return ""
    return f"{theirs - ours:.1f} dB below"


def _cells(cells: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Any]]]:
    for case, precisions in cells.items():
        for precision, kinds in precisions.items():
            for kind, cell in kinds.items():
                yield case, precision, kind, cell


def _read(path: Path) -> dict[str, Any]:
    """The results; words are kept once, and stand in cells by their number."""
    if not path.exists():
        return {}
    results = json.loads(path.read_text())
    words = results.pop("words")
    for *_, cell in _cells(results["cells"]):
        cell[:] = [words[v[0]] if isinstance(v, list) else v for v in cell]
    return results


def _write(path: Path, results: Mapping[str, Any]) -> None:
    words: dict[str, int] = {}

    def short(value: float | str) -> Any:
        return [words.setdefault(value, len(words))] if isinstance(value, str) else value

    cells = {
        case: {
            p: {d: list(map(short, cell)) for d, cell in kinds.items()} for p, kinds in of.items()
        }
        for case, of in results["cells"].items()
    }
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(of)}" for case, of in cells.items())
    head = json.dumps(results["versions"])
    said = ",\n".join(map(json.dumps, words))
    text = f'{{"versions": {head},\n"words": [\n{said}],\n"cells": {{\n{lines}}}}}\n'
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def write(options: argparse.Namespace) -> None:
    raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "layers.json")
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--cases", default="*", help="shell patterns")
    measuring.add_argument("--again", nargs="?", const="all", choices=["all", "failed"])
    measuring.set_defaults(run=measure)
    writing = commands.add_parser("write")
    writing.add_argument("--page", type=Path, default=ROOT / "docs" / "layers.md")
    writing.set_defaults(run=write)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
