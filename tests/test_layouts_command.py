"""`ulsam-keras convert` and `inspect` on the checkpoints of whole networks, without options."""

import json

import keras
import numpy as np
import pytest
import torch

from torch_networks import MarvisV1, TonylinsV2, TorchvisionV2, randomise


def record(network, folder, size, count=4):
    """The checkpoint of a network and a recording of it."""
    randomise(network)
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, folder / "net.pth")
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network(images)
    np.savez(folder / "recorded.npz", inputs=images.numpy(), outputs=logits.numpy())
    return folder / "net.pth", ("--reference", folder / "recorded.npz")


@pytest.mark.parametrize(
    ("network", "size", "words"),
    [
        (
            TorchvisionV2(0.35, 10, {}, {12: 4, 13: 4, 15: 4, 16: 4}),
            64,
            "torchvision MobileNetV2, alpha≈0.35, 10 classes, ULSAM (g=4) instead of blocks 12, 13",
        ),
        pytest.param(
            TorchvisionV2(1.0, 1000, {}, {12: 4, 13: 4, 15: 4, 16: 4}),
            224,
            "torchvision MobileNetV2, alpha≈1.0, 1000 classes, ULSAM (g=4) instead of blocks 12",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            TonylinsV2(1.0, 1000, {14: 4}, {13: 2}),
            224,
            "tonylins MobileNetV2, alpha≈1.0, 1000 classes, ULSAM after block 14 (g=4)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            MarvisV1(1.0, 1000, {}, {11: 4}),
            224,
            "marvis MobileNetV1, alpha≈1.0, 1000 classes, ULSAM (g=4) instead of block 11",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["small", "torchvision", "tonylins", "marvis"],
)
def test_from_checkpoint_to_verified_files(command, tmp_path, network, size, words):
    checkpoint, reference = record(network, tmp_path, size)
    out = tmp_path / "out"
    sized = () if size == 224 else ("--input-size", size)
    status, text, err = command("convert", checkpoint, "-o", out, *sized, *reference)
    assert (status, err) == (0, "")
    assert words in " ".join(text.split())
    report = json.loads((out / "report.json").read_text())
    assert report["holds"] and not report["warnings"]
    assert {s["status"] for s in report["port_report"]["sources"]} == {"ported", "counter"}
    compared = {(c["subject"], c["reference"]) for c in report["comparisons"]}
    assert {("keras", "pytorch"), ("float32", "pytorch"), ("float16", "pytorch")} <= compared
    names = {layer.name for layer in keras.saving.load_model(out / "model.keras").layers}
    assert {"stem_conv", "block_1_depthwise", "classifier"} <= names


@pytest.mark.slow
def test_sites_are_asked_for_and_taken(command, tmp_path):
    checkpoint, reference = record(TorchvisionV2(0.75, 5, {5: 4}, {3: 4}), tmp_path, 32)
    options = ("--input-size", 32, "--precision", "float32", *reference)
    out = tmp_path / "out"
    status, _, err = command("convert", checkpoint, "-o", out, *options)
    assert status == 2 and err.count("\n") == 1
    assert "--sites" in err and "after:5,instead:3 or after:2,instead:5" in err
    assert not out.exists()
    for sites, expected in [("after:2,instead:5", 1), ("after:5,instead:3", 0)]:
        status, _, err = command("convert", checkpoint, "-o", out, *options, "--sites", sites)
        assert (status, err) == (expected, "")


def test_input_too_small(command, tmp_path):
    checkpoint, _ = record(TorchvisionV2(0.35, 5), tmp_path, 32)
    status, _, err = command("convert", checkpoint, "-o", tmp_path / "out", "--input-size", 31)
    assert status == 2 and err.count("\n") == 1
    assert "at least 32" in err and "31" in err
    assert not (tmp_path / "out").exists()


def test_inspect_tells_the_network(command, tmp_path):
    network = TorchvisionV2(0.35, 5, {3: 4})
    checkpoint, _ = record(network, tmp_path, 32)
    description = "torchvision MobileNetV2, alpha≈0.35, 5 classes, ULSAM (g=4) after block 3"
    status, text, _ = command("inspect", checkpoint)
    assert status == 0 and text.splitlines()[-1].endswith(description)
    assert json.loads(command("inspect", checkpoint, "--json")[1])["network"] == description
    state = network.state_dict()
    torch.save({k: v for k, v in state.items() if "features.9." not in k}, tmp_path / "bad.pth")
    status, text, _ = command("inspect", tmp_path / "bad.pth")
    assert status == 0 and "'features.9'" in text.splitlines()[-1]
