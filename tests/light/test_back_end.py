"""What works without TensorFlow on the back end that KERAS_BACKEND names.

Run by `scripts/light_install.sh`. The oracle is what PyTorch answered for the digits network.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import converters
import ulsam_keras
from ulsam_keras import networks, quantization

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
# Of the largest logit: float32 rounding through twenty convolutions.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def reference():
    with np.load(DIGITS / "reference.npz") as file:
        return {name: file[name][:32] for name in ("inputs", "outputs")}


@pytest.fixture(scope="module")
def images(reference):
    return reference["inputs"].transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("model", DIGITS / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build()
    state = converters.load_checkpoint(DIGITS / "digits_ulsam.pth")
    assert "ulsam3" in str(converters.port_weights(state, model))
    return model


def check(outputs, reference):
    np.testing.assert_allclose(
        outputs, reference["outputs"], rtol=0, atol=TOLERANCE * np.abs(reference["outputs"]).max()
    )


def test_the_back_end_is_the_one_asked_for():
    assert keras.config.backend() == os.environ["KERAS_BACKEND"] != "tensorflow"


def test_a_checkpoint(model, images, reference, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    check(again.predict(images, verbose=0), reference)
    command = Path(sys.executable).with_name("ulsam-keras")
    line = [command, "inspect", tmp_path / "model.keras"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ULSAM at 'ulsam3'" in done.stdout


def test_a_program(images, reference):
    model, report = converters.to_keras(DIGITS / "digits_ulsam.pt2")
    assert report.ulsam == ("ulsam1", "ulsam2", "ulsam3")
    check(model.predict(images, verbose=0), reference)


def test_surgery_attention_maps_and_training(images):
    inputs = keras.Input((32, 32, 3))
    y = keras.layers.Conv2D(4, 3, strides=8, name="stem")(inputs)
    plain = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(y))
    assert [site.name for site in ulsam_keras.sites(plain)] == ["stem"]
    model = ulsam_keras.add_ulsam(plain, after="stem", num_splits=2)
    maps = ulsam_keras.attention_maps(model, images)
    assert maps["stem_ulsam"].shape == (32, 4, 4, 2)
    np.testing.assert_allclose(maps["stem_ulsam"].sum((1, 2)), 1, rtol=1e-5)
    weights = model.get_layer("stem_ulsam").weights
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
    model.compile("sgd", "mse")
    model.fit(images, np.zeros((32, 4)), verbose=0)
    after = [keras.ops.convert_to_numpy(weight) for weight in weights]
    assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_networks():
    """MobileNetV1 of a quarter of the width, published with 0.47 million, and the ULSAM in it."""
    network = networks.MobileNetV1((32, 32, 3), 0.25, ulsam_after=(13,), num_splits=4)
    assert networks.count(network).parameters == 470_072 + 5 * 256 + 3 * 4
    assert networks.PAPER


@pytest.mark.skipif(keras.config.backend() != "torch", reason="needs PyTorch")
def test_what_pytorch_answers(tmp_path):
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    x = torch.rand(4, 3, 8, 8)
    converters.record(net, x, tmp_path / "reference.npz")
    with np.load(tmp_path / "reference.npz") as file:
        np.testing.assert_array_equal(file["inputs"], x.numpy())
    converters.export_program(net, x[:1], tmp_path / "net.pt2")
    model, _ = converters.to_keras(tmp_path / "net.pt2")
    ours = model.predict(x.numpy().transpose(0, 2, 3, 1), verbose=0)
    np.testing.assert_allclose(ours, net(x).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: quantization.quantize_model(model),
        lambda model: quantization.to_tf_keras(model),
        lambda model: quantization.scope(),
        lambda model: quantization.SubspaceAttention,
    ],
)
def test_quantisation_names_its_extra(model, call):
    with pytest.raises(ImportError, match=r'pip install "ulsam-keras\[qat\]"') as error:
        call(model)
    assert "\n" not in str(error.value)


def test_conversion_names_its_extra(model):
    with pytest.raises(ImportError, match=r'pip install "ulsam-keras\[convert\]"'):
        converters.to_tflite(model)
