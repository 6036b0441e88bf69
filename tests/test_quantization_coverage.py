"""Every layer and operation that is bridged, as an int8 model: the table of what stays float.

The oracle is LiteRT: each model of the bridge's coverage table is quantised, converted and run.
"""

import keras
import numpy as np
import pytest
from keras import layers

from quantization_tools import array, convert, float_operators, images, randomise, run
from test_bridge import FAMILIES, LAYERS, OPERATION_CALLS, of
from ulsam_keras import quantization
from ulsam_keras.quantization.bridge.tables import ACTIVATIONS, EXPANDED_ACTIVATIONS

# Steps of the output: a value next to the middle between two steps falls to either side, in each
# of the operators, three at most.
STEPS = 3
# What the noise of a few thousand outputs varies by.
DECIBELS = 1
# The operators that LiteRT has for floats only.
FLOAT = {
    "ELU",
    "ReLU limited",
    "operation Elu",
    "operation ReLU",
    "activation elu",
    "activation selu",
    "activation softplus",
    "activation softsign",
}
HEADS = {
    "Dense and norm": of(
        lambda x: layers.Dense(3)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(x)))),
        (7,),
    ),
    "norm after a pool": of(
        lambda x: layers.BatchNormalization()(layers.AveragePooling2D(2)(layers.Conv2D(8, 3)(x)))
    ),
}
MODELS = {
    **LAYERS,
    **HEADS,
    **{f"operation {name}": of(call) for name, call in OPERATION_CALLS.items()},
    **{
        f"activation {name}": of(layers.Conv2D(4, 1, activation=name))
        for name in (*ACTIVATIONS, *EXPANDED_ACTIVATIONS)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_int8_operators_of_every_layer(name):
    model = randomise(MODELS[name])
    x = [images(4, *tensor.shape[1:], seed=n) for n, tensor in enumerate(model.inputs)]
    x = x[0] if len(x) == 1 else x
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [x])
    tflite = convert(q)
    assert bool(float_operators(tflite)) == (name in FLOAT)
    y = array(q(x))
    if len(model.inputs) == 1:
        assert np.abs(run(tflite, x) - y).max() <= STEPS * np.ptp(y) / 255
    assert snr(array(model(x)), y) > 25


def snr(signal, other):
    """Signal-to-noise ratio in dB."""
    return 10 * np.log10((signal**2).sum() / ((other - signal) ** 2).sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_are_int8_throughout(name):
    options = {"weights": None, "input_shape": (32, 32, 3), **FAMILIES[name]}
    network = getattr(keras.applications, name)(include_top=False, pooling="avg", **options)
    model = randomise(network)
    x = images(8, 32, 32, 3, scale=50.0 if "V3" in name or "Eff" in name else 1.0)
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [x])
    tflite = convert(q)
    assert not float_operators(tflite)
    # Through a hundred layers of random weights a value that fell to the other side of a step
    # moves all that come after it, so the two are compared by how far they are from float.
    floats = array(model(x))
    assert snr(floats, run(tflite, x)) >= snr(floats, array(q(x))) - DECIBELS
