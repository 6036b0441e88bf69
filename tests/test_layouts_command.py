"""`ulsam-keras convert` and `inspect` on the checkpoints of whole networks, without options."""

import json

import keras
import numpy as np
import pytest
import torch

from recorded_networks import case, shapes, weights


def save(state, path):
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    torch.save({"state_dict": tensors, "epoch": 3}, path)
    return path


def record(network, folder):
    """The checkpoint of a network and what it was recorded to answer."""
    np.savez(folder / "recorded.npz", inputs=network.images, outputs=network.recorded["logits"])
    checkpoint = save(network.state, folder / "net.pth")
    return checkpoint, ("--reference", folder / "recorded.npz")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            case("torchvision", 0.35, (64, 64)),
            "torchvision MobileNetV2, alpha≈0.35, 10 classes, ULSAM (g=4) instead of blocks 12, 13",
        ),
        pytest.param(
            case("torchvision", 1.0, (224, 224)),
            "torchvision MobileNetV2, alpha≈1.0, 1000 classes, ULSAM (g=4) instead of blocks 12",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["small", "full size"],
)
def test_from_checkpoint_to_verified_files(command, tmp_path, network, words):
    checkpoint, reference = record(network, tmp_path)
    out = tmp_path / "out"
    sized = () if network.size == (224, 224) else ("--input-size", network.size[0])
    status, text, err = command("convert", checkpoint, "-o", out, *sized, *reference)
    assert (status, err) == (0, "")
    assert words in " ".join(text.split())
    report = json.loads((out / "report.json").read_text())
    assert report["passed"] and not report["warnings"]
    assert {s["status"] for s in report["port_report"]["sources"]} == {"ported", "counter"}
    compared = {(c["subject"], c["reference"]) for c in report["comparisons"]}
    assert {("keras", "pytorch"), ("float32", "pytorch"), ("float16", "pytorch")} <= compared
    names = {layer.name for layer in keras.saving.load_model(out / "model.keras").layers}
    assert {"stem_conv", "block_1_depthwise", "classifier"} <= names


@pytest.mark.slow
def test_sites_are_asked_for_and_taken(command, tmp_path):
    checkpoint, reference = record(case("torchvision", 0.75, after={5: 4}), tmp_path)
    options = ("--input-size", 64, "--precision", "float32", *reference)
    out = tmp_path / "out"
    status, _, err = command("convert", checkpoint, "-o", out, *options)
    assert status == 2 and err.count("\n") == 1
    assert "--sites after:3,instead:12" in err and "converters.export_program" in err
    assert not out.exists()
    for sites, expected in [("after:2,instead:5", 1), ("after:5,instead:3", 0)]:
        status, _, err = command("convert", checkpoint, "-o", out, *options, "--sites", sites)
        assert (status, err) == (expected, "")


def test_input_too_small(command, tmp_path):
    checkpoint = save(weights(shapes("torchvision", 0.35, 5)), tmp_path / "net.pth")
    status, _, err = command("convert", checkpoint, "-o", tmp_path / "out", "--input-size", 31)
    assert status == 2 and err.count("\n") == 1
    assert "at least 32" in err and "31" in err
    assert not (tmp_path / "out").exists()


def test_inspect_tells_the_network(command, tmp_path):
    state = weights(shapes("torchvision", 0.35, 5, {3: 4}))
    checkpoint = save(state, tmp_path / "net.pth")
    description = "torchvision MobileNetV2, alpha≈0.35, 5 classes, ULSAM (g=4) after block 3"
    status, text, _ = command("inspect", checkpoint)
    assert status == 0 and text.splitlines()[-1].endswith(description)
    assert json.loads(command("inspect", checkpoint, "--json")[1])["network"] == description
    save({k: v for k, v in state.items() if "features.9." not in k}, tmp_path / "bad.pth")
    status, text, _ = command("inspect", tmp_path / "bad.pth")
    assert status == 0 and "'features.9'" in text.splitlines()[-1]
