"""Batch normalization in a file: its factor and shift are rounded once, of float64."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

from converters import to_tflite


def run(content: bytes, x: np.ndarray) -> np.ndarray:
    (value,) = Interpreter(model_content=content).get_signature_runner()(input=x).values()
    return value


def filled(model: keras.Model) -> keras.Model:
    draw = np.random.default_rng(0)
    for weight in model.weights:
        low, high = (0.5, 1.5) if weight.path.endswith(("variance", "gamma")) else (-0.5, 0.5)
        weight.assign(draw.uniform(low, high, weight.shape))
    return model


def test_many_factors_in_a_row_do_not_drift() -> None:
    depth, channels = 40, 256
    x = y = keras.Input((1, 1, channels), name="input")
    for _ in range(depth):
        y = L.DepthwiseConv2D(1, use_bias=False)(y)
        y = L.BatchNormalization(epsilon=1e-5)(y)
    model = filled(keras.Model(x, y))
    expected = np.ones(channels)
    for layer in model.layers[1:]:
        if isinstance(layer, L.DepthwiseConv2D):
            layer.set_weights([np.ones((1, 1, channels, 1), "float32")])
            continue
        layer.beta.assign(np.zeros(channels))
        layer.moving_mean.assign(np.zeros(channels))
        gamma, variance = (
            w.numpy().astype("float64") for w in (layer.gamma, layer.moving_variance)
        )
        expected *= gamma / np.sqrt(variance + 1e-5)
    found = run(to_tflite(model), np.ones((1, 1, 1, channels), "float32")).ravel()
    drift = np.mean(found / expected - 1)
    # Two roundings of half of 2**-23 a layer, as often up as down; rsqrt's are 2e-8 down in each.
    assert abs(drift) < 3e-7


@pytest.mark.parametrize(
    "options", [{}, {"axis": 1}, {"scale": False}, {"center": False}, {"epsilon": 0.1}]
)
def test_the_file_equals_keras(options: dict) -> None:
    x = keras.Input((4, 5, 3), name="input")
    y = L.BatchNormalization(**options)(L.MaxPooling2D(2, 1)(x))
    # What normalizes with the batch's own statistics goes on to do so.
    y = L.Concatenate()([L.Flatten()(y), L.Flatten()(L.BatchNormalization()(x, training=True))])
    model = filled(keras.Model(x, y))
    image = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype("float32")
    before = model.predict(image, verbose=0)
    np.testing.assert_allclose(run(to_tflite(model), image), before, rtol=1e-5, atol=1e-5)
    assert np.array_equal(model.predict(image, verbose=0), before)
    assert "call" not in vars(model.layers[2])


def test_before_a_dense_layer_it_becomes_part_of_it() -> None:
    from converters.tflite.flatbuffer import read_graphs

    x = keras.Input((7,), name="input")
    content = to_tflite(filled(keras.Model(x, L.Dense(3)(L.BatchNormalization()(x)))))
    assert [o.name for o in read_graphs(content)[0].operators] == ["FULLY_CONNECTED"]
