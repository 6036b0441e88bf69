"""The Android example: compiled against stubs, and run on the JVM against Python's numbers."""

import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import ulsam_keras
from clients import need
from converters import load_images
from converters.runtime import run
from ulsam_keras import ULSAM

ROOT = Path(__file__).parent.parent
ANDROID = ROOT / "examples" / "android"
KOTLIN = ROOT / ".kotlin"
LABELS = ["Zürich", 'a "b"', *(f"class {n}" for n in range(2, 7))]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (24, 28)


def on_jvm(folder, command):
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "error:" not in result.stderr
    return result.stdout


@pytest.fixture
def case(tmp_path, command):
    """A converted file, a picture, what the file answers to it; and what the app makes of them."""
    compiler = KOTLIN / "kotlinc"
    need(compiler.exists(), "kotlin.sh")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SIZE, 3), name="photo")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = ULSAM(2, depthwise_initializer=keras.initializers.Constant(8), name="look")(x)
    x = keras.layers.Dense(len(LABELS), name="y")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    status, _, error = command(
        *("convert", tmp_path / "model.keras", "-o", tmp_path / "out", "--precision", "float32"),
        *("--labels", tmp_path / "labels.txt", "--with-attention", "--no-gpu"),
        *("--image-mean", ",".join(map(str, MEAN)), "--image-std", ",".join(map(str, STD))),
    )
    assert status == 0, error
    content = (tmp_path / "out" / "model_float32.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(content)

    # Made smaller, cropped at the sides, with both smooth and sharp parts.
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (9, 23, 3)), np.ones((7, 7, 1))).astype("uint8")
    pixels[:, 60:] = rng.integers(0, 256, (63, 101, 3))
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    height, width, _ = pixels.shape
    argb = (np.concatenate([np.full((height, width, 1), 255), pixels], 2)).astype("uint8")
    head = np.array([width, height], ">i4").tobytes()
    (tmp_path / "picture").write_bytes(head + argb.tobytes())

    images = load_images(tmp_path / "picture.png", SIZE, mean=MEAN, std=STD)
    answered = run(content, {"photo": images}).outputs
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores, attention = report["files"][0]["outputs"]
    for file, name in (("scores", scores), ("attention", attention)):
        (tmp_path / file).write_bytes(answered[name].astype(">f4").tobytes())
    (tmp_path / "names").write_text(f"{scores}\n{attention}\n")

    sources = [ANDROID / "src" / "main" / "kotlin", ANDROID / "stubs"]
    on_jvm(
        tmp_path,
        [compiler, *sources, ROOT / "tests" / "android_numbers.kt", "-d", tmp_path / "app"],
    )
    jars = f"app:{KOTLIN}/usr/share/java/kotlin-stdlib.jar"
    java = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", jars]
    lines = on_jvm(tmp_path, [*java, "Android_numbersKt"]).splitlines()
    told = {name: values for name, *values in (line.split("\t") for line in lines)}
    return tmp_path, images, answered[scores], model, told


def parts(argb):
    """Red, green and blue of ARGB pixels."""
    values = np.asarray(argb, "int64")
    return np.stack([values >> 16 & 255, values >> 8 & 255, values & 255], -1)


@pytest.mark.slow
def test_the_app_computes_as_python(case):
    folder, images, scores, model, told = case

    def numbers(name):
        return np.array(told[name], "float64")

    # Pictures: Pillow's weights have 22 bits, so that a step may round the other way.
    step = 1 / (255 * min(STD))
    off = np.abs(numbers("image").reshape(images.shape) - images)
    assert off.max() < 1.01 * step and (off > step / 100).mean() < 0.01
    grey = load_images(folder / "picture.png", (20, 12), channels=1)
    off = np.abs(numbers("grey").reshape(grey.shape) - grey) * 255
    assert off.max() < 1.01 and (off > 0.01).mean() < 0.01

    # Labels and shares.
    assert told["labels"] == LABELS
    shares = np.exp(scores[0] - scores[0].max())
    shares /= shares.sum()
    best = shares.argsort()[::-1][:3]
    assert told["right answers"][::2] == [LABELS[n] for n in best]
    np.testing.assert_allclose(numbers_of(told["right answers"][1::2]), shares[best], rtol=1e-5)

    # Attention: in units of the uniform one, its positions squares, the scale that of the figures.
    (maps,) = ulsam_keras.attention_maps(model, images).values()
    times = maps[0] * maps.shape[1] * maps.shape[2]
    assert told["site"][:4] == ["look", "12", "14", "2"]
    for group in range(2):
        wanted = np.kron(times[:, :, group], np.ones((4, 4)))
        np.testing.assert_allclose(numbers(f"group {group}"), wanted.ravel(), rtol=1e-4)
    from ulsam_keras.plotting import times_scale

    scale = times_scale(times.min(), times.max())
    np.testing.assert_allclose(numbers_of(told["site"][4:]), [scale.vmin, scale.vmax], rtol=1e-4)
    shades = scale(np.kron(times[:, :, 1], np.ones((4, 4)))).ravel()
    np.testing.assert_allclose(numbers("scaled"), shades, atol=1e-4)
    assert np.ptp(shades) > 0.1  # a flat map would show nothing

    # Colours: viridis, drawn over the picture.
    import matplotlib

    viridis = 255 * matplotlib.colormaps["viridis"](np.linspace(0, 1, 101))[:, :3]
    assert np.abs(parts(told["colours"]) - viridis).max() < 6
    shown = load_images(folder / "picture.png", (48, 56)) * 255
    assert np.abs(parts(told["shown"]) - shown.reshape(-1, 3)).max() < 1.01
    over = 0.6 * 255 * matplotlib.colormaps["viridis"](shades)[:, :3] + 0.4 * shown.reshape(-1, 3)
    assert np.abs(parts(told["over"]) - over).max() < 6

    # The GPU, refusing or computing nonsense: the CPU answers the same, and nothing is left open.
    assert told["right runs"] == ["GPU", "0"]
    assert told["refuses runs"] == ["CPU: the GPU refuses the model, LOG_SOFTMAX", "0"]
    assert told["wrong runs"] == ["CPU: the GPU is off by 100 %", "0"]
    assert told["refuses answers"] == told["wrong answers"] == told["right answers"]


def numbers_of(words):
    return np.array(words, "float64")
