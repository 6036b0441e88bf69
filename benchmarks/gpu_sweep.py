"""Small graphs by the thousand on the GPU delegate, compared with the CPU.

    python benchmarks/gpu_sweep.py run [--limit N] [--seconds S]       # goes on where it was
    python benchmarks/gpu_sweep.py confirm                             # lavapipe: all wrong, some right
    python benchmarks/gpu_sweep.py lint                                # what lint says of the same files
    python benchmarks/gpu_sweep.py write                               # docs/gpu_sweep.jsonl.gz, .md

What is tried is in `gpu_graphs.py`; files and results are kept in `out/gpu_sweep`. Needs the drivers
of `scripts/vulkan_drivers.sh`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "out" / "gpu_sweep"
FILES = WORK / "files"
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]

from gpu_graphs import Graph, graphs  # noqa: E402
from gpu_workers import file_name  # noqa: E402

from gpu_drivers import environment  # noqa: E402

BATCH = 64
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
    path = WORK / f"{driver}.jsonl"
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
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

    In int8 steps and ties may fall otherwise: wrong is what is far off, in many values, and further
    than the CPU's two kinds of kernels are from each other.
    """
    if row["outcome"] == "crashed":
        return True
    off = min(row.get("off", 0.0), row.get("off_reference", 1e9))
    if Graph.of(name).precision == "int8":
        return off > 0.1 and row["share"] > 0.02 and off > 3 * row.get("cpu_off", 0.0)
    return off > 1e-3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["run", "confirm", "lint", "write"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    names = [graph.name for graph in graphs()][: arguments.limit]
    if arguments.job == "run":
        run("swiftshader", names, arguments.seconds)


if __name__ == "__main__":
    main()
