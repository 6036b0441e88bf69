"""Writes the zoo's page, and its data, to which a folder's rows are added.

    python benchmarks/zoo/table.py [FOLDER]

FOLDER has what `convert.py`, `by_hand.py` and `others.py` wrote: a part of it is enough, as
`docs/zoo.json` keeps the rows of before. Imports the standard library.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_hand
import others
from convert import REVISION

ROOT = Path(__file__).resolve().parents[2]
DATA, PAGE = ROOT / "docs" / "zoo.json", ROOT / "docs" / "zoo.md"
# Of PyTorch's largest output: float32 rounding, summed in another order.
LIMIT = 1e-5
HEAD = """# Networks that were converted

`torch.export` programs of {count} networks, random weights and random batch statistics, as Keras
models and float32 files. Written by `benchmarks/zoo/`: {versions}. Nothing was downloaded.

{summary}

- **deviation**: how much the outputs differ from sample to sample, of the largest; the least of
  the outputs.
- **PyTorch**: how far PyTorch in float32 is from itself in float64, of the largest output.
- **Keras**, **file**: the largest difference from PyTorch in float32 on {samples} images, of the
  largest output.
- **GPU**: the same on the GPU delegate with a software driver; or what it said. **Wrong** is a
  file that the delegate takes and computes otherwise than the CPU.
- **int8**: signal to noise of the integer file against the float file in dB, calibrated on the
  images compared, the mean over the samples taken off; random weights are harder to round than
  trained ones.
- **s**: seconds of `to_keras` and of the float32 file, on two cores.
- **\\***: a row, or a cell, of an earlier state of this project, in which TensorFlow rounded batch
  normalizations.
"""
# Of a row, what no table tells.
UNTOLD = ("transposed", "warnings", "shape")
NOT_RUN = "not run"
STAR = "\\*"
# On the GPU: more than rounding.
WRONG = 1e-2
# What lies behind what is said on the GPU.
CAUSES = {
    "restoration": "on one image it is right (other tools, below); four of 256x256 take the "
    "software driver longer than the time limit",
}
COLUMNS = (
    "network",
    "parameters",
    "deviation",
    "layers",
    "ULSAM",
    "transposes",
    "PyTorch",
    "Keras",
    "file",
    "operators",
    "lint",
    "GPU",
    "int8",
    "s",
)


def row(data: dict) -> list[str]:
    """The cells of a network."""
    seconds = data.get("seconds", {})
    lint = ", ".join(f"{v} {k.split()[-1]}" for k, v in data.get("lint", {}).items()) or "clean"
    return [
        data["name"] + STAR * (data.get("revision") != REVISION),
        f"{data['parameters'] / 1e6:.1f} M",
        f"{min(data['deviation'].values()):.3f}",
        str(data.get("layers", "")),
        str(data.get("ulsam") or ""),
        str(data.get("transposes", "")),
        number(max((data.get("rounding") or {"": ""}).values())),
        number(data.get("keras", "")),
        number(data.get("file", "")),
        str(data.get("operators", "")),
        lint if "operators" in data else "",
        cell(data, "gpu", gpu),
        cell(data, "int8", lambda value: number(value, "{:.1f}")),
        f"{seconds.get('to_keras', '')} / {seconds.get('float32', '')}",
    ]


def cell(data: dict, key: str, shown: Callable[[Any], str]) -> str:
    """What was measured of this file, or of an earlier one, with a star."""
    if key in data or key not in data.get("earlier", {}):
        return shown(data.get(key, NOT_RUN))
    return shown(data["earlier"][key]) + STAR


def number(value, form: str = "{:.1e}") -> str:
    """A number, or the first words of why there is none; nothing where it was not measured."""
    if value is None:
        return ""
    return form.format(value) if isinstance(value, float) else str(value).partition(":")[0][:40]


def gpu(value) -> str:
    """The cell of the GPU."""
    wrong = isinstance(value, float) and value > WRONG
    return f"**wrong** {value:.1e}" if wrong else number(value)


def passed(data: dict) -> bool:
    """Whether Keras and the float32 file agree with PyTorch."""
    return all(isinstance(data.get(key), float) and data[key] <= LIMIT for key in ("keras", "file"))


def reason(data: dict) -> str:
    """Why a network did not pass."""
    if "failure" in data:
        return f"{data['step']}: {data['failure']}"
    keras, file = number(data.get("keras")), number(data.get("file"))
    own = max((data.get("rounding") or {"": math.nan}).values())
    return f"Keras {keras}, file {file}; PyTorch's own rounding is {own:.1e}"


def gathered(folder: Path | None) -> dict[str, dict[str, dict]]:
    """The rows of before and of the folder, each kind by its names."""
    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    rows = {kind: data.get(kind, {}) for kind in ("networks", "others", "by_hand")}
    if folder is None:
        return rows
    for path in sorted(folder.glob("*.convert.json")):
        new = json.loads(path.read_text())
        old = rows["networks"].get(new["name"], {})
        cells = {key: old[key] for key in ("gpu", "int8") if key in old}
        new["earlier"] = old.get("earlier", {}) | cells | new.get("earlier", {})
        # Of a machine that others use too, the quickest run says most.
        quickest = new.get("seconds", {}), old.get("seconds", {})
        new["seconds"] = {
            step: min(each[step] for each in quickest if step in each)
            for step in {*quickest[0], *quickest[1]}
        }
        rows["networks"][new["name"]] = {k: v for k, v in new.items() if k not in UNTOLD}
    for path in sorted(folder.glob("*.by_hand.json")):
        row = json.loads(path.read_text())
        rows["by_hand"][row["name"]] = row
    for path in sorted((folder / "others").glob("*.json")):
        row = json.loads(path.read_text())
        rows["others"][f"{row['host']} {row['tool']}"] = row
    return rows


def main() -> None:
    """Writes both files."""
    data = gathered(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    lines = [
        f'"{kind}": {{\n'
        + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(rows.items()))
        + "\n}"
        for kind, rows in data.items()
    ]
    DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page(data))


def page(gathered: dict[str, dict[str, dict]]) -> str:
    """docs/zoo.md."""
    rows = [data for _, data in sorted(gathered["networks"].items())]
    families = dict.fromkeys(data["family"] for data in rows)
    versions = ", ".join(f"{k} {v}" for k, v in rows[0]["exported_with"].items())
    good = Counter(data["family"] for data in rows if passed(data))
    total = Counter(data["family"] for data in rows)
    summary = "; ".join(f"{family}: {good[family]} of {total[family]}" for family in families)
    text = HEAD.format(
        count=len(rows),
        versions=versions,
        samples=4,
        summary=f"**Equal to {LIMIT:g} in Keras and in the file:** {summary}.",
    )
    for family in families:
        text += f"\n## {family.capitalize()}\n\n| {' | '.join(COLUMNS)} |\n"
        text += f"|{'---|' * len(COLUMNS)}\n"
        mine = [data for data in rows if data["family"] == family]
        for data in mine:
            text += f"| {' | '.join(row(data))} |\n"
        for data in mine:
            if not passed(data):
                text += f"\n- {data['name']}: {reason(data)}"
            for key, column in (("gpu", "GPU"), ("int8", "int8")):
                said = data.get(key, data.get("earlier", {}).get(key))
                if isinstance(said, str):
                    text += f"\n- {data['name']}, {column}: {said}"
            if data["name"] in CAUSES:
                text += f"\n- {data['name']}, GPU: {CAUSES[data['name']]}"
        text += "\n"
    text += f"\n{others.section(list(gathered['others'].values()))}"
    return f"{text}\n{by_hand.section(gathered['by_hand'], gathered['networks'])}"


if __name__ == "__main__":
    main()
