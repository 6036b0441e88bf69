"""The scripts of `examples/` are notebooks, and what they say holds in a small setting.

What a script claims it asserts itself; here are its results, as numbers.
"""

import json
import os
import re
import signal
import subprocess
import sys

import jupytext
import nbformat
import pytest

from example_files import ROOT

FOLDER = ROOT / "examples"
RUNNER = ROOT / "tests" / "notebook_cells.py"
# Of each script: an expression, and the least and the most that it may be.
RESULTS = {
    "functional_api": {
        "learned": (424, 424),
        "accuracy": (0.7, 1),
        "on_digit['last'].mean()": (0.4, 1),  # 0.25 by chance
        "(OUT / 'functional_api.png').stat().st_size": (10_000, 1e7),
    },
    "finetuning": {
        "accuracy_low": (0.6, 1),
        "with_ulsam": (0.4, 1),
        "from_scratch": (0.1, 0.7),
        "len([x for x in model.layers if isinstance(x, ULSAM)])": (2, 2),
    },
    "sites": {
        "len(rows)": (4, 4),
        "len(kept)": (2, 2),
        "min(row.snr for row in rows)": (5, 60),
        "accuracy_kept": (0.6, 1),
    },
    "pytorch_network": {
        "accuracy": (0.2, 1),
        "relative_difference(found, wanted)": (0, 1e-5),
        "relative_difference(answers, wanted[:100])": (0, 1e-5),
        "done.returncode": (0, 0),
    },
    "qat": {
        "same": (0.8, 1),
        "min(attention['int8, to_tflite'])": (8, 60),
        "attention['int8, to_tflite'][0] - attention[\"int8, TFLite's own\"][0]": (2, 40),
    },
    "workers_tensorflow": {
        "synchronized": (0, 1e-9),
        "difference(alone, one)": (1e-3, 1e3),
    },
    "workers_jax": {
        "difference": (0, 1e-4),
        "len(kernel.sharding.device_set)": (8, 8),
        "accuracy": (0.15, 1),
    },
}


def test_every_script_is_here():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "# %%" in path.read_text()}
    assert scripts == set(RESULTS)
    make = (ROOT / "Makefile").read_text()
    index = (FOLDER / "README.md").read_text()
    for name in scripts:
        assert re.search(rf"\b{name}\b", make), name
        assert f"[{name}.py]({name}.py)" in index


def notebook(name, folder):
    """The script as a notebook, as `jupytext --to ipynb` writes it."""
    book = jupytext.read(FOLDER / f"{name}.py")
    path = folder / f"{name}.ipynb"
    jupytext.write(book, path)
    return path


@pytest.mark.parametrize("name", RESULTS)
def test_it_is_a_notebook(name, tmp_path):
    book = nbformat.read(notebook(name, tmp_path), as_version=4)
    nbformat.validate(book)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert len(code) >= 4 and len(book.cells) > len(code) + 2
    for source in code:
        compile(source, name, "exec")


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_missing_is_told_at_once(name):
    """A module that is `None` is one that is not installed."""
    without = "import runpy, sys"
    without += "; sys.modules.update(dict.fromkeys(('jax', 'sklearn', 'tf_keras', 'torch')))"
    run = f"runpy.run_path({str(FOLDER / name)!r} + '.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"{without}; sys.path.insert(0, {str(FOLDER)!r}); {run}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    missing = {
        "qat": "sklearn, tf_keras",
        "pytorch_network": "sklearn, torch",
        "workers_jax": "jax, sklearn",
    }.get(name, "sklearn")
    assert done.returncode == 1 and done.stderr.endswith(f"Missing: {missing}\n")
    assert 'pip install ".[dev]"' in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_its_cells_run_in_order(name, tmp_path):
    expressions = RESULTS[name]
    path = os.pathsep.join([str(ROOT), str(FOLDER), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, RUNNER, notebook(name, tmp_path), *expressions],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # with workers of its own
    )
    try:
        out, error = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, error[-3000:]
    values = json.loads(out.strip().splitlines()[-1])
    for (expression, (least, most)), value in zip(expressions.items(), values, strict=True):
        assert least <= value <= most, f"{expression} = {value}"
