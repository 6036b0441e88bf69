"""No argument of a layer is lost: each is changed in turn, and must come through everywhere.

What is compared is what a built layer is and does, never its configuration with itself.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import constraints, initializers, layers, regularizers

from quantization_tools import images, relative_difference
from ulsam_keras import ULSAM, SubSpace, add_ulsam, quantization

# Arguments of every Keras layer that ULSAM documents, and its own.
KWARGS = {"name", "dtype", "trainable"}
CHANGES = {
    "num_splits": 4,
    "momentum": 0.7,
    "epsilon": 0.25,
    "synchronized": True,
    "data_format": "channels_first",
    "depthwise_initializer": initializers.Constant(0.5),
    "pointwise_initializer": initializers.Constant(-0.5),
    "bias_initializer": initializers.Constant(0.25),
    "depthwise_regularizer": regularizers.L2(0.5),
    "pointwise_regularizer": regularizers.L1(0.5),
    "bias_regularizer": regularizers.L1(0.75),
    "depthwise_constraint": constraints.NonNeg(),
    "pointwise_constraint": constraints.MaxNorm(2.0),
    "bias_constraint": constraints.UnitNorm(),
    "name": "mine",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
X = images(2, 8, 8, 8)
# Of the largest output: float32 in another order of the same operations; bfloat16.
ROUNDING = {"dtype": 2.0**-6}


def model_of(layer_class, **arguments):
    """A model with one layer, the seed being the same for all."""
    keras.utils.set_random_seed(3)
    if layer_class is ULSAM:
        arguments = {"num_splits": 2, **arguments}
    image = keras.Input((8, 8, 8), name="image")
    return keras.Model(image, layer_class(**{"name": "site", **arguments})(image))


def constraint_of(weight):
    found = weight.constraint
    return found and (type(found).__name__, found.get_config())


def shown(model):
    """All that an argument can change in a model's one layer."""
    layer = model.layers[-1]
    norms = layer.depthwise_norm, layer.pointwise_norm
    conv = layer.depthwise_conv
    weights = conv.kernel, layer.pointwise_kernel, conv.bias, layer.pointwise_bias
    return {
        "groups": layer.pointwise_kernel.shape[-1],
        "momentum": [norm.momentum for norm in norms],
        "epsilon": [norm.epsilon for norm in norms],
        "synchronized": [norm.synchronized for norm in norms],
        "learns": len(model.trainable_weights),
        "weights": [float(np.sum(keras.ops.convert_to_numpy(weight))) for weight in weights],
        "losses": sorted(float(loss) for loss in model.losses),
        "constraints": [constraint_of(weight) for weight in weights],
        "name": layer.name,
        "format": layer.input_spec.axes,
        "dtypes": [part.dtype_policy.name for part in (layer, conv, *norms, layer.pool)],
    }


def shown_bridged(model):
    """The same of the tf_keras model; of its dtype and axes there is only one kind."""
    parts = {getattr(layer, "layer", layer).name: layer for layer in model.layers}
    [name] = [x.removesuffix("_depthwise_conv") for x in parts if x.endswith("_depthwise_conv")]
    parts = {key.removeprefix(f"{name}_"): layer for key, layer in parts.items()}
    inner = {key: getattr(layer, "layer", layer) for key, layer in parts.items()}
    norms = inner["depthwise_norm"], inner["pointwise_norm"]
    # A wrapper holds the weights itself that it quantises.
    named = {
        weight.name.split("/")[-1].split(":")[0] + part: weight
        for part in ("depthwise_conv", "pointwise_conv")
        for weight in parts[part].weights
    }
    keys = "depthwise_kernel", "kernel", "bias", "bias"
    owners = "depthwise_conv", "pointwise_conv", "depthwise_conv", "pointwise_conv"
    weights = [named[key + owner] for key, owner in zip(keys, owners, strict=True)]
    return {
        "groups": inner["pointwise_conv"].groups,
        "momentum": [norm.momentum for norm in norms],
        "epsilon": [norm.epsilon for norm in norms],
        "synchronized": [norm.synchronized for norm in norms],
        "learns": len(model.trainable_weights),
        "weights": [float(np.sum(weight.numpy())) for weight in weights],
        "losses": sorted(float(loss) for loss in model.losses),
        "constraints": [constraint_of(weight) for weight in weights],
        "name": name,
    }


def same(ours, theirs):
    assert ours.keys() <= theirs.keys()
    for key in ours:
        exact = key not in ("weights", "losses")
        assert ours[key] == (theirs[key] if exact else pytest.approx(theirs[key], rel=1e-5)), key


def from_config(model, folder):
    keras.utils.set_random_seed(3)
    layer = model.layers[-1]
    again = type(layer).from_config(layer.get_config())
    image = keras.Input((8, 8, 8), name="image")
    return keras.Model(image, again(image))


def file(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def surgery(model, folder):
    image = keras.Input((8, 8, 8), name="image")
    more = keras.Model(image, layers.ReLU(name="last")(model.layers[-1](image)))
    new = add_ulsam(more, "last", num_splits=2)
    return keras.Model(new.input, new.layers[1].output)


CASES = [
    (layer_class, argument)
    for layer_class in (ULSAM, SubSpace)
    for argument in CHANGES
    if (layer_class, argument) != (SubSpace, "num_splits")
]


def test_every_argument_is_changed():
    own = set(inspect.signature(ULSAM.__init__).parameters) - {"self", "kwargs"}
    assert own | KWARGS == set(CHANGES)


@pytest.mark.parametrize(("layer_class", "argument"), CASES)
def test_no_argument_is_lost(layer_class, argument, tmp_path):
    model = model_of(layer_class, **{argument: CHANGES[argument]})
    expected = shown(model)
    assert expected != shown(model_of(layer_class)), "the change does not show"
    for way in (from_config, file, surgery):
        same(shown(way(model, tmp_path)), expected)


# SubSpace is bridged by the same function.
@pytest.mark.parametrize(
    ("layer_class", "argument"), [*((ULSAM, argument) for argument in CHANGES), (SubSpace, "name")]
)
def test_no_argument_is_lost_in_tf_keras(layer_class, argument, tmp_path):
    model = model_of(layer_class, **{argument: CHANGES[argument]})
    expected = shown(model)
    bridged = quantization.to_tf_keras(model)
    same(shown_bridged(bridged), expected)
    # Where the channels are shows in the values; every axis has as many indices.
    tolerance = ROUNDING.get(argument, 1e-5)
    reference = np.asarray(keras.ops.cast(model(X), "float32"))
    assert relative_difference(bridged(X), reference) <= tolerance
    same(shown_bridged(quantization.quantize_model(model)), expected)


def test_no_argument_is_lost_in_a_file_of_the_quantised_model(tmp_path):
    changes = {key: CHANGES[key] for key in CHANGES if key not in ("dtype", "trainable")}
    model = model_of(ULSAM, **changes)
    q = quantization.quantize_model(model)
    quantization.save(q, tmp_path / "q.h5")
    same(shown_bridged(quantization.load(tmp_path / "q.h5")), shown(model))


REGULARIZER, CONSTRAINT = regularizers.L1(0.5), constraints.MaxNorm(0.5)
WEIGHTS = {
    layers.Conv2D: ("kernel", "bias"),
    layers.Conv2DTranspose: ("kernel", "bias"),
    layers.DepthwiseConv2D: ("depthwise", "bias"),
    layers.Dense: ("kernel", "bias"),
    layers.SeparableConv2D: ("depthwise", "pointwise", "bias"),
    layers.BatchNormalization: ("beta", "gamma"),
    layers.PReLU: ("alpha",),
}
NEEDED = {
    layers.Conv2D: {"filters": 4, "kernel_size": 3},
    layers.Conv2DTranspose: {"filters": 4, "kernel_size": 3},
    layers.DepthwiseConv2D: {"kernel_size": 3},
    layers.Dense: {"units": 4},
    layers.SeparableConv2D: {"filters": 4, "kernel_size": 3},
}
# Those that no output in inference shows.
HIDDEN = [
    (layers.BatchNormalization, {"momentum": 0.7}),
    (layers.BatchNormalization, {"synchronized": True}),
    (layers.Dropout, {"rate": 0.3}),
    (layers.SpatialDropout2D, {"rate": 0.3}),
    (layers.GaussianDropout, {"rate": 0.3}),
    (layers.GaussianNoise, {"stddev": 0.3}),
]


@pytest.mark.parametrize(("layer_class", "arguments"), HIDDEN)
@pytest.mark.parametrize("make", [quantization.to_tf_keras, quantization.quantize_model])
def test_what_only_training_shows_comes_through(layer_class, arguments, make):
    image = keras.Input((8, 8, 8), name="image")
    found = make(keras.Model(image, layer_class(**arguments, name="mine")(image)))
    [layer] = [x for x in (getattr(y, "layer", y) for y in found.layers) if x.name == "mine"]
    [(name, value)] = arguments.items()
    assert getattr(layer, name) == value


@pytest.mark.parametrize(
    ("layer_class", "weight"), [(k, weight) for k, names in WEIGHTS.items() for weight in names]
)
def test_regularizers_and_constraints_come_through(layer_class, weight):
    image = keras.Input((8, 8, 8), name="image")
    given = {f"{weight}_regularizer": REGULARIZER, f"{weight}_constraint": CONSTRAINT}
    layer = layer_class(**NEEDED.get(layer_class, {}), **given, name="mine")
    model = keras.Model(image, layer(image))
    for value in model.weights:
        value.assign(np.full(value.shape, 0.25))
    expected = [float(loss) for loss in model.losses]
    for make in (quantization.to_tf_keras, quantization.quantize_model):
        found = make(model)
        assert [float(loss) for loss in found.losses] == pytest.approx(expected)
        held = [w.constraint for w in found.weights if w.constraint is not None]
        assert [x.get_config()["max_value"] for x in held] == [0.5]


def test_an_activity_regularizer_is_refused():
    image = keras.Input((8, 8, 8))
    for layer in (
        ULSAM(2, activity_regularizer="l1", name="mine"),
        layers.Dense(2, activity_regularizer="l1", name="mine"),
    ):
        with pytest.raises(ValueError, match="'mine'.*activity_regularizer"):
            quantization.to_tf_keras(keras.Model(image, layer(image)))


def test_a_frozen_norm_by_itself_is_quantised_in_training_as_in_inference():
    image = keras.Input((8, 8, 8), name="image")
    norm = layers.BatchNormalization(name="norm", trainable=False)
    model = keras.Model(image, norm(image))
    norm.gamma.assign(np.linspace(0.1, 2, 8))
    norm.moving_mean.assign(np.linspace(-1, 1, 8))
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [X])
    # The batch that the ranges are from leaves them where they are.
    assert relative_difference(q(X, training=True), q(X, training=False)) <= 1e-6
