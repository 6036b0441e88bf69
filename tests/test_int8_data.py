"""Representative data: every way to give it, and everything that is refused."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from converters import load_images, to_tflite
from converters.data.calibration import Source, load_calibration
from converters.data.channels import describe, implausible
from converters.data.samples import as_samples, representative_samples
from converters.tflite import Exporter
from ulsam_keras import ULSAM

SHAPE = (6, 5, 3)
SAMPLES = np.random.default_rng(0).uniform(size=(104, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def exporter():
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(8, 3, padding="same")(image)
    return Exporter(keras.Model(image, ULSAM(2)(x)))


def convert(exporter, data, **options):
    return exporter.convert("int8", representative_data=data, **options).content


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


WAYS = {
    "array": lambda folder: SAMPLES,
    "float64": lambda folder: SAMPLES.astype("float64"),
    "tensor": lambda folder: tf.constant(SAMPLES),
    "list of samples": lambda folder: list(SAMPLES),
    "generator of batches": lambda folder: (SAMPLES[i : i + 26] for i in range(0, 104, 26)),
    "lists as in TensorFlow": lambda folder: ([sample[None]] for sample in SAMPLES),
    "inputs and targets": lambda folder: [(SAMPLES[:50], np.zeros(50)), (SAMPLES[50:], None)],
    "dataset": lambda folder: tf.data.Dataset.from_tensor_slices((SAMPLES, SAMPLES)).batch(30),
    "dictionary": lambda folder: {"image": SAMPLES},
    "npz": lambda folder: save(folder / "a.npz", inputs=SAMPLES),
    "npz, channels second": lambda folder: save(
        folder / "a.npz", inputs=SAMPLES.transpose(0, 3, 1, 2), outputs=np.zeros(104)
    ),
    "npz by name": lambda folder: str(save(folder / "a.npz", **{"inputs.image": SAMPLES})),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_give_data_gives_the_same_file(exporter, tmp_path, way):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "LOG_SOFTMAX")
        assert convert(exporter, WAYS[way](tmp_path)) == convert(exporter, SAMPLES)


def test_the_data_makes_the_ranges(exporter):
    assert convert(exporter, 2 * SAMPLES) != convert(exporter, SAMPLES)


def test_few_samples_are_warned_of(exporter):
    with pytest.warns(UserWarning, match="from 99 samples.*at least 100"):
        convert(exporter, SAMPLES[:99])


def test_progress(exporter):
    seen = []
    convert(exporter, SAMPLES, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, 104) for n in range(104)]


def test_larger_batches_are_filled_up():
    image = keras.Input((6, 5, 4), name="image")
    model = keras.Model(image, ULSAM(2)(image))
    samples = np.random.default_rng(0).uniform(size=(101, 6, 5, 4)).astype("float32")
    seen = []
    to_tflite(
        model,
        precision="int8",
        input_shape=(4, 6, 5, 4),
        representative_data=samples,
        progress=lambda done, total: seen.append(total),
    )
    assert seen == [26] * 26


def test_several_inputs():
    a, b = keras.Input((4, 4, 2), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(ULSAM(1)(a)), b])
    exporter = Exporter(keras.Model([a, b], keras.layers.Dense(2)(joined)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 4, 4, 2)), 10 * rng.normal(size=(100, 3))
    named = convert(exporter, {"a": x, "b": y})
    assert convert(exporter, [{"b": y[i], "a": x[i]} for i in range(100)]) == named
    assert convert(exporter, [[x[:50], y[:50]], [x[50:], y[50:]]]) == named
    assert convert(exporter, [((x, y), None, None)]) == named
    for bad, match in (
        ({"a": x}, "every input, .*'a', 'b'.*Received: the dictionary with .'a'."),
        ({"a": x, "b": y[:9]}, "as many samples.*'a': 100, 'b': 9"),
        (x, "inputs .*'a', 'b'.*item 0 of type ndarray"),
    ):
        refused(exporter, bad, match)


def refused(exporter, data, match, error=ValueError, **options):
    with pytest.raises(error, match=match) as caught:
        convert(exporter, data, **options)
    assert "\n" not in str(caught.value) and "Received: " in str(caught.value)


NAN = SAMPLES.copy()
NAN[70, 1, 1, 0] = np.nan
BAD = {
    "none": (None, "need `representative_data`"),
    "empty list": ([], "at least one sample.*none"),
    "empty array": (SAMPLES[:0], "at least one sample"),
    "empty generator": ((s for s in ()), "at least one sample"),
    "NaN": (NAN, "must be finite.*item 0"),
    "infinity": ([SAMPLES[0], np.full(SHAPE, np.inf)], "must be finite.*item 1"),
    "other size": (SAMPLES[:, :4], r"shape \(6, 5, 3\).*\(104, 4, 5, 3\)"),
    "other sample": ([SAMPLES[0], SAMPLES[0, 0]], r"item 1 of shape \(5, 3\)"),
    "words": (["six"], "must hold numbers"),
    "a number": (3, "must be samples.*int"),
    "no such file": ("nowhere.npz", "No such file.*nowhere.npz"),
    "other file": ("model.keras", "folder of images or an .npz file.*model.keras"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_data(exporter, name):
    data, match = BAD[name]
    refused(exporter, data, match, error=(ValueError, OSError))


def test_refused_files(exporter, tmp_path):
    refused(
        exporter,
        save(tmp_path / "a.npz", x=SAMPLES),
        "the array inputs, or inputs.NAME.*'a.npz' with x",
    )
    refused(exporter, save(tmp_path / "b.npz", inputs=SAMPLES[:, 0]), r"shape, \(None, 6, 5, 3\)")
    (tmp_path / "c.npz").write_bytes(b"no archive")
    refused(exporter, tmp_path / "c.npz", "an .npz file of arrays")


OPTIONS = {
    "type of int8": ({"inference_type": "int16"}, "'float32', 'int8', 'uint8'.*'int16'"),
    "type of int16x8": ({"precision": "int16x8", "inference_type": "int8"}, "'float32', 'int16'"),
    "unknown form": ({"attention": "sigmoid"}, "'log_softmax', 'float', 'softmax'.*'sigmoid'"),
    "form of int16x8": ({"precision": "int16x8", "attention": "log_softmax"}, "no log-softmax"),
    "island of integers": (
        {"attention": "float", "inference_type": "int8"},
        "float inputs and outputs only",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_refused_options(exporter, name):
    options, match = OPTIONS[name]
    options = {"precision": "int8", **options}
    with pytest.raises(ValueError, match=match) as caught:
        exporter.convert(options.pop("precision"), representative_data=SAMPLES, **options)
    assert "Received: " in str(caught.value)


def test_forms_are_of_int8_only(exporter):
    with pytest.raises(ValueError, match="float32', 'float16', 'dynamic_range'.*'log_softmax'"):
        exporter.convert("float32", attention="log_softmax")


def test_a_graph_whose_ranges_would_be_measured_wrongly_is_refused():
    """After an ADD the kernels that measure the ranges overwrite x in this form."""
    image = keras.Input((4, 4, 8), name="image")
    x = keras.layers.Add()([image, keras.layers.Conv2D(8, 1)(image)])
    scores = keras.layers.Conv2D(2, 1)(x)
    parts = keras.ops.reshape(x, (-1, 16, 2, 4)) * keras.ops.reshape(scores, (-1, 16, 2, 1))
    model = keras.Model(image, keras.ops.reshape(parts, (-1, 4, 4, 8)) + x)
    samples = np.random.default_rng(0).normal(size=(100, 4, 4, 8))
    with pytest.raises(ValueError, match="OVERWRITTEN: The ranges.*cannot be measured"):
        to_tflite(model, precision="int8", representative_data=samples)


# ------------------------------------------------------------------------------- images


def write_images(folder, count=3, size=(8, 8)):
    """8-bit pictures, and their pixels in the order of their paths."""
    rng = np.random.default_rng(0)
    (folder / "b").mkdir(parents=True)
    pixels = rng.integers(0, 256, size=(count, *size, 3), dtype="uint8")
    paths = [folder / "a.png", folder / "b" / "a.PNG", folder / "c.bmp"][:count]
    for path, picture in zip(paths, pixels, strict=True):
        if path.suffix == ".bmp":
            height, width = size
            head = b"BM" + np.array([54 + picture.size, 0, 54, 40, width, height], "<u4").tobytes()
            head += np.array([1, 24], "<u2").tobytes() + np.zeros(6, "<u4").tobytes()
            path.write_bytes(head + picture[::-1, :, ::-1].tobytes())
        else:
            path.write_bytes(tf.io.encode_png(picture).numpy())
    (folder / "notes.txt").write_text("no picture")
    return pixels


def test_images_are_scaled_as_asked(tmp_path):
    pixels = write_images(tmp_path)
    plain = load_images(tmp_path, (8, 8))
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain, pixels / 255, atol=1e-6)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normal = load_images(tmp_path, (8, 8), mean=mean, std=std)
    np.testing.assert_allclose(normal, (pixels / 255 - mean) / std, atol=1e-5)
    symmetric = load_images(tmp_path, (8, 8), mean=0.5, std=0.5)
    np.testing.assert_allclose(symmetric, pixels / 127.5 - 1, atol=1e-6)
    assert load_images(tmp_path, (4, 4), channels=1).shape == (3, 4, 4, 1)


def test_images_of_files_and_folders(tmp_path):
    pixels = write_images(tmp_path / "some")
    first, *_, last = sorted(
        path for path in (tmp_path / "some").rglob("*.*") if path.suffix != ".txt"
    )
    np.testing.assert_allclose(load_images(first, (8, 8)), pixels[:1] / 255, atol=1e-6)
    both = load_images([last, tmp_path / "some"], (8, 8))
    np.testing.assert_allclose(both, pixels[[-1, *range(len(pixels))]] / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".gif"])
def test_lossy_and_animated_pictures(tmp_path, suffix):
    """As Pillow writes and reads them; of a GIF the first picture."""
    from PIL import Image

    ramp = np.linspace(0, 255, 16).round().astype("uint8")
    pixels = np.stack([np.tile(ramp, (16, 1))] * 3, axis=2)
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    path = tmp_path / f"a{suffix}"
    further = {"save_all": True, "append_images": [second]} if suffix == ".gif" else {}
    first.save(path, format="GIF" if suffix == ".gif" else "JPEG", **further)
    wanted = np.asarray(Image.open(path).convert("RGB"), "float32") / 255
    [found] = load_images(tmp_path, (16, 16))
    # Decoders of JPEG may round a pixel by two steps either way.
    assert np.abs(found - wanted).max() <= 2 / 255
    assert np.abs(found - pixels / 255).max() <= 8 / 255


def test_images_of_another_shape_are_cropped_at_the_centre(tmp_path):
    pixels = write_images(tmp_path, size=(8, 16))
    images = load_images(tmp_path, (8, 8))
    np.testing.assert_allclose(images, pixels[:, :, 4:12] / 255, atol=1e-6)


def test_a_folder_is_what_its_images_are(tmp_path, exporter):
    write_images(tmp_path)
    with pytest.warns(UserWarning, match="from 3 samples"):
        from_folder = convert(exporter, tmp_path)
    with pytest.warns(UserWarning):
        assert from_folder == convert(exporter, load_images(str(tmp_path), SHAPE[:2]))
    with pytest.warns(UserWarning):
        samples = representative_samples(tmp_path, {"image": (1, *SHAPE)}, ["float32"])
    assert samples["image"].shape == (3, *SHAPE)


def test_images_of_integers_are_pixels(tmp_path):
    pixels = write_images(tmp_path)
    for dtype in ("uint8", "int32"):
        images = load_images(tmp_path, (8, 8), dtype=dtype)
        assert images.dtype == dtype
        np.testing.assert_array_equal(images, pixels)
    with pytest.warns(UserWarning):
        shapes = {"image": (1, 8, 8, 3)}
        samples = representative_samples(tmp_path, shapes, ["uint8"])
        found = load_calibration(Source(str(tmp_path)), shapes, ["uint8"])
    np.testing.assert_array_equal(samples["image"], pixels)
    np.testing.assert_array_equal(found.samples["image"], pixels)
    assert found.description.endswith("images, pixels")
    with pytest.raises(ValueError, match="pixels, 0 to 255; leave mean and std out"):
        load_calibration(Source(str(tmp_path), (0.5,), (0.5,)), shapes, ["uint8"])


@pytest.mark.parametrize("bad", [SAMPLES, SAMPLES * 1000, -np.ones((1, *SHAPE))])
def test_integer_inputs_take_whole_numbers_only(bad):
    shapes = {"image": (1, *SHAPE)}
    with pytest.raises(ValueError, match="whole numbers, as its dtype, uint8.*pixels, 0 to 255"):
        as_samples(bad, shapes, ["uint8"])
    good = np.round(SAMPLES * 255)
    np.testing.assert_array_equal(as_samples(good, shapes, ["uint8"])["image"], good)


def test_refused_images(tmp_path):
    write_images(tmp_path / "some")
    for folder, options, error, match in (
        (tmp_path / "nowhere", {}, OSError, "No such file or folder.*nowhere"),
        (tmp_path / "some" / "notes.txt", {}, ValueError, "no image that can be read.*notes.txt"),
        (tmp_path / "some", {"channels": 2}, ValueError, "1 or 3 channels.*2"),
        (tmp_path / "some", {"std": 0}, ValueError, r"above 0.*std=\(0.0,"),
        (tmp_path / "some", {"mean": (1, 2)}, ValueError, r"3 channels.*\(1, 2\)"),
    ):
        with pytest.raises(error, match=match):
            load_images(folder, (8, 8), **options)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"must hold images.*\.png.*none"):
        load_images(tmp_path / "none", (8, 8))
    (tmp_path / "none" / "d.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="No image of the folder can be read.*d.jpg.*no image"):
        load_images(tmp_path / "none", (8, 8))
    with pytest.raises(ValueError, match="at least 1.*count=0"):
        load_images(tmp_path / "some", (8, 8), count=0)


def test_what_cannot_be_read_is_named_and_left_out(tmp_path):
    pixels = write_images(tmp_path)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "._a.jpg").write_bytes(b"of the system")
    with pytest.warns(UserWarning, match="2 of 5 images") as caught:
        found = load_images(tmp_path, (8, 8))
    np.testing.assert_allclose(found, pixels / 255, atol=1e-6)
    [text] = [str(warning.message) for warning in caught]
    assert "empty.jpg" in text and "cut.png" in text and "._a" not in text
    with pytest.raises(ValueError, match="no image that can be read.*cut.png"):
        load_images(tmp_path / "cut.png", (8, 8))


def test_some_of_many_evenly(tmp_path):
    from PIL import Image

    for number in range(20):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number:02}.png")
    read = []
    found = load_images(
        tmp_path, (4, 4), channels=1, count=5, dtype="uint8", progress=lambda *at: read.append(at)
    )
    assert found[:, 0, 0, 0].tolist() == [2, 6, 10, 14, 18]
    assert read == [(number, 5) for number in range(1, 6)]  # no other file is opened
    shapes = {"image": (1, 4, 4, 1)}
    with pytest.warns(UserWarning, match="from 5 samples"):
        calibration = load_calibration(
            Source(str(tmp_path), count=5, confirmed=True), shapes, ["uint8"]
        )
    np.testing.assert_array_equal(calibration.samples["image"], found)
    np.savez(tmp_path / "all.npz", inputs=np.linspace(0, 1, 20 * 16).reshape(20, 4, 4, 1))
    with pytest.warns(UserWarning):
        source = Source(str(tmp_path / "all.npz"), count=5, confirmed=True)
        assert load_calibration(source, shapes, ["float32"]).count == 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(tmp_path, orientation):
    """The numbers of the Exif standard: which sides row 0 and column 0 are."""
    from PIL import Image

    seen = np.arange(64, dtype="uint8").reshape(8, 8) * 4
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.T,
        6: np.rot90(seen),
        7: seen.T[::-1, ::-1],
        8: np.rot90(seen, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    found = load_images(tmp_path, (8, 8), channels=1, dtype="uint8")
    np.testing.assert_array_equal(found[0, :, :, 0], seen)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".webp"), ("RGB", ".tif"), ("RGBA", ".png"), ("P", ".png"), ("L", ".png")]
    + [("CMYK", ".tiff"), ("I;16", ".png"), ("1", ".png"), ("RGB", ".ppm")],
)
def test_every_kind_of_picture(tmp_path, mode, suffix):
    from PIL import Image

    grey = np.array([[0, 255], [255, 0]], "uint8")
    if mode == "I;16":
        image = Image.fromarray(grey.astype("uint16") * 257)
    else:
        image = Image.fromarray(np.stack([grey] * 3, axis=2)).convert(mode)
    lossless = {"lossless": True} if suffix == ".webp" else {}
    image.save(tmp_path / f"a{suffix}", **lossless)
    found = load_images(tmp_path, (2, 2), dtype="uint8")
    np.testing.assert_array_equal(found[0], np.stack([grey] * 3, axis=2))


# ------------------------------------------------------------------------------- data as in fit


Z, A, Y = (np.random.default_rng(i).normal(size=(32, *shape)).astype("float32")
           for i, shape in enumerate([(4, 4, 2), (3,), (1,)]))  # fmt: skip


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        half = slice(16 * number, 16 * number + 16)
        return {"zebra": Z[half], "apple": A[half]}, Y[half]


def loader(*arrays):
    import torch

    tensors = torch.utils.data.TensorDataset(*map(torch.from_numpy, arrays))
    return torch.utils.data.DataLoader(tensors, batch_size=8)


def sliced(*structure):
    return tf.data.Dataset.from_tensor_slices(structure)


BOTH = {
    "dictionary": lambda: {"apple": A, "zebra": Z},
    "list": lambda: [Z, A],
    "dataset of dictionaries and targets": lambda: sliced({"zebra": Z, "apple": A}, Y).batch(16),
    "with weights": lambda: sliced({"zebra": Z, "apple": A}, Y, Y).batch(16),
    "dataset of tuples and targets": lambda: sliced((Z, A), Y).batch(16),
    "samples and targets": lambda: sliced((Z, A), Y),
    "PyDataset": Pairs,
    "generator": lambda: (([Z[i : i + 4], A[i : i + 4]], Y[i : i + 4]) for i in range(0, 32, 4)),
    "inputs alone": lambda: sliced(Z, A).batch(8),
}
ONE = {
    "dataset and targets": lambda: sliced(Z, Y).batch(8),
    "DataLoader": lambda: loader(Z, Y),
    "DataLoader with weights": lambda: loader(Z, Y, Y),
    "DataLoader of inputs": lambda: loader(Z),
    "generator": lambda: ((Z[i : i + 4], Y[i : i + 4]) for i in range(0, 32, 4)),
    "list of samples": lambda: list(Z),
    "tensor": lambda: tf.constant(Z),
}


@pytest.mark.parametrize("form", BOTH)
def test_data_of_two_inputs_as_fit_takes_it(form):
    shapes = {"zebra": (1, 4, 4, 2), "apple": (1, 3)}
    found = as_samples(BOTH[form](), shapes, ["float32"] * 2)
    np.testing.assert_array_equal(found["zebra"], Z)
    np.testing.assert_array_equal(found["apple"], A)


@pytest.mark.parametrize("form", ONE)
def test_data_of_one_input_as_fit_takes_it(form):
    found = as_samples(ONE[form](), {"zebra": (1, 4, 4, 2)}, ["float32"])
    np.testing.assert_array_equal(found["zebra"], Z)


# ------------------------------------------------------------------------------- plausibility


RNG = np.random.default_rng(0)
UNIFORM = RNG.uniform(size=(120, 4, 4, 1)).astype("float32")
# Data, a reference's inputs, and what is said of the two.
PLAUSIBLE = {
    "the same": (UNIFORM, UNIFORM[:9], ""),
    "a constant reference": (UNIFORM, np.full_like(UNIFORM, 0.1), ""),
    "another constant": (UNIFORM, np.full_like(UNIFORM, 50.1), ""),
    "one dark sample": (UNIFORM, UNIFORM[:1] / 20, ""),
    "7 dark samples": (UNIFORM, UNIFORM[:7] / 20, ""),
    "8 dark samples": (UNIFORM, UNIFORM[:8] / 20, "range"),
    "one sample beyond the data": (UNIFORM, UNIFORM[:1] * 20, "range"),
    "constant data": (np.full_like(UNIFORM, 0.1), UNIFORM[:1], "deviation"),
    "elsewhere": (UNIFORM, UNIFORM + 50, "mean"),
}


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_what_a_reference_says_of_calibration(name):
    data, recorded, words = PLAUSIBLE[name]
    why = implausible(describe({"x": data}), describe({"x": recorded}), len(recorded))
    assert words in why and bool(words) == bool(why), why
