"""Tensors of integers that meet others: what else reads them gets them in their own range.

TensorFlow's converter gives them the range of what they meet in. All in one model, as a conversion
takes long however small it is.
"""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import gpu_drivers
from converters import runtime, to_tflite
from converters.tflite.flatbuffer import read_graphs

# Decibels of each: a few roundings of 8 bits; with activations of 16, those of the weights.
LEAST = {"int8": 28, "int16x8": 44}
# Decibels between kernels: single steps, where a tie falls to the other side.
TIES = 36
WIDE = 30.0


def elu(y):
    return ops.where(y > 0, y, ops.exp(y) - 1)


def dense_block(y):
    once = ops.concatenate([y, WIDE * layers.Conv2D(4, 1)(ops.relu(y))], -1)
    return ops.concatenate([once, layers.Conv2D(4, 1)(ops.relu(once))], -1), ops.tanh(y)


def moved(y):
    border = ops.reshape(ops.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0))), (-1, 64, 4))
    rows = ops.transpose(border, (0, 2, 1))
    return ops.flip(ops.maximum(ops.sigmoid(rows), rows), 2) + rows


def pooled(y):
    small = layers.MaxPooling2D(2)(y)
    return ops.concatenate([layers.AveragePooling2D(2)(y), WIDE * small], -1), ops.exp(small)


def halves(y):
    a, b = ops.split(y, 2, -1)
    return ops.concatenate([a, WIDE * b], -1), ops.exp(a), ops.maximum(a, ops.sigmoid(b))


def in_a_row(y):
    most = ops.maximum(y, 0.3)
    return ops.concatenate([most, WIDE * y], -1), most * most


def beside(y):
    border = ops.pad(y, ((0, 0), (0, 0), (0, 0), (1, 0)), constant_values=WIDE)
    return border * 1.5, ops.tanh(y)


# What is done to a convolution's result.
CASES = {
    "maximum": lambda y: ops.maximum(ops.sigmoid(y), y) + y,
    "minimum": lambda y: ops.minimum(y, 0.1 * y) * ops.tanh(y),
    "where": elu,
    "clip": lambda y: y * ops.clip(y, -0.1, 0.1),
    "concatenation": lambda y: (ops.concatenate([y, WIDE * y], -1), ops.tanh(y)),
    "a dense block": dense_block,
    "moved": moved,
    "pooled": pooled,
    "halves": halves,
    "in a row": in_a_row,
    "padding": beside,
    "stack": lambda y: (ops.stack([y, WIDE * y], 1), ops.exp(y)),
    "largest": lambda y: (ops.concatenate([ops.top_k(y, 2)[0], WIDE * y], -1), ops.tanh(y)),
}
# What the GPU delegate has no operator for, and what has no kernel of 16 bits.
NOT_ON_THE_GPU = {"padding", "stack", "largest"}
NOT_IN_16_BITS = {"where", "largest"}


def converted(model, precision):
    """(file, samples) of a model of images."""
    x = np.random.default_rng(0).normal(size=(48, 8, 8, 4)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the GPU delegate refuses
        return to_tflite(model, precision=precision, representative_data=x), x


@functools.cache
def answers(precision, names=tuple(CASES)):
    """(file, samples, Keras's answers by output)."""
    keras.utils.set_random_seed(0)
    image, outputs = keras.Input((8, 8, 4), name="image"), {}
    for name in names:
        y = layers.Conv2D(4, 3, bias_initializer="random_normal")(image)
        for number, value in enumerate(keras.tree.flatten(CASES[name](y))):
            outputs[f"{name.replace(' ', '_')}_{number}"] = value
    model = keras.Model(image, outputs)
    content, x = converted(model, precision)
    return content, x, {name: np.asarray(value) for name, value in model(x).items()}


def lost(found, expected):
    """The worst output in dB, of each case."""
    worst = {}
    for name, value in expected.items():
        noise = max(np.square(found[name] - value).sum(), 1e-9)
        snr = 10 * np.log10(np.square(value).sum() / noise)
        case = name.rpartition("_")[0]
        worst[case] = min(worst.get(case, np.inf), snr)
    return worst


@pytest.mark.parametrize("precision", ["int8", pytest.param("int16x8", marks=pytest.mark.slow)])
def test_what_else_reads_a_tensor_has_its_own_range(precision):
    names = [name for name in CASES if precision == "int8" or name not in NOT_IN_16_BITS]
    content, x, expected = answers(precision, tuple(names))
    found = lost(runtime.run(content, x, repeats=0).outputs, expected)
    assert {name: snr for name, snr in found.items() if snr < LEAST[precision]} == {}


@pytest.mark.parametrize(
    "accelerator", ["cpu_builtin", "cpu_reference", pytest.param("gpu", marks=pytest.mark.slow)]
)
def test_other_kernels_answer_as_xnnpack(accelerator):
    names = [name for name in CASES if accelerator != "gpu" or name not in NOT_ON_THE_GPU]
    content, x, _ = answers("int8", tuple(names))
    env = gpu_drivers.environment("swiftshader") if accelerator == "gpu" else None
    expected = runtime.run(content, x[:4], repeats=0)
    found = runtime.run(content, x[:4], accelerator=accelerator, env=env, repeats=0)
    assert found.ok, found.problem
    assert min(lost(found.outputs, expected.outputs).values()) > TIES


def test_what_only_meets_keeps_the_steps_of_its_result():
    """What is not needed may be clipped: steps are finer, and no operator is put in."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4))
    a, b, c = (layers.Conv2D(4, 3)(image) for _ in range(3))
    where, both = ops.where(a > 0, a, -0.1), ops.concatenate([b, WIDE * c], -1)
    model = keras.Model(image, {"where_0": where, "both_0": both})
    content, x = converted(model, "int8")
    [graph] = read_graphs(content)
    assert [o.name for o in graph.operators].count("QUANTIZE") == 1
    expected = {name: np.asarray(value) for name, value in model(x).items()}
    assert min(lost(runtime.run(content, x, repeats=0).outputs, expected).values()) > 30
