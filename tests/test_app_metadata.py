"""What files tell an app, read by MediaPipe and by `inspect`."""

import json
import math
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from clients import need
from converters import load_images, to_tflite
from converters.convert import Request, convert
from converters.data.calibration import Source
from converters.runtime import run
from converters.tflite.app_metadata import AppMetadata, app_metadata, fitting, with_app_metadata
from converters.tflite.flatbuffer import TfliteFile
from example_files import digits_model, digits_pixels
from ulsam_keras import ULSAM

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / ".mediapipe" / "bin" / "python"
LABELS = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
# The sums of float32 in another order; float16 weights beside those of float32.
CLOSE = {"float32": 1e-4, "float16": 5e-3}


def classify(content, images, folder):
    """MediaPipe's scores, (N, classes), in the order of the labels."""
    need(CLIENT.exists(), "mediapipe_client.sh")
    (folder / "m.tflite").write_bytes(content)
    np.save(folder / "images.npy", images)
    result = subprocess.run(
        [CLIENT, Path(__file__).with_name("mediapipe_client.py"), "m.tflite", "images.npy"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-500:]
    return np.array([[row[label] for label in LABELS] for row in json.loads(result.stdout)])


@pytest.fixture(scope="module")
def digits():
    """The model, pixels of digits, and what the model answers to them, scaled to 0 to 1."""
    model, pixels = digits_model(), digits_pixels(200)
    return model, pixels, model.predict(pixels[:32] / np.float32(255), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "ends"),
    [("float32", "float32"), ("float16", "float32"), ("int8", "float32"), ("int8", "uint8")],
)
def test_mediapipe_answers_as_keras(digits, tmp_path, precision, ends):
    model, pixels, wanted = digits
    scaled = pixels / np.float32(255)
    data = {"representative_data": scaled, "inference_type": ends}
    content = to_tflite(model, precision=precision, **(data if precision == "int8" else {}))
    file = with_app_metadata(TfliteFile(content), AppMetadata(LABELS, name="digits"))
    found = classify(file.content, pixels[:32], tmp_path)
    assert (found.argmax(1) == wanted.argmax(1)).all()
    if precision in CLOSE:
        assert np.abs(found - wanted).max() < CLOSE[precision] * np.abs(wanted).max()
        return
    # What the file itself answers to the same pixels, to half a step of its output.
    graph = file.graph
    given = pixels[:32] if ends == "uint8" else scaled[:32]
    own = run(file.content, {"image": given}).outputs["classifier"]
    output = graph.answered["classifier"]
    own, step = output.dequantized(own), output.scales[0] if ends == "uint8" else 0.0
    assert np.abs(found - own).max() <= step / 2 + 1e-4 * np.abs(own).max()


@pytest.mark.slow
def test_the_command_writes_them(command, tmp_path):
    """Pixels less a mean, by a deviation, for which one step of the integers is one pixel."""
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3)).astype("uint8")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = ULSAM(2)(keras.layers.Conv2D(8, 3, padding="same")(inputs))
    x = keras.layers.Dense(10, name="y")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "c.npz", inputs=((images / 255 - 0.4) / 0.25).astype("float32"))
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n\n")
    status, _, error = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "float32,int8"),
        *("--calibration", tmp_path / "c.npz", "--labels", tmp_path / "labels.txt", "--no-gpu"),
        *("--inference-type", "uint8", "--image-mean", "0.4", "--image-std", "0.25"),
    )
    assert status == 0, error
    wanted = model.predict(((images[:16] / 255 - 0.4) / 0.25).astype("float32"), verbose=0)
    for precision in ("float32", "int8"):
        path = tmp_path / "out" / f"m_{precision}.tflite"
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split() == list(LABELS)
        found = classify(path.read_bytes(), images[:16], tmp_path)
        noise = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert noise < (1e-4 if precision == "float32" else 0.05)
        status, text, _ = command("inspect", path)
        assert status == 0 and "pixels of 0 to 1, less 0.4, by 0.25" in text
        assert "10 labels: zero, one, " in text
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["app"]["labels"] == list(LABELS)
    assert "less 0.4, divided by 0.25" in (tmp_path / "out" / "model_card.md").read_text()


def small(channels=3, classes=10, heads=1):
    inputs = keras.Input((4, 4, channels), name="image")
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(classes)(x) for _ in range(heads)])


REFUSED = {
    "labels of another count": (small(classes=9), {}, "10 labels, 9 classes"),
    "two heads": (small(heads=2), {}, "one output of classes"),
    "no image": (small(channels=5), {}, "an image of 1, 3 or 4 channels"),
    "mean of two channels": (small(), {"mean": (0.1, 0.2)}, "one a channel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    model, options, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as error:
        with_app_metadata(TfliteFile(to_tflite(model)), AppMetadata(LABELS, **options))
    assert str(error.value).count("Received: ") == 1


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ("abc", {}, "3 labels, 10 classes"),
        ("", {"image_mean": (0.1, 0.2)}, "one a channel"),
        ("", {"image_std": (0.0,)}, "above 0"),
        (
            "",
            {
                "image_std": (0.1, 0.2, 0.3),
                "precision": ("int8",),
                "inference_type": "uint8",
                "calibration": Source("none.npz"),
            },
            "one scale",
        ),
    ],
)
def test_what_does_not_fit_is_known_before_the_conversion(tmp_path, labels, options, words):
    small().save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    if labels:
        options = {"labels": str(tmp_path / "labels.txt")}
    stages = []
    with pytest.raises(ValueError, match=words):
        convert(
            Request(str(tmp_path / "m.keras"), str(tmp_path / "out"), gpu=False, **options),
            lambda name, *_: stages.append(name),
        )
    assert "run Keras" not in stages and not (tmp_path / "out").exists()


UNSCALABLE = [
    (0.5, 0.0),
    (0.5, -1.0),
    (0.5, math.nan),
    (0.5, math.inf),
    (math.nan, 1),
    (-math.inf, 1),
]


@pytest.mark.parametrize(("mean", "std"), UNSCALABLE)
def test_what_nothing_can_be_scaled_with(tmp_path, mean, std):
    """Whatever is confirmed, and whether or not there are images to be scaled."""
    calibration = Source("none.npz", confirmed=True)
    request = Request(
        *("none.keras", str(tmp_path / "out"), ("int8",)),
        calibration=calibration,
        image_mean=(mean,),
        image_std=(std,),
    )
    for make in (
        lambda: convert(request),
        lambda: Source("pictures", (mean,), (std,), confirmed=True),
        lambda: load_images(tmp_path, (8, 8), mean=mean, std=std),
        lambda: fitting(AppMetadata((), (mean,), (std,)), {"x": (1, 8, 8, 3)}, {}, pixels=False),
    ):
        with pytest.raises(ValueError, match=r"(above 0; |one number, ).* Received: ") as error:
            make()
        assert str(error.value).isprintable()


def test_a_deviation_of_0_is_bad_usage(command, tmp_path):
    options = ("--precision", "int8", "--calibration", "none.npz", "--confirm-calibration")
    arguments = ("none.keras", "-o", tmp_path / "out", *options, "--image-std")
    status, _, error = command("convert", *arguments, "0")
    assert status == 2 and error.count("\n") == 1 and "above 0" in error


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"", "no label"), (b"a\n\nb\n", "an empty line 2"), (b"\xff\xfea", "UTF-8")],
)
def test_labels_that_are_none(command, tmp_path, text, words):
    small().save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_bytes(text)
    status, _, error = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out"),
        *("--labels", tmp_path / "labels.txt"),
    )
    assert status == 2 and words in error and not (tmp_path / "out").exists()


def test_they_come_back_and_damage_is_told():
    app = AppMetadata(("a", "b", "c") * 3 + ("ü",), (0.5, 0.25, 0.125), (0.5,), "net")
    file = with_app_metadata(TfliteFile(to_tflite(small())), app)
    assert app_metadata(file) == app
    odd = replace(app, name="gr\udcf6")  # a file's name that is no text
    found = app_metadata(with_app_metadata(TfliteFile(to_tflite(small())), odd))
    assert found is not None and found.name == "gr?"
    assert app_metadata(TfliteFile(to_tflite(small()))) is None
    metadata = file.metadata["TFLITE_METADATA"]
    start = file.content.index(bytes(metadata))
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(file.content)
        for place in rng.integers(start, start + len(metadata), 4):
            changed[place] = rng.integers(256)
        try:
            app_metadata(TfliteFile(bytes(changed)))
        except ValueError as error:
            assert "damaged" in str(error) and "\n" not in str(error)
