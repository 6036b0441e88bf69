"""The port of PyTorch weights: outputs equal PyTorch's, and its report accounts for everything."""

import dataclasses
import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import torch_reference
from converters.pytorch import UlsamSite, find_ulsam, port_weights
from port_tools import (
    TOLERANCE,
    array,
    assert_balanced,
    difference,
    inputs_of,
    randomise,
    state_of,
    values,
)
from ulsam_keras import ULSAM, SubSpace

EPSILON = 1e-5


pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def built(layer, channels):
    layer.build((None, None, None, channels))
    return layer


# ULSAM layers


@pytest.mark.parametrize("prefix", ["", "d0_ulsam", "d0_ulsam.", "features.14", "body.0.1."])
@pytest.mark.parametrize("splits, channels", [(1, 8), (2, 6), (4, 64), (16, 16), (8, 512), (3, 21)])
def test_lone_ulsam(splits, channels, prefix):
    module = randomise(torch_reference.ULSAM(channels, splits))
    state = state_of(module, prefix and f"{prefix.strip('.')}.")
    layer = built(ULSAM(splits), channels)
    report = port_weights(state, layer, prefix=prefix)
    assert difference(module, layer, inputs_of(2, channels, 6, 5)) < TOLERANCE
    assert_balanced(report, state, layer)
    assert report.left_over_keys == report.left_over_weights == report.warnings == ()
    counters = [r.key for r in report.sources if r.status == "counter"]
    assert counters == [key for key in state if key.endswith("num_batches_tracked")]


@pytest.mark.parametrize("layer", [SubSpace, lambda: ULSAM(1)])
@pytest.mark.parametrize("prefix", ["", "a.b"])
@pytest.mark.parametrize(
    "module", [torch_reference.SubSpace, lambda c: torch_reference.ULSAM(c, 1)]
)
def test_lone_subspace(module, prefix, layer):
    module = randomise(module(12))
    state = state_of(module, prefix and f"{prefix}.")
    layer = built(layer(), 12)
    assert_balanced(port_weights(state, layer, prefix=prefix), state, layer)
    assert difference(module, layer, inputs_of(2, 12, 5, 5)) < TOLERANCE


def test_one_group_of_a_ulsam_into_a_subspace():
    module = randomise(torch_reference.ULSAM(12, 3))
    layer = built(SubSpace(), 4)
    port_weights(state_of(module, "u."), layer, prefix="u.subspaces.2")
    assert difference(module.subspaces[2], layer, inputs_of(2, 4, 5, 5)) < TOLERANCE


def test_one_ulsam_is_found_without_a_prefix():
    module = randomise(torch_reference.ULSAM(8, 2))
    state = state_of(module, "body.17.") | {"stem.weight": np.ones((4, 3, 3, 3), "float32")}
    layer = built(ULSAM(2), 8)
    report = port_weights(state, layer)
    assert difference(module, layer, inputs_of(1, 8, 4, 4)) < TOLERANCE
    assert [r.key for r in report.sources if r.status == "outside the prefix"] == ["stem.weight"]
    assert_balanced(report, state, layer)


def test_channels_first():
    module = randomise(torch_reference.ULSAM(8, 2))
    layer = ULSAM(2, data_format="channels_first")
    layer.build((None, 8, None, None))
    port_weights(state_of(module), layer)
    assert difference(module, layer, inputs_of(2, 8, 5, 6), channels_first=True) < TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_cast(dtype):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    module = randomise(torch_reference.ULSAM(8, 2))
    state = {
        key: value.astype(kind) if value.dtype == "float32" else value
        for key, value in state_of(module).items()
    }
    layer = built(ULSAM(2), 8)
    port_weights(state, layer)
    expected = state["subspaces.1.bn_dws.running_var"].astype("float32")
    np.testing.assert_array_equal(array(layer.depthwise_norm.moving_variance)[4:], expected)


def test_a_half_precision_layer_is_filled():
    module = randomise(torch_reference.ULSAM(8, 2))
    layer = built(ULSAM(2, dtype="float16"), 8)
    port_weights(state_of(module), layer)
    expected = module.subspaces[0].conv_dws.bias.detach().numpy().astype("float16")
    np.testing.assert_array_equal(array(layer.depthwise_conv.bias)[:4], expected)


def test_epsilon_and_momentum_are_kept():
    layer = built(ULSAM(2, epsilon=3e-4, momentum=0.25), 8)
    port_weights(state_of(randomise(torch_reference.ULSAM(8, 2))), layer)
    for norm in (layer.depthwise_norm, layer.pointwise_norm):
        assert (norm.epsilon, norm.momentum) == (3e-4, 0.25)


# Stock layers, one by one


def norm(**options):
    return layers.BatchNormalization(epsilon=EPSILON, **options)


STOCK = {
    "conv": (lambda: nn.Conv2d(6, 8, 3), lambda: layers.Conv2D(8, 3)),
    "conv no bias": (
        lambda: nn.Conv2d(6, 8, (3, 2), bias=False),
        lambda: layers.Conv2D(8, (3, 2), use_bias=False),
    ),
    "conv square": (lambda: nn.Conv2d(6, 6, 3), lambda: layers.Conv2D(6, 3)),
    "conv groups": (
        lambda: nn.Conv2d(6, 9, 3, groups=3),
        lambda: layers.Conv2D(9, 3, groups=3),
    ),
    "conv groups of one": (
        lambda: nn.Conv2d(6, 12, 3, groups=6),
        lambda: layers.Conv2D(12, 3, groups=6),
    ),
    "depthwise": (
        lambda: nn.Conv2d(6, 6, (3, 5), groups=6),
        lambda: layers.DepthwiseConv2D((3, 5)),
    ),
    "depthwise multiplied": (
        lambda: nn.Conv2d(6, 18, 3, groups=6, bias=False),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False),
    ),
    "transposed": (
        lambda: nn.ConvTranspose2d(6, 4, 3, stride=2),
        lambda: layers.Conv2DTranspose(4, 3, strides=2),
    ),
    "transposed square": (
        lambda: nn.ConvTranspose2d(6, 6, 3),
        lambda: layers.Conv2DTranspose(6, 3),
    ),
    "norm": (lambda: nn.BatchNorm2d(6), norm),
    "norm not affine": (
        lambda: nn.BatchNorm2d(6, affine=False),
        lambda: norm(scale=False, center=False),
    ),
    "group norm": (
        lambda: nn.GroupNorm(3, 6),
        lambda: layers.GroupNormalization(3, epsilon=EPSILON),
    ),
    "slope per channel": (lambda: nn.PReLU(6), lambda: layers.PReLU(shared_axes=[1, 2])),
    "one slope": (lambda: nn.PReLU(), lambda: layers.PReLU(shared_axes=[1, 2])),
    "conv as 1x1 from linear": (
        lambda: Linear1x1(6, 4),
        lambda: layers.Conv2D(4, 1),
    ),
}


class Linear1x1(nn.Linear):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("case", STOCK)
def test_stock_layer_on_a_map(case):
    make_module, make_layer = STOCK[case]
    module, layer = randomise(make_module()), make_layer()
    layer.build((None, 8, 8, 6))
    state = state_of(module)
    assert_balanced(port_weights(state, layer), state, layer)
    assert difference(module, layer, inputs_of(2, 6, 8, 8)) < TOLERANCE


@pytest.mark.parametrize(
    "module, layer",
    [
        (lambda: nn.Conv1d(6, 8, 3), lambda: layers.Conv1D(8, 3)),
        (
            lambda: nn.Conv1d(6, 12, 3, groups=6),
            lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
        ),
        (lambda: nn.ConvTranspose1d(6, 4, 3), lambda: layers.Conv1DTranspose(4, 3)),
    ],
)
def test_stock_layer_on_a_sequence(module, layer):
    module, layer = randomise(module()), layer()
    layer.build((None, 9, 6))
    port_weights(state_of(module), layer)
    assert difference(module, layer, inputs_of(2, 6, 9)) < TOLERANCE


@pytest.mark.parametrize(
    "module, layer",
    [
        (lambda: nn.Linear(6, 6), lambda: layers.Dense(6)),
        (lambda: nn.Linear(6, 3, bias=False), lambda: layers.Dense(3, use_bias=False)),
        (lambda: nn.BatchNorm1d(6), norm),
        (lambda: nn.LayerNorm(6), lambda: layers.LayerNormalization(epsilon=EPSILON)),
    ],
)
def test_stock_layer_on_vectors(module, layer):
    module, layer = randomise(module()), layer()
    layer.build((None, 6))
    with warnings.catch_warnings():
        # A lone layer has no graph that would show whether its input is a flattened map.
        warnings.filterwarnings("ignore", "Layer .* may read a flattened map")
        port_weights(state_of(module), layer)
    assert difference(module, layer, inputs_of(3, 6)) < TOLERANCE


def test_volumes_and_embeddings():
    module, layer = randomise(nn.Conv3d(2, 4, 3)), layers.Conv3D(4, 3)
    layer.build((None, 5, 5, 5, 2))
    port_weights(state_of(module), layer)
    assert difference(module, layer, inputs_of(1, 2, 5, 5, 5)) < TOLERANCE
    table, embedding = randomise(nn.Embedding(5, 3)), layers.Embedding(5, 3)
    embedding.build()
    port_weights(state_of(table), embedding)
    np.testing.assert_array_equal(array(embedding.embeddings), table.weight.detach().numpy())


# Whole models


class Net(nn.Module):
    """Conv, ULSAM, depthwise, pooled classifier; the classifier may be a 1x1 convolution."""

    def __init__(self, convolutional=False):
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            torch_reference.ULSAM(8, 4),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            torch_reference.ULSAM(8, 2),
        )
        self.fc = nn.Conv2d(8, 5, 1) if convolutional else nn.Linear(8, 5)
        self.convolutional = convolutional

    def forward(self, x):
        x = self.features(x).mean((2, 3), keepdim=self.convolutional)
        return self.fc(x).flatten(1)


NAMES = ("features.0.0", "features.0.1", "features.1", "features.2", "features.3", "fc")


def functional(names=NAMES, nest=False):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=names[0])(x)
    x = layers.ReLU()(norm(name=names[1])(x))
    x = ULSAM(4, name=names[2])(x)
    x = layers.DepthwiseConv2D(3, padding="same", name=names[3])(x)
    x = ULSAM(2, name=names[4])(x)
    if nest:
        backbone = keras.Model(inputs, x, name=nest)
        inputs = keras.Input((6, 6, 3))
        x = backbone(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, name=names[5])(x))


def sequential():
    stem = keras.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="0"),
            norm(name="1"),
            layers.ReLU(),
        ],
        name="0",
    )
    features = [
        stem,
        ULSAM(4, name="1"),
        layers.DepthwiseConv2D(3, padding="same", name="2"),
        ULSAM(2, name="3"),
    ]
    model = keras.Sequential(
        [
            keras.Sequential(features, name="features"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="fc"),
        ]
    )
    model.build((None, 6, 6, 3))
    return model


class Stem(layers.Layer):
    """Sub-layers by attribute: a list, and a private name."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Conv2D(8, 3, padding="same", use_bias=False), norm()]

    def build(self, shape):
        self.blocks[0].build(shape)
        self.blocks[1].build((None, None, None, 8))

    def call(self, x):
        return keras.ops.relu(self.blocks[1](self.blocks[0](x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.features = [
            [layers.Conv2D(8, 3, padding="same", use_bias=False), norm()],
            ULSAM(4),
            layers.DepthwiseConv2D(3, padding="same"),
            ULSAM(2),
        ]
        self._pool = layers.GlobalAveragePooling2D()
        self._fc = layers.Dense(5)

    def call(self, x):
        x = keras.ops.relu(self.features[0][1](self.features[0][0](x)))
        for layer in self.features[1:]:
            x = layer(x)
        return self._fc(self._pool(x))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 3), "float32"))
    return model


MODELS = {
    "dots": functional,
    "underscores": lambda: functional([name.replace(".", "_") for name in NAMES]),
    "nested, name without a meaning": lambda: functional(nest="backbone"),
    "nested, name with a meaning": lambda: functional(
        ["0.0", "0.1", "1", "2", "3", "fc"], nest="features"
    ),
    "sequential in sequential": sequential,
    "subclassed": subclassed,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_model(make):
    module, model = randomise(Net()), make()
    state = state_of(module)
    report = port_weights(state, model)
    assert difference(module, model, inputs_of(2, 3, 6, 6)) < TOLERANCE
    assert_balanced(report, state, model)
    assert report.left_over_keys == report.left_over_weights == ()


def test_model_under_a_prefix():
    module, model = randomise(Net()), functional()
    state = state_of(module, "net.student.") | {"net.teacher.fc.weight": np.ones((5, 8), "float32")}
    report = port_weights(state, model, prefix="net.student.")
    assert difference(module, model, inputs_of(2, 3, 6, 6)) < TOLERANCE
    outside = [r.key for r in report.sources if r.status == "outside the prefix"]
    assert outside == ["net.teacher.fc.weight"]


def test_classifier_from_a_1x1_convolution():
    module, model = randomise(Net(convolutional=True)), functional()
    port_weights(state_of(module), model)
    assert difference(module, model, inputs_of(2, 3, 6, 6)) < TOLERANCE


@pytest.mark.parametrize("kind", ["dict", "function", "dict of the odd ones"])
def test_name_map(kind):
    own = ["stem", "stem_bn", "att_a", "dw", "att_b", "head"]
    names = dict(zip(own, NAMES, strict=True))
    if kind == "dict of the odd ones":
        own = [*own[:3], *NAMES[3:]]
        names = dict(zip(own[:3], NAMES[:3], strict=True))
    module, model = randomise(Net()), functional(own)
    port_weights(state_of(module), model, name_map=names.get if kind == "function" else names)
    assert difference(module, model, inputs_of(2, 3, 6, 6)) < TOLERANCE


def test_name_map_goes_before_the_name():
    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, name="a"), layers.Dense(3, name="b")]
    )
    port_weights(state_of(module), model, name_map={"a": "b", "b": "a"})
    np.testing.assert_array_equal(array(model.layers[0].kernel), module["b"].weight.detach().T)


def test_name_map_gives_away_the_module_of_a_layer_left_alone():
    module = nn.ModuleDict({"a": nn.Linear(3, 3)})
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, name="a"), layers.Dense(3, name="b")]
    )
    state = state_of(module)
    report = port_weights(state, model, name_map={"a": None, "b": "a"})
    assert report.left_over_weights == ("a/kernel", "a/bias")
    assert_balanced(report, state, model)


def test_name_map_leaves_a_layer_alone():
    module, model = randomise(Net()), functional()
    before = array(model.get_layer("fc").kernel)
    state = state_of(module)
    report = port_weights(state, model, name_map={"fc": None})
    np.testing.assert_array_equal(array(model.get_layer("fc").kernel), before)
    assert report.left_over_weights == ("fc/kernel", "fc/bias")
    assert report.left_over_keys == ("fc.weight", "fc.bias")
    assert_balanced(report, state, model)


def test_name_map_leaves_alone_what_has_no_table():
    data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    scaling = layers.Normalization(name="scaling")
    scaling.adapt(data)
    model = keras.Sequential([keras.Input((3,)), scaling, layers.Dense(2, name="fc")])
    state = state_of(nn.ModuleDict({"fc": nn.Linear(3, 2)}))
    with pytest.raises(ValueError, match=r"'scaling' cannot be ported: .*name_map"):
        port_weights(state, model)
    report = port_weights(state, model, name_map={"scaling": None})
    assert len(report.left_over_weights) == len(scaling.weights)


def test_layer_with_layers_as_attributes():
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, Stem()(inputs))
    module = randomise(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    )
    state = state_of(module, "blocks.")
    assert_balanced(port_weights(state, model), state, model)
    assert difference(module, model, inputs_of(2, 3, 6, 6)) < TOLERANCE


def test_shared_layer_is_filled_once():
    shared = layers.Dense(3, name="a")
    first, second = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([first, second], layers.Add()([shared(first), shared(second)]))
    state = state_of(nn.ModuleDict({"a": nn.Linear(3, 3)}))
    assert_balanced(port_weights(state, model), state, model)


def test_subclass_of_a_stock_layer():
    class Named(layers.Conv2D):
        pass

    module, layer = randomise(nn.Conv2d(3, 4, 3)), Named(4, 3)
    layer.build((None, 6, 6, 3))
    port_weights(state_of(module), layer)
    assert difference(module, layer, inputs_of(1, 3, 6, 6)) < TOLERANCE


def test_repeated_port_gives_the_same():
    module, model = randomise(Net()), functional()
    port_weights(state_of(module), model)
    first = values(model)
    assert port_weights(state_of(module), model) == port_weights(state_of(module), model)
    assert all(np.array_equal(a, b) for a, b in zip(first, values(model), strict=True))


# Port report


def test_port_report_says_where_everything_went():
    module, model = randomise(Net()), functional()
    state = state_of(module)
    report = port_weights(state, model)
    by_weight = {record.weight: record for record in report.weights}
    kernel = by_weight["features.1/pointwise_kernel"]
    assert kernel.keys == tuple(f"features.1.subspaces.{i}.conv_point.weight" for i in range(4))
    assert kernel.shape == (1, 1, 2, 4)
    by_key = {record.key: record for record in report.sources}
    assert by_key["features.0.0.weight"].weight == "features.0.0/kernel"
    assert "O,I" in by_key["features.0.0.weight"].detail
    assert by_key["features.0.1.num_batches_tracked"].status == "counter"
    assert by_key["features.0.1.num_batches_tracked"].weight is None


def test_port_report_is_immutable_json_and_a_table():
    state = state_of(randomise(Net())) | {"aux.weight": np.ones((2, 3), "float32")}
    model = functional()
    report = port_weights(state, model, strict=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.warnings = ()
    told = json.loads(json.dumps(report.to_dict()))
    assert [record["key"] for record in told["sources"]] == list(state)
    assert len(told["weights"]) == len(model.weights)
    text = str(report)
    assert all(record.weight in text for record in report.weights)
    assert "features.1.subspaces.{0..3}.conv_dws.weight" in text
    assert "aux.weight" in text
    assert max(map(len, text.splitlines())) < 160


# Finding ULSAM


def test_find_ulsam_from_names_and_shapes():
    class Info:
        def __init__(self, name, shape):
            self.name, self.shape = name, shape

    modules = {
        "": torch_reference.ULSAM(8, 2),
        "body.17.": torch_reference.ULSAM(64, 4),
        "x.": torch_reference.SubSpace(6),
        "c.": nn.Conv2d(3, 4, 3),
    }
    state = {k: v for prefix, m in modules.items() for k, v in state_of(m, prefix).items()}
    expected = [
        UlsamSite("", 8, 2, ("subspaces.0", "subspaces.1")),
        UlsamSite("body.17", 64, 4, tuple(f"body.17.subspaces.{i}" for i in range(4))),
        UlsamSite("x", 6, 1, ("x",)),
    ]
    assert find_ulsam(state) == expected
    assert find_ulsam(Info(name, array.shape) for name, array in state.items()) == expected


@pytest.mark.parametrize(
    "name", ["conv_dws.weight", "a.conv_dws.weight", "subspaces.0.bn_dws.bias"]
)
def test_find_ulsam_is_not_misled_by_one_name(name):
    assert find_ulsam({name: np.ones((4, 1, 1, 1), "float32")}) == []


def test_two_digit_subspaces_keep_their_order():
    module = randomise(torch_reference.ULSAM(24, 12))
    state = dict(sorted(state_of(module).items()))  # 0, 1, 10, 11, 2 ...
    layer = built(ULSAM(12), 24)
    port_weights(state, layer)
    assert difference(module, layer, inputs_of(1, 24, 4, 4)) < TOLERANCE


# Warnings


def early(trained=True, counters=True):
    module = randomise(torch_reference.ULSAM(8, 2))
    for part in module.subspaces:
        nn.init.ones_(part.bn_dws.weight)
        nn.init.zeros_(part.bn_dws.bias)
        part.bn_dws.num_batches_tracked.fill_(100 if trained else 0)
    state = state_of(module, "u.")
    if not counters:
        state = {key: v for key, v in state.items() if "num_batches" not in key}
    return state


@pytest.mark.parametrize("counters", [True, False], ids=["counted", "before PyTorch 0.4.1"])
def test_dead_depthwise_branch_warns(counters):
    with pytest.warns(UserWarning, match="at 'u' has been trained.*got no gradient") as caught:
        report = port_weights(early(counters=counters), built(ULSAM(2), 8), prefix="u")
    assert report.warnings == tuple(str(w.message) for w in caught)
    assert caught[0].filename == __file__


def test_untrained_or_touched_branch_does_not_warn():
    assert port_weights(early(trained=False), built(ULSAM(2), 8)).warnings == ()
    state = early()
    state["u.subspaces.1.bn_dws.bias"][2] = 1e-7
    assert port_weights(state, built(ULSAM(2), 8)).warnings == ()


def test_default_epsilon_of_keras_warns():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.BatchNormalization(name="a"),
            layers.BatchNormalization(name="b", epsilon=1e-5, momentum=0.7),
        ]
    )
    state = state_of(nn.ModuleDict({"a": nn.BatchNorm2d(3), "b": nn.BatchNorm2d(3)}))
    with pytest.warns(UserWarning, match="epsilon of 1e-3: 'a'. PyTorch"):
        port_weights(state, model)
    a, b = model.layers
    assert (a.epsilon, a.momentum, b.epsilon, b.momentum) == (1e-3, 0.99, 1e-5, 0.7)


def alone(**options):
    layer = layers.Conv2D(8, strides=2, padding="same", **options)
    layer.build((None, None, None, 3))
    return layer


def subclassed():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.pool = layers.Conv2D(8, 3), layers.MaxPooling2D(3, 2, "same")

        def call(self, x):
            return self.pool(self.conv(x))

    model = Net()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


class Block(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(8, 3, strides=2, padding="same")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)


def of_block():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, Block(name="block")(inputs))


@pytest.mark.parametrize(
    "make, size, name",
    [
        (lambda: alone(kernel_size=3, name="conv"), 3, "'conv'"),
        (lambda: alone(kernel_size=2, name="conv"), 2, "'conv'"),
        (lambda: alone(kernel_size=1), 1, ""),
        (subclassed, 3, "'max_pooling2d"),
        (of_block, 3, "'block/conv'"),
    ],
    ids=["3 at 2", "2 at 2", "1 at 2", "a pool of a subclass", "inside of a layer"],
)
def test_where_no_size_is_known_padding_that_may_be_uneven_warns(make, size, name):
    layer, module = make(), nn.Conv2d(3, 8, size)
    state = state_of(module, "conv." if isinstance(layer, keras.Model) else "")
    if name:
        with pytest.warns(UserWarning, match=f"pad one side by more than the other: {name}"):
            port_weights(state, layer)
    else:
        assert port_weights(state, layer).warnings == ()


def test_a_layer_that_is_left_alone_is_not_warned_of():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="own")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="a")(x))
    report = port_weights(state_of(nn.Conv2d(8, 4, 1), "a."), model, name_map={"own": None})
    assert [(r.layer, dict(r.settings)) for r in report.settings] == [
        ("a", {"stride": 1, "padding": "valid", "dilation": 1})
    ]


# Imports


def test_the_room_imports_no_framework():
    code = (
        "import sys, converters.pytorch; "
        "print([m for m in ('keras', 'tensorflow', 'torch', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ported_weights_are_the_models_own():
    module, layer = randomise(nn.Conv2d(3, 3, 1)), layers.Conv2D(3, 1)
    layer.build((None, 4, 4, 3))
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    port_weights(state, layer)
    before = values(layer)
    with torch.no_grad():
        module.weight.add_(1.0)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(layer), strict=True))
