"""`ulsam-keras lint` and `doctor`: findings grouped, and what their exit statuses mean."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

import litert_models
from converters import versions
from converters.extras import EXTRAS
from converters.runtime import RunResult
from converters.tflite import to_tflite
from ulsam_keras import ULSAM


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linted")
    inputs = x = keras.Input((8, 8, 8))
    for _ in range(5):
        x = ULSAM(2)(x)
    data = np.random.default_rng(0).random((100, 8, 8, 8), "float32")
    content = to_tflite(keras.Model(inputs, x), precision="int8", representative_data=data)
    (folder / "int8.tflite").write_bytes(content)
    (folder / "open.tflite").write_bytes(
        litert_models.from_function(lambda x: x * 2.0, x=(None, 3))
    )
    (folder / "clean.tflite").write_bytes(litert_models.from_function(lambda x: x * 2.0, x=(1, 3)))
    return folder


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("int8", (), 0),
        ("int8", ("--fail-on", "error"), 0),
        ("int8", ("--fail-on", "warning"), 1),
        ("open", (), 1),
        ("open", ("--fail-on", "warning"), 1),
        ("clean", ("--fail-on", "warning"), 0),
    ],
)
def test_exit_status(command, files, name, options, expected):
    assert command("lint", files / f"{name}.tflite", *options)[0] == expected


def test_findings_that_are_alike_are_one(command, files):
    status, text, _ = command("lint", files / "int8.tflite")
    every = json.loads(command("lint", files / "int8.tflite", "--json")[1])
    assert [f["code"] for f in every] == 5 * ["LOG_SOFTMAX"]
    heading, words, last = text.splitlines()
    assert heading.startswith("LOG_SOFTMAX (warning), 5 times: operator ")
    assert heading.count("operator") == 3 and heading.endswith(" and 2 more")
    assert "--attention float" in words and last == "5 warnings"


@pytest.mark.needs("jax")
def test_doctor_without_the_runtime(command, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Running a model needs the ai-edge-litert package")

    monkeypatch.setattr("converters.runtime.gpu_trial", missing)
    without(monkeypatch, "ai-edge-litert", "tensorflow")
    status, text, err = command("doctor")
    assert (status, err) == (0, "")
    found = {line.split()[0]: line for line in text.splitlines()}
    assert "missing" in found["ai-edge-litert"] and "missing" in found["tensorflow"]
    assert "needs the ai-edge-litert" in found["Vulkan"]
    assert 'pip install "ulsam-keras[convert]"' in found["tensorflow"]
    assert found["back"].split()[2] == "jax"


@pytest.mark.needs("jax")
def test_doctor_says_how_keras_takes_a_back_end(command, monkeypatch):
    monkeypatch.setattr("converters.runtime.gpu_trial", lambda: RunResult("no_driver"))
    without(monkeypatch, "tensorflow", "torch")
    assert "with KERAS_BACKEND=jax" in command("doctor")[1]
    without(monkeypatch, "jax")
    assert "missing; Keras models: pip install" in command("doctor")[1]


@pytest.mark.parametrize("package", ["keras", "click"])
def test_doctor_without_what_every_use_needs(command, monkeypatch, package):
    monkeypatch.setattr("converters.runtime.gpu_trial", lambda: RunResult("no_driver"))
    without(monkeypatch, package)
    status, text, _ = command("doctor")
    assert status == 1 and "pip install ulsam-keras" in text
    parts = json.loads(command("doctor", "--json")[1])
    assert [p["name"] for p in parts if p["needed"] and not p["found"]] == [package]


def without(monkeypatch, *packages):
    """Makes packages look as if they were not installed."""
    version, find_spec = versions.version, versions.find_spec

    def no_version(name):
        if name in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    def no_spec(name):
        return None if name.replace("_", "-") in packages else find_spec(name)

    monkeypatch.setattr(versions, "version", no_version)
    monkeypatch.setattr(versions, "find_spec", no_spec)


def test_the_extras_are_those_of_the_project():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(text)["project"]["optional-dependencies"]
    for name, extra in EXTRAS.items():
        wanted = {re.match(r"[\w-]+(\[.*\])?", line)[0] for line in groups[name]}
        assert wanted - {"ulsam-keras[convert]"} == {*extra.packages.values()}
    assert {*re.match(r"ulsam-keras\[(.*)\]", groups["dev"][0])[1].split(",")} == {*EXTRAS}


def test_a_module_that_another_package_brings(monkeypatch):
    """As `tensorflow` where only tensorflow-cpu is installed."""
    version = versions.version

    def only_cpu(name):
        if name == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.21.0" if name == "tensorflow-cpu" else version(name)

    monkeypatch.setattr(versions, "version", only_cpu)
    brought = {"tensorflow": ["tensorflow-cpu"]}
    monkeypatch.setattr(versions, "packages_distributions", lambda: brought)
    assert versions.installed("tensorflow") == "2.21.0 (tensorflow-cpu)"
    brought.clear()
    assert versions.installed("tensorflow") == "of unknown version"
    assert versions.installed("no-such") is None
