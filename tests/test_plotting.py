"""Pictures of the attention: what is drawn where, with which colours and words."""

import sys

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from ulsam_keras import ULSAM, attention_maps, plot_attention
from ulsam_keras.plotting import plot_maps


def maps(*shape):
    a = np.random.default_rng(0).gamma(0.5, size=shape)
    return a / a.sum((1, 2), keepdims=True)


def panels(figure):
    """{(site, image, group): the axes}, in the order in which they were drawn."""
    found = {}
    for axes in figure.axes:
        site, *numbers = axes.get_label().rsplit(" ", axes.get_label().count(" "))
        if len(numbers) == 2:
            found[site, *map(int, numbers)] = axes
    return found


def drawn(axes, label="times uniform"):
    [image] = [image for image in axes.get_images() if image.get_label() == label]
    return image


def words(figure):
    return [text.get_text() for text in figure.texts]


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((12, 8, 3))
    x = ULSAM(4, name="first")(keras.layers.Conv2D(8, 1)(inputs))
    x = ULSAM(1, name="second")(keras.layers.Conv2D(4, 3, strides=4, padding="same")(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def test_what_is_drawn_is_the_attention_times_the_positions(model):
    images = np.random.default_rng(0).normal(size=(2, 12, 8, 3)).astype("float32")
    figure = plot_attention(model, images)
    assert isinstance(figure, Figure)
    found, expected = panels(figure), attention_maps(model, images)
    assert list(found) == [
        *(("first", image, group) for image in range(2) for group in range(4)),
        *(("second", image, 0) for image in range(2)),
    ]
    for (site, image, group), axes in found.items():
        a = expected[site]
        positions = a.shape[1] * a.shape[2]
        top = drawn(axes)
        np.testing.assert_allclose(top.get_array(), a[image, :, :, group] * positions, rtol=1e-6)
        # Stretched over the whole of the picture beneath it, position by position.
        beneath = drawn(axes, "picture")
        assert top.get_extent() == beneath.get_extent() == [-0.5, 7.5, 11.5, -0.5]
        assert top.get_interpolation() == "nearest" and 0 < top.get_alpha() < 1
        np.testing.assert_allclose(
            beneath.get_array(),
            scaled(images[image]).mean(-1),
            rtol=1e-5,
        )
    assert words(figure) == ["first  (12 × 8)", "times uniform", "second  (3 × 2)", "times uniform"]
    titles = [axes.get_title() for axes in found.values()]
    assert titles == [*(f"group {k}" for k in range(4)), *[""] * 4, "group 0", ""]


def scaled(picture):
    return (picture - picture.min()) / (picture.max() - picture.min())


def test_sites_are_chosen_in_order(model):
    images = np.zeros((1, 12, 8, 3))
    figure = plot_attention(model, images, sites=["second", "first"])
    assert [key[0] for key in panels(figure)] == ["second"] + ["first"] * 4
    assert words(plot_attention(model, images, sites="second"))[0].startswith("second")


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((2, 6, 8, 3), lambda x: x),
        ((2, 3, 6, 8), lambda x: x.transpose(0, 2, 3, 1)),
        ((2, 6, 8, 1), lambda x: x[..., 0]),
        ((2, 1, 6, 8), lambda x: x[:, 0]),
        ((2, 6, 8), lambda x: x),
        ((2, 6, 8, 13), lambda x: x.mean(-1)),
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-2.5, 2.5), (0, 0.01)])
def test_pictures_of_any_form_and_range(shape, shown, low, high):
    pictures = np.random.default_rng(0).uniform(low, high, shape)
    figure = plot_maps({"a": maps(2, 3, 4, 2)}, pictures)
    beside = [axes for axes in figure.axes if axes.get_label() in ("a 0", "a 1")]
    assert len(beside) == 2
    for axes, expected in zip(beside, shown(pictures), strict=True):
        image = axes.get_images()[0]
        np.testing.assert_allclose(image.get_array(), scaled(expected), atol=1e-9)
        if expected.ndim == 2:  # grey, from black to white
            assert image.get_clim() == (0, 1) and image.get_cmap().name == "gray"


def test_without_a_picture_the_maps_are_drawn_alone():
    figure = plot_maps({"a": maps(1, 3, 4, 2)})
    for axes in panels(figure).values():
        [image] = axes.get_images()
        assert image.get_alpha() is None
    assert len(figure.axes) == 3


def bars(figure):
    return [axes for axes in figure.axes if axes.get_label().endswith("bar")]


def test_groups_of_a_site_have_one_scale_that_its_bar_tells():
    a = {
        "wide": maps(2, 8, 8, 3),
        "flat": np.full((2, 4, 4, 1), 1 / 16),
        "dead": np.zeros((2, 2, 2, 1)),
    }
    figure = plot_maps(a, np.zeros((2, 8, 8, 3)))
    limits = {key: drawn(axes).get_clim() for key, axes in panels(figure).items()}
    highest = 64 * a["wide"].max()
    for (site, *_), found in limits.items():
        assert found == pytest.approx(
            {"wide": (highest / 1000, highest), "flat": (0.5, 2), "dead": (0.002, 2)}[site]
        )
    wide, flat, dead = bars(figure)
    assert [t.get_text() for t in flat.get_yticklabels()] == ["1/2", "1", "2"]
    for bar in (wide, flat, dead):
        ticks = dict(
            zip(bar.get_yticks(), (t.get_text() for t in bar.get_yticklabels()), strict=True)
        )
        assert ticks[1.0] == "1" and len(ticks) <= 7
    # The uniform attention in the middle of the colours, none at their end.
    middle = drawn(panels(figure)["flat", 0, 0])
    np.testing.assert_allclose(middle.norm(middle.get_array()), 0.5)
    none = drawn(panels(figure)["dead", 0, 0])
    values = none.norm(none.get_array())
    assert not np.ma.is_masked(values) and (values == 0).all()
    # All on one.
    figure = plot_maps(a, np.zeros((2, 8, 8, 3)), scale="all")
    assert len({drawn(axes).get_clim() for axes in panels(figure).values()}) == 1


def test_colours_are_perceptually_uniform():
    """In CAM02-UCS's stead: lightness, which rises evenly, and is left without colours."""
    figure = plot_maps({"a": maps(1, 3, 4, 2)})
    colours = drawn(panels(figure)["a", 0, 0]).get_cmap()(np.linspace(0, 1, 64))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16
    steps = np.diff(lightness)
    assert (steps > 0).all() and steps.max() < 2 * steps.mean()


LAYOUTS = {
    "seven of sixteen": ({f"block_{k}/ulsam": maps(1, 7, 7, 16) for k in range(7)}, 7.0),
    "a column": ({"a": maps(3, 14, 14, 4), "b": maps(3, 7, 7, 8)}, 3.4),
    "one of one": ({"ulsam": maps(1, 7, 7, 1)}, 7.0),
    "tall": ({"ulsam": maps(1, 28, 7, 3)}, 7.0),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    """Nothing is cut off, nothing overlaps, and every panel and text can be read."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    a, width = LAYOUTS[name]
    first = next(iter(a.values()))
    figure = plot_maps(
        a, np.zeros((len(first), 8 * first.shape[1], 8 * first.shape[2], 3)), width=width
    )
    assert len(panels(figure)) == sum(len(value) * value.shape[3] for value in a.values())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    inches = figure.get_size_inches()
    assert inches[0] <= width + 1e-9
    renderer = canvas.get_renderer()
    boxes = []
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        boxes.append((axes.get_label(), box))
        size = axes.get_window_extent().size / figure.dpi
        assert axes.get_label().endswith("bar") or min(size) >= 0.35, (axes.get_label(), size)
        assert max(size) <= 1.5 + 1e-6
    boxes += [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    for number, (label, box) in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1, label
        assert box.x1 <= inches[0] * figure.dpi + 1 and box.y1 <= inches[1] * figure.dpi + 1, label
        for other, second in boxes[:number]:
            width_of, height_of = (
                min(getattr(box, f"{axis}1"), getattr(second, f"{axis}1"))
                - max(getattr(box, f"{axis}0"), getattr(second, f"{axis}0"))
                for axis in "xy"
            )
            assert width_of <= 2 or height_of <= 2, (label, other)
    for text in figure.findobj(matplotlib.text.Text):
        assert not text.get_text() or text.get_fontsize() >= 7


@pytest.mark.parametrize(
    ("suffix", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_it_can_be_saved(tmp_path, suffix, head):
    path = tmp_path / f"a.{suffix}"
    plot_maps({"a": maps(1, 3, 4, 2)}, np.zeros((1, 6, 8, 3))).savefig(path)
    assert path.read_bytes().startswith(head)


def test_batches_of_a_generator_are_drawn_too(model):
    images = np.random.default_rng(0).normal(size=(3, 12, 8, 3)).astype("float32")
    figure = plot_attention(model, ((images[k : k + 1], k) for k in range(3)), sites=["second"])
    expected = attention_maps(model, images)["second"]
    for (_, image, _), axes in panels(figure).items():
        np.testing.assert_allclose(drawn(axes).get_array(), 6 * expected[image, :, :, 0], rtol=1e-5)
        np.testing.assert_allclose(
            drawn(axes, "picture").get_array(), scaled(images[image]).mean(-1), rtol=1e-5
        )


def test_refusals(model):
    a = {"a": maps(2, 3, 4, 2)}
    for arguments, match in (
        ({"sites": ["b"]}, "`sites` must be one or more of 'a'.*'b'"),
        ({"sites": []}, "Received: none"),
        ({"scale": "group"}, "`scale` must be.*'group'"),
        ({"pictures": np.zeros((3, 6, 8, 3))}, r"as many as the images.*\(3, 6, 8, 3\), 2 images"),
        ({"pictures": np.zeros((2, 6))}, r"Received: pictures of shape \(2, 6\)"),
    ):
        with pytest.raises(ValueError, match=match):
            plot_maps(a, **{"pictures": None, **arguments})


def test_no_global_state(model):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    plot_attention(model, np.zeros((1, 12, 8, 3)))
    assert pyplot.get_fignums() == [] and dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_is_named(model, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "ulsam-keras\[viz\]"') as error:
        plot_attention(model, np.zeros((1, 12, 8, 3)))
    assert "\n" not in str(error.value)
