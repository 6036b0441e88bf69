"""The exported ULSAM block: its operators, and its numbers on every CPU path of the runtime."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from converters import lint
from converters.tflite import Exporter, to_tflite
from converters.tflite.flatbuffer import read_graphs
from ulsam_keras import ULSAM

FUSED = [
    "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "CONV_2D", "RESHAPE", "TRANSPOSE", "SOFTMAX", "TRANSPOSE",
    "RESHAPE", "CONV_2D", "MUL",
]  # fmt: skip
ONE_GROUP = [name for name in FUSED if name != "TRANSPOSE"]

RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "kernels": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}

# Largest difference allowed, as a share of the largest value, for y and for the attention's own
# effect y - x. float32: sums in another order. float16: weights keep 11 bits, 2**-11 = 5e-4, and
# through scores of up to 20 that is 1e-2 in an attention. dynamic_range: weights, and on the fly
# the inputs of the dense convolutions, keep 8 bits, 4e-3, some ten times the float16 error.
TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "dynamic_range": 6e-2}


def randomise(model, seed=0):
    """Weights and running statistics such that the attention is far from flat."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith("moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif weight.path.endswith("pointwise_norm/gamma"):
            # Scores over a range of 5 to 10.
            value = rng.uniform(2, 4, weight.shape)
        elif weight.path.endswith("gamma"):
            value = rng.uniform(0.8, 1.6, weight.shape)
        elif weight.path.endswith("kernel"):
            fan_in = np.prod(weight.shape[:-1])
            value = rng.normal(size=weight.shape) * 2 / np.sqrt(fan_in)
        else:
            value = 0.2 * rng.normal(size=weight.shape)
        weight.assign(value)
    return model


def operators(tflite):
    (graph,) = read_graphs(tflite)
    return [operator.name for operator in graph.operators]


def run(tflite, images, resolver="xnnpack"):
    """The outputs by name, one image after the other."""
    runner = Interpreter(
        model_content=tflite, experimental_op_resolver_type=RESOLVERS[resolver]
    ).get_signature_runner()
    (name,) = runner.get_input_details()
    results = [runner(**{name: image[None]}) for image in images]
    return {key: np.concatenate([result[key] for result in results]) for key in results[0]}


def difference(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def block(num_splits, size, channels, layer=ULSAM):
    """ULSAM right after an ADD, with its input used once more behind it."""
    height, width = size
    image = keras.Input((height, width, channels), name="image")
    branch = keras.layers.Conv2D(channels, 1, name="branch")(image)
    x = keras.layers.Add(name="x")([image, branch])
    y = layer(num_splits, name="ulsam")(x)
    effect = keras.layers.Subtract(name="effect")([y, x])
    return randomise(keras.Model(image, {"y": y, "effect": effect}))


def images(model, count=2):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).normal(size=shape).astype("float32")


# ------------------------------------------------------------------------------- operators


@pytest.mark.parametrize(
    ("num_splits", "channels", "size"),
    [
        (1, 16, 7), (1, 64, 14), (1, 1024, 7), (2, 64, 14), (2, 1024, 7), (4, 64, 56),
        (4, 512, 14), (4, 1024, 14), (8, 256, 28), (8, 1024, 7), (16, 16, 7), (16, 256, 14),
        (16, 1024, 7), (32, 32, 7),
    ],
)  # fmt: skip
def test_operators_of_the_block(num_splits, channels, size):
    layer = keras.Sequential([keras.Input((size, size, channels)), ULSAM(num_splits)])
    tflite = to_tflite(randomise(layer))
    assert operators(tflite) == (ONE_GROUP if num_splits == 1 else FUSED)
    assert lint(tflite) == []


def test_convolutions_are_dense_and_hold_what_the_layer_says():
    """The folded kernel is block-diagonal, the spreading one is 0/1 with the bias 1."""
    channels, groups = 12, 3
    layer = keras.Sequential([keras.Input((5, 5, channels)), ULSAM(groups)])
    (graph,) = read_graphs(to_tflite(randomise(layer)))
    scores, spread = (o for o in graph.operators if o.name == "CONV_2D")
    own = np.repeat(np.eye(groups), channels // groups, axis=1)
    kernel = scores.inputs[1].floats().reshape(groups, channels)
    assert ((kernel != 0) == own).all()
    np.testing.assert_array_equal(spread.inputs[1].floats().reshape(channels, groups), own.T)
    np.testing.assert_array_equal(spread.inputs[2].floats(), np.ones(channels))


# --------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("num_splits", "size", "channels"),
    [
        (1, (7, 7), 32), (4, (1, 1), 16), (4, (7, 7), 64), (4, (1, 9), 16), (2, (13, 5), 24),
        (8, (11, 11), 64), (16, (14, 14), 16), (4, (56, 56), 32),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_numbers_of_the_block(num_splits, size, channels):
    model = block(num_splits, size, channels)
    data = images(model)
    expected = {key: np.asarray(value) for key, value in model(data, training=False).items()}
    exporter = Exporter(model)
    for precision, tolerance in TOLERANCE.items():
        tflite = exporter.convert(precision).content
        for resolver in RESOLVERS:
            actual = run(tflite, data, resolver)
            where = (precision, resolver)
            assert difference(actual["y"], expected["y"]) < tolerance, where
            # y itself is rounded, and y - x cannot be closer than that.
            rounding = 2 * np.finfo(np.float32).eps * np.abs(expected["y"]).max()
            allowed = tolerance + rounding / np.abs(expected["effect"]).max()
            if resolver == "reference":
                # Its softmax adds one number after the other: an error of n * eps / 2 at most.
                allowed += np.prod(size) * np.finfo(np.float32).eps / 2
            assert difference(actual["effect"], expected["effect"]) < allowed, where


def test_attention_is_not_flat():
    """The numbers above would pass with a flat attention, were it flat in Keras too."""
    image = keras.Input((14, 14, 64))
    model = randomise(keras.Model(image, ULSAM(4)(image, return_attention_scores=True)[1]))
    attention = np.asarray(model(images(model)))
    assert attention.max() > 10 / (14 * 14)
    (actual,) = run(to_tflite(model), images(model)).values()
    np.testing.assert_allclose(actual.sum((1, 2)), 1, rtol=1e-5)
    assert difference(actual, attention) < TOLERANCE["float32"]


class Reshaped(ULSAM):
    """The block with the attention multiplied in five dimensions, and x added."""

    def call(self, inputs, training=None):
        _, height, width, channels = inputs.shape
        groups = self.num_splits
        _, scores = super().call(inputs, training=training, return_attention_scores=True)
        parts = keras.ops.reshape(inputs, (-1, height, width, groups, channels // groups))
        scaled = parts * keras.ops.expand_dims(scores, -1)
        return keras.ops.reshape(scaled, (-1, height, width, channels)) + inputs


@pytest.mark.filterwarnings("ignore:OVERWRITTEN")
def test_reshape_form_is_overwritten_by_the_cpu_kernels_and_this_one_is_not():
    """After an ADD the kernels reuse the memory of x for `reshape(x) * a`, then add x to it."""
    sound, reshaped = block(4, (12, 12), 16), block(4, (12, 12), 16, layer=Reshaped)
    data = images(sound)
    expected = sound(data, training=False)
    np.testing.assert_allclose(reshaped(data)["y"], expected["y"], rtol=1e-5, atol=1e-5)

    tflite = to_tflite(reshaped)
    assert {finding.code for finding in lint(tflite)} == {"OVERWRITTEN"}
    assert difference(run(tflite, data, "xnnpack")["y"], expected["y"]) < TOLERANCE["float32"]
    for resolver in ("kernels", "reference"):
        assert difference(run(tflite, data, resolver)["y"], expected["y"]) > 0.1

    tflite = to_tflite(sound)
    assert lint(tflite) == []
    for resolver in RESOLVERS:
        assert difference(run(tflite, data, resolver)["y"], expected["y"]) < TOLERANCE["float32"]


def test_channels_first():
    image = keras.Input((12, 9, 7), name="image")
    model = randomise(keras.Model(image, ULSAM(3, data_format="channels_first")(image)))
    tflite = to_tflite(model)
    assert operators(tflite) == ["TRANSPOSE", *FUSED, "TRANSPOSE"]
    expected = np.asarray(model(images(model)))
    for resolver in RESOLVERS:
        (actual,) = run(tflite, images(model), resolver).values()
        assert difference(actual, expected) < TOLERANCE["float32"]
        assert difference(actual - images(model), expected - images(model)) < TOLERANCE["float32"]


def test_batch_above_one():
    model = block(4, (7, 7), 16)
    data = images(model, 3)
    tflite = to_tflite(model, input_shape=(3, 7, 7, 16))
    assert lint(tflite) == []
    runner = Interpreter(model_content=tflite).get_signature_runner()
    expected = model(data, training=False)
    assert difference(runner(image=data)["y"], np.asarray(expected["y"])) < TOLERANCE["float32"]


@pytest.mark.parametrize("precision", TOLERANCE)
def test_size_of_the_file(precision):
    """The precisions store what they say: 4, 2 and about 1 byte per weight."""
    image = keras.Input((14, 14, 256))
    model = keras.Model(image, keras.layers.Conv2D(256, 3)(ULSAM(4)(image)))
    weights = 9 * 256 * 256
    size = len(to_tflite(model, precision=precision))
    bytes_per_weight = {"float32": 4, "float16": 2, "dynamic_range": 1}[precision]
    assert bytes_per_weight * weights < size < 1.05 * bytes_per_weight * weights
