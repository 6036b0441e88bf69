"""Whole PyTorch networks, saved by PyTorch, recognised and ported: every block's output agrees."""

import zipfile

import keras
import numpy as np
import pytest
import torch
from torch import nn

from checkpoint_files import TORCH_FORMATS
from converters import load_checkpoint, port_weights
from converters.pytorch.layouts import recognise
from torch_networks import MarvisV1, TonylinsV2, TorchvisionV2, randomise
from ulsam_keras.networks import block_output_names

# Of the largest value: float32 rounding through 54 convolutions, each summed in another order.
TOLERANCE = 1e-4
# Of the largest value: what an output of random weights varies by at least if it is not dead.
ALIVE = 1e-2


def through_a_file(network, folder, file_format):
    path = folder / "network.pth"
    TORCH_FORMATS[file_format](network.state_dict(), path)
    assert zipfile.is_zipfile(path) == (file_format == "zip")
    return load_checkpoint(path)


def ported(state, size, **options):
    """The Keras model of a state dict, filled, and the port report."""
    found = recognise(state, **options)
    model = found.build(size)
    report = port_weights(state, model, prefix=found.prefix, name_map=found.name_map)
    assert not report.left_over_keys and not report.left_over_weights
    assert {r.status for r in report.sources} == {"ported", "counter"}
    return found, model


def stage_outputs(network, model, size):
    """The outputs of every stage and the logits: ours and PyTorch's, in the network's order."""
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    stages = {s: model.get_layer(name).output for s, name in block_output_names(model).items()}
    cut = keras.Model(model.input, stages | {"logits": model.output})
    ours = {k: keras.ops.convert_to_numpy(v) for k, v in cut(images, training=False).items()}
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2))
        theirs = network.stage_outputs(x) | {"logits": network(x)}
    order = [*network.stages, "logits"]
    assert set(ours) == set(theirs) == set(order)
    pairs = {}
    for name in order:
        value = theirs[name].numpy()
        pairs[name] = (ours[name], value.transpose(0, 2, 3, 1) if value.ndim == 4 else value)
    return pairs


def assert_equal_everywhere(network, model, size):
    differences = {}
    for name, (ours, theirs) in stage_outputs(network, model, size).items():
        assert ours.shape == theirs.shape
        scale = np.abs(theirs).max()
        assert np.abs(theirs[0] - theirs[1]).max() > ALIVE * scale > 0, f"{name} is dead"
        differences[name] = float(np.abs(ours - theirs).max() / scale)
    drifting = [name for name, difference in differences.items() if not difference <= TOLERANCE]
    assert not drifting, f"{drifting[0]} drifts first: {differences}"
    return differences


def older_tonylins(*args, **options):
    return TonylinsV2(*args, **options, expand_first=True)


slow = pytest.mark.slow
CASES = [
    # layout, alpha, classes, ULSAM after and instead of blocks, file format
    pytest.param(TorchvisionV2, 0.35, 10, {}, {}, "zip"),
    pytest.param(TorchvisionV2, 0.75, 1000, {}, {12: 4, 13: 2, 15: 8, 16: 1}, "legacy"),
    pytest.param(TorchvisionV2, 1.0, 3, {1: 2, 14: 4, 17: 5}, {}, "zip", marks=slow),
    pytest.param(TorchvisionV2, 1.4, 1, {3: 4, 16: 16}, {5: 2, 12: 8}, "zip", marks=slow),
    pytest.param(TonylinsV2, 0.35, 1000, {2: 4, 10: 4}, {}, "legacy"),
    pytest.param(TonylinsV2, 0.75, 7, {7: 1, 11: 9}, {15: 3, 16: 20}, "zip", marks=slow),
    pytest.param(TonylinsV2, 1.0, 1000, {}, {}, "zip", marks=slow),
    pytest.param(older_tonylins, 0.35, 10, {10: 8}, {6: 8, 16: 4}, "zip"),
    pytest.param(older_tonylins, 1.4, 5, {}, {}, "legacy", marks=slow),
    pytest.param(MarvisV1, 0.35, 5, {1: 2, 8: 1}, {3: 4, 13: 2}, "legacy"),
    pytest.param(MarvisV1, 0.75, 1000, {}, {7: 4, 8: 4, 9: 4, 10: 4, 11: 4}, "zip", marks=slow),
    pytest.param(MarvisV1, 1.0, 10, {13: 16}, {}, "zip", marks=slow),
    pytest.param(MarvisV1, 1.4, 2, {}, {}, "zip", marks=slow),
]


@pytest.mark.parametrize(("build", "alpha", "classes", "after", "instead_of", "file"), CASES)
def test_every_block_is_equal(build, alpha, classes, after, instead_of, file, tmp_path):
    network = randomise(build(alpha, classes, after, instead_of))
    found, model = ported(through_a_file(network, tmp_path, file), (64, 64))
    assert (found.classes, *model.output.shape) == (classes, None, classes)
    assert (found.ulsam_after, found.ulsam_instead_of) == (after, instead_of)
    assert_equal_everywhere(network, model, (64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("build", [TorchvisionV2, TonylinsV2, MarvisV1])
def test_full_size(build, tmp_path):
    sites = {11: 4} if build is MarvisV1 else {12: 4, 13: 4, 15: 4, 16: 4}
    network = randomise(build(instead_of=sites))
    _, model = ported(through_a_file(network, tmp_path, "zip"), None)
    assert_equal_everywhere(network, model, (224, 224))


def test_readings_of_one_network_give_its_logits(tmp_path):
    network = randomise(MarvisV1(0.25, 10, {11: 4}, {8: 2}))
    state = through_a_file(network, tmp_path, "zip")
    for sites in ("after:11,instead:8", "after:7,instead:11"):
        _, model = ported(state, (64, 64), sites=sites)
        logits, expected = outputs(network, model)
        assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_the_right_reading_of_two_networks_gives_the_logits(tmp_path):
    network = randomise(TorchvisionV2(0.75, 10, {5: 4}, {3: 4}))
    state = through_a_file(network, tmp_path, "zip")
    differences = {}
    for sites in ("after:5,instead:3", "after:2,instead:5"):
        _, model = ported(state, (64, 64), sites=sites)
        logits, expected = outputs(network, model)
        differences[sites] = np.abs(logits - expected).max() / np.abs(expected).max()
    assert differences["after:5,instead:3"] <= TOLERANCE
    assert differences["after:2,instead:5"] > 100 * TOLERANCE


def test_without_classifier_and_of_one_channel(tmp_path):
    network = TorchvisionV2(0.35, 10, {}, {12: 4})
    network.features[0][0] = nn.Conv2d(1, 16, 3, 2, padding=1, bias=False)
    body = randomise(network).features
    _, model = ported(through_a_file(body, tmp_path, "zip"), (64, 32))
    assert model.input_shape == (None, 64, 32, 1)
    images = np.random.default_rng(0).normal(size=(2, 64, 32, 1)).astype("float32")
    with torch.no_grad():
        expected = body(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    ours = keras.ops.convert_to_numpy(model(images)).transpose(0, 3, 1, 2)
    assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max()


def outputs(network, model):
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    with torch.no_grad():
        expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    return keras.ops.convert_to_numpy(model(images)), expected
