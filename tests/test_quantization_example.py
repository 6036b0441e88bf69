"""The claims of `benchmarks/quantization`, on its shorter half: the digits network."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from example_files import ROOT, imported

FOLDER = ROOT / "benchmarks" / "quantization"
# Of 360 held-out images: the two closest decisions of the float network.
MOST_LOST = 2
# How many dB the attention that is the flattest of the three gains over TFLite's defaults.
LEAST_GAIN = 6.0
# Of the largest logit: three int8 steps of the logits, 1/127 each at the most.
FILE_AGAINST_TRAINING = 3 / 127


@pytest.fixture(scope="module")
def example():
    """The example's modules, one epoch of training, its models and held-out images."""
    comparison, digits, narrow = imported(FOLDER, "comparison", "digits", "narrow")
    images, labels, held_out = digits.load_images()
    network = digits.trained_network()
    settings = replace(digits.SETTINGS, epochs=1)
    models = comparison.make(network, images, labels, settings)
    return comparison, narrow, models, held_out


@pytest.mark.slow
def test_what_each_file_has_left(example):
    comparison, _, models, held_out = example
    full, default, ours, _, trained = comparison.rows(models, held_out)
    assert full.correct == 358
    for row in (ours, trained):
        assert row.correct >= full.correct - MOST_LOST
        assert ours.attention_snr["ulsam1"] >= default.attention_snr["ulsam1"] + LEAST_GAIN
        assert all(zeros < 0.05 for zeros in row.attention_zeros.values())
    assert default.attention_zeros["ulsam1"] > 0.1
    # The attention reaches the next layer too.
    assert ours.correlation["ulsam1"] > default.correlation["ulsam1"] + 0.2


@pytest.mark.slow
def test_the_file_computes_what_the_training_saw(example):
    comparison, _, models, held_out = example
    difference, changed = comparison.file_against_training(models.q, models.qat, held_out.images)
    assert difference <= FILE_AGAINST_TRAINING and changed <= MOST_LOST


@pytest.mark.slow
def test_the_restored_model_has_the_trained_weights(example):
    from ulsam_keras import quantization

    _, _, models, held_out = example
    q = quantization.to_tf_keras(models.restored)
    expected = q.predict(held_out.images, verbose=0)
    found = models.restored.predict(held_out.images, verbose=0)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    before = models.network.predict(held_out.images, verbose=0)
    assert np.abs(found - before).max() > 1e-3 * np.abs(before).max()


@pytest.mark.slow
def test_what_is_written(example, tmp_path):
    comparison, _, models, held_out = example
    comparison.write(tmp_path, models, held_out, seed=0)
    names = {path.name for path in tmp_path.iterdir()}
    files = {"int8_default.tflite", "int8.tflite", "int8_qat.tflite"}
    assert names == files | {
        "attention.png", "float.keras", "restored.keras", "results.json", "results.md",
    }  # fmt: skip
    restored = keras.saving.load_model(tmp_path / "restored.keras")
    assert [layer.name for layer in restored.layers] == [x.name for x in models.network.layers]


@pytest.mark.slow
def test_the_pictures_of_the_narrow_network(example):
    _, narrow, _, _ = example
    images, labels, held_out = narrow.load_images()
    assert images.shape == (narrow.TRAINING_IMAGES, 32, 32, 1) and images.dtype == "float32"
    assert len(held_out.labels) == narrow.HELD_OUT_IMAGES
    assert np.array_equal(images, narrow.load_images()[0])  # the same every time
    assert np.abs(images * 255 - np.round(images * 255)).max() < 1e-4
    contrast = np.ptp(images, axis=(1, 2, 3))
    assert contrast.min() < 0.06 and contrast.max() > 0.9
    assert set(labels) == set(range(10))
    assert narrow.build().count_params() < 4000
