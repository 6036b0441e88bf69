"""ULSAM and SubSpace as a Keras user meets them: arguments, models, saving, precision, errors."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import ulsam_keras
from ulsam_keras import ULSAM, SubSpace

ROUNDING = 1e-5  # relative to the largest value: float32 rounding through the block
# Relative to the largest value: 2 units in the last place of an 11 and an 8 bit significand.
HALF = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(layer, seed=0):
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype("float32"))
    return layer


def close(value, reference, tolerance=ROUNDING):
    reference = np.asarray(reference, "float64")
    difference = np.abs(np.asarray(value, "float64") - reference).max()
    assert difference <= tolerance * np.abs(reference).max(), difference


def numpy_ulsam(x, layer):
    """The formula, one group and one position at a time, in float64."""
    get = keras.ops.convert_to_numpy

    def norm(value, bn):
        mean, variance = get(bn.moving_mean), get(bn.moving_variance)
        scaled = (value - mean) / np.sqrt(variance.astype("float64") + bn.epsilon)
        return scaled * get(bn.gamma) + get(bn.beta)

    x = x.astype("float64")
    n, height, width, channels = x.shape
    groups = layer.num_splits
    size = channels // groups
    kernel = get(layer.depthwise_conv.kernel)[0, 0, :, 0]
    t = norm(x * kernel + get(layer.depthwise_conv.bias), layer.depthwise_norm).clip(0)
    pooled = np.empty_like(t)
    for i in range(height):
        for j in range(width):
            window = t[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            pooled[:, i, j] = window.max((1, 2))
    s = np.empty((n, height, width, groups))
    for k in range(groups):
        weights = get(layer.pointwise_kernel)[0, 0, :, k]
        s[..., k] = pooled[..., k * size : (k + 1) * size] @ weights
    s = norm(s + get(layer.pointwise_bias), layer.pointwise_norm).clip(0)
    e = np.exp(s - s.max((1, 2), keepdims=True))
    a = e / e.sum((1, 2), keepdims=True)
    return x * np.repeat(a, size, axis=-1) + x, a


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (1, (2, 7, 7, 8)),
        (2, (1, 5, 9, 6)),
        (4, (3, 6, 6, 16)),
        (8, (2, 4, 4, 8)),
        (3, (1, 1, 1, 9)),
        (2, (2, 1, 8, 4)),
        (2, (2, 8, 1, 4)),
        (5, (1, 3, 2, 35)),
    ],
)
def test_formula(groups, shape):
    x = images(*shape)
    layer = ULSAM(groups)
    layer.build(shape)
    randomise(layer)
    y, a = layer(x, return_attention_scores=True)
    expected_y, expected_a = numpy_ulsam(x, layer)
    close(y, expected_y)
    close(a, expected_a)
    close(layer(x), expected_y)


def test_parameter_count():
    layer = ULSAM(4)
    layer.build((None, 14, 14, 512))
    assert sum(int(np.prod(w.shape)) for w in layer.trainable_weights) == 2572
    assert len(layer.non_trainable_weights) == 4


def test_subspace_is_one_group():
    x = images(2, 6, 5, 8)
    one, block = ULSAM(1), SubSpace()
    for layer in (one, block):
        layer.build(x.shape)
        randomise(layer)
    close(block(x), one(x), 0)
    assert "num_splits" not in block.get_config()


def test_same_name_arguments_reach_the_weights():
    layer = ULSAM(
        2,
        momentum=0.5,
        epsilon=1e-2,
        depthwise_initializer="ones",
        pointwise_initializer=keras.initializers.Constant(3.0),
        depthwise_regularizer=keras.regularizers.L2(0.5),
        pointwise_regularizer=keras.regularizers.L1(0.25),
        depthwise_constraint=keras.constraints.NonNeg(),
        pointwise_constraint=keras.constraints.MaxNorm(1.0, axis=2),
        name="attention",
    )
    layer.build((None, None, None, 4))
    assert layer.name == "attention"
    assert float(keras.ops.sum(layer.depthwise_conv.kernel)) == 4.0
    assert float(keras.ops.sum(layer.pointwise_kernel)) == 12.0
    assert layer.depthwise_norm.momentum == layer.pointwise_norm.momentum == 0.5
    assert layer.depthwise_norm.epsilon == layer.pointwise_norm.epsilon == 1e-2
    assert sorted(float(loss) for loss in layer.losses) == [2.0, 3.0]
    assert layer.depthwise_conv.kernel.constraint is layer.depthwise_constraint
    assert layer.pointwise_kernel.constraint is layer.pointwise_constraint


def test_pointwise_initializer_sees_the_fan_of_a_group():
    layer = ULSAM(2, pointwise_initializer=keras.initializers.Orthogonal())
    layer.build((None, 4, 4, 12))
    assert tuple(layer.pointwise_kernel.shape) == (1, 1, 6, 2)


def functional():
    inputs = keras.Input((None, None, 8))
    return keras.Model(inputs, ULSAM(4)(inputs))


def sequential():
    return keras.Sequential([keras.Input((6, 6, 8)), ULSAM(4)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention = ULSAM(4)

    def call(self, x, training=None):
        return self.attention(x, training=training)


@pytest.mark.parametrize("make", [functional, sequential, Subclassed])
def test_trains_in_every_kind_of_model(make):
    keras.utils.set_random_seed(0)  # scores that are all below 0 have no gradient
    model = make()
    x = images(8, 6, 6, 8)
    model.compile("sgd", "mse")
    model.fit(x, x, epochs=1, batch_size=4, verbose=0)
    before = [np.array(w) for w in model.get_weights()]
    model.fit(x, 2 * x, epochs=1, batch_size=4, verbose=0)
    after = zip(model.weights, before, model.get_weights(), strict=True)
    still = {w.path.split("/", 1)[1] for w, a, b in after if np.array_equal(a, b)}
    # What a batch normalization follows: its mean takes a bias off again, to the last bit.
    assert {name.split("/")[-1] for name in still} == {"bias", "pointwise_bias"}
    assert model.predict(x, verbose=0).shape == x.shape


def test_unknown_sizes():
    model = functional()
    assert model.output_shape == (None, None, None, 8)
    layer = model.layers[-1]
    randomise(layer)
    for shape in [(1, 4, 9, 8), (3, 7, 2, 8)]:
        x = images(*shape)
        close(model.predict(x, verbose=0), numpy_ulsam(x, layer)[0])


def test_frozen_layer_keeps_its_statistics():
    layer = ULSAM(2)
    layer.build((None, 4, 4, 4))
    layer.trainable = False
    before = layer.get_weights()
    layer(images(4, 4, 4, 4), training=True)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("frozen", ["depthwise_norm", "pointwise_norm"])
def test_a_norm_that_is_frozen_alone_normalizes_as_in_inference(frozen):
    layer = ULSAM(2)
    layer.build((None, 4, 4, 4))
    randomise(layer)
    getattr(layer, frozen).trainable = False
    before = {w.path: np.array(w) for w in layer.weights}
    layer(images(4, 4, 4, 4), training=True)
    changed = {w.path for w in layer.weights if not np.array_equal(w, before[w.path])}
    other = {"depthwise_norm": "pointwise_norm"}.get(frozen, "depthwise_norm")
    assert {path.split("/")[-2] for path in changed} == {other}
    assert len(changed) == 2


@pytest.mark.slow
def test_synchronized_statistics_are_those_of_all_replicas():
    script = """
        import keras, numpy as np, tensorflow as tf
        from ulsam_keras import ULSAM
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
        tf.config.set_logical_device_configuration(cpu, halves)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        x = np.random.default_rng(0).normal(3, 2, (4, 6, 6, 8)).astype("float32")
        x[2:] -= 5
        alone = ULSAM(2)
        alone.build(x.shape)
        with strategy.scope():
            layer = ULSAM(2, synchronized=True)
            layer.build(x.shape)
        layer.set_weights(alone.get_weights())
        halves = iter([tf.constant(x[:2]), tf.constant(x[2:])])
        given = strategy.experimental_distribute_values_from_function(lambda _: next(halves))
        run = tf.function(lambda x: layer(x, training=True))
        parts = strategy.experimental_local_results(strategy.run(run, (given,)))
        np.testing.assert_allclose(np.concatenate(parts), alone(x, training=True), rtol=1e-5)
        for one, all_ in zip(layer.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_allclose(one, all_, rtol=1e-4, atol=1e-6)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_channels_first(groups):
    x = images(2, 5, 7, 8)
    last, first = ULSAM(groups), ULSAM(groups, data_format="channels_first")
    last.build(x.shape)
    first.build((2, 8, 5, 7))
    first.set_weights(randomise(last).get_weights())
    y, a = first(x.transpose(0, 3, 1, 2), return_attention_scores=True)
    expected_y, expected_a = last(x, return_attention_scores=True)
    close(np.transpose(y, (0, 2, 3, 1)), expected_y)
    close(np.transpose(a, (0, 2, 3, 1)), expected_a)


def test_data_format_follows_the_global_setting():
    previous = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        inputs = keras.Input((8, 5, 7))
        y, a = ULSAM(4)(inputs, return_attention_scores=True)
        model = keras.Model(inputs, [y, a])
        assert model.output_shape == [(None, 8, 5, 7), (None, 4, 5, 7)]
        assert [o.shape for o in model.predict(images(2, 8, 5, 7), verbose=0)] == [
            (2, 8, 5, 7),
            (2, 4, 5, 7),
        ]
    finally:
        keras.config.set_image_data_format(previous)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize(("size", "training"), [(7, False), (300, False), (7, True)])
def test_half_precision_attention_is_right(half, size, training):
    x = images(1, size, size, 8)
    single, mixed = ULSAM(4), ULSAM(4, dtype=f"mixed_{half}")
    single.build(x.shape)
    mixed.build(x.shape)
    mixed.set_weights(randomise(single).get_weights())
    y, a = mixed(x, training=training, return_attention_scores=True)
    expected_y, expected_a = single(x, training=training, return_attention_scores=True)
    assert keras.backend.standardize_dtype(y.dtype) == half
    as_float = [np.asarray(keras.ops.cast(t, "float32"), "float64") for t in (y, a)]
    close(as_float[0], expected_y, HALF[half])
    # The scores carry the rounding, and the exponential multiplies it by the scores' own size.
    largest_score = 16.0
    close(as_float[1], expected_a, largest_score * HALF[half])
    # Roundings of single values average out in a sum; a float16 softmax of 300 x 300 is all zeros.
    assert abs(as_float[1].sum((1, 2)) - 1).max() < 0.1 * HALF[half]


@pytest.mark.parametrize(("half", "size"), [("float16", 28), ("float16", 40), ("bfloat16", 14)])
def test_half_precision_rounds_the_product_once(half, size):
    layer = ULSAM(2, dtype=f"mixed_{half}", depthwise_initializer="zeros")
    x = keras.ops.cast(images(1, size, size, 4), half)
    y = layer(x)
    # Uniform attention, so that the exact product is known.
    exact = np.asarray(keras.ops.cast(x, "float32"), "float64") * (1 + 1 / size**2)
    expected = keras.ops.cast(exact, half)
    ours, theirs = (np.asarray(keras.ops.cast(t, "float32")) for t in (y, expected))
    # But for values that float32 puts on the other side of the middle between two steps.
    assert np.mean(ours != theirs) < 1e-3


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_trains_without_nan(half):
    inputs = keras.Input((16, 16, 8))
    x = keras.layers.Conv2D(16, 3, padding="same", dtype=f"mixed_{half}")(inputs)
    x = ULSAM(4, dtype=f"mixed_{half}")(x)
    outputs = keras.layers.Conv2D(8, 1, dtype="float32")(x)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = images(16, 16, 16, 8)
    history = model.fit(30 * x, x, epochs=10, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_large_scores_do_not_overflow(half):
    layer = ULSAM(1, dtype=f"mixed_{half}")
    x = images(1, 8, 8, 4)
    layer.build(x.shape)
    randomise(layer)
    layer.pointwise_norm.gamma.assign([1000.0])
    y, a = layer(x, return_attention_scores=True)
    for value in (y, a):
        assert np.isfinite(np.asarray(keras.ops.cast(value, "float32"))).all()


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_xla(data_format):
    inputs = keras.Input((6, 6, 6))
    model = keras.Model(inputs, ULSAM(3, data_format=data_format)(inputs))
    randomise(model)
    x = images(4, 6, 6, 6)
    expected = model.predict(x, verbose=0)
    model.compile("sgd", "mse", jit_compile=True)
    close(model.predict(x, verbose=0), expected)
    model.fit(x, x, epochs=1, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


LAYERS = [
    lambda: ULSAM(4),
    lambda: SubSpace(),
    lambda: ULSAM(
        2,
        momentum=0.3,
        epsilon=1e-3,
        synchronized=True,
        data_format="channels_last",
        depthwise_initializer=keras.initializers.RandomNormal(0.0, 0.5, seed=3),
        pointwise_initializer="he_normal",
        depthwise_regularizer=keras.regularizers.L2(1e-4),
        pointwise_regularizer="l1",
        depthwise_constraint=keras.constraints.MaxNorm(3),
        pointwise_constraint="non_neg",
        dtype="mixed_bfloat16",
        name="every_argument",
    ),
]


@pytest.mark.parametrize("make", LAYERS)
def test_config_round_trip(make):
    layer = make()
    config = layer.get_config()
    json.dumps(keras.saving.serialize_keras_object(layer))
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert again.dtype_policy.name == layer.dtype_policy.name


@pytest.mark.parametrize("make", LAYERS[:2])
def test_files_load_in_a_process_that_only_imports_the_package(make, tmp_path):
    inputs = keras.Input((6, 6, 8))
    model = keras.Model(inputs, make()(inputs))
    randomise(model)
    x = images(2, 6, 6, 8)
    np.savez(tmp_path / "data.npz", x=x, y=model.predict(x, verbose=0))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    script = """
        import sys
        import keras, numpy as np
        import ulsam_keras
        folder = sys.argv[1]
        data = np.load(folder + "/data.npz")
        model = keras.saving.load_model(folder + "/model.keras")
        np.testing.assert_array_equal(model.predict(data["x"], verbose=0), data["y"])
        fresh = keras.models.clone_model(model)
        assert not np.array_equal(fresh.predict(data["x"], verbose=0), data["y"])
        fresh.load_weights(folder + "/model.weights.h5")
        np.testing.assert_array_equal(fresh.predict(data["x"], verbose=0), data["y"])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_output_shapes_and_specs(data_format):
    shape = (None, 14, None, 8) if data_format == "channels_last" else (None, 8, 14, None)
    scores = (None, 14, None, 2) if data_format == "channels_last" else (None, 2, 14, None)
    layer = ULSAM(2, data_format=data_format, dtype="mixed_float16")
    assert layer.compute_output_shape(shape) == shape
    spec = layer.compute_output_spec(keras.KerasTensor(shape))
    assert (spec.shape, spec.dtype) == (shape, "float16")
    pair = layer.compute_output_spec(keras.KerasTensor(shape), return_attention_scores=True)
    assert [p.shape for p in pair] == [shape, scores]


def foreign_tensor():
    import tf_keras

    return tf_keras.Input((4, 4, 4))


def call(layer, shape):
    return lambda: layer()(keras.Input(batch_shape=shape))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: ULSAM(0), ["at least 1", "Received: num_splits=0"]),
        (lambda: ULSAM(-2), ["Received: num_splits=-2"]),
        (lambda: ULSAM(2.0), ["integer", "Received: num_splits=2.0"]),
        (lambda: ULSAM(True), ["integer", "Received: num_splits=True"]),
        (lambda: ULSAM("4"), ["integer", "Received: num_splits='4'"]),
        (lambda: ULSAM(2, dtype="int8_from_float32"), ["floats", "Received: dtype='int8_from"]),
        (lambda: ULSAM(2, dtype="int32"), ["floats", "Received: dtype='int32'"]),
        (lambda: ULSAM(2)(foreign_tensor()), ["'ulsam", "keras.Input", "Received: a tensor of tf"]),
        (lambda: ULSAM(2, data_format="NHWC"), ["channels_last", "Received: data_format='NHWC'"]),
        (
            call(lambda: ULSAM(4), (None, 7, 7, 10)),
            ["choose a num_splits", "Received: channels=10, num_splits=4"],
        ),
        (
            call(lambda: ULSAM(4, data_format="channels_first"), (None, 10, 8, 8)),
            ["channels_first", "Received: channels=10, num_splits=4"],
        ),
        (call(lambda: ULSAM(4), (None, 7, 8)), ["rank 4", "Received: input_shape=(None, 7, 8)"]),
        (call(lambda: ULSAM(4), (None, 2, 7, 7, 8)), ["rank 4", "reshape"]),
        (call(lambda: ULSAM(4), (None, 7, 7, None)), ["number of channels", "axis 3"]),
        (
            call(lambda: ULSAM(4, data_format="channels_first"), (None, None, 7, 7)),
            ["number of channels", "axis 1"],
        ),
        (lambda: ULSAM(4).compute_output_shape((None, 7, 7, 10)), ["choose a num_splits"]),
        (call(SubSpace, (None, 7, 8)), ["rank 4"]),
    ],
)
def test_wrong_arguments(wrong, words):
    with pytest.raises(ValueError) as error:
        wrong()
    for word in words:
        assert word in str(error.value)


def test_another_number_of_channels_after_build():
    layer = ULSAM(2)
    layer.build((None, 4, 4, 4))
    with pytest.raises(ValueError, match="expected axis 3"):
        layer(images(1, 4, 4, 8))


def test_import_changes_nothing():
    script = """
        import os, random
        before = dict(os.environ)
        import keras, numpy
        policy, fmt = keras.config.dtype_policy().name, keras.config.image_data_format()
        during = dict(os.environ)
        import ulsam_keras
        assert dict(os.environ) == during
        assert (keras.config.dtype_policy().name, keras.config.image_data_format()) == (policy, fmt)
        import sys
        assert "converters" not in sys.modules
        assert not {"tf_keras", "tensorflow_model_optimization"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_public_names():
    assert {"ULSAM", "SubSpace"} <= set(ulsam_keras.__all__)
