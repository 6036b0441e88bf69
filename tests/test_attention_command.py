"""`ulsam-keras attention`: pictures of `.keras` and `.tflite` files, and what is refused."""

import sys

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from converters import to_tflite
from ulsam_keras import ULSAM, attention_maps

SIZE = (12, 10)
LAYER = """
import keras

@keras.saving.register_keras_serializable("mine")
class Halved(keras.layers.Layer):
    def call(self, x):
        return x / 2
"""


def network():
    inputs = keras.Input((*SIZE, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = ULSAM(4, name="first")(x)
    inner = keras.Sequential([keras.Input((*SIZE, 8)), ULSAM(2, name="deep")], name="body")
    x = keras.layers.GlobalAveragePooling2D()(inner(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(0.05 * value if weight.name == "pointwise_kernel" else value)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network as `.keras` and `.tflite`; six images as files, and in an `.npz`."""
    folder = tmp_path_factory.mktemp("attention")
    model = network()
    model.save(folder / "net.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3), "uint8")
    x = (pixels / 255).astype("float32")
    for precision in ("float32", "int8"):
        data = {"representative_data": np.tile(x, (17, 1, 1, 1))} if precision == "int8" else {}
        content = to_tflite(model, precision=precision, **data)
        (folder / f"{precision}.tflite").write_bytes(content)
    (folder / "images").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
    np.savez(folder / "inputs.npz", inputs=x.transpose(0, 3, 1, 2))
    np.savez(folder / "reference.npz", inputs=x, outputs=x[:, 0, 0])
    plain = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 1)])
    plain.save(folder / "plain.keras")
    (folder / "plain.tflite").write_bytes(to_tflite(plain))
    return folder


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written."""
    written = []
    save = Figure.savefig

    def savefig(self, *args, **kwargs):
        written.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return written


def drawn(figure):
    """{(site, image, group): the values}, and the pictures beside them."""
    values, pictures = {}, []
    for axes in figure.axes:
        name, *numbers = axes.get_label().split(" ")
        if len(numbers) == 2:
            values[name, *map(int, numbers)] = axes.get_images()[-1].get_array()
        elif axes.get_images():
            pictures.append(axes.get_images()[0].get_array())
    return values, pictures


def expected(model, x):
    return {
        (name, image, group): np.prod(maps.shape[1:3]) * maps[image, :, :, group]
        for name, maps in attention_maps(model, x).items()
        for image in range(len(x))
        for group in range(maps.shape[3])
    }


FIVE = " ".join(f"images/{number}.png" for number in range(5))
SCALED = "images/0.png --image-mean 0.5,0.4,0.3 --image-std 0.5"
# What is asked, of how many images it is answered, how they are scaled, and how near it is: of
# integers to a few of their steps.
ASKED = {
    "keras": ("net.keras images", 4, (0, 1), 1e-5),
    "float32": ("float32.tflite images --samples 2", 2, (0, 1), 1e-5),
    "int8": ("int8.tflite images --samples 3", 3, (0, 1), 0.1),
    "npz": ("net.keras inputs.npz", 4, (0, 1), 1e-5),
    "files": (f"net.keras {FIVE}", 5, (0, 1), 1e-5),
    "scaled": (f"net.keras {SCALED}", 1, ((0.5, 0.4, 0.3), 0.5), 1e-5),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_drawn(command, folder, figures, tmp_path, monkeypatch, name):
    asked, count, (mean, std), limit = ASKED[name]
    monkeypatch.chdir(folder)
    status, text, err = command("attention", *asked.split(), "-o", tmp_path / "out.png")
    assert (status, err) == (0, ""), err
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    paths = sorted((folder / "images").iterdir())[:count]
    plain = np.stack([np.asarray(Image.open(path)) for path in paths]).astype("float32") / 255
    model = keras.saving.load_model(folder / "net.keras")
    wanted = expected(model, (plain - np.asarray(mean, "float32")) / np.asarray(std, "float32"))
    values, pictures = drawn(figures[0])
    assert list(values) == list(wanted)
    for key, value in values.items():
        assert np.abs(value - wanted[key]).max() <= limit * wanted[key].max(), key
    for picture, original in zip(pictures[: len(plain)], plain, strict=True):  # the first site's
        low, high = original.min(), original.max()
        np.testing.assert_allclose(picture, (original - low) / (high - low), atol=1e-5)
    lines = text.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["first", "body/deep", "Written"]
    assert "12 x 10, 4 groups: at most " in lines[0]
    most = max(value.max() for key, value in values.items() if key[::2] == ("first", 0))
    assert lines[0].partition("at most ")[2].startswith(f"{most:.3g}, ")


def test_sites_formats_and_width(command, folder, figures, tmp_path):
    images = folder / "images" / "0.png"
    for suffix in ("svg", "pdf", "PNG"):
        arguments = ("-o", tmp_path / f"a.{suffix}", "--sites", "body/deep", "--width", "3.4")
        status, text, _ = command("attention", folder / "float32.tflite", images, *arguments)
        assert status == 0 and text.startswith("body/deep  12 x 10, 2 groups")
        assert {key[0] for key in drawn(figures[-1])[0]} == {"body/deep"}
        assert figures[-1].get_size_inches()[0] <= 3.4


def test_custom_layers_are_imported(command, tmp_path, folder):
    (tmp_path / "mine.py").write_text(LAYER)
    sys.path.insert(0, str(tmp_path))
    import mine

    inputs = keras.Input((*SIZE, 3))
    keras.Model(inputs, ULSAM(3, name="a")(mine.Halved()(inputs))).save(tmp_path / "own.keras")
    keras.saving.get_custom_objects().pop("mine>Halved")
    sys.path.remove(str(tmp_path))
    arguments = ("attention", tmp_path / "own.keras", folder / "images", "-o", tmp_path / "a.png")
    status, _, err = command(*arguments)
    assert status == 2 and "--import" in err
    del sys.modules["mine"]
    assert command(*arguments, "--import", tmp_path / "mine.py")[0] == 0


REFUSED = {
    "net.keras images -o out.jpg": "must end in .png, .svg, .pdf",
    "net.keras images -o nowhere/out.png": "in no folder that is there",
    "net.keras images -o images.png --sites nowhere": "--sites must be one or more of 'first', ",
    "net.keras nowhere.png -o out.png": "No such file or folder. Received: 'nowhere.png'",
    "net.keras net.keras -o out.png": "no image that can be read",
    "nowhere.keras images -o out.png": "No such model file",
    "plain.keras images -o out.png": "ULSAM",
    "plain.tflite images -o out.png": "must have a ULSAM",
    "reference.npz images -o out.png": "is of a model",
    "net.keras inputs.npz images -o out.png": "given alone",
    "net.keras inputs.npz -o out.png --image-mean 0.5": "without --image-mean and --image-std",
    "net.keras images -o out.png --image-mean 127.5": "beyond the pixels",
    "net.keras images -o out.png --samples 0": "--samples",
    "net.keras -o out.png": "IMAGES",
}  # fmt: skip


@pytest.mark.parametrize("asked", REFUSED)
def test_refusals(command, folder, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    status, out, err = command("attention", *asked.split())
    assert (status, out) == (2, "") and err.count("\n") == 1, err
    assert REFUSED[asked] in err
    assert sorted(folder.rglob("*")) == before


def test_a_missing_matplotlib_is_one_line(command, folder, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    images = folder / "images"
    status, _, err = command("attention", folder / "net.keras", images, "-o", tmp_path / "a.png")
    assert status == 2 and err.count("\n") == 1 and 'pip install "ulsam-keras[viz]"' in err
