"""Layers whose files were once wrong or refused; and that the cases are all layers of Keras."""

import keras
import numpy as np
import pytest

import layer_cases
from converters import to_tflite
from converters.runtime import run
from converters.tflite.rebuild import layers_of


def answer(case, precision):
    """What Keras and the file say to the samples that calibrate it."""
    model = layer_cases.build(case)
    data = layer_cases.samples(model, "live", 100)
    content = to_tflite(model, precision=precision, representative_data=data)
    result = run(content, data)
    assert result.ok, result.problem
    values = [*data.values()]
    expected = model(values if len(values) > 1 else values[0], training=False)
    return np.asarray(expected), next(iter(result.outputs.values()))


def test_a_shared_bias_counts_in_steps_of_each_reader():
    """TensorFlow gives both convolutions one bias, in steps of the 20 times wider."""
    expected, found = answer("shared layer of two ranges", "int16x8")
    wanted, half = expected[..., :4], found[..., :4]
    assert np.square(half - wanted).sum() < 1e-4 * np.square(wanted).sum()


@pytest.mark.parametrize("case", ["LSTM", "GRU", "SimpleRNN", "Bidirectional"])
def test_recurrent_layers_run_in_integers(case):
    expected, found = answer(case, "int8")
    assert np.square(found - expected).sum() < 1e-2 * np.square(expected).sum()


def test_every_layer_of_keras_is_a_case():
    seen = set()
    for case in layer_cases.CASES:
        seen |= {type(layer).__name__ for layer in layers_of(layer_cases.build(case))}
    layers = [x for x in vars(keras.layers).values() if isinstance(x, type)]
    public = {x.__name__ for x in layers if issubclass(x, keras.layers.Layer)}
    assert public - seen == layer_cases.LEFT_OUT.keys() - {"InputLayer"}
