"""The count of parameters and multiply-adds, against PyTorch's modules and hand calculation."""

import keras
import pytest
from keras import layers

from recorded_networks import CASES
from ulsam_keras import ULSAM
from ulsam_keras.networks import MobileNetV1, MobileNetV2, count

NETWORKS = {"torchvision": MobileNetV2, "wjc852456": MobileNetV1}


@pytest.mark.parametrize(
    "network",
    [c for c in CASES if c.source in NETWORKS and c.alpha < 1],
    ids=lambda c: c.name,
)
def test_networks_count_what_pytorchs_have(network):
    model = NETWORKS[network.source](
        (*network.size, 3),
        network.alpha,
        classes=network.classes,
        ulsam_after=tuple(network.after),
        ulsam_instead_of=tuple(network.instead_of),
        num_splits={**network.after, **network.instead_of},
    )
    exact, paper = count(model), count(model, "paper")
    assert exact.parameters == network.recorded["parameters"]
    assert exact.parameters + exact.statistics == model.count_params()
    products = network.recorded["multiply_adds"]
    # PyTorch's hooks see the two convolutions of a ULSAM, which are what the paper counts.
    assert paper.multiply_adds == products
    elements = sum(
        layer.output.shape[1] * layer.output.shape[2] * layer.output.shape[3]
        for layer in model.layers
        if isinstance(layer, ULSAM)
    )
    assert exact.multiply_adds == products + elements


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "multiply_adds"),
    [
        (layers.Conv2D(8, 3, strides=2, padding="same"), (9, 9, 4), 8 * 36 + 8, 25 * 8 * 36),
        (layers.Conv2D(8, 3, groups=2), (9, 9, 4), 8 * 18 + 8, 49 * 8 * 18),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 6, 4), 72 + 8, 12 * 72),
        (layers.SeparableConv2D(5, 3, use_bias=False), (5, 5, 4), 36 + 20, 9 * 56),
        (layers.Conv2DTranspose(3, 2, strides=2), (4, 4, 5), 60 + 3, 16 * 60),
        (layers.Conv1D(6, 3), (10, 4), 72 + 6, 8 * 72),
        (layers.Dense(7), (3, 4), 35, 3 * 28),
        (layers.BatchNormalization(), (4, 4, 3), 6, 0),
        (ULSAM(4), (5, 6, 8), 5 * 8 + 3 * 4, 3 * 5 * 6 * 8),
    ],
)
def test_one_layer_by_hand(layer, shape, parameters, multiply_adds):
    counted = count(keras.Sequential([keras.Input(shape), layer]))
    (row,) = counted.layers
    assert (row.parameters, row.multiply_adds) == (parameters, multiply_adds)
    assert (row.name, row.kind) == (layer.name, type(layer).__name__)


def test_channels_first_counts_the_same_positions():
    layer = layers.Conv2D(8, 1, data_format="channels_first", use_bias=False)
    counted = count(keras.Sequential([keras.Input((4, 5, 6)), layer]))
    assert counted.multiply_adds == 5 * 6 * 4 * 8


def test_freezing_changes_no_count():
    model = MobileNetV2((32, 32, 3), 0.35, classes=3, ulsam_after=(3,))
    before = count(model)
    model.trainable = False
    assert count(model) == before


def test_shared_layers_count_their_weights_once_and_their_work_every_time():
    shared = layers.Conv2D(4, 1, use_bias=False, name="shared")
    x = keras.Input((8, 8, 4))
    counted = count(keras.Model(x, shared(layers.AveragePooling2D(2)(shared(x)))))
    (row,) = counted.layers
    assert (row.parameters, row.multiply_adds) == (16, (64 + 16) * 16)


def test_nested_models_are_counted_layer_by_layer():
    inner = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1, name="conv")])
    inner.name = "inner"
    x = keras.Input((6, 6, 3))
    counted = count(keras.Model(x, layers.GlobalAveragePooling2D()(inner(x))))
    assert [(row.name, row.multiply_adds) for row in counted.layers] == [("inner/conv", 36 * 12)]


def test_unknown_sizes_need_an_input_shape():
    model = MobileNetV2((None, None, 3), 0.35, include_top=False)
    with pytest.raises(ValueError, match="'stem_conv' works on a shape with unknown sizes; give"):
        count(model)
    fixed = count(MobileNetV2((64, 96, 3), 0.35, include_top=False))
    assert count(model, input_shape=(64, 96, 3)) == fixed


def test_counting_leaves_the_model_as_it_is():
    model = MobileNetV2((32, 32, 3), 0.35, classes=3, ulsam_after=(3,))
    before = [layer.output for layer in model.layers], model.to_json()
    count(model)
    assert all(layer.output is out for layer, out in zip(model.layers, before[0], strict=True))
    assert model.to_json() == before[1]


def test_the_table_has_every_layer_and_the_totals():
    counted = count(MobileNetV1((32, 32, 3), 0.25, classes=3, ulsam_instead_of=(5,)))
    lines = str(counted).splitlines()
    assert lines[0].split() == [
        "layer",
        "kind",
        "output",
        "parameters",
        "statistics",
        "multiply-adds",
    ]
    assert [line.split()[0] for line in lines[2:-2]] == [row.name for row in counted.layers]
    assert lines[-1].split()[-1].replace(",", "") == str(counted.multiply_adds)
    (ulsam,) = (line for line in lines if line.startswith("block_5_ulsam"))
    assert ulsam.split()[-3:] == ["332", "136", "3,072"]


def test_what_cannot_be_counted_is_refused_by_name():
    x = keras.Input((4, 8))
    lstm = keras.Model(x, layers.LSTM(3, name="memory")(x))
    with pytest.raises(ValueError, match="not known.*Received: layer 'memory' of type LSTM"):
        count(lstm)
    product = keras.Model(x, keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))))
    with pytest.raises(ValueError, match="of type Matmul"):
        count(product)
    with pytest.raises(ValueError, match="`convention` must be one of .*Received: convention='x'"):
        count(lstm, "x")
    with pytest.raises(ValueError, match="functional or built Sequential model.*Received: model="):
        count(keras.Sequential([layers.Dense(3)]))
