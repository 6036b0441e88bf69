"""Small graphs by the thousand on the GPU delegate, compared with the CPU.

    export PYTHONPATH=.:tests
    python benchmarks/gpu_sweep.py run       # goes on where it was; --seconds ends it
    python benchmarks/gpu_sweep.py confirm   # on lavapipe: what is wrong, some of what is right
    python benchmarks/gpu_sweep.py files     # of what was found, for other rules of lint
    python benchmarks/gpu_sweep.py write     # docs/gpu_sweep.jsonl.gz and docs/gpu_sweep.md
    python benchmarks/gpu_sweep.py rules     # each rule of lint, on the installed runtime

What is tried is in `gpu_graphs.py`; files and results are kept in `out/gpu_sweep`. Needs the
drivers of `scripts/vulkan_drivers.sh`, and pytest.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_graphs import Graph, graphs
from gpu_workers import file_name

from gpu_drivers import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "out" / "gpu_sweep"
FILES = WORK / "files"
DATA, PAGE = ROOT / "docs" / "gpu_sweep.jsonl.gz", ROOT / "docs" / "gpu_sweep.md"

BATCH = 64
# What was looked into, and is no fault of the delegate's.
LOOKED_INTO = {
    "int8 1x9x7x6 AveragePooling2D(3, strides=1, padding='same') -> LayerNormalization()": (
        "rounding, amplified by the norm, which divides by the deviation of rows that are nearly "
        "level. Of float Keras the CPU's two kinds of kernels are off by 0.379 (23.0 dB are left), "
        "the GPU by 0.379 (22.7 dB)"
    ),
    "int8 1x12x10x8 Conv2D(8, 3, padding='same') -> Reshape((H * W, C)) -> "
    "tf.argmax(x, 1, output_type='int32')": (
        "a tie: the one position of 24 that differs holds the same integer, 64, as the CPU's. "
        "Along more than 64 rows or columns, where 64 does not divide them, the delegate's is not "
        "the first of equal ones"
    ),
    "int8 1x12x10x8 Conv2D(8, 3, padding='same') -> ops.cast(x < ops.sin(x), 'float32')": (
        "the CPU's: its comparison is of multiples of 1/256. All 69 values that differ are of "
        "three pairs nearer than that, like -0.1728 < -0.1725, and the GPU is right"
    ),
    "int8 1x12x10x8 Conv2D(8, 3, padding='same') -> ops.where(x <= ops.sin(x), x, -x)": (
        "the CPU's too, of four pairs like -0.2429 <= -0.2431; the GPU is right"
    ),
    "float32 1x12x10x8 Conv2D(8, 3, padding='same') -> "
    "ops.matmul(x, ops.transpose(ops.sin(x), (0, 1, 3, 2))) -> ops.clip(x, -0.5, 0.7)": (
        "the driver's: SwiftShader's sine is off by up to 1.9e-4. On lavapipe the graph is off "
        "by 4e-6"
    ),
}
# Operators of which a rounding can make another number, of few values.
_STEPS = {
    "ARG_MAX", "ARG_MIN", "CAST", "EQUAL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "GREATER",
    "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL", "ROUND", "SIGN",
}  # fmt: skip
# Seconds that a batch may take to build, or a file to run.
BUILDING, RUNNING = 600, 120


class Died(Exception):
    """A child process ended or was ended; the text says how."""


class Child:
    """A child process of `gpu_workers.py`, started again after each death."""

    def __init__(self, *arguments: str, env: dict[str, str | None] | None = None) -> None:
        self._arguments = arguments
        merged = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        merged |= {"KERAS_BACKEND": "tensorflow"} | (env or {})
        self._env = {name: value for name, value in merged.items() if value is not None}
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        if self._process is None:
            WORK.mkdir(parents=True, exist_ok=True)
            with open(WORK / f"{self._arguments[0]}.log", "wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, str(HERE / "gpu_workers.py"), *self._arguments],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=self._env,
                )  # fmt: skip
        process = self._process
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            late = not select.select([process.stdout], [], [], seconds)[0]
            line = b"" if late else process.stdout.readline()
        except BrokenPipeError:
            late, line = False, b""
        if line:
            return json.loads(line)
        self.end()
        raise Died("hangs" if late else f"signal {-process.returncode}")

    def end(self) -> None:
        if self._process is not None:
            self._process.kill() if self._process.poll() is None else None
            self._process.wait()
            self._process = None


def build(child: Child, names: list[str]) -> dict[str, str]:
    """Makes files, and says of those that cannot be made why."""
    try:
        reply = child.ask({"graphs": names, "folder": str(FILES)}, BUILDING)
    except Died as death:
        if len(names) == 1:
            return {names[0]: f"converter: {death}"}
        middle = len(names) // 2
        return build(child, names[:middle]) | build(child, names[middle:])
    if "error" in reply:
        return dict.fromkeys(names, reply["error"])
    return reply["invalid"]


def measure(child: Child, name: str) -> dict[str, Any]:
    """What a file does on the delegate; a crash counts if it comes again in a fresh process."""
    request = {"path": str(FILES / file_name(name))}
    try:
        return child.ask(request, RUNNING)
    except Died:
        try:
            return child.ask(request, RUNNING)
        except Died as death:
            return {"outcome": "crashed", "message": str(death)}


def results(driver: str) -> dict[str, dict[str, Any]]:
    """What is known of each graph: from the data in docs, if of the installed version, and here."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        head, *rows = map(json.loads, file)
    if head["ai-edge-litert"] != version("ai-edge-litert"):
        rows = []
    for row in rows:
        row["operators"] = row["operators"].split()
    if driver == "lavapipe":
        rows = [{"graph": row["graph"], **row["lavapipe"]} for row in rows if "lavapipe" in row]
    path = WORK / f"{driver}.jsonl"
    if path.exists():
        rows += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {row["graph"]: row for row in rows}


def run(driver: str, names: list[str], seconds: float) -> None:
    """Runs what has no result yet, batch by batch."""
    FILES.mkdir(parents=True, exist_ok=True)
    known = results(driver)
    todo = [name for name in names if name not in known]
    todo.sort(key=lambda name: not (FILES / file_name(name)).exists())
    builder, runner = Child("build"), Child("run", env=environment(driver))
    start, done, wrong = time.monotonic(), 0, 0
    with open(WORK / f"{driver}.jsonl", "a", buffering=1) as file:
        for batch in _batches(todo):
            missing = [name for name in batch if not (FILES / file_name(name)).exists()]
            invalid = build(builder, missing) if missing else {}
            for name in batch:
                if name in invalid:
                    row = {"outcome": "none", "message": invalid[name]}
                else:
                    row = measure(runner, name)
                wrong += is_wrong(name, row)
                file.write(json.dumps({"graph": name, **row}) + "\n")
            done += len(batch)
            spent = time.monotonic() - start
            print(f"{done} of {len(todo)}, {wrong} wrong, {spent:.0f} s", flush=True)
            if spent > seconds:
                break
    builder.end()
    runner.end()


def _batches(names: list[str]) -> Iterator[list[str]]:
    """Batches of one precision each, in the order of the first of each."""
    waiting: dict[str, list[str]] = {}
    for name in names:
        batch = waiting.setdefault(Graph.of(name).precision, [])
        batch.append(name)
        if len(batch) == BATCH:
            yield waiting.pop(Graph.of(name).precision)
    yield from waiting.values()


def is_wrong(name: str, row: dict[str, Any]) -> bool:
    """Whether the delegate crashed, or took a file and computed it otherwise than the CPU.

    Roundings may fall to another side of a comparison, which then makes few values another. In int8
    steps and ties may fall otherwise: wrong is what is far off, in many values, and further
    than the CPU's two kinds of kernels are from each other.
    """
    if row["outcome"] == "crashed":
        return True
    off = min(row.get("off", 0.0), row.get("off_reference", 1e9))
    if Graph.of(name).precision == "int8":
        return off > 0.1 and row["share"] > 0.02 and off > 3 * row.get("cpu_off", 0.0)
    return off > 1e-3 and (row["share"] > 1e-3 or not _STEPS.intersection(row.get("operators", ())))


def confirm(share: float = 0.03) -> None:
    """The second driver, on all graphs that are wrong on the first and a share of the others."""
    known = results("swiftshader")
    drawn = random.Random(0)
    others = [n for n, row in known.items() if row["outcome"] == "ran" and drawn.random() < share]
    wrong = [name for name, row in known.items() if is_wrong(name, row)]
    run("lavapipe", [*dict.fromkeys([*wrong, *others])], 1e9)


def files() -> None:
    """The files of what is wrong or named, where they are missing, for `lint` with other rules."""
    FILES.mkdir(parents=True, exist_ok=True)
    rows = results("swiftshader")
    names = [name for name, row in rows.items() if is_wrong(name, row) or row.get("lint")]
    builder = Child("build")
    for batch in _batches([n for n in names if not (FILES / file_name(n)).exists()]):
        build(builder, batch)
    builder.end()


def linted() -> list[dict[str, Any]]:
    """All results, with what lint says of each file now and what the second driver did."""
    from converters import lint

    second = results("lavapipe")
    rows = []
    for name, row in results("swiftshader").items():
        path = FILES / file_name(name)
        if row["outcome"] != "none" and path.exists():
            row["lint"] = sorted({finding.code for finding in lint(path)})
        row["wrong"] = is_wrong(name, row)
        if name in second:
            row["lavapipe"] = {k: second[name].get(k) for k in ("outcome", "off", "share")}
            row["lavapipe"]["wrong"] = is_wrong(name, row | second[name])
        rows.append(row | {"operators": " ".join(row.get("operators", []))})
    return rows


def write() -> None:
    """The data, and the page of what was found."""
    # Alike beside each other, and not more digits than say something: half the size.
    rows = sorted(linted(), key=lambda row: row["graph"].split(" ", 2)[::-1])
    head = {"ai-edge-litert": version("ai-edge-litert"), "drivers": ["SwiftShader", "lavapipe"]}
    with gzip.GzipFile(DATA, "wb", mtime=0) as file:
        for row in [head, *rows]:
            file.write(json.dumps(_rounded(row)).encode() + b"\n")
    PAGE.write_text(page(rows), encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.2e}") if isinstance(value, float) else value


def page(rows: list[dict[str, Any]]) -> str:
    """docs/gpu_sweep.md."""
    from converters.tflite import RULES
    from converters.tflite.gpu_rules import RULES as NEW

    new = {rule.code for rule in NEW}
    files = [row for row in rows if "lint" in row]
    taken = [row for row in files if row["outcome"] in ("ran", "partly", "crashed")]
    wrong = [row for row in taken if row["wrong"]]
    before = [row for row in wrong if not set(row["lint"]) - new]
    after = [row for row in wrong if not row["lint"]]
    right = [row for row in taken if not row["wrong"]]
    named = [row for row in right if set(row["lint"]) & new]
    again = [row["lavapipe"] for row in wrong if "lavapipe" in row]
    sample = [row["lavapipe"] for row in right if "lavapipe" in row]
    lines = [
        HEAD.format(
            files=len(files), version=version("ai-edge-litert"), taken=len(taken),
            wrong=len(wrong), before=len(before), after=len(after),
            known=sum(row["graph"] in LOOKED_INTO for row in after), named=len(named),
            right=len(right), again=len(again), same=sum(row["wrong"] for row in again),
            sample=len(sample), other=sum(row["wrong"] for row in sample),
        ),
        "| precision | files | right | wrong | crashed | refused |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    by = defaultdict(Counter)
    for row in files:
        kind = "wrong" if row["wrong"] and row["outcome"] != "crashed" else row["outcome"]
        by[Graph.of(row["graph"]).precision][kind] += 1
    for precision, counts in sorted(by.items()):
        right_ones = counts["ran"] + counts["partly"]
        told = (right_ones, counts["wrong"], counts["crashed"], counts["refused"])
        lines.append(f"| {precision} | {counts.total()} | {' | '.join(map(str, told))} |")
    lines += ["", "## By rule", "", RULE_HEAD]
    lines += ["| rule | wrong | right | the shortest of the wrong |", "|---|---|---|---|"]
    for code in RULES:
        hit = [row for row in wrong if code in row["lint"]]
        free = sum(code in row["lint"] for row in right)
        if hit or free and code in new:
            least = min((row["graph"] for row in hit), key=len, default="")
            lines.append(f"| `{code}` | {len(hit)} | {free} | {_code(least)} |")
    lines += ["", "## Wrong, and not named", ""]
    for row in after:
        reason = LOOKED_INTO.get(row["graph"])
        off = f"{row['off']:.3g}" if "off" in row else row["outcome"]
        lines.append(f"- {_code(row['graph'])}: {off}" + f"; {reason}." * bool(reason))
    lines += [] if after else ["None."]
    refusals = Counter(
        part.split(":")[0].strip()
        for row in files
        if row["outcome"] == "refused" and not row["lint"]
        for part in row.get("message", "").split(";")
    )
    lines += ["", "## Refused, and not named", "", REFUSED, ""]
    lines += [f"- {_code(name)}: {count}" for name, count in refusals.most_common(25)]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text.replace('|', '/')}`" if text else ""


HEAD = """# What the GPU delegate computes wrongly

{files} graphs of one to five Keras layers or operations, of three precisions and nine shapes, each
run on LiteRT's GPU delegate and on the CPU with values of both signs, all below 0 and all above.
Written by `benchmarks/gpu_sweep.py` with ai-edge-litert {version} on SwiftShader; the data, a line
for each graph, is [gpu_sweep.jsonl.gz](gpu_sweep.jsonl.gz). An `int8` file has float ends.

- {taken} graphs are taken by the delegate; **{wrong} of them come out wrong or crash**.
- Clean in `lint` and wrong: **{before} before the rules that this sweep gave, {after} with them**,
  {known} of which are looked into below: roundings, a tie, a driver's sine.
- {named} of the {right} right graphs have a finding of these rules all the same.
- On lavapipe, the second driver, {same} of the {again} wrong ones that ran there are wrong too, and
  {other} of {sample} right ones.

Wrong is a difference of more than 1e-3 of the largest value, and in a graph that compares or
rounds in more than 1e-3 of the values; in int8 of more than a tenth in more than 2 % of the
values, and three times that of the CPU's own two kinds of kernels.

The graphs are those of `gpu_graphs.py` that the converter takes. Beside them, reductions, moves and
broadcasts were tried by hand with the schema alone, along every axis of two to four dimensions,
with one to nine channels. `tests/gpu_lint_cases.py` has two graphs for each rule. On both drivers
the one is wrong or crashes, and the other is right, but for `WIDE_WEIGHTS` and `SMALL_POWER`, which
are right on lavapipe.
"""
RULE_HEAD = """[lint.md](lint.md) says what each means and what to do. A graph can break several
rules; one that breaks a rule and is right has values that it does not matter for.
"""
REFUSED = """The delegate says so itself, and `verify` and `convert` show it."""


def rules() -> None:
    """Each rule's graphs on the installed runtime and both drivers: whether it is still so."""
    from converters.tflite import RULES
    from gpu_lint_cases import CASES, KIN

    print(f"ai-edge-litert {version('ai-edge-litert')}")
    WORK.mkdir(parents=True, exist_ok=True)
    pairs = [*((code, *pair) for code, pair in CASES.items()), *KIN]
    for driver in ("swiftshader", "lavapipe"):
        runner, path = Child("run", env=environment(driver)), WORK / f"{driver}.tflite"
        for code, *pair in pairs:
            told = []
            for tflite in pair:
                path.write_bytes(tflite)
                try:
                    row = runner.ask({"path": str(path)}, RUNNING)
                except Died as death:
                    row = {"outcome": str(death)}
                off = f"off by {row['off']:.1e}" if "off" in row else row["outcome"]
                told.append(" ".join([off, row.get("message", "")[:60]]).strip())
            seen = RULES[code].seen
            print(f"{driver} {code} (seen with {seen}): {told[0]}; its neighbour: {told[1]}")
        runner.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=["run", "confirm", "files", "write", "rules"])
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    if arguments.job == "run":
        run("swiftshader", [graph.name for graph in graphs()], arguments.seconds)
    else:
        {"confirm": confirm, "files": files, "write": write, "rules": rules}[arguments.job]()


if __name__ == "__main__":
    main()
