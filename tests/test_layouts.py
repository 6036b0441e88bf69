"""Networks recognised by names and shapes alone: what is read off them, and what is refused."""

import re
import subprocess
import sys
from collections import namedtuple
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.pytorch.layouts import LAYOUTS, recognise
from recorded_networks import ALPHAS, BODY, SOURCES, modules, shapes, subspace
from ulsam_keras.networks import PAPER, mobilenet_v1, mobilenet_v2

V1 = "wjc852456"
# The papers' tables.
V2_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
V1_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
STRIDES = dict.fromkeys(SOURCES, V2_STRIDES) | {V1: V1_STRIDES}


def state_of(*arguments):
    """Names and shapes of a network; there are no values."""
    return {key: empty(*shape) for key, shape in shapes(*arguments).items()}


def empty(*shape):
    return np.broadcast_to(np.float32(0), shape)


@cache
def widths_of(source, alpha):
    """Output channels of the stem and the blocks."""
    inner = dict(modules(shapes(source, alpha), BODY[source]))
    widths = [[s[0] for s in inner[i].values() if len(s) == 4][-1] for i in inner if i is not None]
    return widths[: len(STRIDES[source]) + 1]


# What is read


@pytest.mark.parametrize(
    ("source", "arguments", "description"),
    [
        (
            "torchvision",
            (1.0, 1000, {}, {12: 4, 13: 4, 15: 4, 16: 4}),
            "torchvision MobileNetV2, alpha≈1.0, 1000 classes, "
            "ULSAM (g=4) instead of blocks 12, 13, 15, 16",
        ),
        ("tonylins", (1.4, 7), "tonylins MobileNetV2, alpha≈1.4, 7 classes"),
        (
            "older_tonylins",
            (0.35, 10, {}, {12: 3, 13: 11}),
            "tonylins MobileNetV2, alpha≈0.35, 10 classes, "
            "ULSAM instead of blocks 12 (g=3), 13 (g=11)",
        ),
        (
            V1,
            (0.75, 2, {13: 1}),
            "marvis MobileNetV1, alpha≈0.75, 2 classes, ULSAM (g=1) after block 13",
        ),
    ],
)
def test_description(source, arguments, description):
    assert recognise(state_of(source, *arguments)).description == description


def test_names_and_shapes_as_list_tensors_gives_them():
    info = namedtuple("info", "name shape")
    state = state_of("torchvision", 0.35, 10, {3: 4})
    found = recognise([info(name, tuple(t.shape)) for name, t in state.items()])
    assert found.description == recognise(state).description
    assert found.name_map["block_4_expand_bn"] == "features.5.conv.0.1"
    assert found.name_map["block_3_ulsam"] == "features.4"


def test_nothing_heavy_is_imported():
    script = (
        "import sys; from converters.pytorch.layouts import recognise; recognise({}); "
        "print({'tensorflow', 'keras', 'torch', 'ulsam_keras', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


@st.composite
def networks(draw):
    """Whose network, a width multiplier, and sites that PyTorch and we can have."""
    source = draw(st.sampled_from(SOURCES))
    alpha = draw(st.sampled_from(ALPHAS))
    widths, strides = widths_of(source, alpha), STRIDES[source]
    after, instead_of = {}, {}
    places = st.lists(st.sampled_from(["none"] * 3 + ["after", "instead"]), min_size=17)
    for number, (stride, place) in enumerate(zip(strides, draw(places), strict=False), 1):
        channels = widths[number]
        splits = draw(st.sampled_from([g for g in (1, 2, 3, 4, 5, 8, 16) if channels % g == 0]))
        keeps_shape = stride == 1 and widths[number - 1] == channels
        if place == "after":
            after[number] = splits
        elif place == "instead" and keeps_shape:
            instead_of[number] = splits
    return source, alpha, after, instead_of


@settings(max_examples=40, deadline=None)
@given(networks())
def test_any_network_is_read_as_it_was_built(network):
    source, alpha, after, instead_of = network
    state = state_of(source, alpha, 5, after, instead_of)
    sites = ",".join([f"after:{n}" for n in after] + [f"instead:{n}" for n in instead_of])
    found = recognise(state, sites=sites)
    if after and instead_of:
        with pytest.raises(ValueError, match="keys do not say"):
            recognise(state)
    else:
        assert recognise(state) == found
    assert (found.ulsam_after, found.ulsam_instead_of) == (after, instead_of)
    assert (found.classes, found.widths[1:18]) == (5, tuple(widths_of(source, alpha)[1:]))
    modules = {key.rpartition(".")[0] for key in state}
    assert {m for m in found.name_map.values() if m in modules} | {
        m for m in modules if "subspaces" in m
    } == modules


def test_the_tables_are_those_of_the_networks():
    for layout in LAYOUTS:
        ours = {"MobileNetV1": mobilenet_v1, "MobileNetV2": mobilenet_v2}[layout.family.name]
        assert layout.family.strides == tuple(stride for _, stride in ours.BLOCKS)
        widths = [width for width, count, _ in layout.family.stages for _ in range(count)]
        assert widths == [width for width, _ in ours.BLOCKS]


def test_lone_subspace_is_one_split():
    state = state_of("torchvision", 0.35, 10, {}, {12: 1})
    state = {key.replace("subspaces.0.", ""): value for key, value in state.items()}
    assert "features.12.conv_dws.weight" in state
    found = recognise(state)
    assert found.ulsam_instead_of == {12: 1}
    assert found.name_map["block_12_ulsam"] == "features.12"


@pytest.mark.parametrize("source", SOURCES)
def test_without_classifier(source):
    state = state_of(source, 0.35, 10, {3: 4})
    state = {k: v for k, v in state.items() if not k.startswith(("classifier", "fc"))}
    found = recognise(state)
    assert found.classes is None and "no classifier" in found.description
    body = {key.partition(".")[2]: value for key, value in state.items()}
    alone = recognise(body)
    assert alone.description == found.description
    assert alone.name_map["stem_conv"] == "0.0"


def test_classifier_behind_a_dropout_and_alone():
    own = state_of("torchvision", 0.35, 10)
    alone = {k.replace("classifier.1.", "classifier."): v for k, v in own.items()}
    for state, path in [
        (own, "classifier.1"),
        (alone, "classifier"),
        (state_of("tonylins", 0.35, 10), "classifier"),
        (state_of("older_tonylins", 0.35, 10), "classifier.1"),
    ]:
        found = recognise(state)
        assert (found.classes, found.name_map["classifier"]) == (10, path)


def test_a_network_under_a_prefix():
    state = {f"net.{k}": v for k, v in state_of("torchvision", 0.35, 10).items()}
    assert recognise(state).prefix == "net"
    both = state | {"head.weight": empty(3, 10)}
    with pytest.raises(ValueError, match="prefix='net'.*'head'"):
        recognise(both)
    assert recognise(both, prefix="net.").prefix == "net"
    two = state | {f"teacher.{k}": v for k, v in state_of("tonylins", 0.35, 10).items()}
    with pytest.raises(ValueError, match="'net.features'.*'teacher.features'"):
        recognise(two)
    assert recognise(two, prefix="teacher").layout.name == "tonylins"
    assert recognise(two, prefix="student") is None


# Where the ULSAM are


def test_the_rows_of_the_paper_need_no_sites():
    for row in PAPER.values():
        source = {"MobileNetV1": V1, "MobileNetV2": "torchvision"}[row.network]
        places = [dict.fromkeys(where, 4) for where in (row.ulsam_after, row.ulsam_instead_of)]
        found = recognise(state_of(source, row.alpha, 10, *places))
        assert [found.ulsam_after, found.ulsam_instead_of] == places, row.name


def mixed():
    """One ULSAM in place of a block and, in a later module, one after a block."""
    return state_of("torchvision", 0.75, 10, {5: 4}, {3: 4})


def test_a_mixed_network_is_asked_for_in_the_form_of_the_option():
    with pytest.raises(ValueError) as caught:
        recognise(mixed())
    message = str(caught.value)
    assert "\n" not in message and "in place of blocks, 1 of 2, and" in message
    assert "`converters.export_program`" in message and ".pt2" in message
    assert message.endswith("Received: 16 blocks of 17 and 2 ULSAM at 'features.3', 'features.6'")
    [form] = re.findall(r"`sites='(.+?)'`", message)
    # The form is that of another network of as many.
    state = state_of("torchvision", 0.75, 10, {3: 4}, {12: 4})
    found = recognise(state, sites=form)
    assert (found.ulsam_after, found.ulsam_instead_of) == ({3: 4}, {12: 4})


def test_sites_are_followed():
    first = recognise(mixed(), sites="after:5,instead:3")
    second = recognise(mixed(), sites="instead:5, after:2")
    assert (first.ulsam_after, first.ulsam_instead_of) == ({5: 4}, {3: 4})
    assert (second.ulsam_after, second.ulsam_instead_of) == ({2: 4}, {5: 4})


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ("after:9", "one place for each ULSAM"),
        ("", "one place for each ULSAM"),
        ("instead:3,after:5,after:9", "one place for each ULSAM"),
        ("after", "`sites` is no list like after:3,instead:12"),
        ("after:3;instead:12", "`sites` is no list like after:3,instead:12"),
        ("after:5,instead:4", "its modules, which stand, in this order, after:5,instead:3"),
        ("after:5,instead:6", "its modules, which stand, in this order, after:2,instead:5"),
        (
            "after:2,after:5",
            "has at 'features.8' 48 channels where block 6, .* has 24",
        ),
        (
            "instead:3,instead:5",
            "has at 'features.8' 48 channels where block 8, .* has 24",
        ),
    ],
)
def test_sites_that_are_not_those_of_the_modules(sites, words):
    with pytest.raises(ValueError, match=words) as caught:
        recognise(mixed(), sites=sites)
    assert str(caught.value).endswith(f", sites={sites!r}")


# What is refused


def moved(state, body, change):
    """The state with the numbered modules of the body renumbered; None leaves one out."""
    result = {}
    for key, value in state.items():
        if key.startswith(f"{body}."):
            _, index, rest = key.split(".", 2)
            for to in change(int(index)):
                result[f"{body}.{to}.{rest}"] = value
        else:
            result[key] = value
    return result


def without(state, index, body="features"):
    return moved(state, body, lambda i: [] if i == index else [i - (i > index)])


def twice(state, index, body="features"):
    return moved(state, body, lambda i: [i, i + 1] if i == index else [i + (i > index)])


def cut(state, *starts):
    return {key: value for key, value in state.items() if not key.startswith(starts)}


def joined(front, back, index):
    """The modules before the index of one network, the others and the classifier of another."""

    def number(key):
        parts = key.split(".")
        return int(parts[1]) if parts[0] in ("features", "model") else 99

    early = {k: v for k, v in front.items() if number(k) < index}
    return early | {k: v for k, v in back.items() if number(k) >= index}


def split_unevenly(state, path, widths):
    """A ULSAM whose subspaces have these channels in place of its own."""
    state = cut(state, f"{path}.")
    for index, width in enumerate(widths):
        inside = subspace(f"{path}.subspaces.{index}.", width)
        state |= {key: empty(*shape) for key, shape in inside.items()}
    return state


def unexpanded(path, channels):
    """A bottleneck of the torchvision layout as block 1 is."""
    convolutions = {"conv.0.0": (channels, 1, 3, 3), "conv.1": (channels, channels, 1, 1)}
    state = {f"{path}.{name}.weight": empty(*shape) for name, shape in convolutions.items()}
    norms = (f"{path}.conv.0.1", f"{path}.conv.2")
    return state | {f"{norm}.weight": empty(channels) for norm in norms}


@cache
def refusals():
    """{what is wrong: (state, words of the error)}"""
    v2, v1 = state_of("torchvision", 0.75, 10), state_of(V1, 0.5, 10)
    tony = state_of("tonylins", 0.75, 10)
    after = state_of("torchvision", 0.75, 10, {14: 4})
    ulsam = state_of("torchvision", 0.75, 10, {14: 4}, {12: 4})
    v2_like, v1_like = "looks like a torchvision MobileNetV2", "looks like a marvis MobileNetV1"
    return {
        "missing block": (
            cut(v2, "features.9."),
            (v2_like, "'features.9'", "block is missing"),
        ),
        "missing block, renumbered": (
            without(v2, 9),
            ("'features.10' 72 channels where block 10", "has 48", "missing", "16 blocks"),
        ),
        "missing first block of a stage": (
            without(v2, 14),
            ("'features.14' a module that takes 120 channels", "'features.13' gives 72", "missing"),
        ),
        "missing block, ULSAM elsewhere": (
            without(ulsam, 9),
            ("'features.10' 72 channels where block 10", "15 blocks of 17 and 2 ULSAM"),
        ),
        "missing block of V1": (
            without(v1, 9, "model"),
            (v1_like, "'model.11' 512 channels where block 11", "has 256", "12 blocks"),
        ),
        "missing last block of V1": (
            without(v1, 13, "model"),
            ("no block 13 after 'model.12'", "missing"),
        ),
        "extra block": (
            twice(v2, 9),
            ("'features.12' 72 channels where block 12", "has 48", "too many", "18 blocks"),
        ),
        "extra block of the last stage but one": (
            twice(v2, 15),
            ("'features.18' a block too many", "18 blocks"),
        ),
        "extra block of V1": (
            twice(v1, 9, "model"),
            ("'model.13' 512 channels where block 13", "has 256", "14 blocks"),
        ),
        "extra block, ULSAM elsewhere": (
            twice(ulsam, 9),
            ("'features.12' 72 channels where block 12", "17 blocks of 17 and 2 ULSAM"),
        ),
        "missing head": (cut(v2, "features.18."), ("no head convolution", "'features.17'")),
        "missing stem": (cut(v2, "features.0."), ("'features.0'", "the stem is missing")),
        "missing module of a block": (
            cut(v2, "features.5.conv.1.0"),
            ("'features.5' no block", "lacks 'features.5.conv.1.0'"),
        ),
        "foreign module in a block": (
            v2 | {"features.5.se.weight": empty(8, 8)},
            ("'features.5' no block", "'features.5.se' besides"),
        ),
        "block without expansion": (
            cut(v2, "features.3.") | unexpanded("features.3", 24),
            ("'features.3' a block without an expansion",),
        ),
        "mixed layouts": (
            joined(v2, tony, 9),
            ("torchvision MobileNetV2 at 'features.1'", "tonylins MobileNetV2 at 'features.9'"),
        ),
        "mixed families": (
            joined(v2, v1, 9) | cut(v2, *(f"features.{i}." for i in range(9))),
            ("'features'", "'model'", "parts of two checkpoints"),
        ),
        "blocks of two widths": (
            joined(v2, state_of("torchvision", 1.0, 10), 9),
            ("'features.9'", "takes 64 channels", "'features.8' gives 48", "different checkpoints"),
        ),
        "g does not divide": (
            split_unevenly(ulsam, "features.12", [14] * 5),
            ("'features.12' of 5 subspaces of 14 channels, 70", "5 subspaces do not divide 72"),
        ),
        "unequal subspaces": (
            split_unevenly(ulsam, "features.12", [15, 15, 15, 15, 12]),
            ("'features.12' whose subspaces have unequal channels", "5, must divide", "72"),
        ),
        "ULSAM of another site": (
            split_unevenly(ulsam, "features.12", [30] * 4),
            ("'features.12' of 4 subspaces of 30 channels", "another site"),
        ),
        "missing subspace": (
            cut(ulsam, "features.12.subspaces.2."),
            ("'features.12' with a subspace missing", "subspaces.2.conv_dws.weight"),
        ),
        "ULSAM after the stem": (
            split_unevenly(twice(v2, 0), "features.1", [6] * 4),
            ("'features.1' a ULSAM after the stem", "17 blocks of 17 and 1 ULSAM"),
        ),
        "two ULSAM after a block": (
            split_unevenly(twice(after, 15), "features.16", [30] * 4),
            ("'features.16' a ULSAM after another", "17 blocks of 17 and 2 ULSAM"),
        ),
        "ULSAM in place of a block of stride 2": (
            state_of("torchvision", 0.1, 10, {}, {4: 4}),
            ("'features.4' a ULSAM in place of block 4, which has stride 2",),
        ),
        "ULSAM after the head": (
            v2 | split_unevenly({}, "features.19", [320] * 4),
            ("'features.19'", "ULSAM where its head should be"),
        ),
        "ULSAM inside a block's module": (
            v2 | split_unevenly({}, "features.9.ulsam", [12] * 4),
            ("'features.9'", "no module of the body of its own"),
        ),
        "classifier of other features": (
            v2 | {"classifier.1.weight": empty(10, 1000)},
            ("(classes, 1280)", "'classifier.1.weight' (10, 1000)"),
        ),
        "classifier that disagrees with its bias": (
            v2 | {"classifier.1.bias": empty(12)},
            ("10 classes", "'classifier.1.bias' (12,)"),
        ),
        "classifier without bias": (
            cut(v2, "classifier.1.bias"),
            ("10 classes", "no key 'classifier.1.bias'"),
        ),
        "classifier of two layers": (
            v2 | {"classifier.4.weight": empty(5, 10), "classifier.4.bias": empty(5)},
            ("'classifier.1', 'classifier.4'", "one classifier"),
        ),
        "another head": (v1 | {"aux.weight": empty(1)}, (v1_like, "'fc', 'aux'")),
        "5x5 kernel": (
            v2 | {"features.5.conv.1.0.weight": empty(144, 1, 5, 5)},
            ("'features.5.conv.1.0.weight' (144, 1, 5, 5)", "(C, 1, 3, 3)"),
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_refused(name):
    state, words = refusals()[name]
    with pytest.raises(ValueError) as caught:
        recognise(state)
    message = str(caught.value)
    assert "\n" not in message and "Received: " in message and "`model`" in message
    assert all(word in message for word in words), message


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_checkpoints_are_refused_or_read(data):
    """Whatever is lost, moved or of another shape, there is an answer or a ValueError."""
    state = dict(small(data.draw(st.sampled_from(SOURCES))))
    keys = sorted(state)
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(keys))
        change = data.draw(st.sampled_from(["lost", "module lost", "scalar", "empty", "far"]))
        tensor = state.pop(key, empty(3, 1, 3, 3))
        if change == "module lost":
            state = cut(state, key.rpartition(".")[0])
        elif change == "scalar":
            state[key] = empty()
        elif change == "empty":
            state[key] = empty(0, *tensor.shape[1:])
        elif change == "far":
            body, _, rest = key.partition(".")
            number = data.draw(st.sampled_from(["19", "9999", "9" * 5000, "٣"]))
            state[f"{body}.{number}.{rest.partition('.')[2]}"] = tensor
    try:
        found = recognise(state)
        assert found is None or found.description
    except ValueError as error:
        assert "Received: " in str(error) and "\n" not in str(error)


@cache
def small(source):
    return state_of(source, 0.25, 5, {2: 2, 9: 4})


def conv_net(*names):
    return {f"{name}.weight": empty(8, 8, 3, 3) for name in names}


@pytest.mark.parametrize(
    "state",
    [
        {},
        conv_net("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.downsample.0"),
        conv_net(*(f"features.{i}" for i in (0, 2, 5, 7))) | {"classifier.0.weight": empty(9, 9)},
        conv_net(*(f"features.{i}.block.{j}.0" for i in range(1, 16) for j in range(3))),
        conv_net(*(f"model.{i}.{j}" for i in range(5) for j in (0, 1, 3, 4))),
        {"0.weight": empty(8, 3, 3, 3), "1.weight": empty(8), "1.running_mean": empty(8)},
        {key: empty(*shape) for key, shape in subspace("", 8).items()},
    ],
    ids=["none", "ResNet", "VGG", "MobileNetV3", "double convolutions", "plain", "SubSpace"],
)
def test_other_networks_are_not_recognised(state):
    assert recognise(state) is None
