"""The digits example: its checkpoint, its recorded outputs and its PyTorch network belong together.

Imports PyTorch, scikit-learn, NumPy and the example's own files (by path: the examples are not a
package). What the converters make of the checkpoint is tested with the command.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from example_files import DIGITS, imported

LIMIT_BYTES = 3_000_000
LEAST_ACCURACY = 0.97

# Of the largest logit. The reference was made on another processor with another order of sums:
# float32 rounding through the twenty convolutions stays below it, any wrong weight is far above.
LOGIT_TOLERANCE = 1e-5

# Largest over mean attention, averaged over the held-out images: 1 when a group's scores are all
# zero behind their ReLU, so that its attention is the same everywhere.
LEAST_PEAKEDNESS = 2.0
# Share of (image, group) maps in which no position stands out.
MOST_DEAD_MAPS = 0.05


@pytest.fixture(scope="module")
def network_module():
    """The example's network.py, imported as a user who runs train.py would."""
    return imported(DIGITS, "network")[0]


@pytest.fixture(scope="module")
def checkpoint():
    import torch

    return torch.load(DIGITS / "digits_ulsam.pth", weights_only=True)


@pytest.fixture(scope="module")
def reference():
    with np.load(DIGITS / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(network_module, checkpoint):
    network = network_module.DigitsNet()
    network.load_state_dict(checkpoint["state_dict"])
    return network.eval()


def relative_difference(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def logits(network, inputs):
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(inputs)).numpy()


def test_reference_layout(reference):
    n = len(reference["labels"])
    assert reference["inputs"].shape == (n, 3, 32, 32)
    assert reference["outputs"].shape == (n, 10)
    assert reference["inputs"].dtype == reference["outputs"].dtype == np.float32
    assert n >= 300
    assert set(reference["labels"]) == set(range(10))
    # The pictures are 8-bit RGB scaled to [0, 1], so image files can carry them without loss.
    pixels = reference["inputs"] * 255
    np.testing.assert_array_equal(pixels, np.round(pixels))
    assert pixels.min() == 0 and pixels.max() == 255


def test_checkpoint_reproduces_recorded_logits(network, reference):
    actual = logits(network, reference["inputs"])
    assert relative_difference(actual, reference["outputs"]) <= LOGIT_TOLERANCE


def test_recorded_accuracy(checkpoint, reference):
    right = reference["outputs"].argmax(axis=1) == reference["labels"]
    assert right.mean() >= LEAST_ACCURACY
    assert checkpoint["accuracy"] == pytest.approx(right.mean(), rel=1e-12)


def test_held_out_images_are_the_split_train_makes(reference):
    """Guards against a reference that contains pictures the network was trained on."""
    digits = load_digits()
    _, held_out = train_test_split(
        np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0
    )
    np.testing.assert_array_equal(reference["labels"], digits.target[held_out])
    # Block averages of the enlarged picture are the drawing slightly blurred: near enough to it
    # to tell which of the 1797 drawings it is.
    small = reference["inputs"][:, 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)
    drawings = digits.images.reshape(-1, 64) / 16
    nearest = ((small[:, None] - drawings[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == held_out).mean() > 0.95


def test_attention_is_alive(network, network_module, reference):
    import torch

    maps = network_module.attention_maps(network, torch.from_numpy(reference["inputs"]))
    assert list(maps) == ["ulsam1", "ulsam2", "ulsam3"]
    for name, attention in maps.items():
        assert min(attention.shape[2:]) >= 6, name
        peakedness = network_module.peakedness(attention)
        assert peakedness.min() >= LEAST_PEAKEDNESS, f"{name}: {peakedness.tolist()}"
        flat = attention.flatten(start_dim=2)
        dead = (flat.amax(dim=2) == flat.amin(dim=2)).double().mean()
        assert dead <= MOST_DEAD_MAPS, f"{name}: {dead:.3f} of the maps are uniform"


@pytest.mark.parametrize("site", ["ulsam1", "ulsam2", "ulsam3"])
def test_every_site_matters(network, reference, monkeypatch, site):
    """A conversion that loses one attention must show: by far more than any tolerance."""
    import torch

    monkeypatch.setitem(network._modules, site, torch.nn.Identity())
    actual = logits(network, reference["inputs"])
    assert relative_difference(actual, reference["outputs"]) > 100 * LOGIT_TOLERANCE


def test_example_is_small():
    files = [file for file in DIGITS.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert sum(file.stat().st_size for file in files) < LIMIT_BYTES
