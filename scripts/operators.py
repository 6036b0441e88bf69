"""Writes docs/operators.md, what is known of PyTorch's operators, from the tables of the code.

python scripts/operators.py
"""

import ast
import re
from pathlib import Path

from converters.pytorch.graph.refusals import REFUSALS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operators.md"
HEAD = """# Operators

What becomes of each operator of a program ([programs.md](programs.md)), family by family. An
operator that is in no table is named by `ulsam-keras inspect net.pt2`, and can be taught with
`@converts`. This page is written by `scripts/operators.py` from the files of
`converters/pytorch/graph/`.
"""


def page() -> str:
    """The page: the docstring of every file that has a list in it, its first line as heading."""
    parts = [HEAD]
    for file in sorted((ROOT / "converters" / "pytorch" / "graph").glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        title, _, rest = text.partition("\n")
        heads = re.search(r"^PyTorch: (\w+)$", rest, re.MULTILINE)
        if heads is None:
            continue
        items = re.findall(r"^- (.*(?:\n  .*)*)", rest, re.MULTILINE)
        rows = [" ".join(item.split()).partition(": ")[::2] for item in items]
        table = [f"| PyTorch | {heads[1]} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
        parts.append(f"## {title.rstrip('.')}\n\n" + "\n".join(table))
    table = ["| PyTorch | why not | instead |", "|---|---|---|"]
    table += [f"| {r.what} | {r.why} | {r.instead} |" for r in REFUSALS]
    parts.append("## Refused by name\n\n" + "\n".join(table))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
