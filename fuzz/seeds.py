"""Inputs to begin with: small files of every format and of what the tests know.

Needs PyTorch, safetensors, Keras and the tests' own modules.
"""

import base64
import io
import json
import pickle
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuzz.targets import ROOT

if TYPE_CHECKING:
    import torch

_LARGEST = 1 << 17


def write(folder: Path, *, few: bool = False) -> None:
    """Writes `folder/FORMAT/NAME`, and `folder/beside/FORMAT` for what lies in the same folder.

    Args:
        folder: The folder.
        few: Whether to leave out what takes long to make.
    """
    sys.path.append(str(ROOT / "tests"))  # whose modules have files to begin with
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in (*_checkpoints(), *_programs(), *_tflite(few)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _saved(content: object, **kwargs: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **kwargs)
    return stream.getvalue()


def _contents() -> Iterator[tuple[str, object]]:
    import argparse
    from collections import OrderedDict, defaultdict

    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, prune

    class Labelled(torch.Tensor):
        pass

    Labelled.__qualname__, Labelled.__module__ = "Labelled", "__main__"
    sys.modules["__main__"].Labelled = Labelled  # pickle looks it up

    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    normed = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 2)),
        parametrizations.spectral_norm(nn.Conv2d(2, 2, 1)),
        nn.utils.spectral_norm(nn.ConvTranspose2d(2, 2, 1)),
        nn.utils.weight_norm(nn.Linear(3, 2)),
        prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5),
    )
    yield "state", layers.state_dict()
    yield "normed", normed.state_dict()
    yield (
        "wrapped",
        {
            "model": {f"module.{k}": v for k, v in layers.state_dict().items()},
            "ema": {"shadow": layers.state_dict()},
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
            "args": argparse.Namespace(lr=0.1, extra=torch.ones(1)),
            "callbacks": {argparse.Namespace: {"best": torch.ones(1)}},
            "numbers": np.arange(3.0),
            "words": np.array(["a", "b"]),
            "objects": np.array([{}, None]),
            "long": np.arange(400.0),
            "epoch": 3,
            "accuracy": np.float64(0.5),
            "rng_state": torch.ones(4, dtype=torch.uint8),
            "history": defaultdict(list, loss=[1.0]),
            "seen": {1, 2},
            "device": torch.device("cpu"),
            "storage": torch.ones(2).untyped_storage(),
        },
    )
    yield "averaged", {"n_averaged": torch.tensor(1), "module.a.weight": torch.ones(2)}
    yield "flat", {"a.b": torch.ones(2), "ema": {"a.b": torch.ones(2)}, "t": (torch.ones(1),)}
    yield "module", nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    yield "modules", {"model": None, "ema": nn.Linear(2, 2)}
    base = torch.arange(12.0).reshape(3, 4)
    kinds = OrderedDict(base=base, view=base.T[1:], one=base[:1].expand(3, 4), empty=base[:0])
    kinds["half"] = base.bfloat16()
    kinds["eight"] = base.to(torch.float8_e5m2)
    kinds["wide"] = base.to(torch.uint16)
    kinds["attribute"] = nn.Parameter(base)
    kinds["attribute"].tag = 1
    yield "kinds", kinds
    yield "sparse", {"model": {"a": torch.ones(2)}, "x": torch.eye(2).to_sparse()}
    yield "quantised", {"a.b": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    yield "meta", {"a": torch.ones(2, device="meta"), "b": torch.zeros(2, dtype=torch.complex32)}
    yield "conjugate", {"a": torch.ones(2, dtype=torch.complex64).conj()}
    yield "arrays", {"w": np.arange(400.0), "b": np.arange(300, dtype=">f8"), "s": np.arange(3)}
    yield "records", {"a": torch.ones(1), "b": np.zeros(2, [("a", "f4")])}
    tensor = torch.ones(2)
    yield "subclass", {"a.b": tensor.as_subclass(Labelled), "c": tensor}
    yield "parameter", {"a.b": nn.Parameter(tensor.as_subclass(Labelled)), "c": tensor}
    yield "object", {"a.b": Labelled, "b.c": argparse.Namespace(a=1), "c": tensor}
    state = {"a.b": tensor}
    yield "networks", {"student": {"model": state}, "teacher": {"model": state, "ema": state}}
    yield "teacher", {"teacher": {"model": state, "ema": dict(state), "net": dict(state)}}
    yield "mixed", {"x": {"a.b": tensor}, "y": {"a.b": tensor}, "n": torch.ones(3)}
    yield "collision", {"a._orig_mod.w": tensor, "a.w": tensor}
    yield "extra", {"a": tensor, "b._extra_state": {"x": tensor}, 3: tensor, (1,): tensor}
    several = {f"x.{i}": [torch.ones(1)] for i in range(3)}
    yield "lists", {"model": state, **several, "y": [[(tensor,)]]}
    square = nn.utils.spectral_norm(nn.ConvTranspose2d(2, 2, 1)).state_dict()
    yield "square", {**square, "weight_u": torch.ones(2)}
    whole = nn.utils.weight_norm(nn.Linear(3, 2), dim=None).state_dict()
    yield "whole", {**whole, "view": whole["weight_v"][1:]}
    yield (
        "parts",
        {
            "a.parametrizations.w.original": tensor,
            "b.parametrizations.w.original0": tensor,
            "b.parametrizations.w.original1": tensor,
            "c_orig": torch.ones(2, 2),
            "c_u": torch.ones(2),
            "c_v": torch.ones(3),
            "d_orig": torch.ones(2, 2),
            "d_u": torch.ones(2, 2),
            "d_v": torch.ones(3),
            "e_orig": torch.ones(4),
            "e_u": torch.ones(2),
            "e_v": torch.ones(2),
        },
    )
    buffers = nn.Module()
    buffers.register_buffer("kept", tensor)
    buffers.register_buffer("left", tensor, persistent=False)
    buffers.register_parameter("none", None)
    buffers.plain = tensor
    yield "buffers", nn.Sequential(buffers, nn.Linear(1, 1, bias=False))


_TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000NK\x04tQK\x00K\x04\x85K\x01\x85\x89NtR"
)
# What no PyTorch of today writes.
_BY_HAND: dict[str, bytes] = {
    "python2": b"ccollections\nOrderedDict\n](U\x01a" + _TENSOR + b"U\x01\xff" + _TENSOR + b"tae\x85R",
    "pairs": b"ccollections\nOrderedDict\n(](U\x01a" + _TENSOR + b"taetR",
    "view": b"}U\x01a" + _TENSOR.replace(b"NK\x04t", b"NK\x04(U\x01vK\x01K\x02tt") + b"s",
    "variable": b"}U\x01actorch.nn.parameter\nParameter\n" + _TENSOR + b"\x85R\x88\x89}\x87bs",
    "copies": b"}(" + b"".join(b"U\x04k%03dN" % i for i in range(999)) + b"uq\x00ccollections\n"
    b"OrderedDict\nq\x01" + b"h\x01h\x00\x85R0" * 800 + b".",
    "set": b"}U\x01a" + _TENSOR + b"sU\x01bcbuiltins\nset\n]\x85Rs" + b"U\x01cctorch\nSize\n)\x85Rs",
    "itself": b"cn\nN\n)\x81q\x00}(U\x0b_parameters}U\x08_modules}U\x01ah\x00sub",
    "twice": b"cn\nN\n)\x81}(U\x0b_parameters}U\x01a" + _TENSOR + b"sU\x08_buffers}U\x01a" + _TENSOR
    + b"sU\x08_modules}ub",
    "from type": b"}U\x01actorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n"
    b"_rebuild_from_type_v2\nctorch\nTensor\n(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n"
    b")NtNtRs",
    "items": b"}U\x01a" + _TENSOR + b"sU\x01bcn\nN\n)R(K\x01Ne(K\x01Nu\x90s"
    b"U\x01c(in\nN\nsU\x01d(cn\nN\nK\x01os",
    "memo": b"(Np5\ng5\nr\x40\x00\x00\x00j\x40\x00\x00\x00I01\nI7\nL8L\nF1\n\x8b\x01\x00\x00\x00\x05t",
    "module id": b"}U\x01a(U\x06modulecn\nN\nU\x01fU\x01stQ)\x81s",
    "no id": b"}U\x01aU\x07storageQs",
    "text data": b"}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
    b"K\x01K\x04\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
    b"\xffK\x00tb\x89U\x04abcdtbs",
    "byte strings": b"}U\x01acbuiltins\nbytearray\nU\x02abU\x07latin-1\x86Rs"
    b"U\x01bcbuiltins\nbytes\n)RsU\x01cc_codecs\nencode\nU\x01aU\x05utf-8\x86Rs",
}  # fmt: skip
_OTHERS = {
    "empty": b"",
    "text": b"hello, this is text",
    "zeros": bytes(300),
    "html": b"<!DOCTYPE html><html></html>",
    "gzip": b"\x1f\x8b\x08" + bytes(40),
    "tar": b"sys_info".ljust(257, b"\0") + b"ustar" + bytes(250),
    "another tar": b"model.pth".ljust(257, b"\0") + b"ustar" + bytes(250),
    "lfs": b"version https://git-lfs.github.com/spec/v1\n",
    "lite": b"\x1c\x00\x00\x00TFL3" + bytes(40),
    "elf": b"\x7fELF" + bytes(40),
    "bytes": b"\x07\xff\x00\x13" * 9,
}


def _large_zip(pickled: bytes) -> bytes:
    """A zip whose directory has its sizes in extra fields, and whose end a locator tells."""
    name = b"a/data.pkl"
    size, crc = len(pickled), zlib.crc32(pickled)
    local = b"PK\x03\x04" + bytes(10) + struct.pack("<3L2H", crc, size, size, len(name), 0) + name
    entry = (
        b"PK\x01\x02" + bytes(12) + struct.pack("<3L3H", crc, *[0xFFFFFFFF] * 2, len(name), 36, 0)
    )
    entry += bytes(8) + b"\xff" * 4 + name
    entry += struct.pack("<4H", 7, 4, 0, 0) + struct.pack("<2H3Q", 1, 24, size, size, 0)
    start = len(local) + size
    end = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, start + len(entry), 1)
    return local + pickled + entry + end + locator + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0"


def _checkpoints() -> Iterator[tuple[str, bytes]]:
    import torch
    from safetensors.torch import save

    from checkpoint_files import legacy_of, zip_of

    for name, content in _contents():
        yield f"zip/{name}", _saved(content)
        yield f"legacy/{name}", _saved(content, _use_new_zipfile_serialization=False)
        if name in ("wrapped", "kinds", "arrays"):
            for protocol in (3, 4, 5):
                yield f"zip/{name}{protocol}", _saved(content, pickle_protocol=protocol)
    data = {"0": np.arange(4, dtype="<f4").tobytes()}
    for name, content in _BY_HAND.items():
        yield f"zip/{name}", zip_of(b"\x80\x02" + content + b".", data)
        yield f"legacy/{name}", legacy_of(b"\x80\x02" + content + b".", data)
    for name, content in _OTHERS.items():
        yield f"zip/{name}", content
    yield "zip/large", _large_zip(b"\x80\x02}.")
    yield "zip/deflated", zip_of(b"\x80\x02}.", data, compression=zipfile.ZIP_DEFLATED)
    for names in (
        ["config.json", "model.weights.h5"],
        ["p/models/m.json"],
        ["code/a"],
        ["x"],
        ["a.npy"],
    ):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        yield f"zip/of {len(names)} {names[0][:1]}", stream.getvalue()
    for protocol in (0, 1, 4):
        plain = pickle.dumps(
            {"a": 1, "b": [1.5, None, True, b"x", "é" * 2000], "c": (1,) * 4}, protocol
        )
        yield f"zip/plain{protocol}", zip_of(plain)
        yield f"legacy/plain{protocol}", legacy_of(plain)
    numbers = np.arange(4, dtype=">f4")
    yield "zip/big", zip_of(pickle.dumps({"a": numbers, "b": numbers.T}, 2), byteorder=b"big")
    state = {"a.weight": torch.ones(2, 3), "b": torch.ones(2).bfloat16(), "c_g": torch.ones(2, 1)}
    state["c_v"] = torch.ones(2, 2)
    yield "safetensors/state", save(state, {"format": "pt"})
    yield "safetensors/beyond", struct.pack("<Q", 1 << 40) + b"{}"
    yield "safetensors/empty", save({"a": torch.ones(0), "b": torch.tensor(1)})
    shards = {
        f"input-0000{i}-of-00002.safetensors": {f"l{i}.weight": torch.ones(i)} for i in (1, 2)
    }
    for name, part in shards.items():
        yield f"beside/sharded/{name}", save({**part, f"extra{name[9]}": torch.ones(1)})
    yield "beside/sharded/input-00003-of-00003.safetensors", b""
    index = {key: name for name, part in shards.items() for key in part}
    yield "sharded/index", json.dumps({"metadata": {}, "weight_map": index}).encode()
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.asfortranarray(np.ones((2, 2), ">i2"))}
    for name, write in (("plain", np.savez), ("packed", np.savez_compressed)):
        stream = io.BytesIO()
        write(stream, **arrays)
        yield f"npz/{name}", stream.getvalue()


def _programs() -> Iterator[tuple[str, bytes]]:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.norm = nn.BatchNorm2d(3)
            self.shift = torch.ones(3, 1, 1)

        def forward(self, x: torch.Tensor, scale: float = 2.0, pair: tuple = ()) -> dict:
            with torch.no_grad():
                y = self.norm(self.conv(x)) * scale + self.shift
            return {"y": torch.cat([y, *pair]), "n": y.shape[0]}

    x = torch.randn(2, 2, 5, 5)
    for name, arguments, shapes in (
        ("static", (x,), None),
        ("dynamic", (x,), {"x": {0: torch.export.Dim.AUTO}}),
        ("pair", (x, 3.0, (torch.randn(2, 3, 3, 3),)), None),
    ):
        program = torch.export.export(Net().eval(), arguments, dynamic_shapes=shapes)
        stream = io.BytesIO()
        extra = {"reference/outputs.npy": "k05VTVBZAQ=="}
        torch.export.save(program, stream, extra_files=extra)
        yield f"pt2/{name}", stream.getvalue()
    yield from _programs_of_the_tests(x)
    for path in sorted((ROOT / "tests" / "data").glob("*.pt2")):
        yield f"pt2/{path.stem}", path.read_bytes()


def _programs_of_the_tests(x: "torch.Tensor") -> Iterator[tuple[str, bytes]]:
    """Networks that have everything in them, and archives that are damaged in one place."""
    import tempfile

    import torch

    from program_tools import members, write
    from test_program import Kinds, Names, Pair, Parts, Training
    from test_program_hostile import HOSTILE, Net

    auto = torch.export.Dim.AUTO
    image = torch.randn(2, 3, 8, 8)
    others = {"a": torch.randn(2, 3), "b": torch.randn(2, 3)}
    answers = Names(lambda x, o: {"p": Pair(x + 1, [x * 2]), "n": None, "x": x, "3": 3})
    shapes = {"x": {0: auto, 1: auto}, "others": {k: {0: auto, 1: auto} for k in others}}
    changes = Names(lambda x, o: (x.add_(1), o["a"] * 2))
    sizes = Names(lambda x, o: (x.reshape(-1), x[: x.shape[0] // 2], torch.cat([x, o["b"]])))
    program = torch.export.export
    made = {
        "parts": program(Parts().eval(), (image,), {"flag": 1.5}),
        "kinds": program(Kinds(), (torch.randn(2, 3),)),
        "names": program(answers, (torch.randn(2, 3), others)),
        "sizes": program(sizes, (torch.randn(6, 3), others | {"b": torch.randn(4, 3)}),
                         dynamic_shapes=shapes),
        "changes": program(changes, (torch.randn(2, 3), others)),
        "training": program(Training().train(), (image,)),
        "functional": program(Training().train(), (image,)).run_decompositions(),
        "hostile": program(Net().eval(), (image,), dynamic_shapes={"x": {0: auto}}),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, exported in made.items():
            path = Path(folder, "good.pt2")
            array = io.BytesIO()
            np.save(array, np.ones(2, np.float32))
            text = base64.b64encode(array.getvalue()).decode()
            torch.export.save(exported, path, extra_files={"reference/outputs.npy": text})
            yield f"pt2/{name}", path.read_bytes()
        good = members(path)
        yield "pt2/compiled", b"\0\0\0\0ET12" + bytes(40)
        for name, kept in (("saved", torch.ones(2)), ("sparse", torch.eye(2).to_sparse())):
            weights = _saved({"conv.weight": torch.ones(4, 3, 3, 3), "more": kept})
            parts = {k: v for k, v in good.items() if not k.endswith("weights_config.json")}
            write(path, parts | {"good/data/weights/model.pt": weights})
            yield f"pt2/{name}", path.read_bytes()
        for number, (change, _) in enumerate(HOSTILE.values()):
            write(path, change(good))
            if path.stat().st_size < _LARGEST:
                yield f"pt2/damaged {number}", path.read_bytes()


def _tflite(few: bool) -> Iterator[tuple[str, bytes]]:
    import keras

    import test_lint
    from converters import to_tflite
    from converters.tflite.app_metadata import AppMetadata, with_app_metadata
    from converters.tflite.flatbuffer import TfliteFile
    from converters.tflite.marks import mark_attention
    from converters.tflite.sites import find_sites
    from ulsam_keras import ULSAM, with_attention

    x = keras.Input((8, 8, 4))
    y = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = ULSAM(4)(y)
    y = keras.layers.UpSampling2D()(y)
    y = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(y))
    model = keras.Model(x, y)
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32)
    for precision in ("float32", "float16", "int8"):
        given = data if precision == "int8" else None
        content = to_tflite(model, precision=precision, representative_data=given)
        yield f"tflite/{precision}", content
        yield f"beside/verified/{precision}.tflite", content
    plain = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    yield "beside/verified/plain.tflite", to_tflite(keras.Model(x, plain))
    options = {"precision": "int8", "representative_data": data, "inference_type": "uint8"}
    yield "tflite/pixels", to_tflite(model, **options)
    app = AppMetadata(("a", "b", "c"), (0.5,), (0.25,), "x")
    file = TfliteFile(to_tflite(with_attention(model)))
    site = find_sites(file.graph)[0].attention
    name = next(name for name, tensor in file.graph.answered.items() if tensor is site)
    yield "tflite/app", with_app_metadata(mark_attention(file, {name: "ulsam"}), app).content
    for code, pair in test_lint.CASES.items():
        for name, content in zip(("wrong", "right"), pair, strict=True):
            if len(content) < _LARGEST:
                yield f"tflite/{code} {name}", content
    yield from _folded()
    yield from _five()
    yield from _several()
    yield from _unwritten(few)


def _folded() -> Iterator[tuple[str, bytes]]:
    """What the delegate makes one of, beyond what the rules' own graphs have."""
    from ai_edge_litert import schema_py_generated as schema

    import gpu_lint_cases as cases
    from lint_graphs import T, build

    both, image, padded = cases.both, cases.MAP, (1, 8, 7, 8)
    kernel = {"k": cases.values(8, 3, 3, 8), "b": cases.values(8), "c": cases.values(8)}
    small = (1, 4, 3, 8)
    ends = {"x": T(image), "m": T(image), "y": T(small)} | kernel
    for name in ("ADD", "MUL"):
        calls = [both(name, "x", "c", "m"), cases.convolution("m", "k", "b", "y")]
        yield f"tflite/{name} before", build(ends, calls, ["x"], ["y"])
        wide = schema.TransposeConvOptionsT()
        wide.strideH = wide.strideW = 1
        calls = [both(name, "x", "c", "m"), ("TRANSPOSE_CONV", ["s", "k", "m"], ["z"], wide)]
        tensors = ends | {"s": T((4,), "INT32", image), "z": T(image)}
        yield f"tflite/{name} before transposed", build(tensors, calls, ["x"], ["z"])
    tensors = {"x": T(image), "p": cases.BORDER, "m": T(padded), "y": T(image)} | kernel
    calls = [cases.pad("x", "p", "m"), cases.convolution("m", "k", "b", "y")]
    yield "tflite/padding given back", build(tensors, calls, ["x"], ["y", "m"])
    parts = cases.PARTS | {"r": T(cases.HALF), "s": T(cases.HALF), "y": T(cases.HALF)}
    for name in ("ADD", "SUB"):
        calls = [
            ("TANH", ["x"], ["a"]),
            cases.split("a", "p", "q"),
            ("LOGISTIC", ["p"], ["r"]),
            both("MUL", "r", "r", "s"),
            both(name, "q", "s", "y"),
        ]
        yield f"tflite/parts and {name}", build(parts, calls, ["x"], ["y"])


def _five() -> Iterator[tuple[str, bytes]]:
    """Parts of five dimensions that are joined again; and a root that is bounded."""
    from ai_edge_litert import schema_py_generated as schema

    from lint_graphs import T, build

    four, five, part = (1, 4, 4, 8), (1, 4, 4, 2, 4), (1, 4, 4, 1, 4)
    numbers = {"to": five, "size": part, "p": (0,) * 5, "q": (0, 0, 0, 1, 0), "back": four}
    tensors = {name: T((len(value),), "INT32", value) for name, value in numbers.items()}
    tensors |= {"x": T(four), "a": T(five), "b": T(part), "c": T(part), "d": T(five), "y": T(four)}
    joined = schema.ConcatenationOptionsT()
    joined.axis = 3
    calls = [
        ("RESHAPE", ["x", "to"], ["a"]),
        ("SLICE", ["a", "p", "size"], ["b"], schema.SliceOptionsT()),
        ("SLICE", ["a", "q", "size"], ["c"], schema.SliceOptionsT()),
        ("CONCATENATION", ["c", "b"], ["d"], joined),
        ("RESHAPE", ["d", "back"], ["y"]),
    ]
    yield "tflite/five dimensions", build(tensors, calls, ["x"], ["y"])
    tensors = {"x": T(four), "r": T(four), "most": T((), value=9.0), "y": T(four)}
    calls = [
        ("RSQRT", ["x"], ["r"]),
        ("MINIMUM", ["r", "most"], ["y"], schema.MaximumMinimumOptionsT()),
    ]
    yield "tflite/bounded root", build(tensors, calls, ["x"], ["y"])


def _several() -> Iterator[tuple[str, bytes]]:
    """Two inputs and outputs, and what they are compared with, under the same names or others."""
    from lint_graphs import T, build

    for name, other in (("alike", (1, 4, 4, 8)), ("apart", (1, 8))):
        for folder, ends in (("tflite", "abyz"), ("beside/verified", "cdwx")):
            tensors = dict(zip(ends, 2 * (T((1, 4, 4, 8)), T(other)), strict=True))
            calls = [("ABS", [ends[0]], [ends[2]]), ("ABS", [ends[1]], [ends[3]])]
            yield f"{folder}/{name}.tflite", build(tensors, calls, ends[:2], ends[2:])


def _unwritten(few: bool) -> Iterator[tuple[str, bytes]]:
    """A file for every row of the rewrites, as it is before them."""
    from unittest import mock

    import keras

    import test_gpu_rewrites
    from converters import to_tflite
    from converters.tflite import export

    for name, (content, _) in test_gpu_rewrites.BY_HAND.items():
        yield f"tflite/{name}", content
    shape = test_gpu_rewrites.SHAPE
    graphs = test_gpu_rewrites.FLOAT
    for name, (_, function, _) in list(graphs.items())[:: 6 if few else 1]:
        image = keras.Input(shape)
        model = keras.Model(image, function(keras.layers.Conv2D(8, 3, padding="same")(image)))
        with (
            mock.patch.object(export, "rewritten", lambda file: file),
            mock.patch.object(export, "_report", lambda *_: None),
        ):
            yield f"tflite/{name}", to_tflite(model)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
