"""The port of layers behind a flattened map: the order of their features, or a warning."""

import keras
import numpy as np
import pytest
from keras import layers
from torch import nn

from converters.pytorch import port_weights
from port_tools import TOLERANCE, assert_balanced, difference, inputs_of, randomise, state_of

pytestmark = pytest.mark.filterwarnings("error::UserWarning")
ASKS = "may read a flattened map"
EPSILON = 1e-5
# Height, width and channels all differ, so that no wrong order has the right shape by chance.
H, W, C = 4, 5, 3


def conv():
    return layers.Conv2D(6, 3, padding="same", name="conv")


def fc(units=4, name="fc"):
    return layers.Dense(units, name=name)


def module(*between, features=H * W * 6, channels=6, tail=()):
    """conv, `between`, flatten, `tail`, fc."""
    parts = {"conv": nn.Conv2d(C, channels, 3, padding=1)}
    parts |= {f"between{i}": part for i, part in enumerate(between)}
    parts |= {"flatten": nn.Flatten()} | dict(tail) | {"fc": nn.Linear(features, 4)}
    made = nn.Sequential()
    for name, part in parts.items():
        made.add_module(name, part)
    return randomise(made)


def functional(flatten, tail=lambda x: x):
    inputs = keras.Input((H, W, C))
    return keras.Model(inputs, fc()(tail(flatten(conv()(inputs)))))


def check(theirs, ours, **options):
    state = state_of(theirs)
    assert_balanced(port_weights(state, ours, **options), state, ours)
    assert difference(theirs, ours, inputs_of(2, C, H, W)) < TOLERANCE


FLATTENINGS = {
    "Flatten": lambda x: layers.Flatten()(x),
    "Reshape": lambda x: layers.Reshape((H * W * 6,))(x),
    "Reshape of unknown length": lambda x: layers.Reshape((-1,))(x),
    "ops.reshape": lambda x: keras.ops.reshape(x, (-1, H * W * 6)),
    "Permute to channels first": lambda x: layers.Flatten()(layers.Permute((3, 1, 2))(x)),
    "ops.transpose to channels first": lambda x: layers.Flatten()(
        keras.ops.transpose(x, (0, 3, 1, 2))
    ),
    "Permute there and back": lambda x: layers.Flatten()(
        layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x))
    ),
    "Permute and channels-first Flatten": lambda x: layers.Flatten("channels_first")(
        layers.Permute((3, 1, 2))(x)
    ),
    "Dropout before and after": lambda x: layers.Dropout(0.5)(
        layers.Flatten()(layers.Dropout(0.5)(x))
    ),
    "Concatenate of positions' channels": lambda x: layers.Flatten()(
        layers.Concatenate()([x[..., :2], x[..., 2:]])
    ),
}


@pytest.mark.parametrize("flatten", FLATTENINGS.values(), ids=FLATTENINGS)
def test_flattening_is_followed(flatten):
    check(module(), functional(flatten))


def test_activations_on_the_way():
    ours = functional(
        lambda x: layers.Flatten()(keras.ops.relu(x)), lambda x: keras.ops.relu6(layers.ReLU()(x))
    )
    check(module(nn.ReLU(), tail=[("act", nn.ReLU6())]), ours)


def test_pooling_before():
    ours = functional(lambda x: layers.Flatten()(layers.MaxPooling2D(2)(x)))
    check(module(nn.MaxPool2d(2), features=2 * 2 * 6), ours)


def test_norms_and_slopes_of_a_flattened_map():
    features = H * W * 6
    tail = [("bn", nn.BatchNorm1d(features)), ("ln", nn.LayerNorm(features))]
    tail += [("act", nn.PReLU(features))]

    def ours(x):
        x = layers.BatchNormalization(name="bn", epsilon=EPSILON)(x)
        x = layers.LayerNormalization(name="ln", epsilon=EPSILON)(x)
        return layers.PReLU(name="act")(x)

    check(module(tail=tail), functional(layers.Flatten(), ours))


def test_second_classifier_layer_is_not_reordered():
    features = H * W * 6
    ours = functional(layers.Flatten(), fc(8, "hidden"))
    theirs = module(tail=[("hidden", nn.Linear(features, 8))], features=8)
    state = state_of(theirs)
    report = port_weights(state, ours)
    assert difference(theirs, ours, inputs_of(2, C, H, W)) < TOLERANCE
    reordered = [r.weight for r in report.weights if "H,W,C" in r.detail]
    assert reordered == ["hidden/kernel"]


def test_gated_features():
    """A flattened map times its own sigmoid: two inputs, one order."""

    def gate(x):
        return layers.Multiply()([x, keras.ops.sigmoid(x)])

    check(module(tail=[("act", nn.SiLU())]), functional(layers.Flatten(), gate))


def test_sequential():
    ours = keras.Sequential([keras.Input((H, W, C)), conv(), layers.Flatten(), fc()])
    check(module(), ours)


@pytest.mark.parametrize("inside", ["functional", "sequential"])
@pytest.mark.parametrize("flatten_inside", [True, False])
def test_backbone_in_a_model_of_its_own(inside, flatten_inside):
    inner = [conv(), *([layers.Flatten()] if flatten_inside else [])]
    if inside == "sequential":
        backbone = keras.Sequential([keras.Input((H, W, C)), *inner])
    else:
        x = inputs = keras.Input((H, W, C))
        for layer in inner:
            x = layer(x)
        backbone = keras.Model(inputs, x)
    inputs = keras.Input((H, W, C))
    x = backbone(inputs)
    x = x if flatten_inside else layers.Flatten()(x)
    check(module(), keras.Model(inputs, fc()(x)))


def test_image_flattened_at_once():
    theirs = randomise(nn.Sequential(nn.Flatten(), nn.Linear(H * W * C, 4)))
    ours = keras.Sequential([keras.Input((H, W, C)), layers.Flatten(), fc(name="1")])
    check(theirs, ours)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (nn.AdaptiveAvgPool2d(1), layers.GlobalAveragePooling2D()),
        (nn.AdaptiveAvgPool2d(1), lambda x: keras.ops.mean(x, axis=(1, 2))),
        (
            nn.AdaptiveAvgPool2d(1),
            lambda x: layers.Flatten()(layers.GlobalAveragePooling2D(keepdims=True)(x)),
        ),
    ],
    ids=["GlobalAveragePooling2D", "ops.mean", "Flatten of one position"],
)
def test_pooled_features_are_not_reordered(theirs, ours):
    check(module(theirs, features=6), functional(ours))


def test_recurrent_layer_is_no_flattening():
    """An LSTM with as many units as its input has values."""
    inputs = keras.Input((2, 3))
    lstm = layers.LSTM(6, name="lstm")
    model = keras.Model(inputs, fc()(lstm(inputs)))
    theirs = randomise(nn.ModuleDict({"fc": nn.Linear(6, 4)}))
    port_weights(state_of(theirs), model, name_map={"lstm": None})
    kernel = keras.ops.convert_to_numpy(model.get_layer("fc").kernel)
    np.testing.assert_array_equal(kernel, theirs["fc"].weight.detach().numpy().T)


def test_channels_first_model_is_not_reordered():
    inputs = keras.Input((C, H, W))
    x = layers.Conv2D(6, 3, padding="same", data_format="channels_first", name="conv")(inputs)
    model = keras.Model(inputs, fc()(layers.Flatten(data_format="channels_last")(x)))
    theirs = module()
    port_weights(state_of(theirs), model)
    kernel = keras.ops.convert_to_numpy(model.get_layer("fc").kernel)
    np.testing.assert_array_equal(kernel, theirs.fc.weight.detach().numpy().T)


# What the graph does not show is warned of, by name.


class Unseen(keras.Model):
    def __init__(self, pool):
        super().__init__()
        self.conv = layers.Conv2D(6, 3, padding="same")
        self.squeeze = layers.GlobalAveragePooling2D() if pool else layers.Flatten()
        self.fc = layers.Dense(4)

    def call(self, x):
        return self.fc(self.squeeze(self.conv(x)))


def test_subclassed_model_warns():
    model = Unseen(pool=False)
    model(np.zeros((1, H, W, C), "float32"))
    with pytest.warns(UserWarning, match=f"'fc' {ASKS}"):
        report = port_weights(state_of(module()), model)
    assert len(report.warnings) == 1


def test_subclassed_model_that_pools_does_not_warn():
    model = Unseen(pool=True)
    model(np.zeros((1, H, W, C), "float32"))
    check(module(nn.AdaptiveAvgPool2d(1), features=6), model)


class Opaque(layers.Layer):
    """A layer with a weight of its own that keeps the number of features."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    "flatten, tail",
    [
        (layers.Flatten(), lambda x: layers.Concatenate()([x, fc(3, "extra")(x)])),
        (layers.Flatten(), Opaque(name="opaque")),
        (lambda x: layers.Flatten()(keras.ops.transpose(x, (0, 2, 1, 3))), lambda x: x),
        (lambda x: layers.Flatten("channels_first")(x), lambda x: x),
    ],
    ids=["joined with others", "layer without a table", "map transposed", "formats disagree"],
)
def test_what_cannot_be_followed_warns(flatten, tail):
    model = functional(flatten, tail)
    features = model.get_layer("fc").kernel.shape[0]
    theirs = module(features=features)
    others = {
        layer.name: None
        for layer in model.layers
        if layer.weights and layer.name not in ("conv", "fc")
    }
    with pytest.warns(UserWarning, match=f"'fc' {ASKS}"):
        port_weights(state_of(theirs), model, name_map=others)


def test_vector_made_a_map_warns():
    inputs = keras.Input((4,))
    x = layers.ReLU()(layers.Dense(H * W * C, name="fc")(inputs))
    model = keras.Model(inputs, layers.Reshape((H, W, C))(x))
    with pytest.warns(UserWarning, match="output of layer 'fc' is reshaped into a map"):
        port_weights(state_of(nn.ModuleDict({"fc": nn.Linear(4, H * W * C)})), model)


def test_squeeze_and_excite_does_not_warn():
    inputs = keras.Input((H, W, C))
    x = layers.GlobalAveragePooling2D()(inputs)
    x = layers.Reshape((1, 1, C))(layers.Dense(C, activation="sigmoid", name="fc")(x))
    model = keras.Model(inputs, layers.Multiply()([inputs, x]))
    port_weights(state_of(nn.ModuleDict({"fc": nn.Linear(C, C)})), model)
