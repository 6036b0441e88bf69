"""What several test files of the command use: the command itself, and a checkpoint.

Imports pytest only, as it is loaded for every test file.
"""

import os
import re
import sys
import tempfile

import pytest

# What `convert` tells of each stage where stderr is no terminal.
PROGRESS = re.compile(r"^\[\d+/\d+\] .*\n", re.MULTILINE)


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
