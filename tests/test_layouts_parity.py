"""Networks of other people's code, saved by PyTorch, recognised, ported: every block is equal."""

import zipfile

import keras
import numpy as np
import pytest
import torch

from checkpoint_files import TORCH_FORMATS
from converters import load_checkpoint, port_weights
from converters.pytorch.layouts import recognise
from recorded_networks import CASES, case, samples
from ulsam_keras.networks import block_output_names

# Of the largest value: float32 rounding through 54 convolutions, each summed in another order.
TOLERANCE = 1e-4
# Of the largest value: what an output of random weights varies by at least if it is not dead.
ALIVE = 1e-2
KINDS = ("after", "instead")


def through_a_file(state, folder, file_format="zip"):
    path = folder / "network.pth"
    TORCH_FORMATS[file_format]({k: torch.from_numpy(v) for k, v in state.items()}, path)
    assert zipfile.is_zipfile(path) == (file_format == "zip")
    return load_checkpoint(path)


def ported(state, size, sites=None):
    """What a state dict is recognised as, and its Keras model, filled."""
    found = recognise(state, sites=sites)
    model = found.build(size)
    report = port_weights(state, model, prefix=found.prefix, name_map=found.name_map)
    assert not report.left_over_keys and not report.left_over_weights
    assert {r.status for r in report.sources} == {"ported", "counter"}
    return found, model


def stage_outputs(model, images):
    """What every stage and the classifier give, in PyTorch's layout."""
    stages = {s: model.get_layer(name).output for s, name in block_output_names(model).items()}
    cut = keras.Model(model.input, stages | {"logits": model.output})
    outputs = cut(images.transpose(0, 2, 3, 1), training=False)
    values = {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
    return {k: v.transpose(0, 3, 1, 2) if v.ndim == 4 else v for k, v in values.items()}


def difference(ours, theirs, largest):
    """Of the largest value, where PyTorch's outputs differ from sample to sample."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(theirs[0] - theirs[1]).max() > ALIVE * largest > 0
    return float(np.abs(ours - theirs).max() / largest)


def largest(values):
    return float(np.abs(values).max())


@pytest.mark.parametrize(
    ("network", "file_format"),
    [
        pytest.param(
            network,
            list(TORCH_FORMATS)[number % 2],
            id=network.name,
        )
        for number, network in enumerate(CASES)
    ],
)
def test_every_block_is_equal(network, file_format, tmp_path):
    state = through_a_file(network.state, tmp_path, file_format)
    found, model = ported(state, network.size, told(network))
    assert (found.classes, *model.output.shape) == (network.classes, None, network.classes)
    assert (found.ulsam_after, found.ulsam_instead_of) == network.sites
    ours, recorded = stage_outputs(model, network.images), network.recorded
    logits = ours.pop("logits")
    differences = {
        name: max(
            difference(samples(ours[name]), stage["samples"], stage["largest"]),
            abs(largest(ours[name]) / stage["largest"] - 1),
        )
        for name, stage in recorded["stages"].items()
    }
    assert set(ours) == set(differences)
    differences["logits"] = difference(logits, recorded["logits"], largest(recorded["logits"]))
    drifting = [name for name, value in differences.items() if not value <= TOLERANCE]
    assert not drifting, f"{drifting[0]} drifts first: {differences}"


def told(network):
    """The sites, of a network that has both kinds."""
    after, instead = ([f"{k}:{n}" for n in s] for k, s in zip(KINDS, network.sites, strict=True))
    return ",".join(after + instead) if after and instead else None


def test_other_sites_that_fit_the_keys_are_another_network(tmp_path):
    network = case("torchvision", 0.75, after={5: 4})
    theirs = network.recorded["logits"]
    _, model = ported(through_a_file(network.state, tmp_path), network.size, "after:2,instead:5")
    ours = stage_outputs(model, network.images)["logits"]
    assert difference(ours, theirs, largest(theirs)) > 100 * TOLERANCE


def test_without_classifier_and_of_one_channel(tmp_path):
    network = case("torchvision", 0.35, size=(64, 64))
    state = {k.removeprefix("features."): v for k, v in network.state.items()}
    state = {k: v for k, v in state.items() if not k.startswith("classifier")}
    # The same grey in three channels.
    state["0.0.weight"] = state["0.0.weight"].sum(1, keepdims=True)
    _, model = ported(through_a_file(state, tmp_path), (64, 64))
    assert model.input_shape == (None, 64, 64, 1)
    _, whole = ported(network.state, (64, 64))
    body = keras.Model(whole.input, whole.get_layer(block_output_names(whole)["head"]).output)
    grey = network.images[:, :1].transpose(0, 2, 3, 1)
    expected = keras.ops.convert_to_numpy(body(np.repeat(grey, 3, axis=-1)))
    ours = keras.ops.convert_to_numpy(model(grey))
    assert largest(ours - expected) <= TOLERANCE * largest(expected)
