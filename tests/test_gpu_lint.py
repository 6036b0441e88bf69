"""The static check agrees with what the GPU delegate itself says of the same graphs."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import gpu_drivers
import gpu_lint_cases
import test_lint
from converters.runtime import run
from converters.tflite.flatbuffer import read_graphs
from lint_graphs import T, one
from measures import differences

# Relative to the largest value: float32 on another device, a few roundings.
AGREEMENT = 1e-5
# How the process ends with graphs that are not even computed wrongly.
CRASHES = {"SPLIT_UNREAD": "SIGSEGV", "CUMSUM_FROM_BEHIND": "SIGILL"}
# What the device itself says of some, in the log alone, where the runtime goes on.
REPORTED = {
    "SPLIT_MIXED": "synchronization scope",
    "MIXED_RANKS": "parsing WGSL",
    "BATCHED_BLOCKS": "parsing WGSL",
    "LEAK_AFTER_PRELU": "parsing WGSL",
    "WIDE_WEIGHTS": "maximum texture size",
}
# What no rounding is.
WRONG = 1e-2


def on_gpu(tflite, inputs, driver="swiftshader", **options):
    env = gpu_drivers.environment(driver)
    return run(tflite, inputs, accelerator="gpu", env=env, repeats=0, timeout=60, **options)


def inputs_of(tflite):
    shapes = [t.shape for t in read_graphs(tflite)[0].inputs]
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 2.0, shape).astype("float32") for shape in shapes]
    assert len(arrays) == 1
    return arrays[0]


def right(tflite, inputs, result):
    """Whether a GPU run gave what the CPU gives."""
    if not (result.ok and result.fully_accelerated):
        return False
    expected = run(tflite, inputs, repeats=0)
    assert expected.ok, expected.message
    return max(differences(result.outputs, expected.outputs).values()) <= AGREEMENT


# Rules about what the delegate refuses, crashes on or computes wrongly in float32; the others are
# about the CPU runtime, the file itself or float16.
OUTCOMES = {
    # What it says of the broken graph, and a word of it; "ok" with wrong numbers is the worst.
    "RANK": ("refused", "dimensions must be less than 5"),
    "BROADCAST_TO": ("refused", "BROADCAST_TO"),
    "GROUPED_CONV": ("refused", "Binding size"),
    "ONE_WAY_SPLIT": ("crashed", "SIGABRT"),
    "REPEATED_INPUT": ("refused", "identical inputs"),
    "CONTROL_FLOW": ("refused", "IF"),
    "DTYPE": ("refused", "INT64"),
    "FLEX_OP": ("refused", "delegate"),
    "CUSTOM_OP": ("refused", "delegate"),
}


@pytest.mark.parametrize("code", OUTCOMES)
def test_the_delegate_agrees(code):
    broken, sound = test_lint.CASES[code]
    x = inputs_of(broken)
    result = on_gpu(broken, x)
    outcome, words = OUTCOMES[code]
    assert result.outcome == outcome and words in result.message, (result.outcome, result.message)
    assert not right(broken, x, result)
    # The driver and the comparison work: a graph without the fault is right on it. That of RANK is
    # a constant, with nothing to run; those of the last two have no operator of their own.
    _, control = test_lint.CASES[code if code in list(OUTCOMES)[1:7] else "REPEATED_INPUT"]
    x = inputs_of(control)
    result = on_gpu(control, x)
    assert right(control, x, result), (result.outcome, result.message)


def off(tflite, inputs, result):
    """How far a GPU run that took all of a graph is from the CPU's."""
    assert result.ok and result.fully_accelerated, (result.outcome, result.message)
    expected = run(tflite, inputs, repeats=0)
    assert expected.ok, expected.message
    return max(differences(result.outputs, expected.outputs).values())


PAIRS = [*((code, *pair) for code, pair in gpu_lint_cases.CASES.items()), *gpu_lint_cases.KIN]


@pytest.mark.parametrize(("code", "broken", "sound"), PAIRS, ids=[code for code, *_ in PAIRS])
def test_what_is_computed_wrongly(code, broken, sound):
    """The delegate takes both graphs, and is wrong about the one that breaks the rule."""
    for tflite, limit in ((broken, WRONG), (sound, AGREEMENT)):
        (given,) = read_graphs(tflite)[0].inputs
        x = np.random.default_rng(0).normal(size=given.shape).astype("float32")
        result = on_gpu(tflite, x)
        if limit == WRONG and code in CRASHES:
            assert (result.outcome, result.signal) == ("crashed", CRASHES[code])
        elif limit == WRONG and code in REPORTED:
            assert result.outcome == "refused" and REPORTED[code] in result.message
        elif limit == WRONG:
            assert off(tflite, x, result) > limit
        else:
            assert off(tflite, x, result) <= limit


def test_exp_overflows_in_float16_without_the_maximum_subtracted():
    broken, _ = test_lint.CASES["UNSAFE_EXP"]
    x = np.full((1, 4, 4, 8), 24.0, "float32")
    assert np.isfinite(on_gpu(broken, x).outputs["out"]).all()
    half = on_gpu(broken, x, "lavapipe", gpu_precision="float16")
    assert half.gpu_precision == "float16"
    assert not np.isfinite(half.outputs["out"]).all()
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    softmax = one("SOFTMAX", T((1, 4, 4, 8)), options=[options])
    half = on_gpu(softmax, x, "lavapipe", gpu_precision="float16")
    np.testing.assert_array_equal(half.outputs["out"], 1 / 8)
