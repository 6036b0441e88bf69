"""Runs the code cells of a notebook one after the other; then prints what some expressions are.

    python notebook_cells.py NOTEBOOK.ipynb EXPRESSION…

The cells see `--quick` as their one argument. Imports the standard library only.
"""

import json
import sys
from pathlib import Path

notebook, *expressions = sys.argv[1:]
sys.argv = [notebook, "--quick"]
namespace = {"__name__": "__main__"}
for number, cell in enumerate(json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        code = compile("".join(cell["source"]), f"cell {number} of {notebook}", "exec")
        exec(code, namespace)
print(json.dumps([float(eval(expression, namespace)) for expression in expressions]))
