"""The attention of a model's ULSAM layers, brought out beside its outputs."""

import keras
import numpy as np
import pytest

from ulsam_keras import ULSAM, SubSpace, attention_maps, with_attention

ROUNDING = 1e-6  # relative to the largest value; the same kernels on the same numbers


def close(value, reference):
    assert np.abs(value - reference).max() <= ROUNDING * np.abs(reference).max()


def randomise(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def plain():
    inputs = keras.Input((6, 5, 8), name="image")
    x = ULSAM(4, name="first")(inputs)
    x = keras.layers.Conv2D(6, 3, padding="same", name="conv")(x)
    return keras.Model(inputs, SubSpace(name="second")(x))


def test_maps_are_the_layers_own():
    model = randomise(plain())
    x = images(3, 6, 5, 8)
    maps = attention_maps(model, x, batch_size=2)
    assert list(maps) == ["first", "second"]
    hidden, first = model.get_layer("first")(x, return_attention_scores=True)
    hidden = model.get_layer("conv")(hidden)
    _, second = model.get_layer("second")(hidden, return_attention_scores=True)
    close(maps["first"], np.asarray(first))
    close(maps["second"], np.asarray(second))
    assert maps["first"].shape == (3, 6, 5, 4)


def test_outputs_and_weights_are_the_models_own():
    model = randomise(plain())
    x = images(2, 6, 5, 8)
    probe = with_attention(model)
    before = model.predict(x, verbose=0)
    assert list(probe.output) == ["second", "first_attention", "second_attention"]
    np.testing.assert_array_equal(probe.predict(x, verbose=0)["second"], before)
    model.get_layer("conv").kernel.assign(2 * model.get_layer("conv").kernel)
    after = model.predict(x, verbose=0)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(probe.predict(x, verbose=0)["second"], after)


def test_model_is_left_as_it_is(tmp_path):
    model = randomise(plain())
    config = model.get_config()
    with_attention(model)
    assert model.get_config() == config
    model.save(tmp_path / "model.keras")
    x = images(2, 6, 5, 8)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_nested_shared_and_channels_first():
    shared = ULSAM(2, name="shared")
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), ULSAM(4, name="deep"), keras.layers.ReLU()], name="block"
    )
    inputs = keras.Input((6, 6, 4))
    x = shared(shared(inputs))
    x = inner(x)
    x = keras.layers.Permute((3, 1, 2))(x)
    x = ULSAM(2, data_format="channels_first", name="turned")(x)
    model = randomise(keras.Model(inputs, x))
    maps = attention_maps(model, images(2, 6, 6, 4))
    assert {name: value.shape for name, value in maps.items()} == {
        "shared": (2, 6, 6, 2),
        "shared_1": (2, 6, 6, 2),
        "block_deep": (2, 6, 6, 4),
        "turned": (2, 6, 6, 2),
    }
    for value in maps.values():
        close(value.sum((1, 2)), np.ones((2, value.shape[3])))
    assert not np.array_equal(maps["shared"], maps["shared_1"])


def test_several_outputs():
    inputs = keras.Input((4, 4, 4))
    a = ULSAM(2, name="a")(inputs)
    model = keras.Model(inputs, {"x": a, "y": keras.layers.ReLU(name="relu")(a)})
    probe = with_attention(model)
    assert list(probe.output) == ["a", "relu", "a_attention"]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention = ULSAM(2)

    def call(self, x):
        return self.attention(x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Subclassed, "functional and built Sequential"),
        (lambda: keras.Sequential([keras.Input((4, 4, 4)), keras.layers.ReLU()]), "no ULSAM"),
    ],
)
def test_refusals(make, words):
    for function in (with_attention, lambda model: attention_maps(model, images(1, 4, 4, 4))):
        with pytest.raises(ValueError, match=words) as error:
            function(make())
        assert "Received: " in str(error.value)


def test_the_probe_can_be_saved(tmp_path):
    model = randomise(plain())
    probe = with_attention(model)
    probe.save(tmp_path / "probe.keras")
    x = images(2, 6, 5, 8)
    again = keras.saving.load_model(tmp_path / "probe.keras").predict(x, verbose=0)
    for name, value in probe.predict(x, verbose=0).items():
        np.testing.assert_array_equal(again[name], value)
