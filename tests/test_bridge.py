"""The bridge from Keras 3 to tf_keras: every layer class by itself, and models of every shape.

The oracle is the Keras 3 model, with random weights and statistics.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

from quantization_cases import FAMILIES, LAYERS, MAP, OPERATION_CALLS, of
from quantization_tools import array, images, network, randomise, relative_difference
from ulsam_keras import ULSAM, SubSpace
from ulsam_keras.quantization import bridges, calibrate, quantize_model, to_tf_keras
from ulsam_keras.quantization.bridge.activations import ACTIVATIONS
from ulsam_keras.quantization.bridge.operations import OPERATIONS
from ulsam_keras.quantization.bridge.table import LAYERS as ROWS

# Of the largest output: float32 rounding in another order of the same operations.
PARITY = 1e-5

STOCK = {key.__name__ for key in ROWS if key in vars(layers).values()}
QUICK = ("MobileNet", "MobileNetV2", "MobileNetV3Small")


def check(model, x=None, tolerance=PARITY):
    randomise(model)
    x = images(3, *model.inputs[0].shape[1:]) if x is None else x
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    theirs = keras.tree.flatten(model(x))
    ours = keras.tree.flatten(to_tf_keras(model)(x))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.abs(array(b)).max() > 0
        assert relative_difference(a, b) <= tolerance


@pytest.mark.parametrize("model", LAYERS.values(), ids=LAYERS)
def test_layers_compute_the_same(model):
    check(model, [images(3, *x.shape[1:], seed=n) for n, x in enumerate(model.inputs)])


# What only newer versions of Keras have.
NEWER = {
    name: of(layers.BatchNormalization(**{name: True}))
    for name in ("renorm",)
    if name in inspect.signature(layers.BatchNormalization).parameters
}


@pytest.mark.parametrize("model", [*LAYERS.values(), *NEWER.values()], ids=[*LAYERS, *NEWER])
def test_no_weight_is_lost(model):
    generator = np.random.default_rng(0)
    # Those of a Normalization are constants of the model.
    constants = {
        id(weight)
        for layer in model.layers
        if isinstance(layer, layers.Normalization)
        for weight in layer.weights
    }
    weights = [weight for weight in model.weights if id(weight) not in constants]
    for weight in weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    ours = sorted(float(weight.numpy().sum()) for weight in to_tf_keras(model).weights)
    theirs = sorted(float(np.sum(array(weight))) for weight in weights)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("name", OPERATION_CALLS)
def test_operations_compute_the_same(name):
    check(of(OPERATION_CALLS[name]), [images(3, *MAP)])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("inside", [True, False], ids=["of a layer", "layer"])
def test_activations_are_those_of_keras_3(name, inside):
    # Between -8 and 8: past the knees of the piecewise ones.
    x = np.linspace(-8, 8, 2 * 192, dtype="float32").reshape(2, *MAP)
    layer = layers.Conv2D(4, 1, activation=name) if inside else layers.Activation(name)
    check(of(layer), [x])


def test_the_coverage_table_names_all_that_is_bridged():
    def first_words(table):
        return {name.split()[0] for name in table}

    assert first_words(LAYERS) == STOCK
    assert first_words(OPERATION_CALLS) == {*OPERATIONS}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FAMILIES]
)
def test_networks_compute_the_same(name):
    model = getattr(keras.applications, name)(
        weights=None,
        input_shape=(32, 32, 3),
        classes=10,
        classifier_activation=None,
        **FAMILIES[name],
    )
    used = {type(operation).__name__ for operation in model.operations} - {"InputLayer"}
    assert used <= STOCK | {*OPERATIONS}
    check(model, images(2, 32, 32, 3, scale=50.0 if "V3" in name or "Eff" in name else 1.0))


@pytest.mark.parametrize("form", ["log_softmax", "softmax", "float"])
@pytest.mark.parametrize("num_splits", [1, 2, 4])
def test_ulsam_in_every_form(num_splits, form):
    model = randomise(of(ULSAM(num_splits)))
    x = images(3, *MAP)
    theirs, ours = model(x), to_tf_keras(model, attention=form)(x)
    assert relative_difference(ours, theirs) <= PARITY
    # The attention itself, which the residual would hide.
    assert relative_difference(array(ours) - x, array(theirs) - x) <= PARITY


def test_subspace_and_channels_first():
    check(of(SubSpace()))
    model = randomise(of(ULSAM(2, data_format="channels_first"), (4, 8, 6)))
    check(model, images(3, 4, 8, 6))


def test_nested_and_shared_models_and_layers():
    inner = keras.Sequential(
        [keras.Input(MAP), layers.Conv2D(4, 3, padding="same", name="conv"), ULSAM(2)], name="inner"
    )
    tower = of(lambda x: layers.ReLU(name="relu")(inner(x)))
    shared = layers.Dense(3, name="shared")
    a, b = keras.Input(MAP, name="a"), keras.Input(MAP, name="b")
    x, y = tower(a), tower(b)
    outputs = {"sum": shared(layers.Add()([x, y])), "first": shared(x), "inner": inner(y)}
    model = randomise(keras.Model({"a": a, "b": b}, outputs))
    data = {"a": images(2, *MAP), "b": images(2, *MAP, seed=5)}
    theirs, ours = model(data), to_tf_keras(model)(data)
    assert {*ours} == {*theirs}
    for name in ours:
        assert relative_difference(ours[name], theirs[name]) <= PARITY
    assert len(to_tf_keras(model).weights) == len(model.weights)


def test_a_nested_model_of_several_inputs():
    pair = of(lambda a, b: layers.Subtract()([layers.Conv2D(4, 1)(a), b]), MAP, MAP)
    model = of(lambda a, b: layers.ReLU()(pair([b, a])), MAP, MAP)
    check(model, [images(2, *MAP), images(2, *MAP, seed=5)])


def test_a_sequential_model_and_one_without_names():
    check(keras.Sequential([keras.Input(MAP), layers.Conv2D(3, 3), layers.BatchNormalization()]))


def test_what_is_frozen_and_what_is_fixed_to_inference_stays_so():
    norm = layers.BatchNormalization(name="norm")
    conv = layers.Conv2D(3, 1, name="conv", trainable=False)
    model = randomise(of(lambda x: norm(conv(x), training=False)))
    bridged = to_tf_keras(model)
    assert not bridged.get_layer("conv").trainable
    x = images(4, *MAP)
    assert relative_difference(bridged(x, training=True), model(x)) <= PARITY


def test_a_half_precision_model_becomes_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    assert to_tf_keras(model)(images(2, 16, 16, 3)).dtype == "float32"


def test_the_model_is_left_as_it_was():
    model = network()
    x = images(2, 16, 16, 3)
    before, outputs = array(model(x)), [layer.output for layer in model.layers]
    to_tf_keras(model)
    assert np.array_equal(array(model(x)), before)
    # A layer that was called again would have more than one output, which this refuses.
    assert [layer.output for layer in model.layers] == outputs


class Gain(layers.Layer):
    """A layer that only its author knows."""

    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(1, 1, shape[-1], 1), initializer="ones")

    def call(self, x):
        return x * ops.reshape(self.gain, (1, 1, 1, -1))


class BridgedGain(Gain):
    pass


def test_a_layer_of_ones_own_is_refused_then_bridged():
    import tf_keras

    with pytest.raises(ValueError, match=r"'mine' \(Gain\).*@ulsam_keras.quantization.bridges"):
        to_tf_keras(of(Gain(name="mine")))

    @bridges(BridgedGain)
    def bridge(layer, inputs, emit):
        scale = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, name=emit.name())
        return emit(scale, inputs, weights={"depthwise_kernel": layer.gain})

    model = of(BridgedGain(name="mine"))
    model.get_layer("mine").gain.assign(np.arange(1.0, 5.0).reshape(1, 1, 4, 1))
    x = images(2, *MAP)
    assert relative_difference(to_tf_keras(model)(x), model(x)) <= PARITY

    @bridges(BridgedGain)
    def wrong(layer, inputs, emit):
        scale = tf_keras.layers.Dense(3, name=emit.name())
        return emit(scale, inputs, weights={"kernel": layer.gain})

    with pytest.raises(ValueError, match="'mine'.*same shape"):
        to_tf_keras(model)


def test_all_that_is_refused_is_named_at_once():
    inputs = keras.Input((8, 4))
    x = keras.layers.LayerNormalization(name="ln")(inputs)
    x = keras.layers.MultiHeadAttention(2, 2, name="mha")(x, x)
    x = keras.layers.Dense(4)(keras.layers.LayerNormalization(name="ln2")(x))
    with pytest.raises(ValueError) as caught:
        to_tf_keras(keras.Model(inputs, keras.ops.top_k(x, 2)[0]))
    text = str(caught.value)
    assert "\n" not in text and "'ln', 'ln2' (LayerNormalization)" in text
    assert "'mha' (MultiHeadAttention)" in text and "(TopK)" in text


class Subclassed(keras.Model):
    def call(self, x):
        return x


class OwnCall(keras.Model):
    """Has a graph, and computes something else."""

    def call(self, x):
        return -super().call(x)


def ends(layer):
    x = keras.Input(MAP)
    return x, layer(x)


def quantised(layer, mode):
    model = of(layer)
    layer.quantize(mode)
    return model


def with_lora(layer):
    model = of(layer)
    layer.enable_lora(2)
    return model


def of_integers(function):
    x = keras.Input(MAP, dtype="uint8")
    return keras.Model(x, function(x))


class OddRegularizer(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.0

    def get_config(self):
        return {}


REFUSED = {
    "subclassed": (lambda: Subclassed(name="mine"), "'mine' .Subclassed.*functional"),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(2)], name="mine"), "'mine'.*build it"),
    "not a model": (lambda: layers.Dense(2), "keras.Model"),
    "layer": (lambda: of(layers.LayerNormalization(name="mine")), r"'mine' \(LayerNormalization"),
    "lambda": (lambda: of(layers.Lambda(lambda x: x, name="mine")), r"'mine' \(Lambda"),
    "operation": (lambda: of(lambda x: ops.sqrt(x)), r"\(Sqrt\)"),
    "quotient": (lambda: of(lambda x: x / ops.relu(x)), "divides"),
    "slice": (lambda: of(lambda x: x[:, :2]), r"\(GetItem\)"),
    "axes": (lambda: of(lambda x: ops.mean(x, 3)), "axis"),
    "activation": (lambda: of(layers.Dense(2, activation=lambda x: x, name="mine")), "'mine'"),
    "mish": (lambda: of(layers.Dense(2, activation="mish", name="mine")), "'mish'"),
    "regularizer": (
        lambda: of(layers.Dense(2, kernel_regularizer=OddRegularizer(), name="mine")),
        "'mine'.*OddRegularizer",
    ),
    "scores": (
        lambda: of(lambda x: ULSAM(2, name="mine")(x, return_attention_scores=True)[0]),
        "'mine'.*return_attention_scores",
    ),
    "sizes": (lambda: of(ULSAM(2, name="mine"), (None, None, 4)), "'mine'.*height and width"),
    "nested": (
        lambda: of(keras.Sequential([keras.Input(MAP), Gain(name="mine")], name="inner")),
        "'inner/mine'",
    ),
    "own call": (
        lambda: OwnCall(*ends(layers.ReLU()), name="mine"),
        "'mine' .OwnCall.*own call",
    ),
    "nested own call": (
        lambda: of(OwnCall(*ends(layers.ReLU()), name="mine")),
        "'mine' .OwnCall.*own call",
    ),
    "quantised": (lambda: quantised(layers.Dense(2, name="mine"), "int8"), "'mine'.*int8"),
    "LoRA": (lambda: with_lora(layers.Conv2D(2, 1, name="mine")), "'mine'.*LoRA"),
    "pad of ones": (
        lambda: of(lambda x: ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1.0)),
        r"\(Pad\).*not with zeros",
    ),
    "largest of more": (
        lambda: of(lambda x: ops.max(x, (1, 2), initial=5.0)),
        r"\(Max\).*initial=5",
    ),
    "constant input": (
        lambda: of(lambda x: layers.Concatenate(name="mine")([x, ops.zeros_like(x)])),
        "'mine'.*is a constant",
    ),
    "layer on integers": (
        lambda: of_integers(lambda x: layers.Add(name="mine")([x, x])),
        "'mine'.*in tf_keras uint8",
    ),
    "merged batch": (lambda: of(lambda x: ops.reshape(x, (-1, 4))), "keep the batch"),
    "split batch": (lambda: of(lambda x: ops.reshape(x, (2, -1, 4))), "keep the batch"),
    "rank 3": (lambda: of(lambda x: ops.mean(x, (1, 2)), (6, 4)), r"axis=\(1, 2\) of shape"),
    "integers": (lambda: of(lambda x: ops.cast(x, "uint8")), r"\(Cast\)"),
    "sum of integers": (
        lambda: of_integers(lambda x: x + ops.cast(1, "uint8")),
        r"\(Add\).*uint8",
    ),
}


@pytest.mark.parametrize("make, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_bridged_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        to_tf_keras(make())
    assert "Received: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [int, layers.Layer(), "Gain"])
def test_bridges_takes_layer_classes_only(thing):
    with pytest.raises(ValueError, match="layer_class"):
        bridges(thing)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="attention='exp'"):
        to_tf_keras(of(ULSAM(2)), attention="exp")


# Shapes of one operand, x being a batch of (4, 6, 4): H is C, so that a mix-up would go unseen.
BROADCAST = {
    "number": (),
    "one": (1,),
    "channels": (4,),
    "channels of maps": (1, 1, 4),
    "channels of a batch": (1, 1, 1, 4),
    "one of a batch": (1, 1, 1, 1),
    "columns": (6, 1),
    "rows": (4, 1, 1),
    "rows of a batch": (1, 4, 1, 1),
    "a map": (4, 6, 4),
    "samples": (3, 1, 1, 1),
    "one more axis": (1, 1, 1, 1, 4),
}
RIGHT = {"number", "one", "channels", "channels of maps", "channels of a batch", "one of a batch"}
SQUARE = (4, 6, 4)


def right_or_refused(model, *x):
    """Whether it is bridged; if so, the outputs are those of the model."""
    try:
        bridged = to_tf_keras(model)
    except ValueError as error:
        assert "Received: " in str(error) and "\n" not in str(error)
        return False
    x = list(x) if len(x) > 1 else x[0]
    assert relative_difference(bridged(x), model(x)) <= PARITY
    return True


@pytest.mark.parametrize("name", BROADCAST)
def test_constants_are_broadcast_rightly_or_refused(name):
    x, c = images(3, *SQUARE), images(1, *BROADCAST[name], seed=7)[0]
    for call in (
        lambda x: x * c,
        lambda x: ops.add(c, x),
        lambda x: ops.subtract(c, x),
        lambda x: x / c,
        lambda x: layers.Rescaling(c)(x),
        lambda x: layers.Rescaling(1.5, c)(x),
    ):
        assert right_or_refused(of(call, SQUARE), x) == (name in RIGHT)


@pytest.mark.parametrize("shape", [(4, 6, 4), (1, 6, 4), (4, 1, 1), (1, 1, 4), (6, 4), (4,)])
@pytest.mark.parametrize("call", [ops.add, ops.multiply, ops.maximum, ops.subtract])
def test_tensors_are_broadcast_rightly_or_refused(shape, call):
    # With as many samples as rows: Keras takes samples for rows where a rank is missing.
    x, y = images(4, *SQUARE), images(4, *shape, seed=7)
    model = of(lambda a, b: call(a, b), SQUARE, shape)
    assert right_or_refused(model, x, y) == (len(shape) == 3)


@pytest.mark.parametrize(
    "shape, size, right",
    [
        ((6, 4), (4,), True),
        ((6, 4), (1, 4), True),
        ((6, 4), (6, 1), False),
        ((4,), (4,), True),
        ((4,), (1, 4), True),
        ((4,), (3, 1), False),
        ((1,), (4,), False),
    ],
)
def test_constants_for_sequences_and_vectors(shape, size, right):
    c = images(1, *size, seed=7)[0]
    assert right_or_refused(of(lambda x: x * c, shape), images(3, *shape)) == right


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_data_format_that_tf_keras_is_set_to_does_not_matter(data_format):
    import tf_keras

    cases = {name: model for name, model in LAYERS.items() if "2D" in name}
    cases |= {name: of(call) for name, call in OPERATION_CALLS.items()}
    # As many channels as rows and columns.
    cases |= {"ULSAM": of(ULSAM(2), (4, 4, 4)), "norm": of(layers.BatchNormalization())}
    tf_keras.backend.set_image_data_format(data_format)
    try:
        for model in cases.values():
            check(model, [images(3, *x.shape[1:], seed=n) for n, x in enumerate(model.inputs)])
    finally:
        tf_keras.backend.set_image_data_format("channels_last")


# Keras computes on floats behind each of these, tf_keras not behind all.
OF_BYTES = {
    "norm": layers.BatchNormalization(),
    "padding": lambda x: layers.Rescaling(1 / 255)(layers.ZeroPadding2D(1)(x)),
    "pool": lambda x: layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(layers.MaxPooling2D(2)(x))),
    "mean": layers.GlobalAveragePooling2D(),
    "joined": lambda x: layers.Rescaling(1 / 255)(layers.Concatenate()([x, x])),
    "dense": lambda x: layers.Dense(3)(layers.Flatten()(x)),
    "divided": lambda x: layers.Conv2D(4, 3)(x / 255),
}


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("call", OF_BYTES.values(), ids=OF_BYTES)
def test_integers_become_floats_where_keras_has_them(call, dtype):
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype)
    image = keras.Input(x.shape[1:], dtype=dtype)
    model = randomise(keras.Model(image, call(image)))
    q = quantize_model(model)
    assert calibrate(q, [x], verbose=0) == 3
    assert relative_difference(to_tf_keras(model)(x), model(x)) <= PARITY
    # Rounded to 8 bits a few times.
    assert relative_difference(q(x), model(x)) <= 0.1


def test_images_of_bytes():
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), "uint8")
    normalization = layers.Normalization(mean=(120, 110, 100), variance=(50, 60, 70))
    for layer in (layers.Rescaling(1 / 127.5, offset=-1), layers.Rescaling(1 / 255), normalization):
        image = keras.Input(x.shape[1:], dtype="uint8")
        model = randomise(keras.Model(image, layers.Conv2D(4, 3)(layer(image))))
        assert relative_difference(to_tf_keras(model)(x), model(x)) <= PARITY


def test_any_name_is_taken_and_nested_layers_go_by_their_path():
    inner = keras.Sequential([keras.Input(MAP), layers.Conv2D(4, 1, name="conv")], name="in ner")
    image = keras.Input(MAP, name="an image")
    x = layers.ReLU(name="_relu, 6")(inner(image))
    model = randomise(keras.Model(image, layers.Conv2D(2, 1, name="in ner_conv")(x)))
    x = images(2, *MAP)
    bridged = to_tf_keras(model)
    assert relative_difference(bridged(x), model(x)) <= PARITY
    names = ["an_image", "in_ner/conv", "layer_relu__6", "in_ner_conv"]
    assert [layer.name for layer in bridged.layers] == names


def test_another_policy_of_tf_keras_is_refused():
    import tf_keras

    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with pytest.raises(ValueError, match="set_global_policy.*Received: .*'mixed_float16'"):
            to_tf_keras(of(layers.ReLU()))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_an_input_given_by_name():
    model = of(lambda x: ops.add(x1=layers.ReLU()(inputs=x), x2=ULSAM(2)(inputs=x)))
    check(model)
