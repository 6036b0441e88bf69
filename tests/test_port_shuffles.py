"""The port about pixel shuffles, where the model is more than a chain."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from torch import nn

from converters.pytorch import port_weights
from port_tools import (
    TOLERANCE,
    assert_balanced,
    difference,
    inputs_of,
    randomise,
    state_of,
)

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def shuffle(x):
    return layers.Lambda(lambda t: ops.depth_to_space(t, 2))(x)


def upscaler(channels=12):
    """conv, pixel shuffle, conv."""
    parts = [nn.Conv2d(3, channels, 3, padding=1), nn.PixelShuffle(2)]
    return randomise(nn.Sequential(*parts, nn.Conv2d(channels // 4, 2, 1)))


def ours(shape=(6, 5, 3), dtype=None, nested=False):
    inputs = keras.Input(shape)
    first = layers.Conv2D(12, 3, padding="same", name="0", dtype=dtype)
    if nested:
        first = keras.Sequential([keras.Input(shape), first, layers.Dropout(0.1)])
    x = layers.Conv2D(2, 1, name="2", dtype=dtype)(shuffle(first(inputs)))
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "model",
    [lambda: ours(), lambda: ours((None, None, 3)), lambda: ours(nested=True)],
    ids=["sizes known", "sizes open", "nested"],
)
def test_the_outputs_are_those_of_pytorch(model):
    module, model = upscaler(), model()
    state = state_of(module)
    report = port_weights(state, model)
    assert_balanced(report, state, model)
    assert difference(module, model, inputs_of(2, 3, 6, 5)) < TOLERANCE
    told = {r.weight.rpartition("/")[2]: r.detail for r in report.weights if r.keys[0][0] == "0"}
    assert told == {
        "kernel": "O,I,... -> ...,I,O, outputs C,r,r -> r,r,C = 2,2,3",
        "bias": "as is, outputs C,r,r -> r,r,C = 2,2,3",
    }


def test_hundreds_of_channels_in_half_precision():
    """Numbers of places, which bfloat16 does not hold beyond 256."""
    module = randomise(nn.Sequential(nn.Conv2d(3, 1200, 1), nn.PixelShuffle(2)))
    inputs = keras.Input((4, 4, 3))
    conv = layers.Conv2D(1200, 1, name="0")
    half = layers.Lambda(lambda t: ops.depth_to_space(t, 2), dtype="mixed_bfloat16")
    port_weights(state_of(module), keras.Model(inputs, half(conv(inputs))))
    expected = module[0].bias.detach().numpy().reshape(300, 2, 2).transpose(1, 2, 0).ravel()
    np.testing.assert_array_equal(ops.convert_to_numpy(conv.bias), expected)


def test_two_that_read_what_was_unshuffled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(12, 5, 3), nn.Conv2d(12, 5, 3)

        def forward(self, x):
            x = nn.functional.pixel_unshuffle(x, 2)
            return self.a(x) + self.b(x.relu())

    inputs = keras.Input((8, 10, 3))
    x = layers.Reshape((4, 2, 5, 2, 3))(inputs)
    x = layers.Reshape((4, 5, 12))(layers.Permute((1, 3, 2, 4, 5))(x))
    a, b = layers.Conv2D(5, 3, name="a"), layers.Conv2D(5, 3, name="b")
    module, model = randomise(Net()), keras.Model(inputs, a(x) + b(ops.relu(x)))
    port_weights(state_of(module), model)
    assert difference(module, model, inputs_of(2, 3, 8, 10)) < TOLERANCE


def test_channels_that_others_read_as_well_are_warned_of():
    inputs = keras.Input((6, 5, 3))
    x = layers.Conv2D(12, 1, name="0")(inputs)
    model = keras.Model(inputs, [shuffle(x), layers.GlobalAveragePooling2D()(x)])
    with pytest.warns(UserWarning, match="PixelShuffle.*is read elsewhere too"):
        port_weights(state_of(nn.Sequential(nn.Conv2d(3, 12, 1))), model)


def test_a_function_that_cannot_be_run_is_warned_of():
    def broken(x):
        raise RuntimeError

    inputs = keras.Input((6, 5, 3))
    x = layers.Conv2D(12, 1, name="0")(inputs)
    model = keras.Model(inputs, layers.Lambda(broken, output_shape=(12, 10, 3))(x))
    with pytest.warns(UserWarning, match="PixelShuffle.*cannot be run by itself"):
        port_weights(state_of(nn.Sequential(nn.Conv2d(3, 12, 1))), model)


@pytest.mark.parametrize("reader", ["a nested model", "a layer called twice", "its own layer"])
def test_what_reads_the_channels_unseen_is_warned_of(reader):
    """Of a layer `input` is the first call's, and of a nested model nothing is to be seen."""
    inputs, other = keras.Input((6, 5, 3)), keras.Input((6, 5, 3))
    conv = layers.Conv2D(12, 1, name="0")
    x = conv(inputs)
    if reader == "a nested model":
        inner = keras.Sequential([keras.Input((6, 5, 12)), layers.Conv2D(2, 1, name="1")])
        further = inner(x)
    elif reader == "a layer called twice":
        last = layers.Conv2D(2, 1, name="1")
        last(layers.Conv2D(12, 1, name="2")(other))
        further = last(x)
    else:
        further = layers.Conv2D(2, 1, name="1")(conv(other))
    model = keras.Model([inputs, other], [shuffle(x), further])
    parts = [nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1)]
    with pytest.warns(UserWarning, match="PixelShuffle.*(read elsewhere|more than once)"):
        port_weights(state_of(nn.Sequential(*parts)), model)


def test_the_model_is_left_as_it_was():
    model, x = ours(), inputs_of(2, 6, 5, 3)
    before = ops.convert_to_numpy(model(x))
    weights = model.get_weights()
    port_weights(state_of(upscaler()), model)
    model.set_weights(weights)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), before)
