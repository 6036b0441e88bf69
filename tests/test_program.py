"""A torch.export archive read without PyTorch: PyTorch, run on what was read, is the oracle."""

import json
import subprocess
import sys
from collections import namedtuple
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import _register_namedtuple as register_named_tuple

from converters.program import Dtype, Module, Ref, Weight, read_program, summarise
from converters.program.graph import module_path
from converters.program.symbols import readable
from program_tools import members, run, write

DATA = Path(__file__).parent / "data"
Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - what users return
register_named_tuple(Pair, serialized_type_name="test_program.Pair")


def close(actual, expected):
    # The same kernels in the same order: equal but for how threads split a sum.
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def exported(module, arguments, path, keywords=None, **options):
    program = torch.export.export(module.eval(), arguments, keywords, **options)
    torch.export.save(program, path)
    return read_program(path)


class Parts(nn.Module):
    """Everything that a reader can get wrong in one small network."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, bias=False)])
        self.blocks[1].weight = self.blocks[0].weight
        self.register_buffer("anchors", torch.arange(6.0)[2:], persistent=False)
        self.steps = torch.tensor([1.0, 2.0])
        for buffer in (self.norm.running_mean, self.norm.running_var):
            nn.init.uniform_(buffer, 0.5, 2)

    def forward(self, image, offset=None, *, flag):
        with torch.no_grad():
            x = self.norm(self.conv(image))
        a, b = x.chunk(2, 1)
        a = self.blocks[0](self.blocks[1](self.blocks[0](a)))
        a = torch.relu_(a)
        kept = a
        a.add_(flag)  # `kept` is another name of it
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = self.blocks[1](a)
        return {
            "boxes": [a + self.anchors.sum(), b * self.steps[0]],
            "kept": kept,
            "half": half,
            "flat": b.reshape(b.shape[0], -1),
            "count": image.shape[0],
            "top": b.flatten(1).topk(2, dim=1)[0],
        }


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    torch.manual_seed(0)
    module = Parts()
    image, flag = torch.randn(2, 3, 6, 6), torch.randn(1)
    shapes = {"image": {0: torch.export.Dim("n", max=64), 2: torch.export.Dim.AUTO}, "flag": None}
    path = tmp_path_factory.mktemp("parts") / "parts.pt2"
    program = exported(module, (image,), path, {"flag": flag}, dynamic_shapes=shapes)
    return module, program, {"image": image.numpy(), "flag": flag.numpy()}


class TestParts:
    def test_computes_what_the_module_does(self, parts):
        module, program, inputs = parts
        wanted = module(torch.from_numpy(inputs["image"]), flag=torch.from_numpy(inputs["flag"]))
        found = run(program, inputs)
        assert list(found) == ["boxes_0", "boxes_1", "kept", "half", "flat", "count", "top"]
        wanted["boxes_0"], wanted["boxes_1"] = wanted.pop("boxes")
        # Outside of autocast neither x nor the weights are rounded to bfloat16's 8 bits.
        half = wanted.pop("half").detach().float()
        np.testing.assert_allclose(found["half"], half, atol=2**-7 * half.abs().max())
        for name, value in wanted.items():
            close(torch.as_tensor(found[name]), torch.as_tensor(value).detach())

    def test_ends(self, parts):
        _, program, inputs = parts
        assert [end.name for end in program.inputs] == ["image", "flag"]
        meta = program.values[program.inputs[0].value]
        batch, height = meta.shape[0], meta.shape[2]
        assert meta.hint == (2, 3, 6, 6) and meta.dtype == "float32" and meta.rank == 4
        assert program.dynamic[batch][1] == 64 and height in program.dynamic
        assert program.values[program.outputs[4].value].shape == (batch, f"4*6*{height}") or (
            program.values[program.outputs[4].value].shape[0] == batch
        )
        assert list(program.examples) == list(inputs)
        for name, array in inputs.items():
            np.testing.assert_array_equal(program.examples[name], array)

    def test_weights(self, parts):
        module, program, _ = parts
        wanted = dict(module.named_parameters(remove_duplicate=False)) | dict(
            module.named_buffers()
        )
        wanted["steps"] = module.steps
        assert set(program.tensors) == set(wanted)
        for key, tensor in wanted.items():
            np.testing.assert_array_equal(program.tensors[key], tensor.detach().numpy())
        assert program.aliases == {"blocks.1.weight": "blocks.0.weight"}
        tied = [program.tensors[f"blocks.{i}.weight"] for i in (0, 1)]
        assert np.shares_memory(*tied)
        kinds = {w.key: w for w in program.weights.values()}
        assert kinds["anchors"] == Weight("anchors", "buffer", persistent=False)
        assert kinds["norm.running_var"] == Weight("norm.running_var", "buffer")
        assert kinds["steps"].kind == "constant" and kinds["conv.weight"].kind == "parameter"

    def test_nodes(self, parts):
        _, program, _ = parts
        nodes = {node.name: node for node in program.nodes}
        assert not any(node.target.startswith("higher_order") for node in program.nodes)
        conv = next(node for node in program.nodes if node.target == "aten.conv2d.default")
        assert conv.arguments["padding"] == (1, 1) and conv.arguments["input"] == Ref("image")
        assert conv.modules[-1] == Module("conv", "torch.nn.modules.conv.Conv2d")
        assert conv.modules[0].path == "" and conv.module == "conv"
        assert {n.module for n in program.nodes} == {"", "conv", "norm", "blocks.0", "blocks.1"}
        chunk = next(node for node in program.nodes if node.target == "aten.chunk.default")
        assert len(chunk.outputs) == 2 and all(chunk.outputs)
        assert len(nodes["topk"].outputs) == 2
        half = [node for node in program.nodes if node.module == "blocks.1"][-1]
        assert program.values[half.outputs[0]].dtype == "bfloat16"

    def test_summary(self, parts):
        _, program, _ = parts
        summary = summarise(program, ulsam=(), obstacles=["aten.topk.default at ''"])
        assert summary.operators["aten.conv2d.default"] == 5
        assert summary.inputs[0].name == "image" and summary.modules["conv"].endswith("Conv2d")
        assert summary.weights["parameters"] == (5, 216 + 16 + 16 + 4)
        assert summary.tied == {"blocks.1.weight": "blocks.0.weight"}
        assert json.loads(json.dumps(summary.to_dict()))["ulsam"] == []
        lines = summary.lines()
        assert "ULSAM: none" in lines and "  aten.topk.default at ''" in lines
        assert "reference: none" in lines and "example inputs: image, flag" in lines
        assert not any("\n" in line for line in lines)
        assert not any(line.startswith("ULSAM") for line in summarise(program).lines())


@pytest.mark.parametrize("name", ["torch_2.2.2_two", "torch_2.4.1_net"])
def test_older_archives(name):
    program = read_program(DATA / f"{name}.pt2")
    recorded = np.load(DATA / f"{name}.npz")

    def key(side, end, ends):
        return side if len(ends) == 1 else f"{side}.{end.name}"

    inputs = {e.name: recorded[key("inputs", e, program.inputs)] for e in program.inputs}
    found = run(program, inputs)
    for end in program.outputs:
        close(found[end.name], recorded[key("outputs", end, program.outputs)])
    assert all("." not in end.name for end in program.inputs)
    assert {"2.2.2": set(), "2.4.1": set(inputs)}[name.split("_")[1]] == set(program.examples)


def test_storages_of_one_key_in_two_members(tmp_path):
    """torch.save counts the storages of each file from 0: equal keys tie no tensors."""
    contents = members(DATA / "torch_2.4.1_net.pt2")
    state, constants = (
        torch.load(BytesIO(contents[f"serialized_{kind}.pt"]))
        for kind in ("state_dict", "constants")
    )
    stream = BytesIO()
    torch.save({"extra": torch.ones_like(next(iter(state.values()))), **constants}, stream)
    contents["serialized_constants.pt"] = stream.getvalue()
    program = read_program(write(tmp_path / "n.pt2", contents))
    assert "extra" in program.tensors and program.aliases == {}


def test_no_pytorch_is_imported(parts, tmp_path):
    code = (
        "import sys; from converters import read_program\n"
        f"p = read_program({str(DATA / 'torch_2.4.1_net.pt2')!r})\n"
        "[p.tensors[k] for k in p.tensors]; [p.examples[k] for k in p.examples]\n"
        "assert not {'torch', 'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Names(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, others):
        return self.answer(x, others)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (lambda x, o: x + 1, ["output"]),
        (lambda x, o: (x + 1, x), ["output_0", "output_1"]),
        (lambda x, o: [x + 1, {"a": x * 2}], ["output_0", "output_1_a"]),
        (lambda x, o: {"a": [x + 1, x + 2], "a_0": x + 3}, ["a_0", "a_1", "a_0_1"]),
        (lambda x, o: {"out": x + 1, "aux": {"mask": o["b"] * 2}}, ["out", "aux_mask"]),
        (lambda x, o: {"x": x, "none": None, "three": 3}, ["x", "none", "three"]),
        (lambda x, o: Pair(x + 1, [x * 2]), ["left", "right_0"]),
    ],
)
def test_names(tmp_path, answer, names):
    others = {"a": torch.randn(2, 3), "b": torch.randn(2, 3)}
    program = exported(Names(answer), (torch.randn(2, 3), others), tmp_path / "n.pt2")
    assert [end.name for end in program.inputs] == ["x", "others_a", "others_b"]
    assert [end.name for end in program.outputs] == names
    assert set(program.examples) == {"x", "others_a", "others_b"}
    np.testing.assert_array_equal(program.examples["others_b"], others["b"].numpy())
    if "none" in names:
        assert [end.value for end in program.outputs] == ["x", None, 3]


class Kinds(nn.Module):
    def forward(self, x):
        y = torch.nn.functional.pad(x, (1, 2), value=float("-inf")).to(torch.float64)
        z = torch.zeros(3, dtype=torch.int64).to(memory_format=torch.contiguous_format)
        y = y[:, [0, 1], None].clamp(max=float("inf"))
        return torch.einsum("abc,d->ac", y, z.to(y.dtype)), y.sum().item()


def test_kinds_of_arguments(tmp_path):
    program = exported(Kinds(), (torch.randn(2, 3),), tmp_path / "k.pt2")
    arguments = {node.target: node.arguments for node in program.nodes}
    assert arguments["aten.pad.default"]["value"] == float("-inf")
    assert arguments["aten.clamp.default"]["max"] == float("inf")
    assert arguments["aten.to.dtype"]["dtype"] == Dtype("float64")
    index = next(n for n in program.nodes if n.target == "aten.index.Tensor")
    assert index.arguments["indices"][0] is None
    assert isinstance(index.arguments["indices"][1], Ref)
    assert arguments["aten.einsum.default"]["equation"] == "abc,d->ac"
    assert len(arguments["aten.einsum.default"]["tensors"]) == 2
    assert isinstance(program.outputs[1].value, str)


class Training(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x)


def test_training_mode_is_to_be_seen(tmp_path):
    program = torch.export.export(Training().train(), (torch.randn(2, 3, 4, 4),))
    torch.export.save(program, tmp_path / "t.pt2")
    program = read_program(tmp_path / "t.pt2")
    norm = next(node for node in program.nodes if node.target == "aten.batch_norm.default")
    assert norm.arguments["training"] is True
    assert "norm.num_batches_tracked" in program.mutated
    # Written as new values instead of in place, as PyTorch up to 2.4 does
    functional = torch.export.export(Training().train(), (torch.randn(2, 3, 4, 4),))
    torch.export.save(functional.run_decompositions(), tmp_path / "f.pt2")
    mutated = read_program(tmp_path / "f.pt2").mutated
    assert set(mutated) == {f"norm.{b}" for b in ("running_mean", "running_var",
                                                  "num_batches_tracked")}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("features.12.conv", "features.12.conv"),
        ("features.12.conv@1", "features.12.conv"),
        ("blocks.3@12.conv", "blocks.3.conv"),
        ("", ""),
        ("L__self__", ""),
        ("L['self'].features[12].conv", "features.12.conv"),
        ("L__self___stem", "stem"),
        ('getattr(L__self___features, "12")', "features.12"),
        ('getattr(getattr(L__self___features, "12").conv, "0")', "features.12.conv.0"),
    ],
)
def test_module_paths(written, path):
    assert module_path(written) == path


@pytest.mark.parametrize(
    ("written", "expression"),
    [
        ("Symbol('s77', positive=True, integer=True)", "s77"),
        ("Mul(Integer(2), Symbol('s0', integer=True))", "2*s0"),
        ("Add(Mul(Integer(2), Symbol('s0')), Integer(-1))", "2*s0 + -1"),
        ("FloorDiv(Add(Symbol('s0'), Integer(1)), Integer(2))", "(s0 + 1)//2"),
        ("Max(Integer(1), Symbol('u0'))", "Max(1, u0)"),
        ("2*s0 + 1", "2 * s0 + 1"),
        ("s0", "s0"),
    ],
)
def test_expressions(written, expression):
    assert readable(written) == expression
