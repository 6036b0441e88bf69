"""Every layer of Keras and some small graphs, in every precision, on data of five kinds.

    python benchmarks/layers.py measure [--cases PATTERN] [--precisions int8,int16x8] [--again]
                                        [--results docs/layers.json]
    python benchmarks/layers.py judge [--cases PATTERN] [--results docs/layers.json]
    python benchmarks/layers.py write [--results docs/layers.json] [--page docs/layers.md]

The models are those of tests/layer_cases.py. Each is converted by `Exporter` and by TensorFlow's
converter as it is, calibrated on the same samples; both files run on LiteRT with XNNPACK on the
first of these, so that nothing is clipped, and are compared with Keras in float32. Cases are saved
as they are measured, and not measured again: some ten minutes on two cores for all of them.
`--again` measures this project's side of cases that are there, and keeps the other. `judge` takes
the cells that fail one by one: both sides anew, and where this project's is the lower one, again
with other weights and data, whose mean difference tells a loss from the luck of one rounding.

TensorFlow's converter and every file run in a process of their own, which may die.
"""

import argparse
import fnmatch
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

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
# With so many other weights and data a lower cell is measured again; what Student's t then exceeds
# in 5 of 100 cases.
DRAWS, STUDENT = 8, 1.895
TIMEOUT = 300.0
# What is said of a layer, not of its data: it is said once.
_WHATEVER_DATA = re.compile(r"^dies|does not survive|not yet supported for op|without a LiteRT")
# Cases of one model.
COMPANY = 20

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

    def __init__(self, cases: Sequence[str], draw: int = 0) -> None:
        import keras

        import layer_cases

        # Alone it is called as it was made: a message can say which layer of it fails.
        alone = len(cases) == 1
        self.cases = cases
        outputs: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        self._data: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        self._wanted: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for number, case in enumerate(cases):
            model, prefix = layer_cases.build(case, draw), "" if alone else f"c{number}_"
            own = list(model.inputs)
            if not alone:
                own = [keras.Input(x.shape[1:], dtype=x.dtype, name=prefix + x.name) for x in own]
            made = keras.tree.flatten(model.outputs if alone else _called(model, own))
            inputs |= {x.name: x for x in own}
            outputs |= {f"{prefix}y{n}": y for n, y in enumerate(made)}
            for kind in DATA:
                drawn = layer_cases.samples(model, kind, CALIBRATION, draw)
                self._data[kind] |= {prefix + name: x for name, x in drawn.items()}
                checked = [x[:CHECKED] for x in drawn.values()]
                values = keras.tree.flatten(_called(model, checked, training=False))
                self._wanted[case, kind] = {
                    f"{prefix}y{n}": np.asarray(y) for n, y in enumerate(values)
                }
            name = model.name
        self.model = keras.Model(inputs, outputs, name=name)
        self._exporter: Any = None
        self._folder = tempfile.TemporaryDirectory()

    def data(self, kind: str, count: int) -> Data:
        return {name: x[:count] for name, x in self._data[kind].items()}

    def ours(self, precision: str, data: Data | None) -> bytes:
        from converters.tflite import Exporter

        self._exporter = self._exporter or Exporter(self.model)
        # Which layer it was is looked for where a case is alone.
        search = "converters.tflite.export.find_culprit"
        with mock.patch(search, return_value=None) if len(self.cases) > 1 else nullcontext():
            return self._exporter.convert(precision, representative_data=data).content

    def theirs(self, child: Child, precision: str, data: Data | None) -> bytes:
        import keras

        folder = Path(self._folder.name, "saved")
        if not folder.exists():
            signature = {
                name: keras.InputSpec(shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name)
                for name, x in self.model.input.items()
            }
            self.model.export(folder, verbose=False, input_signature=[signature])
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
        groups: list[tuple[str, ...]] = [tuple(cases)]
        found: dict[tuple[str, str], float | str] = {}
        files: dict[tuple[str, ...], bytes] = {}  # of floats, which know no data
        dead: set[tuple[str, ...]] = set()
        for kind in DATA:
            pending: list[tuple[str, ...]] = groups
            done: list[tuple[str, ...]] = []
            well: list[str] = []
            while pending:
                group, *pending = pending
                if group in dead:
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
                    done.append(group)
                    if kind == DATA[0] and _WHATEVER_DATA.search(result):
                        dead.add(group)
                else:
                    found |= {(case, kind): value for case, value in result.items()}
                    well += group
            groups = [tuple(well), *done] if well else done
        return found

    def _one(self, group: tuple[str, ...], precision: str, kind: str, files: dict) -> Any:
        if group not in self._made:
            self._made[group] = Together(group)
        return self.one(self._made[group], precision, kind, files)

    def one(
        self, together: Together, precision: str, kind: str, files: dict | None = None
    ) -> dict[str, float | str] | str:
        """`{case: decibels or words}` of cases together, or the words that are said instead.

        Args:
            together: The cases.
            precision: One of `PRECISIONS`.
            kind: One of `DATA`.
            files: The files of floats that there are, to which one is added.
        """
        group = tuple(together.cases)
        files = {} if files is None else files
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
    if not options.again:
        names = [n for n in names if n not in cells]
    child, begun = Child(), time.monotonic()
    for start in range(0, len(names), COMPANY):
        group = names[start : start + COMPANY]
        ours, theirs = Side(child, True), Side(child, False)
        for precision in options.precisions.split(","):
            mine = ours.measure(group, precision)
            other = {} if options.again else theirs.measure(group, precision)
            for (case, kind), value in mine.items():
                kept = cells[case][precision][kind][1] if options.again else other[case, kind]
                cells.setdefault(case, {}).setdefault(precision, {})[kind] = [value, kept]
            spent = time.monotonic() - begun
            print(f"{spent:.0f} s: {precision} of {', '.join(group)}", flush=True)
        _write(options.results, results)
        for case in group:
            failed = [
                f"{precision}/{kind} {verdict(*cell)}"
                for _, precision, kind, cell in _cells({case: cells[case]})
                if verdict(*cell)
            ]
            print(f"  {case}: {', '.join(failed) or 'well'}", flush=True)


def judge(options: argparse.Namespace) -> None:
    results = _read(options.results)
    child = Child()
    for case, precision, kind, cell in _cells(results["cells"]):
        if not verdict(*cell) or not any(
            fnmatch.fnmatchcase(case, pattern) for pattern in options.cases.split(",")
        ):
            continue
        cell[:] = _alone(child, case, precision, kind, 0)
        if "below" in verdict(*cell):
            drawn = [_alone(child, case, precision, kind, 1 + n) for n in range(DRAWS)]
            both = [a - b for a, b in drawn if not isinstance(a, str) and not isinstance(b, str)]
            if len(both) == DRAWS:
                error = np.std(both, ddof=1) / np.sqrt(DRAWS)
                cell += [round(float(np.mean(both)), 1), round(float(error), 2)]
        print(f"{case}, {precision}, {kind}: {cell} {verdict(*cell) or 'well'}", flush=True)
        _write(options.results, results)


def _alone(child: Child, case: str, precision: str, kind: str, draw: int) -> list[float | str]:
    together = Together([case], draw)
    sides = [Side(child, ours) for ours in (True, False)]
    found = []
    for side in sides:
        value = side.one(together, precision, kind)
        found.append(value if isinstance(value, str) else value[case])
    return found


def verdict(
    ours: float | str, theirs: float | str, mean: float | None = None, error: float = 0.0
) -> str:
    """Why a cell fails; nothing if it does not.

    Args:
        ours: Decibels, or words.
        theirs: Of TensorFlow's own converter.
        mean: Of the difference with other weights and data, if the cell was measured with these.
        error: Its standard error.
    """
    if isinstance(ours, str):
        named = re.search(r"at layer '[^']+' \(\w+\); ", ours)
        return "" if named else "no name of a layer"
    if isinstance(theirs, str) or ours >= theirs - MARGIN:
        return ""
    if mean is None:
        return f"{theirs - ours:.1f} dB below"
    return f"{-mean:.1f} dB below" if mean + STUDENT * error < -MARGIN else ""


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


# ------------------------------------------------------------------------------- the page

HEAD = """# Layers, converted

{count} of {all} layers and small graphs: of all of them, every public layer class of Keras that can
stand in a graph to be converted, and what networks are made of. Each in the five precisions,
calibrated and run on data of five kinds: {cells} cells. Written by `benchmarks/layers.py` from
[layers.json](layers.json):
TensorFlow {tensorflow}, Keras {keras}, LiteRT {litert}; the models are those of
`tests/layer_cases.py`, with random weights.

- **Data**: `live`, normal numbers; `dead`, zeros; `constant`, 0.7; `huge` and `tiny`, normal
  numbers times 1e6 and 1e-6. {calibration} samples calibrate; the first {checked} of them
  are compared, so that no value is clipped.
- **SNR**: 10 log10 of the energy of what Keras answers in float32 over that of the difference, in
  dB, of the worst output; {most:.0f} stands for more, {least:.0f} for less. The file runs on LiteRT
  with XNNPACK.
- **TensorFlow's own**: `tf.lite.TFLiteConverter` on `model.export` of the same model with a batch
  of 1, calibrated on the same samples; with the same operators (`TFLITE_BUILTINS_INT8`, the 16x8
  set).
- A cell **fails** if it neither runs nor is refused by the layer's name, if a number is NaN or
  infinite where Keras's is not, or if it is more than {margin:.0f} dB below TensorFlow's own.
- **Luck**: of a few numbers the SNR is that of a few roundings. A cell more than {margin:.0f} dB
  below is measured again with {draws} other draws of weights and data, and fails unless their mean
  difference may be above -{margin:.0f} dB, by Student's t at 5 in 100.
- Up to {company} cases are converted side by side in one model, and by themselves where that
  fails. Where live data show that a precision has no operator for a layer, or that it kills the
  converter's process, the other data are not tried.
"""


def write(options: argparse.Namespace) -> None:
    import layer_cases

    results = _read(options.results)
    cells = [*_cells(results["cells"])]
    versions = results["versions"]
    text = HEAD.format(
        count=len(results["cells"]),
        all=len(layer_cases.CASES), cells=len(cells), tensorflow=versions["tensorflow"],
        keras=versions["keras"], litert=versions["ai-edge-litert"], calibration=CALIBRATION,
        checked=CHECKED, company=COMPANY, most=MOST, least=LEAST, margin=MARGIN, draws=DRAWS,
    )  # fmt: skip
    sections = (_counts, _failures, _redrawn, _refusals, _better, _numbers)
    options.page.write_text(text + "\n" + "\n".join(section(cells) for section in sections))


Cell = tuple[str, str, str, list[Any]]


def _counts(cells: Sequence[Cell]) -> str:
    lines = [
        "## What became of them\n",
        "Run / refused by name / **fail**; in brackets, of how many TensorFlow's own converter "
        "gives a file that runs.\n",
        f"| precision | {' | '.join(DATA)} |",
        "|---" * (len(DATA) + 1) + "|",
    ]
    for precision in PRECISIONS:
        row = []
        for kind in DATA:
            own = [cell for _, p, d, cell in cells if (p, d) == (precision, kind)]
            failed = sum(bool(verdict(*cell)) for cell in own)
            refused = sum(isinstance(cell[0], str) and not verdict(*cell) for cell in own)
            stock_runs = sum(not isinstance(cell[1], str) for cell in own)
            bad = f" / **{failed}**" if failed else ""
            row.append(f"{len(own) - refused - failed} / {refused}{bad} ({stock_runs})")
        lines.append(f"| {precision} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _grouped(rows: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """(case, precision, words) with the kinds of data that say the same in one line."""
    together = defaultdict(list)
    for case, precision, kind, words in rows:
        together[case, precision, words].append(kind)
    for (case, precision, words), kinds in together.items():
        where = "" if len(kinds) == len(DATA) else f" ({', '.join(kinds)})"
        yield case, precision + where, words


def _failures(cells: Sequence[Cell]) -> str:
    found = []
    for case, precision, kind, cell in cells:
        words = verdict(*cell)
        if words and isinstance(cell[0], str):
            words = cell[0] + (", as in TensorFlow's own" if cell[0] == cell[1] else "")
        if words:
            found.append((case, precision, kind, words))
    lines = ["## What fails\n"]
    lines += [f"- {case}, {where}: {_escaped(words)}" for case, where, words in _grouped(found)]
    return "\n".join(lines if found else [*lines, "Nothing."]) + "\n"


def _redrawn(cells: Sequence[Cell]) -> str:
    lines = [
        "## What was measured again with other weights and data\n",
        "Mean difference to TensorFlow's own, with its standard error.\n",
    ]
    lines += [
        f"- {case}, {precision}, {kind}: {cell[0]:.1f} for {cell[1]:.1f} dB; "
        f"of {DRAWS} others {cell[2]:+.1f} ± {cell[3]:.1f} dB"
        for case, precision, kind, cell in cells
        if len(cell) > 2
    ]
    return "\n".join(lines) + "\n"


def _refusals(cells: Sequence[Cell]) -> str:
    """By what is said, the layer's name left out."""
    said = defaultdict(list)
    refused = [
        (case, p, kind, cell[0])
        for case, p, kind, cell in cells
        if isinstance(cell[0], str) and not verdict(*cell)
    ]
    for case, where, words in _grouped(refused):
        text = re.sub(r"model '[^']*' at layer '[^']+'", "model … at layer '…'", words)
        said[re.sub(r"Failed for tensor \S+", "Failed for tensor …", text)].append(
            f"{case}: {where}"
        )
    lines = ["## What is refused, and in which words\n"]
    for text, cases in sorted(said.items(), key=lambda item: -len(item[1])):
        lines += [f"- {_escaped(text)}  ", f"  *{'; '.join(cases)}*"]
    worse = [
        (case, p, kind, f"{cell[1]:.1f} dB")
        for case, p, kind, cell in cells
        if isinstance(cell[0], str) and not isinstance(cell[1], str)
    ]
    lines += ["\nOf these TensorFlow's own converter gives a file that runs, and its SNR:\n"]
    lines += [f"- {case}, {where}: {words}" for case, where, words in _grouped(worse)] or ["- none"]
    return "\n".join(lines) + "\n"


def _better(cells: Sequence[Cell]) -> str:
    lines = [
        "## Against TensorFlow's own converter\n",
        "Cells by the difference in SNR, and those where one of the two alone gives a file that "
        "runs.\n",
        f"| precision | over {MARGIN:.0f} dB less | as good | over {MARGIN:.0f} dB more | "
        "over 10 dB more | only here | only there |",
        "|---" * 7 + "|",
    ]
    for precision in PRECISIONS:
        own = [cell[:2] for _, p, _, cell in cells if p == precision]
        both = [a - b for a, b in own if not isinstance(a, str) and not isinstance(b, str)]
        counts = [
            sum(d < -MARGIN for d in both),
            sum(-MARGIN <= d <= MARGIN for d in both),
            sum(d > MARGIN for d in both),
            sum(d > 10 for d in both),
            sum(not isinstance(a, str) and isinstance(b, str) for a, b in own),
            sum(isinstance(a, str) and not isinstance(b, str) for a, b in own),
        ]
        lines.append(f"| {precision} | {' | '.join(map(str, counts))} |")
    better = [
        (case, f"{precision}, {kind}: {cell[0]:.0f} for {cell[1]:.0f} dB", cell[0] - cell[1])
        for case, precision, kind, cell in cells
        if not any(isinstance(value, str) for value in cell[:2]) and cell[0] - cell[1] > MARGIN
    ]
    by_case = defaultdict(list)
    for case, words, _ in sorted(better, key=lambda row: -row[2]):
        by_case[case].append(words)
    lines += ["\nWhere it is better:\n"]
    lines += [f"- {case}: {'; '.join(words)}" for case, words in by_case.items()]
    only = [
        (case, precision, kind, cell[1])
        for case, precision, kind, cell in cells
        if isinstance(cell[1], str) and not isinstance(cell[0], str)
    ]
    lines += ["\nWhere TensorFlow's own converter gives no file that runs, and what it says:\n"]
    lines += [f"- {case}, {where}: {_escaped(said[:160])}" for case, where, said in _grouped(only)]
    return "\n".join(lines) + "\n"


def _numbers(cells: Sequence[Cell]) -> str:
    lines = [
        "## Every case on live data\n",
        "SNR in dB, in brackets that of TensorFlow's own converter where it is another.\n",
        f"| case | {' | '.join(PRECISIONS)} |",
        "|---" * (len(PRECISIONS) + 1) + "|",
    ]
    rows = defaultdict(list)
    for case, _, kind, (ours, theirs, *_) in cells:
        if kind != "live":
            continue
        a, b = ("–" if isinstance(v, str) else f"{v:.0f}" for v in (ours, theirs))
        rows[case].append(a if a == b else f"{a} ({b})")
    lines += [f"| {case} | {' | '.join(row)} |" for case, row in rows.items()]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([*_<>|])", r"\\\1", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "layers.json")
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--cases", default="*", help="shell patterns")
    measuring.add_argument("--precisions", default=",".join(PRECISIONS))
    measuring.add_argument("--again", action="store_true")
    measuring.set_defaults(run=measure)
    judging = commands.add_parser("judge")
    judging.add_argument("--cases", default="*", help="shell patterns")
    judging.set_defaults(run=judge)
    writing = commands.add_parser("write")
    writing.add_argument("--page", type=Path, default=ROOT / "docs" / "layers.md")
    writing.set_defaults(run=write)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
