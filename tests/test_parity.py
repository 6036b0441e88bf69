"""The layer equals the PyTorch module on every back end: outputs, gradients, statistics.

Regenerate the whole table of a back end with `KERAS_BACKEND=jax python tests/parity.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert len(table) == 26, sorted(table)
    limits = {q: GRADIENT if "gradient" in q else VALUE for q in table}
    assert {q: v for q, v in table.items() if not v <= limits[q]} == {}


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_few_shapes(backend):
    check(run(backend, "--few"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_more_shapes(backend):
    check(run(backend, "--rest"))
