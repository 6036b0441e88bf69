"""Writes docs/report.md, what every field of a report is, from the docstrings of the code.

    python scripts/report_fields.py [--check]

With --check nothing is written, and the exit status is 1 if the page is not what it should be.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from converters.data.calibration import Calibration
from converters.data.channels import Channel
from converters.report.document import SCHEMA, TOOL, End, File, Report
from converters.verify.attention import AttentionSNR
from converters.verify.outputs import OutputComparison, OutputDifference

PAGE = Path(__file__).parent.parent / "docs" / "report.md"
HEAD = f"""# Reports

`ulsam-keras convert` writes beside the files

- `report.html`, one page that needs nothing else: the verdict, what failed and what to do, every
  comparison and how much of its limit it uses, what every ULSAM looks at in PyTorch (where the
  reference holds layers), Keras, each file and on the GPU, files, times, what phones refuse, and
  where every tensor went;
- `model_card.md`, to be handed on with the files;
- `report.json`, field by field below.

`convert` and `verify` write one more with `--report FILE`: `.html`, `.json`, or `.md`, the short
form for a pull request.

Of the 7.2 seconds of the digits conversion without a GPU, on two cores, the page with its pictures
and the card take 0.1; with a GPU driver in software, made ready for every file, it takes 12.6.

## report.json

With `--json` `convert` prints the same; `ulsam-keras verify --json` prints a report of the kind
`comparison`. `schema` is {SCHEMA}: it is
raised whenever a field changes its name or its meaning. Fields may be added without that.

Numbers that are not finite are words, `"inf"`, `"-inf"` and `"nan"`, as JSON has none of them.
Where nothing was measured a field is `null`. This page is written by `scripts/report_fields.py`
from the docstrings of the code.
"""
COMMON = {
    "tool": f'`"{TOOL}"`: by it a folder is known to hold a conversion, which a new one replaces.',
    "schema": "The number of this description.",
    "kind": '`"conversion"` or `"comparison"`.',
    "passed": "Whether everything that was compared is as near as it should be.",
    "notes": "What was not compared and why, likely causes, and what else is to be known.",
    "comparisons": "The outputs, a row for every model, what it is compared with, and runtime.",
    "attention": "The attention of every site, a row for every file and runtime.",
    "versions": "Versions of what took part.",
}
COMPARISON = {
    "names": "What the two are called.",
    "precision": "The coarser of their precisions, whose limits hold.",
    "samples": "Where the samples come from.",
    "gpu": "Name of the GPU adapter; `None` if there is none, or none was wanted.",
}
REFERENCE = {
    "name": "File name.",
    "samples": "Number of samples.",
    "labels": "Whether the true classes are known.",
    "correct": Report.reference_correct.__doc__ or "",
    "layers": "Number of modules whose answers are in it.",
    "taken_in_order": "Its names and the model's, where these are others.",
}
CALIBRATION = {
    "samples": "Number of samples.",
    "channels": "One row a channel.",
    "reference_channels": "The same of the reference's inputs; empty without one.",
}


def attributes(kind: type, *derived: str, leave: tuple[str, ...] = ()) -> dict[str, str]:
    """The fields of a class out of its docstring, and properties out of theirs."""
    text = inspect.getdoc(kind) or ""
    section = re.search(r"Attributes:\n(.*?)(?:\n\S|\Z)", text, re.DOTALL)
    assert section is not None, kind
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section[1] + "\n", re.S | re.M)
    fields = {name: " ".join(words.split()) for name, words in found if name not in leave}
    for name in derived:
        prop: Any = getattr(kind, name)
        fields[name] = " ".join((inspect.getdoc(prop) or "").split("\n\n")[0].split())
    return fields


def tables() -> dict[str, dict[str, str]]:
    """The fields of each part of a report, by its heading."""
    conversion = attributes(Report, leave=("verification",))
    calibration = attributes(Calibration, leave=("samples", "channels", "reference_channels"))
    return {
        "Every report": COMMON,
        "A conversion": conversion,
        "A comparison": COMPARISON,
        "`files`": attributes(File),
        "`files`: `inputs` and `outputs`": attributes(End),
        "`reference`": REFERENCE,
        "`calibration`": calibration | CALIBRATION,
        "`calibration`: `channels`": attributes(Channel),
        "`comparisons`": attributes(
            OutputComparison, "difference", "snr", "top1", "undecided", "passed", "failures"
        ),
        "`comparisons`: `outputs`": attributes(OutputDifference),
        "`attention`": attributes(AttentionSNR, "visible", "passed"),
    }


def page() -> str:
    """The page."""
    parts = [HEAD]
    for title, fields in tables().items():
        rows = [f"| `{name}` | {words} |" for name, words in fields.items()]
        parts.append("\n".join([f"## {title}\n", "| field | what it is |", "|---|---|", *rows]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
