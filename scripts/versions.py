"""The fast suite on the oldest, the newest and other versions of what the project stands on.

    python scripts/versions.py [NAME...] [--workers N] [--keep] [--anew | --last-failed]

Needs uv, and each Python of `ENVIRONMENTS` where uv finds it. An environment is resolved from
`pyproject.toml` and what `ENVIRONMENTS` adds, made in build/versions/NAME, and removed when the
tests have run in it; logs, versions and outcomes stay beside it, so that an interrupted run goes on
where it was; `make clean` forgets them. Without NAME, all are run that are not through. One that is
through is run again with --anew, or with --last-failed what failed of it, whose outcomes then stand
in place of the old ones. What was found is written into docs/versions.md, where the rows of the
other environments stay.

PyTorch comes from where uv is told: UV_TORCH_BACKEND=cpu, or UV_FIND_LINKS, a folder of wheels.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "versions"
PAGE = ROOT / "docs" / "versions.md"


@dataclass(frozen=True)
class Environment:
    """What is installed instead of the newest of everything.

    Attributes:
        python: The version of Python.
        pins: Requirements instead of those of `pyproject.toml` for the same packages, also of what
            it excludes.
        without: Packages of `pyproject.toml` that are left out.
        lowest: Whether the lowest versions of `pyproject.toml` are taken.
    """

    python: str = "3.11"
    pins: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    lowest: bool = False


def _tensorflow(version: str) -> tuple[str, ...]:
    return f"tensorflow=={version}.*", f"tf_keras=={version}.*"


_NEWEST = _tensorflow("2.21")
# JAX 0.10 needs NumPy 2. PyTorch, the oracle of most tests, is installed on Python 3.11 only.
ENVIRONMENTS = {
    "lowest": Environment(lowest=True, without=("jax",)),
    "tensorflow-2.20": Environment(pins=_tensorflow("2.20")),
    "tensorflow-2.21": Environment(pins=_NEWEST),
    "older-beside": Environment(
        pins=(*_NEWEST, "keras==3.15.0", "numpy==1.26.*"),
        without=("jax",),
    ),
    "litert-nightly": Environment(
        pins=(*_NEWEST, "ai-edge-litert-nightly"), without=("ai-edge-litert",)
    ),
    "python-3.12": Environment(python="3.12", pins=_NEWEST, without=("torch",)),
    "python-3.13": Environment(python="3.13", pins=_NEWEST, without=("torch",)),
}
TOOLS = ("ruff", "mypy")  # which no test uses
REPORTER = "pytest-reportlog"  # outcomes as they come
SHOWN = {
    "tensorflow": "TensorFlow",
    "tf-keras": "tf_keras",
    "tensorflow-model-optimization": "tfmot",
    "keras": "Keras",
    "ai-edge-litert": "LiteRT",
    "numpy": "NumPy",
    "h5py": "h5py",
    "ml-dtypes": "ml_dtypes",
    "jax": "JAX",
    "torch": "PyTorch",
}


def name_of(requirement: str) -> str:
    """The name of what a requirement asks for, as an index spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]).lower()


def requirements(environment: Environment) -> list[str]:
    """What `pyproject.toml` asks for in all of its extras, and what the environment adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = sum(project["optional-dependencies"].values(), project["dependencies"])
    pinned = map(name_of, environment.pins)
    out = {project["name"], *TOOLS, *environment.without, *pinned}
    return [line for line in asked if name_of(line) not in out] + list(environment.pins)


def resolve(environment: Environment) -> dict[str, str]:
    """{package: version} of all that is to be installed, PyTorch aside."""
    asked = [line for line in requirements(environment) if name_of(line) != "torch"]
    resolution = "lowest-direct" if environment.lowest else "highest"
    command = ["uv", "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", environment.python, "--resolution", resolution]
    done = subprocess.run(
        command, input="\n".join(asked), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"no versions go together: {done.stderr.strip()}")
    return dict(line.split("==") for line in done.stdout.split())


def install(environment: Environment, resolved: dict[str, str], folder: Path) -> dict[str, str]:
    """Makes the environment; {package: version} of what is there then."""
    asked = [f"{package}=={version}" for package, version in resolved.items()]
    asked += [line for line in requirements(environment) if name_of(line) == "torch"]
    uv = ["uv", "--quiet"]
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was killed has left
    subprocess.run([*uv, "venv", "--python", environment.python, str(folder)], check=True)
    there = ["--python", str(folder)]
    subprocess.run([*uv, "pip", "install", *there, *asked, REPORTER], check=True)
    subprocess.run([*uv, "pip", "install", *there, "--no-deps", "-e", str(ROOT)], check=True)
    listed = subprocess.run(
        [*uv, "pip", "list", *there, "--format", "json"], capture_output=True, check=True
    )
    return {name_of(row["name"]): row["version"] for row in json.loads(listed.stdout)}


def run(name: str, workers: int, keep: bool, chosen: list[str]) -> dict[str, Any]:
    """Runs the fast suite in one environment, or what is chosen of it; what the environment is."""
    environment, folder = ENVIRONMENTS[name], WORK / name
    print(f"{name}: resolving", flush=True)
    resolved = resolve(environment)
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        found = install(environment, resolved, folder)
        (WORK / f"{name}.txt").write_text(
            "".join(f"{package}=={version}\n" for package, version in sorted(found.items()))
        )
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        settings = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "KERAS_BACKEND")}
        report = WORK / f"{name}.{len(reports(name))}.jsonl"
        # More of them than a command line takes.
        arguments = WORK / f"{name}.arguments"
        arguments.write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
        command = [str(python), "-m", "pytest", "-v", "-m", "not slow", "--tb=short"]
        command += [f"@{arguments}"] if chosen else []
        command += ["-n", str(workers), "--dist", "loadfile", "-p", "no:cacheprovider"]
        print(f"{name}: running, see {report.with_suffix('.log')}", flush=True)
        with open(report.with_suffix(".log"), "w", encoding="utf-8") as log:
            ended = subprocess.run(
                [*command, f"--report-log={report}"],
                cwd=ROOT,
                env=settings,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode not in (0, 1, 5):  # all passed, some failed, none were left
            raise SystemExit(f"{name}: pytest ended with {ended.returncode}, see {log.name}")
        version = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return {
        "name": name,
        "Python": version.stdout.strip(),
        **{shown: of(package, found) for package, shown in SHOWN.items()},
        "date": time.strftime("%Y-%m-%d"),
    }


def of(package: str, found: dict[str, str]) -> str:
    """The version of a package or of its nightly build."""
    return found.get(package) or found.get(f"{package}-nightly") or "–"


def reports(name: str) -> list[Path]:
    """What each of the runs in an environment wrote, in their order."""
    found = WORK.glob(f"{name}.[0-9]*.jsonl")
    return sorted(found, key=lambda path: int(path.suffixes[-2][1:]))


def outcomes(name: str) -> dict[str, tuple[str, str]]:
    """{test or file of tests: (passed, skipped or failed, why it was skipped)}."""
    tests: dict[str, tuple[str, str]] = {}
    for path in reports(name):
        here: dict[str, tuple[str, str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last, of a run that was killed
                one = json.loads(line)
                kind, outcome, test = one["$report_type"], one.get("outcome"), one.get("nodeid")
                begun = one.get("when") == "setup" and outcome == "passed"
                if kind not in ("TestReport", "CollectReport") or begun:
                    continue
                if kind == "CollectReport" and outcome == "passed":
                    continue
                reason = ""
                if outcome == "skipped":
                    reason = one["longrepr"][2].removeprefix("Skipped: ")
                    reason += " (whole files)" if kind == "CollectReport" else ""
                # Passed, but for its fixtures' end.
                if here.get(test, ("passed",))[0] == "passed":
                    here[test] = outcome, reason
        tests |= here
    return tests


def write(result: dict[str, Any]) -> None:
    """Puts what was found in one environment into the tables of the page."""
    tests = collections.Counter(outcomes(result["name"]).values())
    row = {key: value for key, value in result.items() if key != "date"}
    for outcome in ("passed", "skipped", "failed"):
        row[outcome] = sum(number for (found, _), number in tests.items() if found == outcome)
    row["date"] = result["date"]
    print({key: row[key] for key in ("name", "passed", "skipped", "failed")})
    found = {"versions": [row], "skipped": []}
    for (_, reason), number in sorted(tests.items()):
        if reason:
            found["skipped"].append({"name": row["name"], "tests": number, "reason": reason})
    text = PAGE.read_text(encoding="utf-8")
    for title, rows in found.items():
        lines = ["| " + " | ".join(str(cell) for cell in row.values()) + " |" for row in rows]
        start, table, rest = re.split(rf"(?<=<!-- {title} -->\n)((?:\|.*\n)+)", text, maxsplit=1)
        top, rule, *old = table.splitlines()
        kept = [line for line in old if line.split()[1] != row["name"]]
        body = sorted(kept + lines, key=lambda line: list(ENVIRONMENTS).index(line.split()[1]))
        text = start + "\n".join([top, rule, *body]) + "\n" + rest
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Runs what is asked for, one environment after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest (2)")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--anew", action="store_true", help="run all again")
    which.add_argument("--last-failed", action="store_true", help="run what failed again")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in ENVIRONMENTS]:
        parser.error(f"NAME must be of {', '.join(ENVIRONMENTS)}. Received: {', '.join(unknown)}")
    for name in options.names or ENVIRONMENTS:
        kept = WORK / f"{name}.json"
        if options.anew:
            for path in [kept, *reports(name)]:
                path.unlink(missing_ok=True)
        tests = outcomes(name)
        failed = [test for test, (outcome, _) in tests.items() if outcome == "failed"]
        if kept.exists():
            chosen = failed if options.last_failed else []
        else:
            chosen = [part for test in tests for part in ("--deselect", test)]
        if chosen or not kept.exists():
            result = run(name, options.workers, options.keep, chosen)
            if not any(outcome == "passed" for outcome, _ in outcomes(name).values()):
                raise SystemExit(f"{name}: no test ran, see the logs in {WORK}")
            kept.write_text(json.dumps(result, indent=1))
            for test, (outcome, _) in outcomes(name).items():
                if outcome == "failed":
                    print("  failed:", test)
        write(json.loads(kept.read_text()))


if __name__ == "__main__":
    main()
