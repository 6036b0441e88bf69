"""The wheel without an extra, in an environment without TensorFlow and LiteRT.

Run by `scripts/light_install.sh`, with a back end of Keras and without any.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import converters

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CHECKPOINT = DIGITS / "digits_ulsam.pth"
CONVERT, QAT = 'pip install "ulsam-keras[convert]"', 'pip install "ulsam-keras[qat]"'
BACK_ENDS = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]


def run(*line, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([*map(str, line)], env=environment, capture_output=True, text=True)


def command(*arguments, **environment):
    return run(Path(sys.executable).with_name("ulsam-keras"), *arguments, **environment)


def python(code, **environment):
    return run(sys.executable, "-c", code, **environment)


def test_this_is_the_wheel_and_there_is_no_tensorflow():
    for package in ("converters", "ulsam_keras"):
        folder = Path(importlib.util.find_spec(package).origin).parent
        assert folder.parent.name == "site-packages"
        assert (folder / "py.typed").exists()
    for module in ("tensorflow", "ai_edge_litert", "tf_keras", "matplotlib"):
        assert importlib.util.find_spec(module) is None


def test_the_wheel_has_every_file_of_the_packages():
    root = DIGITS.parents[1]
    for package in ("converters", "ulsam_keras"):
        installed = Path(importlib.util.find_spec(package).origin).parent.parent
        for file in (root / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert (installed / file.relative_to(root)).exists(), file


def test_a_checkpoint_is_read():
    state = converters.load_checkpoint(CHECKPOINT)
    assert {t.name: t.shape for t in converters.list_tensors(CHECKPOINT)} == {
        name: value.shape for name, value in state.items()
    }
    assert converters.read_program(DIGITS / "digits_ulsam.pt2").outputs


@pytest.mark.parametrize("suffix", ["pth", "pt2", "safetensors", "npz"])
def test_inspect(tmp_path, suffix):
    file = tmp_path / f"digits.{suffix}"
    if suffix in ("pth", "pt2"):
        file = DIGITS / f"digits_ulsam.{suffix}"
    else:
        state = converters.load_checkpoint(CHECKPOINT)
        save_file(state, file) if suffix == "safetensors" else np.savez(file, **state)
    for options in ((), ("--summary",), ("--json",)):
        done = command("inspect", file, *options)
        assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(r"ulsam\d", command("inspect", file).stdout)
    assert set(found) == {"ulsam1", "ulsam2", "ulsam3"}


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (("convert", CHECKPOINT, "-o", "OUT"), "tensorflow"),
        (("verify", DIGITS / "reference.npz", DIGITS / "reference.npz"), "tensorflow"),
        (("lint", "FILE"), "ai-edge-litert"),
        (("inspect", "FILE"), "ai-edge-litert"),
    ],
)
def test_the_command_names_the_extra(tmp_path, arguments, needs):
    places = {"FILE": tmp_path / "x.tflite", "OUT": tmp_path / "out"}
    places["FILE"].write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    done = command(*(places.get(a, a) for a in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ulsam-keras: error: ") and done.stderr.count("\n") == 1
    assert CONVERT in done.stderr and needs in done.stderr
    assert not places["OUT"].exists()


@pytest.mark.parametrize(
    "call",
    [
        "to_tflite(None)",
        "lint(b'    TFL3')",
        "runtime.run(b'', {})",
        "runtime.vulkan_adapter()",
        "load_images('.', (8, 8))",
        "attention_snr(b'    TFL3', None, None)",
    ],
)
def test_a_function_names_the_extra(call):
    import converters.runtime  # noqa: F401

    with pytest.raises(ImportError, match="Received: [Nn]o module") as error:
        eval(f"converters.{call}")
    assert CONVERT in str(error.value) and "\n" not in str(error.value)


def test_what_is_tested_is_the_wheel():
    assert "site-packages" in converters.__file__


def test_help_and_version():
    for arguments in (["--help"], ["convert", "--help"], ["--version"]):
        done = command(*arguments)
        assert (done.returncode, done.stderr) == (0, "")


def test_doctor():
    done = command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    for package in ("tensorflow", "ai-edge-litert"):
        assert f"missing; conversion to .tflite, lint, verify: {CONVERT}" in lines[package]
    assert QAT in lines["tf_keras"] and '[viz]"' in lines["matplotlib"]
    assert all(name in lines["back end"] for name in BACK_ENDS or ["missing"])
    told = command("doctor", KERAS_BACKEND="tensorflow").stdout
    assert (f"KERAS_BACKEND={BACK_ENDS[0]}" in told) if BACK_ENDS else ("pip install jax" in told)


@pytest.mark.parametrize("code", ["import ulsam_keras", "converters.to_keras(PROGRAM)"])
@pytest.mark.parametrize("told", sorted({"", "tensorflow", "jax", "torch"} - {*BACK_ENDS}))
def test_a_back_end_that_is_missing(code, told):
    program = str(DIGITS / "digits_ulsam.pt2")
    script = f"import converters\ntry: {code.replace('PROGRAM', repr(program))}\n"
    done = python(f"{script}except ImportError as error: print(error)", KERAS_BACKEND=told)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    assert repr(told or "tensorflow") in done.stdout
    if BACK_ENDS:
        assert f"KERAS_BACKEND={BACK_ENDS[0]} " in done.stdout
    else:
        for line in (CONVERT, "pip install jax", "pip install torch", "KERAS_BACKEND"):
            assert line in done.stdout
