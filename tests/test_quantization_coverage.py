"""Every layer and operation that is bridged, as an int8 model: what stays float, what is rounded.

The oracle is LiteRT: the models of the bridge's coverage table are quantised, converted and run.
"""

import keras
import numpy as np
import pytest

from quantization_cases import FAMILIES, SHOWN_BY, models
from quantization_tools import (
    array,
    convert,
    covered,
    float_operators,
    images,
    randomise,
    run,
    snr,
)
from ulsam_keras import quantization

MODELS = models()
# A value next to the middle between two steps falls to either side, which an operator after it
# may make more than one step of. Of all values, that is this much at most.
FURTHER_THAN_A_STEP = 0.01
# In dB: the energy by which the file misses what training sees, under that by which training
# misses the float model. Were a tensor rounded in one of the two only, they would be alike.
BELOW_ROUNDING = 7
# For XNNPACK's change of an int8 range, which knows the ratio of two steps to 1/256, and for its
# bilinear interpolation, in which a sixteenth of the values are middles.
BELOW_ROUNDING_COARSE = 3
COARSE = {"operation Maximum", "operation Minimum", "UpSampling2D bilinear"}
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


@pytest.fixture(scope="module")
def int8():
    return covered(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_int8_operators_of_every_layer(int8, name):
    case = int8[name]
    assert bool(case.floats) == (name in FLOAT)
    steps = np.abs(case.file - case.trained) / case.step
    assert np.mean(steps > 1.5) <= FURTHER_THAN_A_STEP
    loss = snr(case.floating, case.trained)
    assert loss > 25
    margin = BELOW_ROUNDING_COARSE if name in COARSE else BELOW_ROUNDING
    assert snr(case.trained, case.file) >= loss + margin


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_are_int8_throughout(name):
    options = {"weights": None, "input_shape": (32, 32, 3), **FAMILIES[name]}
    network = getattr(keras.applications, name)(include_top=False, **options)
    blocks = network.get_layer(SHOWN_BY[name]).output
    pooled = keras.layers.GlobalAveragePooling2D()(blocks)
    model = randomise(keras.Model(network.input, pooled))
    x = images(8, 32, 32, 3, scale=50.0 if "V3" in name or "Eff" in name else 1.0)
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [x])
    tflite = convert(q)
    assert not float_operators(tflite)
    # Through dozens of layers of random weights a value that fell to the other side of a step
    # moves all that come after it. Were something rounded in one of the two only, they would be
    # further from each other than rounding is from float.
    trained = array(q(x))
    assert snr(trained, run(tflite, x)) >= snr(array(model(x)), trained)
