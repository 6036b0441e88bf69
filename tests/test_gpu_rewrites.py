"""Graphs that the delegate refuses or computes wrongly, and what `to_tflite` writes instead.

Each on the delegate itself, by a software driver: without its row of the table the graph is wrong
there, with it right; the CPU's answers are the same before and after.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gpu_drivers
import gpu_lint_cases
import litert_models
from converters import lint, runtime, to_tflite
from converters.tflite import export, rewrites
from converters.tflite.flatbuffer import TfliteFile
from measures import differences

# Relative to the largest value: float32 on another device, a few roundings.
AGREEMENT = 1e-5
# A few roundings of float32, where a row says that it is not exact.
ROUNDING = 3e-7
# A step of int8, where a tie may fall to either side; its range is that of more samples than run.
STEPS = 2 / 127

SHAPE = (16, 16, 8)


def parts(function, count=2, axis=-1):
    return lambda x: function(*ops.split(x, count, axis))


def shuffled(x):
    return moved(x, (16, 16, 2, 4), (0, 1, 2, 4, 3), (16, 16, 8))


def moved(x, shape, order, result):
    return ops.reshape(ops.transpose(ops.reshape(x, (-1, *shape)), order), (-1, *result))


def padded(x, pool, value=0.0, **options):
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return pool(3, 2, **options)(ops.pad(x, pads, constant_values=value))


def rows(x, shape):
    return x * np.random.default_rng(2).normal(size=shape).astype("float32")


def classes(x):
    return layers.Lambda(lambda x: tf.argmax(-tf.abs(x), -1, output_type="int32"))(x)


def with_mean(x):
    return [x, ops.mean(x, (1, 2))]


def heads(left, right):
    return lambda x: ops.matmul(
        ops.reshape(x[:, :8] if left == 1 else x, (-1, left, 128 // left * (1 + (left > 1)), 8)),
        ops.reshape(
            x[:, :8] if right == 1 else x, (-1, right, 8, 128 // right * (1 + (right > 1)))
        ),
    )


def attention(x):
    qkv = moved(layers.Dense(24)(x), (256, 3, 2, 4), (0, 2, 3, 1, 4), (3, 2, 256, 4))
    return ops.matmul(qkv[:, 0], ops.transpose(qkv[:, 1], (0, 1, 3, 2)))


# (row of the table, graph, whether equal to the bit on the CPU)
FLOAT = {
    "split reversed": ("parts that meet", parts(lambda a, b: ops.concatenate([b, a], -1)), True),
    "split in part": (
        "parts that meet",
        parts(lambda a, b, c, d: ops.concatenate([a, c], -1), 4),
        True,
    ),
    "other axis": ("parts that meet", parts(lambda a, b: ops.concatenate([a, b], 2), 2, 1), True),
    "gate": ("parts that meet", parts(lambda a, b: b * ops.sigmoid(a)), True),
    "difference of two": ("parts that meet", parts(lambda a, b: a - b, [4]), True),
    "sum of parts": ("parts that meet", parts(lambda a, b: b + a), True),
    "unstacked": (
        "parts that meet",
        lambda x: ops.stack(ops.unstack(x[:, :4], axis=1)[::-1], axis=1),
        True,
    ),
    "cumulative sum from behind": ("cumulative sums", lambda x: ops.cumsum(x, axis=-1), True),
    "exclusive and reversed": (
        "cumulative sums",
        layers.Lambda(lambda x: tf.cumsum(x, 1, exclusive=True, reverse=True)),
        True,
    ),
    "sum of all rows": (
        "cumulative sums",
        lambda x: ops.reshape(ops.cumsum(ops.reshape(x, (256, 8)), axis=0), (-1, *SHAPE)),
        True,
    ),
    "reversed channels": (
        "reversed channels",
        lambda x: ops.flip(layers.Conv2D(7, 1)(x), axis=3),
        True,
    ),
    "largest of 21 classes": ("largest channel", lambda x: classes(layers.Dense(21)(x)), True),
    "largest of a vector": (
        "largest channel",
        lambda x: classes(layers.Dense(3)(ops.mean(x, (1, 2)))),
        True,
    ),
    "padded rows": (
        "padded samples",
        lambda x: ops.reshape(
            ops.pad(ops.reshape(x, (16, 16, 8)), ((0, 0), (1, 2), (0, 0))), (-1, 16, 19, 8)
        ),
        True,
    ),
    "mirrored rows": (
        "padded samples",
        lambda x: ops.reshape(
            ops.pad(ops.reshape(x, (16, 16, 8)), ((0, 0), (0, 0), (2, 1)), "reflect"),
            (-1, 16, 16, 11),
        ),
        True,
    ),
    "padded maximum": ("padded maximum", lambda x: padded(x - 2, layers.MaxPooling2D), True),
    "padded with 1": ("padded maximum", lambda x: padded(x, layers.MaxPooling2D, 1.0), True),
    "maximum of the same": (
        "padded maximum",
        lambda x: padded(x - 2, layers.MaxPooling2D, padding="same"),
        True,
    ),
    "padded mean": ("padded mean", lambda x: padded(x, layers.AveragePooling2D), False),
    "mean of the same": (
        "padded mean",
        lambda x: padded(x[:, 1:, 1:], layers.AveragePooling2D, padding="same"),
        True,
    ),
    "padded convolution": (
        "padded convolution",
        lambda x: ops.conv(
            ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1.0),
            np.random.default_rng(1).normal(size=(3, 3, 8, 4)).astype("float32"),
        ),
        True,
    ),
    "padded Dense": (
        "padded convolution",
        lambda x: layers.Dense(4)(
            ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.5)
        ),
        True,
    ),
    "nearest": ("moves", layers.UpSampling2D((2, 3)), True),
    "repeated rows": ("moves", lambda x: ops.repeat(x, 2, axis=1), True),
    "pixel shuffle": (
        "moves",
        lambda x: moved(x, (16, 16, 2, 2, 2), (0, 1, 4, 2, 5, 3), (32, 32, 2)),
        True,
    ),
    "depth to space": (
        "moves",
        lambda x: moved(x, (16, 16, 2, 2, 2), (0, 1, 3, 2, 4, 5), (32, 32, 2)),
        True,
    ),
    "pixel unshuffle": (
        "ranks",
        lambda x: moved(x, (8, 2, 8, 2, 8), (0, 1, 3, 5, 2, 4), (8, 8, 32)),
        True,
    ),
    "channel shuffle": ("ranks", shuffled, True),
    "GroupNormalization": ("ranks", lambda x: layers.GroupNormalization(4)(x), True),
    "repeated channels": ("ranks", lambda x: ops.repeat(x, 2, axis=-1), True),
    "attention": ("ranks", lambda x: attention(ops.reshape(x, (-1, 256, 8))), True),
    "slice of five": ("ranks", lambda x: ops.reshape(x, (-1, 16, 16, 4, 2))[..., 1:3, 0], True),
    "one tensor twice": (
        "one tensor twice",
        lambda x: (lambda r: ops.matmul(r, ops.transpose(r, (0, 2, 1))))(
            ops.reshape(x, (-1, 256, 8))
        ),
        True,
    ),
    "groups of two": ("groups of channels", layers.Conv2D(16, 3, groups=4), True),
    "groups of six": (
        "groups of channels",
        lambda x: layers.Conv2D(12, 1, groups=2)(layers.Dense(12)(x)),
        True,
    ),
    "1x1 with a multiplier": (
        "1x1 with a multiplier",
        lambda x: layers.DepthwiseConv2D(1, 2, depth_multiplier=2)(x[:, 1:]),
        True,
    ),
    "a constant for each of some rows": (
        "constant along the batch",
        lambda x: ops.reshape(rows(ops.reshape(x, (256, 8)), (256, 8)), (-1, *SHAPE)),
        True,
    ),
    "a constant for each of some matrices": (
        "constant along the batch",
        lambda x: ops.reshape(rows(ops.reshape(x, (4, 64, 8)), (4, 1, 8)), (-1, *SHAPE)),
        True,
    ),
    "a constant beside a vector": (
        "constant along the batch",
        lambda x: ops.reshape(rows(ops.reshape(x, (2048,)), (2048,)), (-1, *SHAPE)),
        True,
    ),
    "one key for all heads": ("shared heads", heads(4, 1), True),
    "one constant for all heads": (
        "shared heads",
        lambda x: ops.matmul(x, np.random.default_rng(1).normal(size=(1, 1, 8, 5)).astype("f4")),
        True,
    ),
    "one query for all heads": ("shared heads", heads(1, 4), True),
    "two to the power": ("power of a number", lambda x: 2.0**x, True),
    "three to the power": ("power of a number", lambda x: 3.0 ** ops.mean(x, (1, 2, 3)), True),
    "fifth power": ("power of what is below 0", lambda x: x**5, True),
    "odd power below 0": (
        "power of what is below 0",
        lambda x: ops.where(x > 0, x + 1, x - 1) ** -3,
        False,
    ),
    "small power": ("small power", lambda x: ops.relu(x) ** 0.01, True),
    "a norm and its mean": (
        "two for one",
        lambda x: with_mean(layers.LayerNormalization()(x)),
        True,
    ),
    "a shortcut and its mean": (
        "two for one",
        lambda x: with_mean(x + layers.Conv2D(8, 1)(x)),
        True,
    ),
    "a product and its convolution": (
        "two for one",
        lambda x: (lambda y: [y, layers.Conv2D(4, 3)(y)])(
            ops.tanh(x) * np.arange(1, 9, dtype="float32")
        ),
        True,
    ),
    "largest of a sum": ("two for one", lambda x: ops.max(ops.tanh(x) - 9.0 + x, 1), True),
    "padded channels beside means": (
        "two for one",
        lambda x: (
            ops.mean(x, (1, 2), keepdims=True)
            + ops.pad(x[..., :4], ((0, 0), (0, 0), (0, 0), (0, 4)))
        ),
        True,
    ),
    "log-softmax": ("log-softmax", lambda x: ops.log_softmax(ops.mean(x, (1, 2))), False),
}
INTEGER = {
    "shortcut": (
        "strided 1x1",
        lambda x: layers.Add()([
            layers.Conv2D(16, 1, strides=2)(x),
            layers.Conv2D(16, 1, strides=2)(x),
        ]),
    ),
    "1x1 of groups": ("groups of channels", layers.Conv2D(16, 1, groups=2)),
    "groups of two": FLOAT["groups of two"][:2],
    "1x1 with a multiplier": FLOAT["1x1 with a multiplier"][:2],
    "a constant for each of some rows": FLOAT["a constant for each of some rows"][:2],
    "one key for all heads": FLOAT["one key for all heads"][:2],
    "GroupNormalization": FLOAT["GroupNormalization"][:2],
    "nearest": FLOAT["nearest"][:2],
    "pixel shuffle": FLOAT["pixel shuffle"][:2],
    "padded rows": FLOAT["padded rows"][:2],
    "reversed channels": FLOAT["reversed channels"][:2],
    "broadcast": (
        "broadcast",
        lambda x: ops.concatenate([x, ops.broadcast_to(x[:, :1, :1], (1, *SHAPE))], -1),
    ),
}  # fmt: skip


def samples(count=2):
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype("float32")


def files(function, monkeypatch, **options):
    """The file as the converter writes it, and rewritten."""
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    # Behind a convolution: what is computed of an input alone is right more often.
    model = keras.Model(image, function(layers.Conv2D(8, 3, padding="same")(image)))
    with monkeypatch.context() as patch:
        patch.setattr(export, "rewritten", lambda file: file)
        patch.setattr(export, "_report", lambda *_: None)
        old = to_tflite(model, **options)
    return old, rewrites.rewritten(TfliteFile(old)).content


def gpu(file, x, driver="swiftshader"):
    env = gpu_drivers.environment(driver)
    return runtime.run(file, x, accelerator="gpu", env=env, repeats=0, timeout=100)


def distance(found, expected):
    """Of all outputs, relative to the largest; infinite where it did not run on the GPU alone."""
    return max(differences(found.outputs, expected.outputs).values()) if found.ok else np.inf


def check(row, function, monkeypatch, tolerance, exact=True, **options):
    old, new = files(function, monkeypatch, **options)
    x = samples()
    cpu = {name: runtime.run(file, x, repeats=0) for name, file in (("old", old), ("new", new))}
    difference = distance(cpu["new"], cpu["old"])
    assert difference == 0 if exact else 0 < difference < ROUNDING
    assert distance(gpu(old, x), cpu["old"]) > 20 * tolerance, row
    result = gpu(new, x)
    assert result.ok and result.fully_accelerated, result
    assert distance(result, cpu["new"]) < tolerance
    assert lint(new) == []


@pytest.mark.parametrize("name", FLOAT)
def test_float32(name, monkeypatch):
    row, function, exact = FLOAT[name]
    check(row, function, monkeypatch, AGREEMENT, exact)


@pytest.mark.parametrize(
    "name", ["shortcut", *(pytest.param(n, marks=pytest.mark.slow) for n in [*INTEGER][1:])]
)
def test_int8(name, monkeypatch):
    row, function = INTEGER[name]
    check(row, function, monkeypatch, STEPS, precision="int8", representative_data=samples(8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["1x1 with a multiplier", "padded convolution", "GroupNormalization"]
)
def test_float16_whose_constants_are_widened(name, monkeypatch):
    row, function, exact = FLOAT[name]
    check(row, function, monkeypatch, AGREEMENT, exact, precision="float16")


def compared(size):
    def function(x):
        numbers = ops.tanh(x) * size
        return ops.where(numbers > size / 3, numbers, ops.flip(numbers, 2))

    return function


# What the CPU's kernels get wrong, and the decibels before and after.
ON_CPU = {
    # The converter gives the flip the steps of the maximum, and its bytes are copied.
    "copied": ("COPIED_STEPS", lambda x: ops.maximum(ops.sigmoid(x), ops.flip(x, 2)), 5, 30),
    # The kernel counts in 1/256, and knows no steps of 1; the GPU compares numbers.
    "compared, small": ("COMPARED_STEPS", compared(0.01), 12, 20),
    "compared, large": ("COMPARED_STEPS", compared(2000.0), 12, 20),
}


@pytest.mark.parametrize("name", ON_CPU)
def test_integers_that_the_cpu_mistakes(name, monkeypatch):
    code, function, before, after = ON_CPU[name]
    x = samples()
    expected = runtime.run(files(function, monkeypatch)[0], x, repeats=0)
    old, new = files(function, monkeypatch, precision="int8", representative_data=samples(8))
    assert {finding.code for finding in lint(old)} == {code}
    assert snr(runtime.run(old, x, repeats=0), expected) < before
    for found in (runtime.run(new, x, repeats=0), gpu(new, x)):
        assert snr(found, expected) > after
    assert lint(new) == []


def test_integers_of_steps_of_1_that_are_compared():
    tensors = {
        "x": gpu_lint_cases.T((1, 6, 5, 8)),
        "a": gpu_lint_cases.T((1, 6, 5, 8), "INT8", None, 1.0),
        "b": gpu_lint_cases.T((8,), "INT8", 3, 1.0),
        "c": gpu_lint_cases.T((1, 6, 5, 8), "BOOL"),
        "y": gpu_lint_cases.T((1, 6, 5, 8)),
    }
    options = gpu_lint_cases.options
    calls = [
        ("QUANTIZE", ["x"], ["a"], options("Quantize")),
        ("LESS", ["a", "b"], ["c"], options("Less")),
        ("CAST", ["c"], ["y"], options("Cast", inDataType=6, outDataType=0)),
    ]
    old = gpu_lint_cases.build(tensors, calls, ["x"], ["y"])
    new = rewrites.rewritten(TfliteFile(old)).content
    x = np.random.default_rng(0).integers(-20, 20, (1, 6, 5, 8)).astype("float32")
    result = runtime.run(old, x, repeats=0)
    assert (result.outcome, result.signal) == ("crashed", "SIGABRT")
    for found in (runtime.run(new, x, repeats=0), gpu(new, x)):
        np.testing.assert_array_equal(found.outputs["y"], x < 3)


def snr(found, expected):
    """In dB, of the one output."""
    [a], [b] = found.outputs.values(), expected.outputs.values()
    return 10 * np.log10((b**2).sum() / ((a - b) ** 2).sum())


# Which a converter writes now and then, or in some of its versions: by hand.
BY_HAND = {
    "a part of integers that nothing reads": (gpu_lint_cases.split_unread("q"), "crashed"),
    "a part in another shape and back": (gpu_lint_cases.split_viewed(), "refused"),
    "broadcast": (litert_models.broadcast_to(), "refused"),
}
# Likewise, and wrong without a word.
WRONG = {"a constant that chooses": gpu_lint_cases.short_condition(6, 5, 8)}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    old, outcome = BY_HAND[name]
    new = rewrites.rewritten(TfliteFile(old)).content
    [given] = TfliteFile(old).graph.inputs
    x = np.random.default_rng(0).normal(size=given.shape).astype("float32")
    assert gpu(old, x).outcome == outcome
    assert distance(gpu(new, x), runtime.run(old, x, repeats=0)) < AGREEMENT
    assert lint(new) == []


@pytest.mark.parametrize("exponent", [4, 5, -1, -2])
def test_powers_of_what_is_below_0_on_the_other_driver(exponent):
    """Which makes NaN of them, even ones too."""
    old = gpu_lint_cases.power(exponent=float(exponent))
    new = rewrites.rewritten(TfliteFile(old)).content
    x = np.random.default_rng(0).normal(size=gpu_lint_cases.MAP).astype("float32")
    expected = runtime.run(old, x, repeats=0)
    assert np.isnan(gpu(old, x, "lavapipe").outputs["y"]).any()
    for driver in ("lavapipe", "swiftshader"):  # a rounding of tanh near 0 counts for more
        assert distance(gpu(new, x, driver), expected) < 10 * AGREEMENT


@pytest.mark.parametrize("name", WRONG)
def test_wrong_by_hand(name):
    old = WRONG[name]
    new = rewrites.rewritten(TfliteFile(old)).content
    [given] = TfliteFile(old).graph.inputs
    x = np.random.default_rng(0).normal(size=given.shape).astype("float32")
    expected = runtime.run(old, x, repeats=0)
    assert distance(gpu(old, x), expected) > 0.1
    assert distance(gpu(new, x), expected) < AGREEMENT
    assert lint(new) == []


def test_every_row_is_tried():
    tried = {row for row, *_ in (*FLOAT.values(), *INTEGER.values())} | {"choice by a constant"}
    assert tried == {*rewrites.REWRITES} - {
        "one part",
        "bounded root",
        "copies",
        "divisor",
        "comparison",
    }


RIGHT = {
    "parts in order": parts(lambda a, b: layers.Conv2D(4, 1)(ops.concatenate([a, b], -1))),
    "parts apart": parts(lambda a, b: layers.Conv2D(4, 3)(a) + layers.Conv2D(4, 3)(b)),
    "parts changed one by one": parts(
        lambda *p: ops.concatenate([ops.tanh(a) for a in p[::-1]], -1), 4
    ),
    "parts weighed and put together": parts(
        lambda *p: ops.concatenate([a * layers.Conv2D(1, 1)(a) + a for a in p], -1), 4
    ),
    "padding after a ReLU": lambda x: padded(ops.relu(x), layers.MaxPooling2D),
    "padding that never counts": lambda x: padded(
        x, layers.MaxPooling2D, float(np.finfo("float32").min)
    ),
    "strided": layers.Conv2D(8, 1, strides=2),
    "groups of four": layers.Conv2D(16, 3, groups=2),
    "groups of one": layers.Conv2D(8, 3, groups=8),
    "heads": lambda x: ops.matmul(
        ops.reshape(x, (-1, 4, 64, 8)), ops.reshape(x * 2.0, (-1, 4, 8, 64))
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_left_as_it_is(name, monkeypatch):
    old, new = files(RIGHT[name], monkeypatch)
    assert old == new
    x = samples()
    assert distance(gpu(new, x), runtime.run(new, x, repeats=0)) < AGREEMENT


def test_to_tflite_writes_them():
    image = keras.Input(SHAPE)
    file = to_tflite(keras.Model(image, layers.UpSampling2D(2)(image)))
    assert [o.name for o in TfliteFile(file).graph.operators] == ["RESIZE_NEAREST_NEIGHBOR"]


def test_weights_beyond_a_texture_are_a_refusal():
    """The device says so in the log, the runtime goes on, and the outputs are zeros."""
    image = keras.Input((24, 24, 1024))
    file = to_tflite(keras.Model(image, layers.Conv2D(256, 3, padding="same")(image)))
    result = gpu(file, np.ones((1, 24, 24, 1024), "float32"))
    assert (result.outcome, result.outputs) == ("refused", None)
    assert "exceeded maximum texture size" in result.message and "\n" not in result.message
