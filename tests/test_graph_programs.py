"""Whole programs as Keras models: names, layers, batches, sizes, ends, refusals, files."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, as everywhere

import converters
import ulsam_keras
from converters import runtime
from converters.pytorch.graph import converts, unconvertible
from converters.pytorch.graph.registry import _HANDLERS
from converters.tflite.flatbuffer import read_graphs
from graph_cases import FAMILIES, SHAPE
from graph_tools import (
    LIMIT,
    Functions,
    answers,
    compare,
    compare_file,
    convert,
    export,
    random_inputs,
    randomized,
)

Dim = torch.export.Dim
IMAGE = (1, 3, 16, 16)


class Bottleneck(nn.Module):
    """An inverted residual, as MobileNetV2 has it."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels_in * expand
        self.keeps = stride == 1 and channels_in == channels_out
        parts = [_block(channels_in, hidden, 1)] if expand > 1 else []
        self.conv = nn.Sequential(
            *parts,
            _block(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.keeps else self.conv(x)


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class MobileNetV2(nn.Module):
    """The network, by torchvision's names."""

    def __init__(self, alpha: float = 0.35, classes: int = 10) -> None:
        super().__init__()

        def width(channels: int) -> int:
            rounded = max(8, int(channels * alpha + 4) // 8 * 8)
            return rounded + 8 if rounded < 0.9 * channels * alpha else rounded

        parts: list[nn.Module] = [_block(3, width(32), 3, 2)]
        channels = width(32)
        for number, (wide, stride) in enumerate(ulsam_keras.networks.mobilenet_v2.BLOCKS):
            parts.append(Bottleneck(channels, width(wide), stride, 6 if number else 1))
            channels = width(wide)
        parts.append(_block(channels, 1280, 1))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    module = MobileNetV2()
    shape = [(1, 3, 32, 32)]
    return module, *compare(module, shape, tmp_path_factory.mktemp("mobilenet"))


def test_layers_are_named_after_modules_and_of_their_kind(mobilenet: Any) -> None:
    _, model, report = mobilenet
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert kinds["features.2.conv.0.0"] == "Conv2D"
    assert kinds["features.2.conv.1.0"] == "DepthwiseConv2D"
    assert kinds["features.2.conv.1.0.pad"] == "ZeroPadding2D"
    assert kinds["features.2.conv.1.1"] == "BatchNormalization"
    assert kinds["features.2.conv.1.2"] == "ReLU"
    assert kinds["features.3"] == "Add"
    assert kinds["classifier.0"] == "Dropout"
    assert kinds["classifier.1"] == "Dense"
    assert Counter(kinds.values()) == {
        "InputLayer": 1,
        "Conv2D": 35,
        "DepthwiseConv2D": 17,
        "BatchNormalization": 52,
        "ReLU": 35,
        "ZeroPadding2D": 5,
        "Add": 10,
        "GlobalAveragePooling2D": 1,
        "Dropout": 1,
        "Dense": 1,
    }
    assert report.transposes == ()


def test_what_fine_tuning_needs_is_kept(mobilenet: Any) -> None:
    _, model, _ = mobilenet
    norm = model.get_layer("features.0.1")
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)
    assert model.get_layer("classifier.0").rate == 0.2
    assert type(model.get_layer("features.0.0").kernel_initializer).__name__ == "GlorotUniform"


def test_the_report_accounts_for_every_tensor_and_node(mobilenet: Any, tmp_path: Path) -> None:
    module, model, report = mobilenet
    assert {record.key for record in report.weights} == module.state_dict().keys()
    assert Counter(r.status for r in report.weights) == {"ported": 262, "counter": 52}
    ported = {weight for record in report.weights for weight in record.weights}
    assert ported == {
        f"{layer.name}/{weight.name}" for layer in model.layers for weight in layer.weights
    }
    program = converters.read_program(
        export(module, random_inputs((1, 3, 32, 32)), tmp_path / "m.pt2")
    )
    assert [record.node for record in report.nodes] == [node.name for node in program.nodes]
    assert report.to_dict()["summary"] in str(report)
    assert report.inputs[0].order == (0, 2, 3, 1)
    assert report.inputs[0].shape == (None, 3, 32, 32)


def test_the_file_has_no_more_operators_than_the_network_written_in_keras(mobilenet: Any) -> None:
    module, model, report = mobilenet
    content = converters.to_tflite(model)
    written = converters.to_tflite(
        ulsam_keras.networks.MobileNetV2((32, 32, 3), alpha=0.35, classes=10)
    )
    count, other = (
        Counter(operator.name for operator in read_graphs(c)[0].operators)
        for c in (content, written)
    )
    # The network written in Keras ends in a softmax.
    assert count == other - Counter({"SOFTMAX": 1})
    x = random_inputs((1, 3, 32, 32), seed=5)
    array = np.ascontiguousarray(x[0].numpy().transpose(0, 2, 3, 1))
    result = runtime.run(content, {next(iter(read_graphs(content)[0].named_inputs)): array})
    with torch.no_grad():
        expected = module(*x).numpy()
    (found,) = result.outputs.values()
    assert np.abs(found - expected).max() <= LIMIT * np.abs(expected).max()


def test_stock_keras_loads_the_file(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2, 1)
            self.scale = nn.Parameter(torch.rand(8, 1, 1))
            self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = F.hardswish(self.conv(x)) * self.scale
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
            return {"map": y.roll(1, 2), "tokens": self.mix(y.flatten(2).transpose(1, 2))}

    model, report = compare(Network(), [IMAGE], tmp_path)
    model.save(tmp_path / "network.keras")
    x = random_inputs(IMAGE, seed=7)
    found = answers(model, report, x)
    np.savez(tmp_path / "x.npz", x=x[0].numpy().transpose(0, 2, 3, 1))
    code = (
        "import sys, keras, numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'network.keras')!r})\n"
        f"x = np.load({str(tmp_path / 'x.npz')!r})['x']\n"
        f"np.savez({str(tmp_path / 'y.npz')!r}, **{{k: v for k, v in model(x).items()}})\n"
        "assert not any(n.startswith(('converters', 'ulsam_keras')) for n in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    loaded = np.load(tmp_path / "y.npz")
    assert np.array_equal(loaded["map"].transpose(0, 3, 1, 2), found["map"])
    assert np.array_equal(loaded["tokens"], found["tokens"])
    assert {r.status for r in report.weights} == {"ported"}
    assert not report.warnings


class Open(nn.Module):
    """Views, resizing and pools that compute with the sizes of what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1)
        self.linear, self.gate = nn.Linear(4, 5), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.conv(x)
        b, c, h, w = y.shape
        z = F.interpolate(F.max_pool2d(y, 2), size=(h, w), mode="bilinear")
        z = z + F.interpolate(self.down(y), scale_factor=2)
        tokens = self.linear(y.view(b, c, h * w).permute(0, 2, 1))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        both = torch.stack([y, z], 1)
        shares = (
            both.sum(1).mean((2, 3)).view(b, 1, c, 1, 1) * self.linear.bias[:2, None, None, None]
        )
        return {
            "selected": self.down((both * shares.softmax(1)).sum(1)),
            "ceiled": F.max_pool2d(y, 3, 2, ceil_mode=True),
            "rows_up": F.max_pool2d(y[:, :, 1:].relu(), 3, 2, (1, 0), ceil_mode=True),
            "means": F.avg_pool2d(y[:, :, 1:], 2, ceil_mode=True, count_include_pad=False),
            "dilated": F.max_pool2d(y, 2, 2, dilation=2),
            "tokens": tokens.permute(0, 2, 1).reshape(b, 5, h, w),
            "z": z,
            "flat": y.flatten(2),
            "shuffled": y.reshape(b, 2, 2, h, w).transpose(1, 2).reshape(b, 4, h, w),
            "pooled": F.adaptive_avg_pool2d(y, 1).flatten(1),
            "rows": torch.cat([y, z], 1)[:, :, 1:],
            "normed": F.group_norm(F.pad(y, (1, 1, 1, 1)), 2),
        }


@pytest.mark.parametrize(
    ("shape", "dynamic", "expected"),
    [
        ((1, 3, 8, 8), None, (None, 8, 8, 3)),
        ((2, 3, 8, 8), None, (None, 8, 8, 3)),
        ((2, 3, 8, 8), {"x": {0: Dim("n")}}, (None, 8, 8, 3)),
        (
            (2, 3, 8, 12),
            {"x": {0: Dim("n"), 2: 2 * Dim("h"), 3: 2 * Dim("w")}},
            (None, None, None, 3),
        ),
        ((1, 3, 8, 8), {"x": {2: 2 * Dim("h"), 3: 2 * Dim("w")}}, (None, None, None, 3)),
    ],
)
def test_the_batch_is_free_and_sizes_where_the_program_says(
    shape: Any, dynamic: Any, expected: Any, tmp_path: Path
) -> None:
    module = Open()
    model, report = compare(module, [shape], tmp_path, samples=3, dynamic_shapes=dynamic)
    assert model.input_shape == expected
    if expected[1] is None:
        x = random_inputs((2, 3, 6, 10), seed=9)
        found = answers(model, report, x)
        with torch.no_grad():
            wanted = module(*x)
        for name, value in wanted.items():
            difference = np.abs(found[name] - value.numpy()).max()
            assert difference <= LIMIT * value.abs().max().item(), name


class Positions(nn.Module):
    """Attention over channels, then over positions, of maps that are flattened in between."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.last = nn.Conv2d(8, 24, 1), nn.Conv2d(8, 4, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 2, c // 2, h * w) for t in self.qkv(x).chunk(3, 1))
        shares = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1)
        x = x + (shares @ v).reshape(b, c, h, w)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.last(tokens.transpose(1, 2).view(b, c, h, w))


def test_sizes_that_cannot_stay_open_are_those_of_the_example(tmp_path: Path) -> None:
    sizes = {"x": {0: Dim("n", min=1), 2: Dim("h", min=4), 3: Dim("w", min=4)}}
    shape = (2, 8, 6, 10)
    model, report = compare(Positions(), [shape], tmp_path, samples=3, dynamic_shapes=sizes)
    assert model.input_shape == (None, 6, 10, 8)
    (told,) = report.warnings
    assert "fixed at those of its example inputs, x of (N, 8, 6, 10): aten." in told


class Words(nn.Module):
    """A decoder's block: positions are counted, and a mask is cut to the length."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.qkv = nn.Embedding(16, 8), nn.Linear(8, 24)
        self.register_buffer("mask", torch.ones(16, 16).tril())

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        y = x + self.places(torch.arange(length))
        q, k, v = self.qkv(y).view(n, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(2, 3)).masked_fill(self.mask[:length, :length] == 0, -torch.inf)
        found = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, 8)
        return found.mean(1)


def test_the_length_of_a_sequence_is_free(tmp_path: Path) -> None:
    module = Words()
    free = {"x": {0: Dim("n"), 1: Dim("length", max=15)}}
    model, report = compare(module, [(2, 12, 8)], tmp_path, samples=3, dynamic_shapes=free)
    assert model.input_shape == (None, None, 8)
    x = random_inputs((2, 7, 8), seed=9)
    with torch.no_grad():
        wanted = module(*x).numpy()
    assert (
        np.abs(answers(model, report, x)["output"] - wanted).max() <= LIMIT * np.abs(wanted).max()
    )


FROM_THE_END: dict[str, Any] = {
    "but_the_last": lambda x: x[:, :, :-1],
    "differences": lambda x: x[:, :, 1:] - x[:, :, :-1],
    "some": lambda x: x[:, :, -3:, 1:-1:2],
    "last": lambda x: x[:, :, -1],
    "narrow": lambda x: x.narrow(3, -3, 2),
    "diff": lambda x: x.diff(dim=2),
    "roll": lambda x: x.roll((-2, 1), (2, 3)),
    "replicate": lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "circular": lambda x: F.pad(x, (1, 2, 0, 1), mode="circular"),
    "less": lambda x: F.pad(x, (-1, 2, 1, -1), mode="replicate"),
    "dilated": lambda x: F.max_pool2d(x, 3, 2, 1, dilation=2),
    "windows": lambda x: F.unfold(x, 3, padding=1, stride=2).mean(2),
    "cumsum": lambda x: x.cumsum(2),
    "var": lambda x: x.var((2, 3)),
    "longer": lambda x: F.interpolate(x.mean(3), scale_factor=2),
    "table": lambda x: x + torch.arange(64.0)[2 : x.shape[3] + 2],
}


def test_what_is_counted_from_the_end_of_an_open_size(tmp_path: Path) -> None:
    module = Functions(FROM_THE_END)
    free = {0: Dim("n"), 2: Dim("h", min=6, max=60), 3: Dim("w", min=6, max=60)}
    how = {"dynamic_shapes": {"inputs": (free,)}}
    model, report = compare(module, [(2, 3, 8, 12)], tmp_path, samples=3, **how)
    for shape in ((2, 3, 13, 9), (1, 3, 6, 17)):
        x = random_inputs(shape, seed=9)
        found = answers(model, report, x)
        for name, value in module(*x).items():
            assert found[name].shape == value.shape, name
            difference = np.abs(found[name] - value.numpy()).max()
            assert difference <= LIMIT * value.abs().max().item(), name


OF_AN_OPEN_SIZE: dict[str, Any] = {
    "slice_1": lambda x: x[:, : x.shape[1] - 1],
    "sort": lambda x: x.sort(1)[0],
    "unfold": lambda x: x.unfold(1, 3, 1),
    "index": lambda x: x[:, [0, -1]],
    "glu": lambda x: F.glu(torch.cat([x, x], 1), 1),
    "scatter": lambda x: x.scatter(1, x.argmax(1, keepdim=True), 9.0),
    "upsample": lambda x: F.interpolate(x[:, None], (16, 8)),
}


@pytest.mark.parametrize("name", OF_AN_OPEN_SIZE)
def test_what_depends_on_an_open_size_fixes_it(name: str, tmp_path: Path) -> None:
    free = {0: Dim("n"), 1: Dim("length", min=4, max=60)}
    module = Functions({name: OF_AN_OPEN_SIZE[name]})
    how = {"dynamic_shapes": {"inputs": (free,)}}
    model, report = compare(module, [(2, 8, 4)], tmp_path, samples=3, **how)
    assert model.input_shape == (None, 8, 4)
    assert name in report.warnings[0] and "open sizes are fixed" in report.warnings[0]


def test_a_layer_called_twice_is_one_layer_and_tied_weights_are_told_of(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(self.act(self.conv(self.act(self.conv(x))))))

    model, report = compare(Network(), [IMAGE], tmp_path)
    names = [layer.name for layer in model.layers if layer.weights]
    assert sorted(names) == ["a", "b", "conv"]
    assert any("a.weight is tied" in text for text in report.warnings)


def test_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)

        def forward(self, image: Tensor, words: Tensor) -> Any:
            pooled = image.mean((2, 3))
            return {"both": [pooled, (self.embed(words).mean(1) + pooled[:, :1],)], "five": 5}

    module = randomized(Network())
    image, words = random_inputs((2, 3, 4, 4))[0], torch.tensor([[1, 2], [3, 9]])
    model, report = convert(module, (image, words), tmp_path)
    assert [(end.name, end.shape) for end in report.inputs] == [
        ("image", (None, 3, 4, 4)),
        ("words", (None, 2)),
    ]
    found = answers(model, report, (image, words))
    assert list(found) == ["both_0", "both_1_0"]
    wanted = module(image, words)["both"]
    assert np.allclose(found["both_0"], wanted[0].numpy(), atol=1e-6)
    assert np.allclose(found["both_1_0"], wanted[1][0].detach().numpy(), atol=1e-6)
    assert any("'five'" in text for text in report.warnings)


def test_channels_last_modules_keep_their_layout(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    model, report = compare(Network(), [(1, 8, 9, 3)], tmp_path)
    assert model.input_shape == (None, 8, 9, 3)
    assert model.output_shape == (None, 6, 7, 5)
    assert report.transposes == ()


def test_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU())
    randomized(module).bfloat16()
    model, report = convert(module, [random_inputs(IMAGE)[0].bfloat16()], tmp_path)
    assert any("bfloat16" in text for text in report.warnings)
    x = random_inputs((2, *IMAGE[1:]), seed=3)
    found = answers(model, report, x)["output"]
    expected = module.float()(*x).detach().numpy()
    assert np.abs(found - expected).max() <= LIMIT * np.abs(expected).max()


def test_a_module_named_like_an_operation(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sin = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.sin(torch.sin(x))

    keras.backend.clear_session()
    compare(Network(), [(1, 4)], tmp_path)


class _Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.norm(x), 0.3, self.training)


class _Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0(x) + torch.special.i0(x + 1) + torch.erfinv(x)


class _Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(16, 4, proj_size=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[:, 0])[0]


class _Mixed(nn.Module):
    """Heads that are apart already: either size may hold the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(1, 0, 2, 3).reshape(x.shape[1], x.shape[0] * 16, 16) * 1


class _PerSample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(2.0).view(2, 1, 1, 1)


class _Stale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        z = y[:, :1]
        y.add_(1)
        return z + y


REFUSED = {
    "fft_rfft2' in module '', once": ("cosines and sines", lambda x: torch.fft.rfft2(x).abs()),
    "nonzero": ("before it", torch.nonzero),
    "__and__": ("whole numbers", lambda x: x.int() & 3),
    "rrelu": (".eval()", lambda x: F.rrelu(x, training=True)),
    "masked_select": ("multiply by the mask", lambda x: x.masked_select(x > 0)),
    "linalg_inv": ("before it", torch.linalg.inv),
    "mse_loss": ("predictions", lambda x: F.mse_loss(x, x * 2)),
    "fake_quantize": (
        "precision='int8'",
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
    ),
    "cond": (
        "torch.where",
        lambda x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)),
    ),
    "max_unpool2d": (
        "interpolate",
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    ),
    "poisson": ("as an input", lambda x: torch.poisson(x.abs())),
    "as_strided": ("unfold", lambda x: x.as_strided((1, 3), (1, 2))),
    "median.default": ("give a dim", torch.median),
    "sum_1": ("samples", lambda x: x.index_select(1, x.sum((0, 2, 3)).argmax(0, keepdim=True))),
}


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (_Trained().train(), ["aten.batch_norm", "'norm'", ".eval()"]),
        (
            _Unknown(),
            ["aten.special_i0.default", "2 times", "aten.erfinv", "@converts", "--import"],
        ),
        (_Projected().eval(), ["aten.lstm.input", "'inner'", "proj_size"]),
        (_Mixed(), ["'reshape'", "16", "dynamic batch"]),
        (_PerSample(), ["'add'", "samples", "dynamic batch"]),
        (_Stale(), ["aten.add_", "in place"]),
        *((Functions({name: f}), [name, way]) for name, (way, f) in REFUSED.items()),
    ],
)
def test_refusals_are_one_line_with_node_and_way_out(
    module: nn.Module, parts: list[str], tmp_path: Path
) -> None:
    batch = 2 if isinstance(module, _PerSample | _Trained) else 1
    path = export(module, random_inputs((batch, *IMAGE[1:])), tmp_path / "n.pt2")
    with pytest.raises(ValueError) as caught:
        converters.to_keras(path)
    text = str(caught.value)
    assert "\n" not in text
    assert not [part for part in parts if part not in text], text


def test_ones_own_operator(tmp_path: Path) -> None:
    path = export(_Unknown(), random_inputs((1, 4)), tmp_path / "n.pt2")
    unknown = unconvertible(converters.read_program(path))
    assert unknown == {"aten.special_i0.default": 2, "aten.erfinv.default": 1}
    before = dict(_HANDLERS)
    try:

        @converts("aten.special_i0", "aten.erfinv.default")
        def line(call: Any) -> Any:
            x = call.value("self")
            return x.with_tensor(call.ops.add(x.tensor, 1.0))

        model, _ = converters.to_keras(path)
    finally:
        _HANDLERS.clear()
        _HANDLERS.update(before)
    assert np.allclose(model(np.zeros((1, 4), "float32")), 4)
    with pytest.raises(ValueError, match="by name"):
        converts()


@pytest.mark.slow
def test_quantization_takes_the_result(mobilenet: Any) -> None:
    pytest.importorskip("tensorflow_model_optimization")
    _, model, _ = mobilenet
    from ulsam_keras import quantization

    quantized = quantization.quantize_model(model)
    assert quantized.count_params() > model.count_params()


def test_ulsam_is_added_to_the_result(mobilenet: Any) -> None:
    _, model, _ = mobilenet
    more = ulsam_keras.add_ulsam(model, after=["features.5"])
    assert any(isinstance(layer, ulsam_keras.ULSAM) for layer in more.layers)


def test_the_file_equals_pytorch_and_stays_within_four_dimensions(tmp_path: Path) -> None:
    chosen = {
        "products": ("packed", "multihead", "excitation", "tokens", "linear_after_flatten"),
        "resizing": ("channel_shuffle_by_hand", "pixel_shuffle", "pixel_unshuffle", "bilinear"),
        "resizing ": ("bilinear_corners", "nearest", "nearest_twice"),
        "normalizations": ("batch_1d", "layer", "layer_whole", "group"),
        "pools": ("max_padded", "max_ceil", "average_without_padding", "to_any"),
        "padding": ("reflect", "replicate", "crop"),
        "activations": ("hardswish", "gelu", "prelu_channels", "softmax_positions", "mish"),
        "shaping": ("windows", "boxes", "cat_flat", "roll", "in_place", "no_common_factor"),
        "transposed convolutions": ("output_padding", "twice", "groups"),
        "convolutions": ("strided", "dilated_strided", "depthwise", "reflect"),
    }
    cases = {
        f"{family.split()[0]}_{name}": FAMILIES[family.strip()][name]
        for family, names in chosen.items()
        for name in names
    }
    module = Functions(cases)
    model, report = compare(module, [SHAPE], tmp_path)
    compare_file(module, model, report, SHAPE)
