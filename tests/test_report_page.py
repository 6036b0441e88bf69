"""The report as a page, in Markdown and as a model card: what is in it is what was measured."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

import gpu_drivers
from clients import need
from converters.convert import Request, convert
from converters.data.calibration import Calibration
from converters.data.channels import Channel
from converters.report.document import Compared
from converters.report.page import written
from converters.report.tiles import BUDGET, Tiles
from converters.verify.compare import Verification
from converters.verify.maps import SiteMaps
from converters.verify.outputs import OutputComparison
from ulsam_keras import ULSAM, attention_maps

L = keras.layers
SAMPLES = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
# One colour of 255, and the ticks' places are told to a tenth of a percent.
TIMES = 1.05


def attending():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="x")
    x = L.Conv2D(8, 3, padding="same")(x)
    x = ULSAM(2, name="first", pointwise_initializer=keras.initializers.RandomNormal(0, 3))(x)
    x = ULSAM(4, name="second")(L.Conv2D(8, 3, padding="same", strides=2)(x))
    return keras.Model(inputs, L.Dense(3, name="y")(L.GlobalAveragePooling2D()(x)))


class Page(html.parser.HTMLParser):
    """Tags, sources and texts of a page, in order."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.pictures, self.sources, self.texts = [], {}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.sources += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.pictures.setdefault(found["alt"], found["src"])

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def conversion(tmp_path_factory):
    """A model, the folder of its conversion without a GPU, and the report."""
    folder = tmp_path_factory.mktemp("page")
    model = attending()
    path = folder / "a <i> & b.keras"
    model.save(path)
    np.savez(folder / "r.npz", inputs=SAMPLES, outputs=model.predict(SAMPLES, verbose=0))
    with pytest.MonkeyPatch.context() as patch:
        gpu_drivers.hide(patch)
        report = convert(
            Request(str(path), str(folder / "out"), reference=str(folder / "r.npz"), name="m")
        )
    assert report.passed
    return model, folder, report


@pytest.fixture(scope="module")
def converted(conversion):
    return conversion[:2]


def test_the_page_needs_nothing_else(converted):
    _, folder = converted
    page = Page(folder / "out" / "report.html")
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert page.sources and all(s.startswith("data:image/png;base64,") for s in page.sources)
    source = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "http" not in source and "@import" not in source and "url(" not in source
    assert "a <i> & b.keras" in page.text and "second" in page.text


def test_its_numbers_are_those_of_report_json(converted):
    _, folder = converted
    page = Page(folder / "out" / "report.html").text
    written = json.loads((folder / "out" / "report.json").read_text())
    for row in written["comparisons"]:
        assert f"{row['difference']:.1e}" in page
    for file in written["files"]:
        assert file["name"] in page and f"{file['size'] / 1024:,.1f}" in page
        for name, count in file["operator_counts"].items():
            assert f"{name} × {count}" in page
        assert sum(file["operator_counts"].values()) == file["operators"]


def shown(page, source, site, which, number):
    """What a picture says, times uniform, read from its colours and the numbers at the bar."""
    from matplotlib import colormaps
    from PIL import Image

    block = source[source.index(f"<h3>{site} ") :]
    bar = block[block.index('class="ticks"') :].split("</div>")[0]
    ticks = re.findall(r'left:([\d.]+)%">(1/)?(\d+)<', bar)
    places = [float(place) / 100 for place, _, _ in ticks]
    values = [1 / float(n) if under else float(n) for _, under, n in ticks]
    slope, start = np.polyfit(places, np.log(values), 1)
    found = page.pictures[f"attention of {site} in {which}, input {number}"]
    png = Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))).convert("RGBA")
    colours = np.asarray(png, "float64")
    table = 255 * colormaps["viridis"](np.linspace(0, 1, 255))[:, :3]
    nearest = np.abs(colours[:, :, None, :3] - table).sum(-1).argmin(-1)
    return np.exp(start + slope * nearest / 254), colours[..., 3] > 0


@pytest.mark.parametrize("which", ["Keras, TensorFlow", "float16, XNNPACK"])
def test_the_colours_are_the_attention(converted, which):
    model, folder = converted
    path = folder / "out" / "report.html"
    page, source = Page(path), path.read_text(encoding="utf-8")
    wanted = attention_maps(model, SAMPLES[:3])["first"] * 64
    for number, maps in enumerate(wanted, start=1):
        values, drawn = shown(page, source, "first", which, number)
        # Two groups beside each other, each position a square of 3 pixels, one between them.
        assert values.shape == (24, 49) and not drawn[:, 24].any()
        for group, left in enumerate((0, 25)):
            tile = values[1::3, left + 1 : left + 24 : 3]
            # The scale ends at a thousandth of its largest value.
            within = np.clip(maps[..., group], tile.min(), None)
            assert np.abs(np.log(tile / within)).max() < np.log(TIMES)


def test_the_card(converted):
    _, folder = converted
    card = (folder / "out" / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# a &lt;i> & b.keras\n")
    for text in ("| first | 8 × 8 | 2 |", "4 × 4 | 4 |", "m_float16.tflite", "## Licence"):
        assert text in card
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    assert 'Interpreter("m_float32.tflite")' in code and "runner(x=...)" in code


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_a_comparison_that_fails_is_told_first(converted, command, tmp_path, suffix):
    _, folder = converted
    target = tmp_path / f"r{suffix}"
    files = (folder / "out" / "m_float16.tflite", folder / "a <i> & b.keras")
    options = ("--no-gpu", "--tolerance", "float16=1e-9")
    status, _, _ = command("verify", *files, *options, "--report", target)
    text = target.read_text(encoding="utf-8")
    assert status == 1 and list(tmp_path.iterdir()) == [target]
    if suffix == ".json":
        assert json.loads(text)["passed"] is False
        return
    failed = re.search(r"(\d) of \d+ comparisons failed", text)
    assert failed and int(failed[1]) >= 3
    told = text.index("A file of floats computes what the Keras model does")
    assert failed.start() < told < text.index("XNNPACK", told)
    assert text.count("A file of floats computes") == 1
    if suffix == ".html":
        assert text.index("What failed") < text.index("Outputs</h2>")
        assert "more than 10 times" in text
        assert "see what <code>ulsam-keras lint</code> finds" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [("r.pdf", "must end in .html, .json, .md"), ("no/r.html", "in no folder that is there")],
)
def test_a_file_that_cannot_be_written(converted, command, tmp_path, name, words):
    _, folder = converted
    files = (folder / "out" / "m_float32.tflite", folder / "out" / "m_float16.tflite")
    status, _, error = command("verify", *files, "--report", tmp_path / name)
    assert status == 2 and words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_files_of_one_name(converted, command, tmp_path):
    _, folder = converted
    files = [tmp_path / precision / "m.tflite" for precision in ("float32", "float16")]
    for file in files:
        file.parent.mkdir()
        shutil.copy(folder / "out" / f"m_{file.parent.name}.tflite", file)
    status, text, error = command("verify", *files, "--no-gpu", "--report", tmp_path / "r.html")
    assert status == 0 and error == "" and all(str(file) in text for file in files)
    page = Page(tmp_path / "r.html")
    for file in files:
        assert f"attention of site 1 in {file}, XNNPACK, input 1" in page.pictures


def test_what_is_slow_ran_fewer_samples():
    maps = [
        SiteMaps("s", subject, "", np.full((count, 4, 4, 2), 1 / 16))
        for subject, count in (("keras", 3), ("float32", 1))
    ]
    row = OutputComparison("float32", "keras", "XNNPACK", 3, 1e-3, data="given")
    page = written(Compared(Verification((row,), maps=tuple(maps)), None), ".html")
    assert page.count('alt="attention of s') == 2


def test_times_of_a_gpu_in_software_are_of_none():
    rows = [
        OutputComparison("float32", "keras", runtime, 3, 1e-3, milliseconds=ms, data="given")
        for runtime, ms in (("XNNPACK", 1), ("GPU float32", 50))
    ]
    bars = {}
    for adapter in ("SwiftShader Device (Subzero)", "Mali-G710"):
        page = written(Compared(Verification(tuple(rows)), adapter), ".html")
        times = page[page.index("Time of one run") :].split("</table>")[0]
        bars[adapter] = re.findall(r"width:([\d.]+)%", times)
        assert ("a driver in software" in page) == ("Swift" in adapter)
    assert list(bars.values()) == [["100.0"], ["2.0", "100.0"]]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1600])
def test_no_page_is_wider_than_the_screen(conversion, tmp_path, width):
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    need(chromium, "chromium.sh")
    report = conversion[2]
    failed = {"subject": "dynamic_range", "limit": 1e-9, "snr_limit": 200.0}
    rows = [replace(row, correct=38) for row in report.verification.comparisons]
    rows += [replace(row, **failed) for row in rows if row.subject == "float16"]
    found = replace(report.verification, comparisons=tuple(rows))
    channels = (Channel("numbers of a sensor", -123456.0, 123456.0, 1e-7, 123456.0),)
    report = replace(
        report,
        verification=found,
        calibration=Calibration({"x": SAMPLES}, "40 samples", channels, channels, "nothing"),
    )
    (tmp_path / "r.html").write_text(written(report, ".html"), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "r.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        browser.close()


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_a_name_that_is_no_text(converted, command, tmp_path):
    _, folder = converted
    odd = tmp_path / os.fsdecode(b"gr\xf6.tflite")
    shutil.copy(folder / "out" / "m_float32.tflite", odd)
    files = (odd, folder / "a <i> & b.keras")
    assert command("verify", *files, "--no-gpu", "--report", tmp_path / "r.html")[0] == 0
    assert "gr?.tflite" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_pictures_of_many_large_maps_are_small():
    """Seven sites of 16 groups on 256 x 256, three samples, six columns, and noise."""
    rng = np.random.default_rng(0)
    noise = rng.random((3, 256, 256, 16)) / 256**2
    columns = [SiteMaps("s", str(number), "", noise) for number in range(6)]
    tiles = Tiles(columns, BUDGET // 7)
    size = sum(len(tiles.of(str(c), "", n)) for c in range(6) for n in range(3))
    assert 7 * size < 3e6


def test_maps_that_are_not_finite_are_drawn():
    maps = np.full((1, 4, 4, 1), 1 / 16)
    maps[0, 0, :3, 0] = np.nan, np.inf, 0
    tiles = Tiles([SiteMaps("s", "keras", "", maps)], BUDGET)
    assert tiles.of("keras", "", 0).startswith("data:image/png")


@pytest.mark.slow
def test_what_pytorch_looked_at(tmp_path, command):
    """Where a program's reference holds its modules' answers, the attention is among them."""
    import torch
    from torch import nn

    from converters import export_program, record
    from converters.verify.compare import Judge
    from converters.verify.compare import verify as compare
    from converters.verify.targets import CPU, Runner

    class SubSpace(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 1, groups=channels)
            self.norm = nn.BatchNorm2d(channels)
            self.pool = nn.MaxPool2d(3, 1, 1)
            self.point, self.point_norm = nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1)
            self.softmax = nn.Softmax(dim=2)

        def forward(self, x):
            s = self.pool(torch.relu(self.norm(self.depthwise(x))))
            s = torch.relu(self.point_norm(self.point(s)))
            return x + x * self.softmax(s.flatten(2)).view_as(s)

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.groups = nn.ModuleList(SubSpace(4) for _ in range(2))

        def forward(self, x):
            parts = torch.chunk(x, 2, 1)
            return torch.cat([g(p) for g, p in zip(self.groups, parts, strict=True)], 1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Split(), nn.Conv2d(8, 2, 1)).eval()
    x = torch.randn(4, 3, 6, 6)
    export_program(model, (x[:1],), tmp_path / "p.pt2", reference=(x,), layers=True)
    request = Request(str(tmp_path / "p.pt2"), str(tmp_path / "out"), ("float32",), gpu=False)
    found = convert(request).verification
    maps = {each.subject: each.attention for each in found.maps if each.runtime != "built-in"}
    assert np.allclose(maps["pytorch"], maps["keras"], atol=1e-6)
    assert maps["pytorch"].shape == (3, 6, 6, 2)
    page = Page(tmp_path / "out" / "report.html")
    assert [alt for alt in page.pictures if alt.endswith("in PyTorch, , input 1")]

    # And where files are verified with that reference; a file does not say which site it is.
    record(model, x, tmp_path / "r.npz", layers=True)
    keras_, file = tmp_path / "out" / "model.keras", tmp_path / "out" / "p_float32.tflite"
    for sides in ((keras_, file, "--inputs"), (keras_,), (file,)):
        report = tmp_path / "r.html"
        arguments = (*sides, tmp_path / "r.npz", "--no-gpu", "--report", report)
        status, _, error = command("verify", *arguments)
        assert (status, error) == (0, "")
        names = [re.search("in (.*), input 1$", alt) for alt in Page(report).pictures]
        columns = [found[1].split(", ")[0] for found in names if found]
        assert columns == ["PyTorch", *(side.name for side in sides if side != "--inputs")]
    how = {"judge": Judge(), "runner": Runner(), "targets": CPU}
    both = compare(str(file), str(tmp_path / "r.npz"), **how).maps
    assert np.allclose(both[0].attention, both[-1].attention, atol=1e-6)
    assert (both[0].subject, both[-1].subject) == ("p_float32.tflite", "pytorch")
