"""The page of `examples/web` in Chromium, by both back ends, against Keras.

Needs npm and Chromium (`scripts/chromium.sh`) and Playwright, of the extra `dev`.
"""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from clients import need
from converters import to_tflite
from converters.tflite.app_metadata import AppMetadata, with_app_metadata
from converters.tflite.flatbuffer import TfliteFile
from converters.tflite.marks import mark_attention
from example_files import digits_model, digits_pixels
from ulsam_keras import ULSAM, attention_maps, with_attention
from ulsam_keras.plotting import scale_ticks, tick_label, times_scale

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SHOWN = 6
# Of the largest value: float32 sums in another order, through twenty convolutions.
CLOSE = {"scores": 2e-5, "attention": 5e-5}
# WebGPU by SwiftShader, which Chromium brings, on any machine.
FLAGS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu"),
    *("--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"),
]


@pytest.fixture(scope="module")
def tools():
    """The path of Chromium."""
    there = [*map(shutil.which, ("chromium", "npm", "make")), find_spec("playwright")]
    need(all(there), "chromium.sh")
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def site(tools):
    """The address of the page, made by `make web` and served as its last line says."""
    ready = Path(sys.prefix) / ".installed"
    subprocess.run(
        ["make", "web", f"VENV={sys.prefix}", f"BIN={sys.prefix}/bin", "-o", str(ready)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=400,
    )

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(ROOT / "examples" / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tools):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tools, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, site):
    """Opens the page with a back end, and fails for errors of its code."""
    errors, pages = [], []

    def opened(backend="wasm", **options):
        page = browser.new_page(**options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site}?backend={backend}")
        pages.append(page)
        settled(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert errors == []


def settled(page):
    """What the page has computed, once it rests: the exact numbers behind what it shows."""
    return page.evaluate(
        "import('./app.js').then(async (app) => { await app.settled(); return app.latest; })"
    )


def give(page, selector, name, content):
    page.set_input_files(
        selector, {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )
    # The change is handled once the file is read.
    page.wait_for_timeout(300)
    return settled(page)


def png(picture, folder):
    Image.fromarray(picture).save(folder / "picture.png")
    return (folder / "picture.png").read_bytes()


def same(found, wanted, limit):
    found = np.reshape(found, wanted.shape)
    assert np.abs(found - wanted).max() <= limit * np.abs(wanted).max()


@pytest.fixture(scope="module")
def digits():
    """The model in Keras and pictures of held-out digits as bytes."""
    return digits_model(), digits_pixels(SHOWN)


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_the_numbers_are_those_of_keras(page, digits, backend, tmp_path):
    model, pictures = digits
    inputs = (pictures / 255).astype("float32")
    scores, maps = model.predict(inputs, verbose=0), attention_maps(model, inputs)
    opened = page(backend)
    for n, picture in enumerate(pictures):
        latest = give(opened, "#image", f"{n}.png", png(picture, tmp_path))
        assert latest["backend"] == backend
        same(latest["outputs"]["classifier"], scores[n], CLOSE["scores"])
        for layer, attention in maps.items():
            same(latest["outputs"][f"{layer}_attention"], attention[n], CLOSE["attention"])
        assert opened.text_content("#answer") == str(scores[n].argmax())
    assert opened.locator(".maps canvas").count() == 12
    assert f"{'WebGPU' if backend == 'webgpu' else 'WebAssembly'}" in opened.text_content("#run")
    assert " ms a run" in opened.text_content("#run")


def test_drawing_by_mouse_and_by_keyboard(page):
    opened = page()
    assert opened.text_content("#answer") == "3"  # the example
    box = opened.locator("#pad").bounding_box()

    def to(x, y, move):
        move(box["x"] + x * box["width"], box["y"] + y * box["height"])

    corners = [(0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.4, 0.85)]  # a seven
    to(*corners[0], opened.mouse.move)
    opened.mouse.down()
    for corner in corners[1:]:
        to(*corner, functools.partial(opened.mouse.move, steps=8))
    opened.mouse.up()
    settled(opened)
    assert opened.text_content("#answer") == "7"

    opened.focus("#pad")
    opened.keyboard.press("Escape")
    assert settled(opened) is None and opened.text_content("#answer") == "–"
    for key in ["ArrowUp"] * 10 + [" "] + ["ArrowDown"] * 22:
        opened.keyboard.press(key)
    settled(opened)
    assert opened.text_content("#answer") == "1"


def test_a_drawing_is_enlarged_as_the_training_data(page, digits):
    data = load_digits()
    _, held_out = train_test_split(
        np.arange(len(data.target)), test_size=0.2, stratify=data.target, random_state=0
    )
    opened = page()
    for number, picture in zip(held_out, digits[1], strict=False):
        levels = data.images[number].ravel().tolist()
        pixels = opened.evaluate(
            "(levels) => import('./picture.js').then((m) => [...m.enlarge(levels)])", levels
        )
        np.testing.assert_array_equal(np.reshape(pixels, (32, 32)), picture[:, :, 0])


def test_the_colours_are_viridis_on_the_scale_of_the_figures(page):
    import matplotlib

    opened = page()
    shares = np.linspace(0, 1, 101)
    found = opened.evaluate(
        "(s) => import('./colours.js').then((m) => s.map(m.viridis))", shares.tolist()
    )
    wanted = 255 * matplotlib.colormaps["viridis"](shares)[:, :3]
    assert np.abs(np.array(found) - wanted).max() <= 4
    for ends in [(1.0, 1.0), (0.2, 7.0), (0.0, 60.0), (0.9, 3.0)]:
        norm = times_scale(*ends)
        values = np.geomspace(0.01, 100, 20)
        told = opened.evaluate(
            "([ends, values]) => import('./colours.js').then((m) => { const s = m.scaleOf(...ends);"
            "return {ticks: s.ticks, labels: s.ticks.map(m.tickLabel), at: values.map(s.place)}})",
            [ends, values.tolist()],
        )
        np.testing.assert_allclose(told["at"], norm(values), atol=1e-9)
        assert told["ticks"] == scale_ticks(norm)
        assert told["labels"] == [tick_label(tick) for tick in scale_ticks(norm)]


@pytest.fixture(scope="module")
def another():
    """A classifier of grey 20 x 24 pictures, and its file of uint8 with labels and attention."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20, 24, 1), name="photo")
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(inputs)
    x = ULSAM(8, name="only")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="kind")(x))
    further = with_attention(model)
    data = np.random.default_rng(0).normal(size=(100, 20, 24, 1)).astype("float32")
    content = to_tflite(further, precision="int8", representative_data=data, inference_type="uint8")
    outputs = TfliteFile(content).graph.named_outputs
    marks = {name: "only" for name, tensor in outputs.items() if len(tensor.shape) == 4}
    app = AppMetadata(("cat", "dog", "other thing"), (0.5,), (0.25,))
    return further, with_app_metadata(mark_attention(TfliteFile(content), marks), app, marks)


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_another_file(page, another, backend, tmp_path):
    model, file = another
    picture = np.random.default_rng(1).integers(0, 256, (20, 24), dtype="uint8")
    wanted = model.predict(((picture / 255 - 0.5) / 0.25)[None, ..., None], verbose=0)
    wanted = {np.ndim(value): np.asarray(value) for value in keras.tree.flatten(wanted)}
    opened = page(backend)
    give(opened, "#file", "another.tflite", file.content)
    latest = give(opened, "#image", "noise.png", png(picture, tmp_path))
    assert latest is not None and opened.is_hidden("#message"), opened.text_content("#message")
    answered = file.graph.answered
    found = {len(answered[name].shape): value for name, value in latest["outputs"].items()}
    same(found[2], wanted[2], 0.03)  # eight bits
    same(found[4], wanted[4], 0.2)
    assert opened.text_content("#answer") in ("cat", "dog", "other thing")
    assert "20 × 24 × 1, scaled as the file says; 1 ULSAM" in opened.text_content("#model")
    assert opened.locator(".maps canvas").count() == 8


def refused():
    image = keras.Input((8, 8, 3), name="image")
    flat = keras.layers.Flatten()(image)
    model = keras.Model(image, keras.layers.Dense(2)(flat))
    vector = keras.Input((5,), name="numbers")
    data = np.random.default_rng(0).random((100, 8, 8, 3)).astype("float32")
    int8 = {"precision": "int8", "representative_data": data, "inference_type": "int8"}
    content = to_tflite(model)
    return {
        "no .tflite file": b"\x89PNG" * 100,
        "truncated or damaged": content[: len(content) // 2],
        "one image": to_tflite(keras.Model(vector, keras.layers.Dense(2)(vector))),
        "float32 and uint8": to_tflite(model, **int8),
    }


def test_what_is_refused_changes_nothing(page):
    opened = page()
    before = settled(opened)["outputs"]
    for words, content in refused().items():
        latest = give(opened, "#file", "x.tflite", content)
        assert words in opened.text_content("#message"), words
        assert latest["outputs"] == before
    give(opened, "#image", "x.png", b"none")
    assert "cannot read it as an image" in opened.text_content("#message")


def test_a_file_without_attention(page):
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    opened = page()
    give(opened, "#file", "plain.tflite", to_tflite(model))
    assert "no attention" in opened.text_content("#model")
    assert "convert it with --with-attention" in opened.text_content("#sites")


def test_without_webgpu_it_says_so_and_runs(browser, site):
    opened = browser.new_page()
    opened.add_init_script("delete Navigator.prototype.gpu")
    opened.goto(f"{site}?backend=webgpu")
    assert settled(opened)["backend"] == "wasm"
    assert "has no WebGPU" in opened.text_content("#message")
    opened.close()


@pytest.mark.parametrize("width", [360, 1600])
def test_nothing_is_wider_than_the_screen(page, width):
    opened = page(viewport={"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") == width
