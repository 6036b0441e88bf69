"""The Keras model that `resolve` finds for the checkpoint of a whole network."""

import keras
import numpy as np
import pytest

from converters import port_weights
from converters.architecture import resolve
from recorded_networks import shapes, weights
from ulsam_keras.networks import MobileNetV2


def state_of(*arguments):
    return weights(shapes(*arguments))


@pytest.fixture(scope="module")
def state():
    return state_of("torchvision", 0.35, 10, {}, {12: 8, 13: 4})


def port(state, architecture):
    return port_weights(
        state,
        architecture.target,
        prefix=architecture.prefix,
        name_map=architecture.name_map,
    )


def saved(folder, **options):
    model = MobileNetV2((64, 64, 3), 0.35, classifier_activation=None, **options)
    model.save(folder / "own.keras")
    return str(folder / "own.keras")


def test_a_recognised_network_needs_no_options(state):
    found = resolve(state)
    assert found.description == (
        "torchvision MobileNetV2, alpha≈0.35, 10 classes, "
        "ULSAM instead of blocks 12 (g=8), 13 (g=4)"
    )
    assert found.model.input_shape == (None, 224, 224, 3)
    assert found.model.get_layer("classifier").activation is keras.activations.linear
    assert not port(state, found).left_over_weights
    assert resolve(state, input_size=(32, 48)).model.input_shape == (None, 32, 48, 3)


def test_under_a_prefix(state):
    inner = {f"net.{key}": value for key, value in state.items()}
    assert port(inner, resolve(inner)).summary() == port(state, resolve(state)).summary()
    inner["head.weight"] = np.zeros((3, 10), "float32")
    assert not port(inner, resolve(inner, prefix="net")).left_over_weights


def test_a_ulsam_of_a_network_alone(state):
    found = resolve(state, prefix="features.12")
    assert found.description == "one ULSAM, 32 channels, 8 splits"
    assert not port(state, found).left_over_weights


def test_input_too_small(state):
    with pytest.raises(ValueError, match=r"at least 32.*Received: .*\(31, 64, 3\)"):
        resolve(state, input_size=(31, 64))


def test_sites_are_asked_for_and_followed():
    state = state_of("torchvision", 0.75, 10, {5: 4}, {3: 4})
    with pytest.raises(ValueError, match="`converters.export_program`.*`sites="):
        resolve(state)
    model = resolve(state, sites="after:5,instead:3", input_size=(32, 32)).model
    names = {layer.name for layer in model.layers}
    assert {"block_3_ulsam", "block_5_ulsam", "block_5_expand"} <= names
    assert "block_3_expand" not in names


def test_sites_without_a_recognised_network(state, tmp_path):
    with pytest.raises(ValueError, match="`sites` is for networks recognised"):
        resolve({"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3))}, sites="after:3")
    with pytest.raises(ValueError, match="`sites` is for networks recognised"):
        resolve(state, source=saved(tmp_path), sites="after:3")


def test_another_network():
    names = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.downsample.0")
    resnet = {f"{name}.weight": np.zeros((8, 8, 3, 3), "float32") for name in names}
    with pytest.raises(ValueError, match="torchvision MobileNetV2.*`model`.*'conv1.weight'"):
        resolve(resnet)


@pytest.mark.parametrize("after", [{}, {14: 4}], ids=["one kind of sites", "both"])
def test_own_model_with_the_layer_names_of_ours(tmp_path, after):
    state = state_of("torchvision", 0.35, 10, after, {12: 8})
    splits = {12: 8} | after
    own = saved(
        tmp_path, classes=10, ulsam_after=(*after,), ulsam_instead_of=(12,), num_splits=splits
    )
    report = port(state, resolve(state, source=own))
    assert not report.left_over_keys and not report.left_over_weights


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 7}, "a classifier of 10 classes where the model has 7"),
        ({"num_splits": 4}, "has 8 subspaces and 32 channels"),
        (
            {"ulsam_instead_of": (13, 16), "num_splits": 4},
            "'block_12_expand.weight'.*'features.12.subspaces",
        ),
    ],
)
def test_own_model_that_does_not_fit(state, tmp_path, options, words):
    ours = {"classes": 10, "ulsam_instead_of": (12, 13), "num_splits": {12: 8, 13: 4}}
    own = saved(tmp_path, **ours | options)
    with pytest.raises(ValueError, match=words):
        port(state, resolve(state, source=own))


def test_own_model_of_another_family(state, tmp_path):
    other = state_of("wjc852456", 0.25, 10)
    with pytest.raises(ValueError, match="does not fit"):
        port(other, resolve(other, source=saved(tmp_path, classes=10)))
