"""The attention of a model's ULSAM layers, brought out beside its outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compiled_layer import Compiled
from ulsam_keras import ULSAM, SubSpace, attention_maps, with_attention
from ulsam_keras.spatial_softmax import attention_form

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
        "block/deep": (2, 6, 6, 4),
        "turned": (2, 6, 6, 2),
    }
    for value in maps.values():
        close(value.sum((1, 2)), np.ones((2, value.shape[3])))
    assert not np.array_equal(maps["shared"], maps["shared_1"])


def test_outputs_keep_their_names_in_their_order():
    inputs = keras.Input((4, 4, 4))
    x = ULSAM(2, name="a")(inputs)
    y, z = keras.layers.ReLU(name="y")(x), keras.layers.ReLU(max_value=1, name="z")(x)
    value = images(2, 4, 4, 4)
    for outputs, names in (
        ({"logits": z, "features": y}, ["features", "logits"]),
        ([z, y], ["z", "y"]),
        ({"one": {"two": y}, "three": z}, ["one", "three"]),
    ):
        model = randomise(keras.Model(inputs, outputs))
        found = with_attention(model).predict(value, verbose=0)
        assert list(with_attention(model).output) == [*names, "a_attention"]
        flat = keras.tree.flatten(model.predict(value, verbose=0))
        for name, expected in zip(names, flat, strict=True):
            np.testing.assert_array_equal(found[name], expected)


def test_several_outputs():
    inputs = keras.Input((4, 4, 4))
    a = ULSAM(2, name="a")(inputs)
    model = keras.Model(inputs, {"x": a, "y": keras.layers.ReLU(name="relu")(a)})
    probe = with_attention(model)
    assert list(probe.output) == ["x", "y", "a_attention"]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention = ULSAM(2)

    def call(self, x):
        return self.attention(x)


def test_refusals():
    class Foreign:
        pass

    Foreign.__module__ = "tf_keras.src.engine"
    plain_model = keras.Sequential([keras.Input((4, 4, 4)), keras.layers.ReLU()])
    for function in (with_attention, lambda model: attention_maps(model, images(1, 4, 4, 4))):
        for model, words in (
            (plain_model, "no ULSAM"),
            (ULSAM(2), "Keras 3 model. Received: model of type ulsam_keras.ULSAM"),
            (Foreign(), r"restore\(q, model\).*tf_keras"),
        ):
            with pytest.raises(ValueError, match=words) as error:
                function(model)
            assert "Received: " in str(error.value)
    with pytest.raises(ValueError, match="functional and built Sequential.*Received: "):
        with_attention(Subclassed())


class Block(keras.layers.Layer):
    """A layer of one's own, with a ULSAM in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [keras.layers.ReLU(), ULSAM(2, name="inside")]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Negated(keras.Model):
    """Functional, with a call of its own."""

    def call(self, x):
        return super().call(-x)


def test_what_no_graph_shows_is_seen_all_the_same():
    x = images(2, 4, 4, 4)
    inputs = keras.Input((4, 4, 4))
    model = randomise(keras.Model(inputs, Block(name="block")(inputs)))
    _, expected = model.get_layer("block").parts[1](np.maximum(x, 0), return_attention_scores=True)
    maps = attention_maps(model, x)
    assert list(maps) == ["block/inside"]
    close(maps["block/inside"], np.asarray(expected))
    assert list(with_attention(model).output) == ["block", "block/inside_attention"]

    model = Subclassed()
    maps = attention_maps(model, x)
    assert list(maps) == [model.attention.name]
    close(
        maps[model.attention.name], np.asarray(model.attention(x, return_attention_scores=True)[1])
    )

    layer = ULSAM(2, name="one")
    model = randomise(Negated(inputs, layer(inputs)))
    close(attention_maps(model, x)["one"], np.asarray(layer(-x, return_attention_scores=True)[1]))


def test_a_site_that_is_called_by_keyword_or_gives_its_attention_itself():
    inputs = keras.Input((4, 4, 4))
    x = ULSAM(4, name="a")(inputs=inputs)
    model = keras.Model(inputs, ULSAM(2, name="b")(x, return_attention_scores=True))
    assert list(attention_maps(model, images(1, 4, 4, 4))) == ["a", "b"]
    assert len(with_attention(model).outputs) == 4


def test_the_model_gets_no_nodes_and_nothing_is_traced_again():
    traces = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            traces.append(x)
            return x

    inputs = keras.Input((4, 4, 4))
    x = inner = keras.Input((4, 4, 4))
    nested = keras.Model(inner, ULSAM(2, name="deep")(x), name="nested")
    # Not the weights of a new layer, whose scores may all be 0.
    model = randomise(keras.Model(inputs, Counted()(nested(ULSAM(2, name="one")(inputs)))))
    every = [*model.layers, *nested.layers]
    before = [layer.output for layer in every]
    first = attention_maps(model, images(2, 4, 4, 4))
    count = len(traces)
    for _ in range(3):
        assert list(attention_maps(model, images(2, 4, 4, 4))) == list(first)
    nested.get_layer("deep").pointwise_norm.gamma.assign([3.0, 3.0])
    changed = attention_maps(model, images(2, 4, 4, 4))
    assert not np.array_equal(changed["nested/deep"], first["nested/deep"])
    assert len(traces) == count
    with_attention(model)
    # A layer that was called once more would have several outputs, which this refuses.
    assert all(layer.output is output for layer, output in zip(every, before, strict=True))


def test_another_form_of_the_softmax_is_traced_anew():
    model = randomise(plain())
    x = images(2, 6, 5, 8)
    expected = attention_maps(model, x)
    with attention_form("float"):
        for name, value in attention_maps(model, x).items():
            close(value, expected[name])
            assert not np.array_equal(value, expected[name])


def test_the_probe_can_be_saved(tmp_path):
    model = randomise(plain())
    probe = with_attention(model)
    probe.save(tmp_path / "probe.keras")
    x = images(2, 6, 5, 8)
    again = keras.saving.load_model(tmp_path / "probe.keras").predict(x, verbose=0)
    for name, value in probe.predict(x, verbose=0).items():
        np.testing.assert_array_equal(again[name], value)


class Mapped(keras.layers.Layer):
    """One that calls it on every sample by itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = ULSAM(2, name="inner")

    def call(self, x):
        return keras.ops.map(lambda one: self.inner(one[None])[0], x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("layer", [Compiled, Mapped])
def test_what_cannot_be_seen_is_said(layer):
    inputs = keras.Input((4, 4, 4))
    x = images(3, 4, 4, 4)
    hidden = layer(name="own")(inputs)
    model = randomise(keras.Model(inputs, ULSAM(2, name="a")(hidden)))
    before = model.predict(x, verbose=0)
    for function in (attention_maps, lambda model, _: with_attention(model).predict(x, verbose=0)):
        with pytest.warns(UserWarning, match="not seen.*: 'own/inner'"):
            found = function(model, x)
        value = found.get("a_attention", found["a"])
        own = model.get_layer("own").inner(x)
        close(value, np.asarray(model.get_layer("a")(own, return_attention_scores=True)[1]))
        assert not [name for name in found if "inner" in name]
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    alone = randomise(keras.Model(inputs, layer(name="own")(inputs)))
    alone.predict(x, verbose=0)
    with pytest.raises(ValueError, match="no ULSAM can be seen.*Received: 'own/inner'"):
        attention_maps(alone, x)


def test_layers_that_come_go_and_are_quantised_are_seen():
    inputs = keras.Input((4, 4, 8))
    dense = keras.layers.Dense(8, name="dense")
    inner = keras.Sequential([keras.Input((4, 4, 8)), dense], name="body")
    model = randomise(keras.Model(inputs, ULSAM(2, name="a")(inner(inputs))))
    x = images(2, 4, 4, 8)

    def expected():
        return np.asarray(model.get_layer("a")(inner(x), return_attention_scores=True)[1])

    first = attention_maps(model, x)["a"]
    close(first, expected())
    dense.quantize("int8")
    second = attention_maps(model, x)["a"]
    close(second, expected())
    assert not np.array_equal(first, second)
    inner.add(keras.layers.ReLU())
    close(attention_maps(model, x)["a"], expected())


def test_images_in_batches():
    model = randomise(plain())
    x = images(5, 6, 5, 8)
    expected = attention_maps(model, x)
    for batches in (
        (x[k : k + 2] for k in (0, 2, 4)),
        tf.data.Dataset.from_tensor_slices((x, np.zeros(5))).batch(2),
    ):
        for name, value in attention_maps(model, batches).items():
            close(value, expected[name])
    with pytest.raises(ValueError, match="must be images.*Received: "):
        attention_maps(model, x[:0])
