"""What several test files of the command use: the command itself, and a checkpoint.

Imports pytest only, as it is loaded for every test file.
"""

import os
import re
import sys
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Not to be had for some versions of Python and of NumPy: scripts/versions.py. In CI both are there,
# or the tests of them fail.
MISSING = [
    name for name in ("torch", "jax") if find_spec(name) is None and not os.environ.get("CI")
]

# What `convert` tells of each stage where stderr is no terminal.
PROGRESS = re.compile(r"^\[\d+/\d+\] .*\n", re.MULTILINE)


def _seed():
    """Random weights are those of every run, whatever ran before a test and beside it."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


# What several tests share is made before what one test has.
_seeded_file = pytest.fixture(autouse=True, scope="module")(_seed)
_seeded_test = pytest.fixture(autouse=True)(_seed)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skips a file of tests that imports what is missing."""
    report = yield
    for name in MISSING:
        if report.failed and f"No module named '{name}'" in str(report.longrepr):
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: {name} is not installed")
    return report


def _skipping():
    """Skips where a test imports what is missing; what is tested must not."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        importer = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        own = any(importer.is_relative_to(ROOT / folder) for folder in ("tests", "examples"))
        if error.name in MISSING and own:
            pytest.skip(f"{error.name} is not installed")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Skips a test of a back end that is missing, or that says by a mark what it needs."""
    needs = [name for mark in item.iter_markers("needs") for name in mark.args]
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    needs += [value for value in given if isinstance(value, str)]
    for name in MISSING:
        if name in needs:
            pytest.skip(f"{name} is not installed")
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    return (yield from _skipping())


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs the command in this process: (exit status, stdout, stderr without the progress)."""
    from converters import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ulsam-keras", *map(str, arguments)])
        for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"):
            monkeypatch.setenv(name, {"KERAS_BACKEND": "tensorflow"}.get(name, "3"))
        capfd.readouterr()
        # The command changes for good where its process makes temporary files.
        folder, variable = tempfile.tempdir, os.environ.get("TMPDIR", tempfile.gettempdir())
        # Said before, so that what is put back in the end is what was there before.
        monkeypatch.setenv("TMPDIR", variable)
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            tempfile.tempdir = folder
            os.environ["TMPDIR"] = variable
        out, err = capfd.readouterr()
        return end.value.code or 0, out, PROGRESS.sub("", err)

    return run


@pytest.fixture(scope="session")
def module_checkpoint(tmp_path_factory):
    """A lone ULSAM inside a DataParallel training checkpoint, and its reference."""
    import numpy as np
    import torch

    import torch_reference

    folder = tmp_path_factory.mktemp("module")
    torch.manual_seed(0)
    module = torch_reference.ULSAM(32, 4).eval()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
            assert key
    x = torch.randn(6, 32, 14, 14)
    state = {f"module.{k}": v for k, v in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "ulsam.pth")
    np.savez(folder / "recorded.npz", inputs=x.numpy(), outputs=module(x).detach().numpy())
    return folder
