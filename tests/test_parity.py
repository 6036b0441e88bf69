"""The layer equals the PyTorch module on every back end: outputs, gradients, statistics.

And models, surgery and attention maps give on every back end what they give on TensorFlow.

Regenerate the whole table of a back end with `KERAS_BACKEND=jax python tests/parity.py`.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("torch")  # the oracle

# Relative to the largest value of the quantity; the oracle is float64.
VALUE = 1e-5  # float32 rounding through two convolutions and two normalizations
GRADIENT = 1e-4  # sums of H * W * N terms that partly cancel


def run(backend, *options):
    script = Path(__file__).with_name("parity.py")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, str(script), "--json", *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def check(table):
    assert len(table) == 37, sorted(table)
    limits = {q: GRADIENT if "gradient" in q else VALUE for q in table}
    assert {q: v for q, v in table.items() if not v <= limits[q]} == {}


@pytest.fixture(scope="module")
def few():
    """What each back end finds, in one process each."""
    names = [name for name in ("tensorflow", "jax", "torch") if find_spec(name) is not None]
    return {backend: run(backend, "--few", "--models") for backend in names}


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_few_shapes(few, backend):
    check(few[backend]["table"])


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_values_far_from_zero(few, backend):
    # float32 has steps of 8e-6 around 100, 8e-4 of the deviation of 0.01; the attention multiplies
    # them by its scores. The gradient of the input is not compared: the maximum of nearly equal
    # neighbours is one or the other.
    table = few[backend]["far"]
    quantities = ("output", "attention", "gradient pointwise_kernel", "statistics pointwise_mean")
    found = {q: table[f"train {q}"] for q in quantities}
    assert {q: v for q, v in found.items() if not v <= 5e-3} == {}


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_kernel_of_zero(few, backend):
    check(few[backend]["dead"])


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_gradients_of_gradients(few, backend):
    found = few[backend]["second"]
    assert len(found) == 2
    assert {q: v for q, v in found.items() if not v <= GRADIENT} == {}


def test_the_training_step_compiles_to_one_graph(few):
    found = few["torch"]["compiled"]
    assert isinstance(found, float), found
    assert found <= VALUE


def test_frozen_and_named_as_they_should_be(few):
    models = few["tensorflow"]["models"]
    assert models["sites"] == ["stem", "norm", "inner/deep", "inner", "still", "head"]
    assert models["saved"]
    # Left out one by one in the order of the calls; and afterwards all are there again.
    assert models["ablated"] == ["stem_ulsam", "inner/deep", "inner/deep_ulsam", "still"]
    assert models["costs"] == [3 * 4 * 8 * 8] * 4
    assert models["after ablation"] == models["model"]
    moved = {part for path in models["moved"] for part in path.split("/")}
    assert not moved & {"norm", "still"}
    assert moved >= {"stem", "stem_ulsam", "deep", "deep_ulsam", "head"}
    assert [name for name in models if name.startswith("attention of")] == [
        f"attention of {name}" for name in ("stem_ulsam", "inner/deep", "inner/deep_ulsam", "still")
    ]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_models_are_the_same_on_every_back_end(few, backend):
    ours, theirs = few[backend]["models"], few["tensorflow"]["models"]
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if not isinstance(value, list) or isinstance(value[0], str):
            assert ours[name] == value, name
            continue
        scale = max(abs(number) for number in value)
        # A change is a difference, of a tenth of what it is between or less.
        differs = name == "after a step" or name.startswith("noise of")
        limit = GRADIENT if differs else VALUE
        assert ours[name] == pytest.approx(value, rel=0, abs=limit * scale), name


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_more_shapes(backend):
    check(run(backend, "--rest")["table"])
