"""The arguments, names, sizes and files of MobileNetV1 and MobileNetV2."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from ulsam_keras import ULSAM, attention_maps
from ulsam_keras.networks import MobileNetV1, MobileNetV2, block_output_names

NETWORKS = [MobileNetV1, MobileNetV2]
BLOCKS = {MobileNetV1: 13, MobileNetV2: 17}
# From the papers' tables: stride 1 and as many channels out as in.
REPLACEABLE = {
    MobileNetV1: [3, 5, 7, 8, 9, 10, 11, 13],
    MobileNetV2: [3, 5, 6, 8, 9, 10, 12, 13, 15, 16],
}


def small(network, **kwargs):
    return network(**{"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 5} | kwargs)


def names(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize("network", NETWORKS)
def test_exactly_the_shape_keeping_blocks_can_be_replaced(network):
    replaceable = []
    # The widths of alpha 1, halved, so that no two unlike ones come to be rounded to the same.
    for block in range(1, BLOCKS[network] + 1):
        try:
            small(network, alpha=0.5, ulsam_instead_of=(block,))
        except ValueError as error:
            listed = ", ".join(map(str, REPLACEABLE[network]))
            assert f"can be replaced: {listed}." in str(error)
            assert str(error).endswith(f"Received: ulsam_instead_of=({block},)")
        else:
            replaceable.append(block)
    assert replaceable == REPLACEABLE[network]


@pytest.mark.parametrize("network", NETWORKS)
def test_after_and_instead_of_put_the_ulsam_where_they_say(network):
    plain = names(small(network))
    after = names(small(network, ulsam_after=(5,)))
    where = after.index("block_5_ulsam")
    assert after[:where] + after[where + 1 :] == plain
    assert after[where + 1].startswith("block_6_")
    assert after[where - 1].startswith("block_5_")

    instead = names(small(network, ulsam_instead_of=(5,)))
    assert [name for name in instead if name.startswith("block_5_")] == ["block_5_ulsam"]
    where = instead.index("block_5_ulsam")
    assert instead[:where] == [n for n in plain[: plain.index(plain[where])]]
    assert instead[where + 1 :] == plain[len(plain) - len(instead) + where + 1 :]


def test_splits_can_differ_by_block():
    model = small(
        MobileNetV2, ulsam_after=(14,), ulsam_instead_of=[12, 8], num_splits={8: 1, 12: 8, 14: 5}
    )
    layers = {layer.name: layer.num_splits for layer in model.layers if isinstance(layer, ULSAM)}
    assert layers == {"block_8_ulsam": 1, "block_12_ulsam": 8, "block_14_ulsam": 5}


@pytest.mark.parametrize("network", NETWORKS)
def test_block_output_names_lead_through_the_network(network):
    model = small(network, ulsam_after=(1,), ulsam_instead_of=(5,))
    ends = block_output_names(model)
    head = ["head"] if network is MobileNetV2 else []
    assert list(ends) == ["stem", *(f"block_{i}" for i in range(1, BLOCKS[network] + 1)), *head]
    assert ends["block_1"] == "block_1_ulsam"
    assert ends["block_5"] == "block_5_ulsam"
    sizes = [model.get_layer(name).output.shape[1] for name in ends.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 16
    assert sizes[-1] == 1


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        ({"include_top": False}, (None, 2, 3)),
        ({"include_top": False, "pooling": "avg"}, (None,)),
        ({"include_top": False, "pooling": "max"}, (None,)),
        ({"classes": 7}, (None, 7)),
    ],
)
def test_backbones_and_classifiers(network, kwargs, shape):
    model = small(network, input_shape=(64, 70, 3), **kwargs)
    if not kwargs.get("include_top", True):
        shape = (*shape, 256 if network is MobileNetV1 else 1280)
    assert model.output_shape == shape


def test_unknown_sizes_take_any_image():
    model = small(MobileNetV2, input_shape=(None, None, 3), ulsam_instead_of=(12,))
    for size in ((32, 32), (45, 64)):
        assert model(np.zeros((1, *size, 3), "float32")).shape == (1, 5)


@pytest.mark.filterwarnings("error")
def test_a_map_of_one_position_is_no_mistake():
    """Keras warns of a softmax over one value; the attention of one position is 1."""
    model = small(MobileNetV2, ulsam_after=(17,))
    assert model.get_layer("block_17_ulsam").output.shape[1:3] == (1, 1)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    model(image, training=True)
    (attention,) = attention_maps(model, image).values()
    np.testing.assert_array_equal(attention, 1.0)


def test_dropout_and_activation():
    assert small(MobileNetV2).get_layer("dropout").rate == 0.2
    assert small(MobileNetV1, dropout=0.3).get_layer("dropout").rate == 0.3
    assert "dropout" not in names(small(MobileNetV1, dropout=0))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    np.testing.assert_allclose(np.sum(small(MobileNetV2)(image)), 1.0, rtol=1e-5)
    logits = small(MobileNetV2, classifier_activation=None)
    assert logits.get_layer("classifier").activation is keras.activations.linear


def test_an_input_tensor_puts_the_network_behind_other_layers():
    image = keras.Input((32, 32, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    model = small(MobileNetV2, input_tensor=scaled)
    assert model.input.name == "pixels"
    bare = small(MobileNetV2)
    bare.set_weights(model.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    np.testing.assert_allclose(model(pixels), bare(pixels / 127.5 - 1), rtol=1e-5)


def test_channels_are_last_whatever_keras_is_set_to():
    keras.config.set_image_data_format("channels_first")
    try:
        model = small(MobileNetV2, ulsam_after=(3,))
        pooled = small(MobileNetV1, include_top=False, pooling="max")
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.get_layer("block_3_ulsam").output.shape == (None, 8, 8, 8)
    assert pooled.output_shape == (None, 256)


def test_the_normalizations_are_pytorchs():
    layers = small(MobileNetV2).layers
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 52
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}


def test_weights_from_a_file(tmp_path):
    sites = {"ulsam_after": (3,), "ulsam_instead_of": (12,)}
    model = small(MobileNetV2, **sites)
    path = tmp_path / "network.weights.h5"
    model.save_weights(path)
    for weights in (path, str(path)):
        again = small(MobileNetV2, weights=weights, **sites)
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_saved_network_loads_in_another_process(tmp_path):
    model = small(MobileNetV1, ulsam_after=(2,), ulsam_instead_of=(11,))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    script = (
        "import sys, keras, numpy as np, ulsam_keras\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')\n"
        "np.save(sys.argv[1] + '/out.npy', model(np.load(sys.argv[1] + '/image.npy')))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model(image), rtol=1e-5)


BAD = [
    ({"alpha": 0}, "`alpha` must be greater than 0. Received: alpha=0"),
    ({"alpha": -1.0}, "Received: alpha=-1.0"),
    ({"alpha": "1"}, "Received: alpha='1'"),
    ({"alpha": float("nan")}, "Received: alpha=nan"),
    ({"input_shape": (31, 32, 3)}, "H and W at least 32 or None, and C known. Received: inp"),
    ({"input_shape": (32, 32)}, "Received: input_shape=(32, 32)"),
    ({"input_shape": (32, 32, None)}, "Received: input_shape=(32, 32, None)"),
    ({"input_shape": 224}, "C known, (224, 224, 3) for colour images. Received: input_shape=224"),
    ({"input_shape": (224.0, 224.0, 3)}, "Received: input_shape=(224.0, 224.0, 3)"),
    ({"input_shape": ("224", "224", 3)}, "Received: input_shape=('224', '224', 3)"),
    ({"input_shape": (32, 32, -3)}, "Received: input_shape=(32, 32, -3)"),
    ({"pooling": "mean"}, "`pooling` must be None, 'avg' or 'max'. Received: pooling='mean'"),
    ({"classes": 0}, "`classes` must be at least 1. Received: classes=0"),
    ({"weights": "imagenet"}, "Received: weights='imagenet'"),
    ({"weights": "missing.weights.h5"}, "existing `.weights.h5` file"),
    ({"ulsam_after": (0,)}, "block numbers from 1 to 17. Received: ulsam_after=(0,)"),
    ({"ulsam_after": (18,)}, "from 1 to 17. Received: ulsam_after=(18,)"),
    ({"ulsam_after": (3, 3)}, "different block numbers from 1 to 17. Received: ulsam_after=(3, 3)"),
    ({"ulsam_after": 3}, "must be a tuple of different block numbers"),
    ({"ulsam_after": ("3",)}, "Received: ulsam_after=('3',)"),
    ({"ulsam_instead_of": (4.0,)}, "Received: ulsam_instead_of=(4.0,)"),
    ({"ulsam_instead_of": (2,)}, "block 2 (stride 2, 8 to 8 channels)"),
    (
        {"ulsam_after": (3,), "ulsam_instead_of": (3,)},
        "Block 3 is in `ulsam_after` and in `ulsam_instead_of`; choose one of them.",
    ),
    (
        {"ulsam_after": (12,), "num_splits": 16},
        "at block 12 has 24 channels, so its num_splits must be one of 1, 2, 3, 4, 6, 8, 12, 24. "
        "Received: num_splits=16",
    ),
    ({"ulsam_after": (12,), "num_splits": 0}, "Received: num_splits=0"),
    ({"ulsam_after": (12,), "num_splits": 2.0}, "Received: num_splits=2.0"),
    ({"ulsam_after": (12, 3), "num_splits": {12: 4}}, "it lacks [3]. Received: num_splits={12: 4}"),
    ({"ulsam_after": (12,), "num_splits": {12: 4, 5: 4}}, "it names [5] in vain."),
    (
        {"ulsam_after": (12, 3), "num_splits": [4, 8]},
        "a mapping from block to number, {3: 4, 12: 4} for example. Received: num_splits=[4, 8]",
    ),
    ({"widths": (32,) * 18}, "`widths` must be 19 positive integers: stem, 17 bottlenecks, head."),
    ({"widths": (0,) * 19}, "Received: widths=(0, 0"),
    ({"hidden_widths": (32,) * 18}, "`hidden_widths` must be 17 positive integers"),
]


@pytest.mark.parametrize(("kwargs", "message"), BAD)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        small(MobileNetV2, **kwargs)
    assert "\n" not in str(caught.value)
    assert ". Received: " in str(caught.value)
