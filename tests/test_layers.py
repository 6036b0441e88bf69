"""Layers whose files were once wrong or refused; and that the cases are all layers of Keras."""

import keras
import numpy as np
import pytest

import layer_cases
from converters import to_tflite
from converters.runtime import run
from converters.tflite.rebuild import layers_of


def answer(case, precision, kind="live"):
    """What Keras and the file say to samples, which calibrate it."""
    model = layer_cases.build(case)
    data = layer_cases.samples(model, kind, 100)
    calibration = {"representative_data": data} if precision.startswith("int") else {}
    content = to_tflite(model, precision=precision, **calibration)
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


@pytest.mark.parametrize("case", ["GRU", "Bidirectional"])
def test_recurrent_layers_run_in_integers(case):
    expected, found = answer(case, "int8")
    assert np.square(found - expected).sum() < 1e-2 * np.square(expected).sum()


@pytest.mark.parametrize(
    ("case", "precision", "kind"),
    [
        ("UnitNormalization", "float32", "dead"),
        ("UnitNormalization", "float16", "dead"),
        ("UnitNormalization", "float32", "live"),
        ("Dot normalized", "float32", "dead"),
    ],
)
def test_a_length_of_0_is_none_to_divide_by(case, precision, kind):
    """XNNPACK's reciprocal root of 0 is NaN."""
    expected, found = answer(case, precision, kind)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["divided by its length", "MelSpectrogram"])
def test_what_keeps_a_number_from_0_is_none_itself_in_half_precision(case):
    """An epsilon of 1e-12 is 0 in float16."""
    expected, found = answer(case, "float16", "dead")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_triangles():
    """The operators that make them are of truths alone."""
    image = keras.Input((4, 5))
    model = keras.Model(image, keras.ops.tril(image) - 2 * keras.ops.triu(image, 1))
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    [found] = run(to_tflite(model), x).outputs.values()
    np.testing.assert_array_equal(found, model(x))


# Decibels that are left with all in int8: lengths are roots of sums of squares of 8 bits.
DIVIDED = {
    "divided by its length": 17, "divided by its sum": 20, "divided by itself and 1": 30,
    "divided by its deviation": 17, "divided by its mean": 30, "cosine attention": 8,
}  # fmt: skip


@pytest.mark.parametrize("case", DIVIDED)
def test_integers_are_not_divided_by_0(case):
    """What is rounded to 0 ends a run; on zeros, which each file is tried with, all of them are."""
    expected, found = answer(case, "int8")
    noise = np.square(found - expected).sum()
    assert 10 * np.log10(np.square(expected).sum() / noise) > DIVIDED[case]


def test_a_divisor_of_both_signs_is_none_to_be_0():
    _, found = answer("divided by both signs", "int8")
    assert np.isfinite(found).all()


def test_a_quotient_in_16_bits_names_the_layer():
    with pytest.raises(ValueError, match=r"at layer 'true_divide\w*' \(TrueDivide\).*'DIV'"):
        answer("divided by itself and 1", "int16x8")


def test_small_numbers_are_not_taken_for_zeros():
    """The converter gives their mean the steps of zeros."""
    expected, found = answer("GlobalAveragePooling2D", "int16x8", "tiny")
    assert np.square(found - expected).sum() < 1e-6 * np.square(expected).sum()


def test_what_the_runtime_refuses_names_the_layer():
    """In the whole the activation is one operator with the convolution: so in its beginnings."""
    with pytest.raises(ValueError, match=r"at layer 're_lu\w*' \(ReLU\)"):
        answer("depthwise and norm", "int8", "huge")


def test_a_range_of_nan_names_the_layer():
    with pytest.raises(ValueError, match=r"at layer 'auto_contrast' \(AutoContrast\); .* is NaN"):
        answer("AutoContrast", "int8", "constant")


@pytest.mark.parametrize("case", ["SeparableConv2D", "SpectralNormalization", "ULSAM alone"])
def test_the_weights_of_a_case_are_the_same_ones_each_time(case):
    first, second = (layer_cases.build(case).get_weights() for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_layer_of_keras_is_a_case():
    seen = set()
    for case in layer_cases.CASES:
        seen |= {type(layer).__name__ for layer in layers_of(layer_cases.build(case))}
    layers = [x for x in vars(keras.layers).values() if isinstance(x, type)]
    public = {x.__name__ for x in layers if issubclass(x, keras.layers.Layer)}
    assert public - seen == layer_cases.LEFT_OUT.keys() & public - {"InputLayer"}
