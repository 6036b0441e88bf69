"""Writes the table of docs/porting.md, every pair and its verdict, from the tests' cases.

python scripts/porting_sweep.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "porting.md"
START, END = "<!-- sweep -->\n", "<!-- end of sweep -->\n"

sys.path.insert(0, str(ROOT / "tests"))

from port_cases import CASES  # noqa: E402


def page() -> str:
    """The page, with the table as the cases are."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    lines = []
    for family, cases in CASES.items():
        lines += [f"### {family}", "", "| PyTorch | Keras | input | verdict |", "|---|---|---|---|"]
        for case in cases:
            shape = " x ".join(map(str, case.shape))
            lines.append(
                f"| {_code(case.theirs)} | {_code(case.ours)} | {shape} | {case.verdict} |"
            )
        lines.append("")
    return before + START + "\n".join(lines) + END + rest.partition(END)[2]


def _code(text: str) -> str:
    return " → ".join(f"`{part}`" for part in text.split(" → "))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
