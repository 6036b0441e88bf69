"""What the port refuses: one line that names keys, shapes and cause, and no weight touched."""

import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from torch import nn

import torch_reference
from converters.pytorch import port_weights
from port_tools import (
    array,
    assert_balanced,
    inputs_of,
    randomise,
    state_of,
    unchanged,
    values,
)
from ulsam_keras import ULSAM

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def module(width=8, splits=2, classes=5, bias=False, affine=True, in_channels=3, kernel=3):
    return randomise(
        nn.ModuleDict(
            {
                "stem": nn.Conv2d(in_channels, width, kernel, bias=bias),
                "bn": nn.BatchNorm2d(width, affine=affine),
                "att": torch_reference.ULSAM(width, splits),
                "fc": nn.Linear(width, classes),
            }
        )
    )


def model(names=("stem", "bn", "att", "fc"), splits=2):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name=names[0])(x)
    x = layers.BatchNormalization(epsilon=1e-5, name=names[1])(x)
    x = ULSAM(splits, name=names[2])(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, name=names[3])(x), name="net")


def lone(splits=2, channels=8):
    layer = ULSAM(splits, name="att")
    layer.build((None, None, None, channels))
    return layer


def edited(remove=(), add=None, replace=None):
    state = {key: v for key, v in state_of(module()).items() if key not in remove}
    return state | (add or {}) | (replace or {})


def ones(*shape):
    return np.ones(shape, "float32")


def site(prefix, channels=8, splits=2):
    return state_of(randomise(torch_reference.ULSAM(channels, splits)), prefix)


UNUSUAL_NAMES = ("a", "b", "c", "d")

# name: (state, target, options, what the message must say)
REFUSED = {
    "missing key": (
        lambda: edited(remove=["fc.weight"]),
        model,
        {},
        ["1 missing key: 'fc.weight' for 'fc/kernel' (8, 5)", "Received: 35 keys"],
    ),
    "missing module": (
        lambda: edited(remove=["fc.weight", "fc.bias"]),
        model,
        {},
        ["2 missing keys", "'fc.weight'", "'fc.bias'", "no module for 'fc'"],
    ),
    "many missing keys are counted": (
        lambda: {"stem.weight": ones(8, 3, 3, 3)},
        model,
        {},
        ["18 missing keys", "and 15 more"],
    ),
    "left-over module": (
        lambda: edited(add={"aux.weight": ones(2, 7)}),
        model,
        {},
        ["1 left-over key: 'aux.weight' (2, 7)", "the model has no layer for 'aux'"],
    ),
    "left-over ULSAM": (
        lambda: edited(add=site("att2.")),
        model,
        {},
        ["28 left-over keys", "'att2.subspaces.0.conv_dws.weight' (4, 1, 1, 1)"],
    ),
    "bias that the layer has not": (
        lambda: state_of(module(bias=True)),
        model,
        {},
        ["'stem.bias' (8,)", "use_bias=False"],
    ),
    "norm without affine parameters": (
        lambda: state_of(module(affine=False)),
        model,
        {},
        ["'bn.weight'", "'bn.bias'", "scale=False, center=False"],
    ),
    "norm without statistics": (
        lambda: edited(remove=["bn.running_mean", "bn.running_var"]),
        model,
        {},
        ["'bn.running_mean'", "no running statistics"],
    ),
    "another width": (
        lambda: state_of(module(width=16)),
        model,
        {},
        ["'stem.weight' (16, 3, 3, 3)", "'stem/kernel' (3, 3, 3, 8)", "another width (alpha)"],
    ),
    "another number of classes": (
        lambda: state_of(module(classes=1000)),
        model,
        {},
        ["'fc.weight' (1000, 8)", "classifier of 1000 classes where the model has 5"],
    ),
    "another number of input channels": (
        lambda: state_of(module(in_channels=1)),
        model,
        {},
        ["'stem.weight' (8, 1, 3, 3)", "input channels (1, not 3)"],
    ),
    "another kernel size": (
        lambda: state_of(module(kernel=5)),
        model,
        {},
        ["'stem.weight' (8, 3, 5, 5)", "another kernel size"],
    ),
    "another num_splits": (
        lambda: state_of(module(splits=4)),
        model,
        {},
        ["'att' has 4 subspaces and 8 channels", "num_splits=2 and 8 channels"],
    ),
    "automatic names": (
        lambda: state_of(module()),
        lambda: model(("conv2d_7", "batch_normalization", "ulsam_2", "dense")),
        {},
        ["automatic names ('conv2d_7'", "name_map"],
    ),
    "other names": (
        lambda: state_of(module()),
        lambda: model(UNUSUAL_NAMES),
        {},
        ["no module for 'a', 'b', 'c' and 1 more", "name_map"],
    ),
    "keys under a prefix": (
        lambda: {f"net.{key}": v for key, v in state_of(module()).items()},
        model,
        {},
        ["perhaps 'net'"],
    ),
    "prefix too many": (
        lambda: state_of(module()),
        model,
        {"prefix": "net"},
        ["no keys under the prefix", "prefix='net'"],
    ),
    "misspelt prefix": (
        lambda: site("d0_ulsam."),
        lone,
        {"prefix": "d0_ulsm"},
        ["did you mean 'd0_ulsam'"],
    ),
    "prefix above the ULSAM": (
        lambda: site("body.17."),
        lone,
        {"prefix": "body"},
        ["perhaps 'body.17'", "'body.subspaces.0.conv_dws.weight'"],
    ),
    "prefix of something else": (
        lambda: site("body.17.") | {"stem.weight": ones(1)},
        lone,
        {"prefix": "stem"},
        ["perhaps 'body.17'"],
    ),
    "several ULSAM and no prefix": (
        lambda: site("a.") | site("b.c."),
        lone,
        {},
        ["2 ULSAM modules", "choose one with `prefix`: 'a', 'b.c'"],
    ),
    "no ULSAM": (lambda: {"a.weight": ones(2, 2)}, lone, {}, ["no ULSAM module"]),
    "ULSAM of 8 subspaces": (
        lambda: site("", 16, 8),
        lambda: lone(4, 16),
        {},
        ["8 subspaces and 16 channels", "num_splits=4 and 16 channels", "build the layer as"],
    ),
    "ULSAM of other channels": (
        lambda: site("u.", 16, 2),
        lone,
        {"prefix": "u"},
        ["2 subspaces and 16 channels", "num_splits=2 and 8 channels"],
    ),
    "one subspace missing": (
        lambda: {k: v for k, v in site("", 12, 3).items() if "subspaces.1." not in k},
        lambda: lone(3, 12),
        {},
        ["12 missing keys: 'subspaces.1.conv_dws.weight'", "keys were taken out"],
    ),
    "subspaces of different widths": (
        lambda: site("") | {"subspaces.1.conv_dws.bias": ones(3)},
        lone,
        {},
        ["'subspaces.0.conv_dws.bias' (4,) and (3,) of each of 2 subspaces"],
    ),
    "prefix with more than a ULSAM in it": (
        lambda: site("u.") | {"u.extra": ones(3)},
        lone,
        {"prefix": "u"},
        ["1 left-over key: 'u.extra' (3,)"],
    ),
    "key beside a ULSAM at the root": (
        lambda: site("") | {"extra": ones(3)},
        lone,
        {},
        ["1 left-over key: 'extra' (3,)", "the model has no layer for 'extra'"],
    ),
    "transposed kernel": (
        lambda: edited(replace={"fc.weight": ones(8, 5)}),
        model,
        {},
        ["the other way round"],
    ),
    "integer weights": (
        lambda: edited(replace={"fc.weight": np.ones((5, 8), "int8")}),
        model,
        {},
        ["'fc.weight' (5, 8) of int8, no floating point"],
    ),
    "NaN": (
        lambda: edited(replace={"bn.running_var": np.full(8, np.nan, "float32")}),
        model,
        {},
        ["NaN or infinite", "Received: 'bn.running_var'"],
    ),
    "negative variance": (
        lambda: edited(replace={"bn.running_var": np.array([1, -1e-3, *[1] * 6], "float32")}),
        model,
        {"strict": False},
        ["negative values in 1 running variance", "Received: 'bn.running_var'"],
    ),
    "negative variance in a ULSAM": (
        lambda: edited(
            replace={
                f"att.subspaces.1.{part}.running_var": -ones(size)
                for part, size in (("bn_dws", 4), ("bn_point", 1))
            }
        ),
        model,
        {},
        ["negative values in 2 running variances", "'att.subspaces.1.bn_point.running_var'"],
    ),
    "infinity, in half precision, though not strict": (
        lambda: edited(replace={"fc.bias": np.array([1, 2, 3, 4, np.inf], "float16")}),
        model,
        {"strict": False},
        ["NaN or infinite", "'fc.bias'"],
    ),
    "too large for float32": (
        lambda: edited(replace={"fc.bias": np.full(5, 1e300)}),
        model,
        {},
        ["too large", "'fc.bias' into float32"],
    ),
    "nothing fits, though not strict": (
        lambda: {"x.weight": ones(2, 2)},
        model,
        {"strict": False},
        ["19 missing keys", "'x.weight'"],
    ),
    "training checkpoint": (
        lambda: {"state_dict": state_of(module()), "epoch": 3},
        model,
        {},
        ["load_checkpoint", "Received: 'state_dict': dict"],
    ),
    "empty state dict": (lambda: {}, model, {}, ["Received: an empty one"]),
    "no state dict": (lambda: [1, 2], model, {}, ["Received: list"]),
    "name map with an unknown layer": (
        lambda: state_of(module()),
        model,
        {"name_map": {"stemm": "stem"}},
        ["0 are called so, did you mean 'stem'", "Received: 'stemm': 'stem'"],
    ),
    "name map with an unknown module": (
        lambda: state_of(module()),
        model,
        {"name_map": {"stem": "stern"}},
        ["no module of that path, did you mean 'stem'"],
    ),
    "name map of a ULSAM to a convolution": (
        lambda: state_of(module()),
        model,
        {"name_map": {"att": "stem"}},
        ["no ULSAM module of that path"],
    ),
    "name map with one module twice": (
        lambda: state_of(module()) | {"bn2.weight": ones(8)},
        model,
        {"name_map": lambda name: "stem"},
        ["'stem' and 'bn' both take module 'stem'"],
    ),
    "ambiguous underscores": (
        lambda: {"a.b_c.weight": ones(5, 8), "a_b.c.weight": ones(5, 8)},
        lambda: model(("stem", "bn", "att", "a_b_c")),
        {},
        ["Layer 'a_b_c' can be 'a.b_c' or 'a_b.c'"],
    ),
    "not a Keras target": (
        lambda: state_of(module()),
        lambda: nn.Linear(1, 1),
        {},
        ["must be a ULSAM layer or a Keras 3 model", "Linear"],
    ),
    "layer that is not built": (lambda: site(""), lambda: ULSAM(2), {}, ["must be built"]),
    "model that is not built": (
        lambda: state_of(module()),
        lambda: keras.Sequential([layers.Dense(3, name="fc")]),
        {},
        ["must be built", "'fc'"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_and_nothing_touched(case):
    make_state, make_target, options, expected = REFUSED[case]
    target = make_target()
    before = values(target) if hasattr(target, "weights") else []
    with pytest.raises(ValueError) as caught:
        port_weights(make_state(), target, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "Received: " in message
    for part in expected:
        assert part in message, message
    assert len(message) < 1200
    if before:
        assert unchanged(target, before)


def test_separable_convolution_and_unknown_layers_are_refused_by_name():
    inputs = keras.Input((6, 6, 3))
    x = layers.SeparableConv2D(4, 3, name="sep")(inputs)
    target = keras.Model(inputs, layers.GRU(4, name="gru")(layers.Reshape((16, 4))(x)))
    with pytest.raises(ValueError, match="'sep' cannot be ported: it is two modules") as caught:
        port_weights({"sep.weight": ones(1)}, target)
    assert "SeparableConv2D" not in str(caught.value).split("two modules")[0]
    assert "DepthwiseConv2D and Conv2D" in str(caught.value)


def test_weights_beside_those_of_the_class_are_refused():
    class Scaled(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.factor = self.add_weight(shape=(), name="factor")

    target = keras.Sequential([keras.Input((3,)), Scaled(2, name="fc")])
    with pytest.raises(ValueError, match="factor.*'fc' has it beside the weights of its class"):
        port_weights(state_of(nn.ModuleDict({"fc": nn.Linear(3, 2)})), target)


def test_weight_out_of_reach_is_refused_by_name():
    class Closed(layers.Layer):
        def build(self, shape):
            self.own = self.add_weight(shape=(3,), name="own")

        def call(self, x):
            return x + self.own

    inputs = keras.Input((3,))
    target = keras.Model(inputs, layers.Dense(2, name="fc")(Closed(name="closed")(inputs)))
    with pytest.raises(ValueError, match="'closed/own': layer 'closed' cannot be ported.*Closed"):
        port_weights(state_of(nn.ModuleDict({"fc": nn.Linear(3, 2)})), target)


def test_layers_of_one_name_are_told_apart_by_their_paths():
    def part(name):
        return keras.Sequential([keras.Input((3,)), layers.Dense(3, name="fc")], name=name)

    inputs = keras.Input((3,))
    target = keras.Model(inputs, part("p")(part("q")(inputs)))
    state = state_of(randomise(nn.ModuleDict({"one": nn.Linear(3, 3), "two": nn.Linear(3, 3)})))
    with pytest.raises(ValueError, match="2 are called so: 'q/fc', 'p/fc'"):
        port_weights(state, target, name_map={"fc": "one"})
    port_weights(state, target, name_map={"p/fc": "one", "q/fc": "two"})
    np.testing.assert_array_equal(
        array(target.get_layer("p").layers[0].kernel), state["one.weight"].T
    )
    before = array(target.get_layer("q").layers[0].kernel)
    state["two.weight"] += 1
    report = port_weights(state, target, name_map={"p/fc": "one", "q": None}, strict=False)
    np.testing.assert_array_equal(array(target.get_layer("q").layers[0].kernel), before)
    assert report.left_over_weights == ("q/fc/kernel", "q/fc/bias")


# Not strict


def test_not_strict_ports_what_fits_and_lists_the_rest():
    target = model()
    before = dict(zip((w.path for w in target.weights), values(target), strict=True))
    state = state_of(module(classes=7)) | {"aux.weight": ones(2)}
    del state["bn.running_mean"], state["att.subspaces.1.bn_point.bias"]
    report = port_weights(state, target, strict=False)
    assert_balanced(report, state, target)
    kept = ("bn/moving_mean", "att/pointwise_norm/beta", "fc/kernel", "fc/bias")
    assert set(report.left_over_weights) == set(kept)
    assert set(report.left_over_keys) == {
        *("aux.weight", "att.subspaces.0.bn_point.bias", "fc.weight", "fc.bias")
    }
    for weight, value in zip(target.weights, values(target), strict=True):
        same = np.array_equal(value, before[weight.path])
        assert same == (weight.path in kept), weight.path
    why = {record.weight: record.detail for record in report.weights}
    assert "(7, 8)" in why["fc/kernel"]
    assert "'bn.running_mean'" in why["bn/moving_mean"]


def test_not_strict_takes_no_part_of_another_ulsam():
    """4 of 8 subspaces would fit by their shapes."""
    target = model(splits=2)
    before = values(target.get_layer("att"))
    state = state_of(module(splits=4))
    report = port_weights(state, target, strict=False)
    assert unchanged(target.get_layer("att"), before)
    assert len(report.left_over_weights) == 12
    assert_balanced(report, state, target)


# Any key taken out, added or reshaped

STATE = state_of(module())
COUNTERS = {key for key in STATE if key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def target():
    return model()


keys = st.sampled_from(sorted(STATE))


@settings(max_examples=60, deadline=None)
@given(dropped=st.sets(keys, max_size=6))
def test_dropped_keys(target, dropped):
    before = values(target)
    state = {key: v for key, v in STATE.items() if key not in dropped}
    needed = dropped - COUNTERS
    if not needed:
        assert_balanced(port_weights(state, target), state, target)
        return
    with pytest.raises(ValueError, match="missing key") as caught:
        port_weights(state, target)
    assert any(repr(key) in str(caught.value) for key in needed)
    assert unchanged(target, before)
    report = port_weights(state, target, strict=False)
    assert_balanced(report, state, target)
    assert report.left_over_weights


paths = st.text("abcfstem_.0123456789", min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(names=st.sets(paths, min_size=1, max_size=4), shape=st.lists(st.integers(0, 3), max_size=4))
def test_added_keys(target, names, shape):
    added = {name: ones(*shape) for name in names if name not in STATE}
    before = values(target)
    state = STATE | added
    if added:
        with pytest.raises(ValueError, match="left-over key"):
            port_weights(state, target)
        assert unchanged(target, before)
    report = port_weights(state, target, strict=False)
    assert set(report.left_over_keys) == set(added)
    assert_balanced(report, state, target)


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(sorted(set(STATE) - COUNTERS)), data=st.data())
def test_reshaped_keys(target, key, data):
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=5)))
    # A Linear may be a 1x1 convolution.
    if shape == STATE[key].shape or shape[:2] == STATE[key].shape:
        return
    before = values(target)
    state = STATE | {key: ones(*shape)}
    with pytest.raises(ValueError, match=r"Received: \d+ keys"):
        port_weights(state, target)
    assert unchanged(target, before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_balanced(port_weights(state, target, strict=False), state, target)


def test_a_port_that_raises_nothing_changes_every_weight():
    target = model()
    before = values(target)
    port_weights(STATE, target)
    assert not any(np.array_equal(a, b) for a, b in zip(values(target), before, strict=True))
    assert np.isfinite(array(target(inputs_of(1, 6, 6, 3)))).all()


# Keys that are left out


def test_ignored_keys_are_reported_and_nothing_else_is_different():
    state = state_of(module())
    extra = {"aux.0.weight": ones(3, 3), "aux.0.bias": ones(3), "head2.weight": ones(2, 2)}
    ours = model()
    report = port_weights(state | extra, ours, ignore_keys=["aux.*", "head?.weight"])
    assert_balanced(report, state | extra, ours)
    told = {r.key: (r.status, r.detail) for r in report.sources if r.key in extra}
    assert told == {
        "aux.0.weight": ("ignored", "as 'aux.*' says"),
        "aux.0.bias": ("ignored", "as 'aux.*' says"),
        "head2.weight": ("ignored", "as 'head?.weight' says"),
    }
    assert report.left_over_keys == () and "keys ignored: 3" in report.summary()
    assert "keys ignored:" in str(report)
    plain = model()
    port_weights(state, plain)
    for a, b in zip(ours.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["axu.*"], ["matches none", "'axu.*'"]),
        (["*"], ["match all", "'\\*'"]),
        (["fc.*"], ["missing key", "'fc.weight'"]),
    ],
)
def test_keys_that_cannot_be_ignored(patterns, words):
    state = state_of(module()) | {"aux.weight": ones(3, 3)}
    ours = model()
    before = values(ours)
    with pytest.raises(ValueError, match=".*".join(words)) as error:
        port_weights(state, ours, ignore_keys=patterns)
    assert "\n" not in str(error.value)
    assert unchanged(ours, before)


def test_left_over_keys_name_the_way_out_in_python_and_in_the_command():
    from converters.cli.words import in_options

    state = state_of(module()) | {"aux.weight": ones(3, 3)}
    with pytest.raises(ValueError) as error:
        port_weights(state, model())
    assert "with `ignore_keys`" in str(error.value)
    assert "with --ignore-keys" in in_options(str(error.value))
    assert "strict" not in str(error.value)
