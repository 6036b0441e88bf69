"""What leaving out the attention of one site changes, against networks that do not have it."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from compiled_layer import Compiled
from example_files import DIGITS, digits_model, imported
from ulsam_keras import ULSAM, Ablation, ablate, networks

DECIBELS = 0.01  # differences of a hundredth, in float32: their energy is right to 1e-3


def snr(expected, outputs):
    """Energy of what tells samples apart over that of the change."""
    signal = expected - expected.mean(axis=0)
    return 10 * np.log10((signal**2).sum() / ((outputs - expected) ** 2).sum())


def filled(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        weight.assign(rng.uniform(0.5 if positive else -1, 2, weight.shape))
    return model


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def close(row, expected):
    assert row == pytest.approx(expected, abs=DECIBELS)


@pytest.fixture(scope="module")
def digits():
    """The trained network in Keras and in PyTorch, images and their labels."""
    import torch

    net = imported(DIGITS, "network")[0].DigitsNet()
    net.load_state_dict(torch.load(DIGITS / "digits_ulsam.pth")["state_dict"])
    with np.load(DIGITS / "reference.npz") as reference:
        return digits_model(), net.eval(), reference["inputs"][:100], reference["labels"][:100]


def test_digits_as_in_pytorch(digits):
    import torch

    model, net, x, labels = digits
    # Labels of which some are wrong, so that classes that change are seen in the accuracy.
    labels = np.where(np.arange(100) % 3, labels, (labels + 1) % 10)
    x = x + np.random.default_rng(0).normal(0, 0.6, x.shape).astype("float32")
    rows = ablate(model, x.transpose(0, 2, 3, 1), labels=labels)
    counts = {row.name: row for row in networks.count(model).layers}
    assert [row.site for row in rows] == ["ulsam1", "ulsam2", "ulsam3"]
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    for row in rows:
        module = getattr(net, row.site)
        setattr(net, row.site, torch.nn.Identity())
        with torch.no_grad():
            outputs = net(torch.from_numpy(x)).numpy()
        setattr(net, row.site, module)
        close(row.snr, snr(expected, outputs))
        assert row.output_snr == {"classifier": row.snr}
        before, after = expected.argmax(1), outputs.argmax(1)
        assert row.changed_classes == pytest.approx((before != after).mean())
        assert row.accuracy == pytest.approx((before == labels).mean())
        assert row.accuracy_without == pytest.approx((after == labels).mean())
        assert row.accuracy_change == row.accuracy_without - row.accuracy
        assert row.parameters == counts[row.site].parameters
        assert row.multiply_adds == counts[row.site].multiply_adds
    assert any(row.changed_classes > 0 for row in rows)
    assert len({round(row.snr) for row in rows}) == 3


def plain(without=()):
    """Two sites, one in a nested model, one shared by two places, and two inputs and outputs."""

    def ulsam(name, splits):
        return keras.layers.Identity(name=name) if name in without else ULSAM(splits, name=name)

    start = keras.Input((6, 5, 4))
    inner = keras.Sequential([start, ulsam("deep", 4), keras.layers.ReLU()], name="block")
    first, second = keras.Input((6, 5, 4), name="first"), keras.Input((6, 5, 4), name="second")
    shared = ulsam("shared", 2)
    x = inner(shared(first)) - shared(second)
    outputs = {
        "map": keras.layers.Conv2D(3, 1, name="conv")(x),
        "classes": keras.layers.Dense(3, activation="softmax", name="dense")(
            keras.layers.GlobalAveragePooling2D()(x)
        ),
    }
    return keras.Model({"first": first, "second": second}, outputs)


def test_nested_shared_and_several_inputs_and_outputs():
    x = {name: images(10, 6, 5, 4) * scale for name, scale in (("first", 1), ("second", 2))}
    model = filled(plain())
    expected = model.predict(x, verbose=0)
    shared, deep = ablate(model, x, batch_size=4)
    assert (shared.site, deep.site) == ("shared", "block/deep")
    for row in (shared, deep):
        name = row.site.rpartition("/")[2]
        other = plain(without=(name,))
        theirs = [weight for weight in model.weights if name not in weight.path.split("/")]
        for weight, source in zip(other.weights, theirs, strict=True):
            weight.assign(source)
        outputs = other.predict(x, verbose=0)
        for key, value in row.output_snr.items():
            close(value, snr(expected[key], outputs[key]))
        assert set(row.output_snr) == {"map", "classes"}
        assert row.snr == min(row.output_snr.values())
        changed = expected["classes"].argmax(1) != outputs["classes"].argmax(1)
        assert row.changed_classes == pytest.approx(changed.mean())
        assert row.accuracy is None and row.accuracy_change is None
    # At both places.
    assert (shared.multiply_adds, deep.multiply_adds) == (2 * 3 * 4 * 30, 3 * 4 * 30)
    assert (shared.parameters, deep.parameters) == (5 * 4 + 3 * 2, 5 * 4 + 3 * 4)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention = ULSAM(2, name="a")
        self.unused = ULSAM(2, name="never")

    def call(self, x):
        return {"y": self.attention(x)}


def test_a_subclassed_model_that_was_never_called():
    model = Subclassed()
    x = images(6, 5, 5, 4)
    with pytest.warns(UserWarning, match="not called.*: 'never'"):
        [row] = ablate(model, x)
    y = model.predict(x, verbose=0)["y"]
    assert row.site == "a" and row.multiply_adds == 3 * 4 * 25
    close(row.output_snr["y"], snr(y, x))
    assert row.changed_classes is None
    assert model.attention.built


def dataset(x):
    # In another order every time that it is gone through.
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x))))
    return data.shuffle(100, reshuffle_each_iteration=True).batch(4)


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.x[4 * index :][:4], np.zeros(4)


def loader(x):
    import torch

    return torch.utils.data.DataLoader(torch.from_numpy(x), batch_size=4)


FORMS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "dataset": dataset,
    "generator": lambda x: (x[k : k + 4] for k in range(0, 10, 4)),
    "pydataset": Batches,
    "loader": loader,
    "endless": lambda x: (x[k % 12 :][:4] for k in range(0, 10**9, 4)),
}


@pytest.fixture(scope="module")
def one_site():
    inputs = keras.Input((5, 5, 4))
    x = ULSAM(2, name="a")(inputs)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    return filled(keras.Model(inputs, x))


@pytest.mark.parametrize("form", FORMS)
def test_data_of_every_form(one_site, form):
    x = images(10, 5, 5, 4)
    [wanted] = ablate(one_site, x, batch_size=10)
    assert wanted.changed_classes is None  # no shares, and no word that they are classes
    steps = 3 if form == "endless" else None
    [found] = ablate(one_site, FORMS[form](x), classifier=True, batch_size=4, steps=steps)
    close(found.snr, wanted.snr)
    assert found.changed_classes is not None


def test_the_model_is_left_as_it_is_and_traced_once():
    traces = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            traces.append(x)
            return x

    inputs = keras.Input((5, 5, 4))
    x = ULSAM(1, name="b")(Counted()(ULSAM(2, name="a")(inputs)))
    model = filled(keras.Model(inputs, x))
    x = images(8, 5, 5, 4)
    before, weights = model.predict(x, verbose=0), model.get_weights()
    config, count = model.get_config(), len(traces)
    [first, second] = ablate(model, x, batch_size=4)
    assert len(traces) == count + 1
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert len(traces) == count + 1
    assert model.get_config() == config
    for weight, value in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(weight, value)
    # And what changes afterwards is seen.
    model.get_layer("a").depthwise_norm.gamma.assign(np.zeros(4))
    model.get_layer("a").depthwise_norm.beta.assign(-np.ones(4))
    assert ablate(model, x)[0].snr != first.snr
    assert ablate(model, x)[1].snr != second.snr


def test_what_was_compiled_before_is_not_taken_for_without_effect():
    inputs = keras.Input((5, 5, 4))
    model = filled(keras.Model(inputs, ULSAM(2, name="a")(Compiled(name="c")(inputs))))
    x = images(4, 5, 5, 4)
    layer = model.get_layer("c")
    layer.function = tf.function(layer.inner)  # it is compiled now, with the switch
    rows = ablate(model, x)
    gc.collect()  # what was compiled still works
    assert [row.site for row in rows] == ["c/inner", "a"]
    hidden = layer.inner(x)
    expected = model.get_layer("a")(hidden).numpy()
    close(rows[0].snr, snr(expected, model.get_layer("a")(x).numpy()))
    close(rows[1].snr, snr(expected, hidden.numpy()))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    with pytest.warns(UserWarning, match="compiled before.*'c/inner'"):
        [row] = ablate(model, x)
    close(row.snr, rows[1].snr)


def test_an_attention_without_effect_and_outputs_without_a_signal():
    inputs = keras.Input((3, 3, 2))
    y = ULSAM(1, name="a")(inputs)
    constant = keras.layers.Lambda(lambda x: 0 * x[:, 0, 0] + [-1e9, -np.inf])(y)
    model = keras.Model(inputs, [0 * y + inputs, constant])
    [row] = ablate(model, images(3, 3, 3, 2))
    assert list(row.output_snr.values()) == [float("inf"), None]
    assert row.snr == float("inf") and "SNR inf dB" in str(row)
    [row] = ablate(model, images(1, 3, 3, 2))
    assert row.snr is None


def test_two_classes_of_one_value():
    inputs = keras.Input((3, 3, 2))
    y = keras.layers.GlobalAveragePooling2D()(ULSAM(1, name="a")(inputs))
    y = keras.layers.Dense(1, activation="sigmoid", use_bias=False)(y)
    model = filled(keras.Model(inputs, y))
    x = images(64, 3, 3, 2)
    expected = model.predict(x, verbose=0)[:, 0] > 0.5
    [row] = ablate(model, x, labels=expected.astype(int))
    after = model.layers[-1](x.mean((1, 2))).numpy()[:, 0] > 0.5
    assert row.accuracy == 1 and row.accuracy_without == pytest.approx((after == expected).mean())
    assert ablate(model, x)[0].changed_classes is None


def test_what_a_row_says():
    row = Ablation("a/b", 31.26, {"y": 31.26}, 0.0125, 0.99, 0.98, 12288, 92)
    assert str(row) == (
        "without a/b: SNR 31.3 dB, 1.25% of the classes changed, accuracy -1.00 points; "
        "saves 12,288 multiply-adds, 92 parameters"
    )
    bare = Ablation("a", None, {}, None, None, None, None, 92)
    assert str(bare) == "without a: SNR unknown; saves ? multiply-adds, 92 parameters"


def test_refusals(one_site):
    x = images(4, 5, 5, 4)
    without = keras.Sequential([keras.Input((4, 4, 4)), keras.layers.ReLU()])
    for model, data, labels, words in (
        (without, x, None, "no ULSAM"),
        (one_site, x[:0], None, "must be samples"),
        (one_site, iter(()), None, "must be samples"),
        (one_site, x, np.zeros(3, int), r"one class for each sample.*\(3,\).*4 samples"),
        (one_site, x, np.zeros(4), "must be integers.*float64"),
        (one_site, x, np.full(4, 3), r"k above the largest.*up to 3"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            ablate(model, data, labels=labels)
        assert "Received: " in str(error.value) and "\n" not in str(error.value)
