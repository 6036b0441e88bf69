"""Malicious and damaged .pt2 archives: one line that names the cause, nothing executed."""

import base64
import io
import os
import pickle
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from converters import load_checkpoint, read_program
from program_tools import edited, members, spelled, write


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.shift = torch.ones(4, 1, 1)

    def forward(self, x):
        with torch.no_grad():
            y = self.conv(x)
        return torch.relu(y + self.shift)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.pt2"
    shapes = {"x": {0: torch.export.Dim.AUTO}}
    program = torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, path, extra_files={"reference/outputs.npy": "bm90IGFuIGFycmF5"})
    return members(path)


def refusal(path, read=read_program):
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert type(caught.value) is ValueError and message.startswith(repr(str(path)))
    assert message.isprintable() and len(message) < 1000 and "Received: " in message
    return message


def read_all(path):
    program = read_program(path)
    for arrays in (program.tensors, program.examples, program.reference):
        for key in arrays:
            arrays[key]


def weight(**changes):
    """Change what the archive says of one weight."""

    def change(config):
        entry = config["config"]["conv.weight"]
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    return lambda contents: edited(contents, "model_weights_config.json", change)


def sizes(*values):
    return [{"as_int": value} for value in values]


def graph(change):
    def on_graph(program):
        change(program["graph_module"]["graph"])

    return lambda contents: edited(contents, "models/model.json", on_graph)


def program(change):
    return lambda contents: edited(contents, "models/model.json", change)


def spec(key, value):
    def change(program):
        program["graph_module"]["module_call_graph"][0]["signature"][key] = value

    return lambda contents: edited(contents, "models/model.json", change)


def without(ending):
    return lambda contents: {n: d for n, d in contents.items() if not n.endswith(ending)}


def replaced(ending, data):
    return lambda contents: {n: data if n.endswith(ending) else d for n, d in contents.items()}


def nested_calls(depth):
    """no_grad inside no_grad inside no_grad."""

    def change(outer):
        call = next(node for node in outer["nodes"] if "higher_order" in node["target"])
        place = next(i for i, value in enumerate(call["inputs"]) if "as_graph" in value["arg"])
        inner = call["inputs"][place]["arg"]["as_graph"]["graph"]
        for _ in range(depth):
            names = [{"name": "", "arg": value, "kind": 1} for value in inner["inputs"]]
            wrapped = {
                **call,
                "inputs": [
                    {"name": "", "arg": {"as_graph": {"name": "g", "graph": inner}}, "kind": 1},
                    *names,
                ],
                "outputs": inner["outputs"],
            }
            inner = {**inner, "nodes": [wrapped]}
        call["inputs"][place]["arg"]["as_graph"]["graph"] = inner

    return graph(change)


def deep(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


def deep_spec(depth):
    leaf = '{"type": null, "context": null, "children_spec": []}'
    start = '{"type": "builtins.tuple", "context": "null", "children_spec": ['
    return f"[1, {start * depth}{leaf}{']}' * depth}]"


def npy_header(shape, dtype="<f4"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed",)


def evil_examples():
    stream = io.BytesIO()
    torch.save(((Evil(),), {}), stream)
    return stream.getvalue()


def first_argument(argument):
    return graph(lambda g: g["nodes"][-1]["inputs"][0].update(arg=argument))


HOSTILE = {
    "path up": (weight(path_name="../weights/weight_0"), "leaves the archive"),
    "path absolute": (weight(path_name="/etc/passwd"), "leaves the archive"),
    "path no text": (weight(path_name=["weight_0"]), "leaves the archive"),
    "path elsewhere": (weight(path_name="weight_77"), "no data of 'conv.weight'"),
    "pickled weight": (weight(use_pickle=True), "kept as a pickle"),
    "size too large": (weight(sizes=sizes(4, 3, 3, 300)), "outside its storage"),
    "size enormous": (weight(sizes=sizes(2**70, 3, 3, 3)), "outside its storage"),
    "size negative": (weight(sizes=sizes(-4, 3, 3, 3)), "proper storage"),
    "size no number": (weight(sizes=[{"as_int": "4"}]), "fixed size"),
    "size symbolic": (weight(sizes=[{"as_expr": {"expr_str": "s0"}}]), "fixed size"),
    "size another": (weight(sizes=sizes(3, 4, 3, 3)), "as the program says"),
    "stride too large": (weight(strides=sizes(1000, 9, 3, 1)), "outside its storage"),
    "stride negative": (weight(strides=sizes(27, 9, 3, -1)), "proper storage"),
    "strides too few": (weight(strides=sizes(27, 9, 3)), "proper storage"),
    "offset": (weight(storage_offset={"as_int": 1}), "outside its storage"),
    "dtype wider": (weight(dtype=8), "outside its storage"),
    "dtype unknown": (weight(dtype=99), "number of a dtype"),
    "dtype another": (weight(dtype=4), "as the program says"),
    "expanded": (
        weight(sizes=sizes(1 << 20, 1 << 10, 3, 3), strides=sizes(0, 0, 0, 0)),
        "expanded to",
    ),
    "no weights": (without("weights_config.json"), "no member"),
    "no constants": (without("constants_config.json"), "no member"),
    "no weight": (without("weights/weight_0"), "no data of"),
    "weight cut": (replaced("weights/weight_0", b"1234"), "outside its storage"),
    "weight not listed": (
        lambda c: edited(c, "weights_config.json", lambda j: j["config"].pop("conv.weight") and j),
        "holds no data of 'conv.weight'",
    ),
    "no program": (without("models/model.json"), "expected a program"),
    "two programs": (
        lambda c: {**c, "good/models/other.json": c["good/models/model.json"]},
        "expected one program",
    ),
    "no JSON": (replaced("models/model.json", b"\x80\x02N."), "is damaged or incomplete"),
    "a list": (replaced("models/model.json", b"[1]"), "JSON object"),
    "empty": (replaced("models/model.json", b"{}"), "schema"),
    "deep JSON": (replaced("models/model.json", deep(1_000)), "."),
    "large JSON": (
        replaced("models/model.json", b" " * ((1 << 24) + 1)),
        "a program of more than 16777216 bytes",
    ),
    "deeper JSON": (replaced("models/model.json", deep(1_000_000)), "is damaged or incomplete"),
    "deep config": (replaced("weights_config.json", deep(100_000)), "is damaged or incomplete"),
    "schema too new": (program(lambda j: j.update(schema_version={"major": 9})), "schema"),
    "schema too old": (program(lambda j: j.update(schema_version=0)), "schema"),
    "schema missing": (program(lambda j: j.pop("schema_version") and None), "schema"),
    "unknown argument": (first_argument({"as_magic": 1}), "not known"),
    "two arguments": (first_argument({"as_int": 1, "as_bool": True}), "one value"),
    "no argument": (first_argument([]), "one value"),
    "wrong argument": (first_argument({"as_int": {"a": 1}}), "expected int"),
    "wrong list": (first_argument({"as_ints": 3}), "expected a list"),
    "wrong float": (first_argument({"as_float": "much"}), "expected a number"),
    "wrong layout": (first_argument({"as_layout": 70}), "expected a number below"),
    "complex": (first_argument({"as_complex": {"real": 1.0, "imag": 1.0}}), "complex number"),
    "unhashable name": (first_argument({"as_tensor": {"name": []}}), "before it is made"),
    "custom object": (
        first_argument({"as_custom_obj": {"name": "a", "class_fqn": "b"}}),
        "script object",
    ),
    "cycle": (first_argument({"as_tensor": {"name": "relu"}}), "before it is made"),
    "never made": (first_argument({"as_tensor": {"name": "nowhere"}}), "never is"),
    "used before made": (graph(lambda g: g["nodes"].reverse()), "before it is made"),
    "made twice": (graph(lambda g: g["nodes"].append(g["nodes"][-1])), "makes a value twice"),
    "no shape": (graph(lambda g: g["tensor_values"].pop("relu") and None), "value's shape"),
    "no nodes": (graph(lambda g: g.pop("nodes") and None), "damaged program"),
    "nodes no list": (graph(lambda g: g.update(nodes={"a": 1})), "damaged program"),
    "sparse": (graph(lambda g: g["tensor_values"]["relu"].update(layout=1)), "sparse tensor"),
    "negative size": (
        graph(lambda g: g["tensor_values"]["relu"].update(sizes=sizes(-2))),
        "expected a size",
    ),
    "calls in calls": (nested_calls(17), "graphs inside graphs"),
    "expression": (
        lambda c: spelled(c, "Symbol('s77', positive=True, integer=True)", "(lambda: 1)()"),
        "expression",
    ),
    "expression without end": (
        lambda c: spelled(c, "Symbol('s77', positive=True, integer=True)", "(" * 3000),
        "expression",
    ),
    "spec": (spec("in_spec", "nonsense"), "nested"),
    "spec no tree": (spec("in_spec", "[1, 7]"), "damaged program"),
    "spec deep": (spec("out_spec", deep_spec(70)), "more than 64 deep"),
    "spec very deep": (spec("out_spec", deep_spec(50_000)), "nested"),
    "token": (
        program(
            lambda j: j["graph_module"]["signature"]["input_specs"].append(
                {"token": {"arg": {"name": "t"}}}
            )
        ),
        "only code can use",
    ),
    "loss": (
        program(
            lambda j: j["graph_module"]["signature"]["output_specs"].append(
                {"loss_output": {"arg": {"name": "relu"}}}
            )
        ),
        r"\.eval\(\)",
    ),
    "examples execute": (replaced("sample_inputs/model.pt", evil_examples()), "system"),
    "examples no zip": (replaced("sample_inputs/model.pt", b"x" * 100), "zip archive"),
    "reference": (lambda contents: contents, r"expected an \.npy array"),
    "reference no text": (
        replaced("reference/outputs.npy", b"\x80\xff"),
        r"expected an \.npy array in Base64",
    ),
    "reference enormous": (
        replaced("reference/outputs.npy", base64.b64encode(npy_header("(1000000000000,)"))),
        "does not fill its member",
    ),
    "reference of objects": (
        replaced("reference/outputs.npy", base64.b64encode(npy_header("(1,)", "|O"))),
        "array of numbers",
    ),
    "module paths": (
        lambda c: spelled(c, "L__self__conv,conv,", "a," + "[" * 1_000_000 + ","),
        r"expected an \.npy",  # read in no time; what is refused is the reference
    ),
    "signs without end": (
        lambda c: spelled(c, "Symbol('s77', positive=True, integer=True)", "-" * 3990 + "1"),
        "expression",
    ),
}


@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_refused_in_one_line(good, tmp_path, capfd, change, words):
    path = write(tmp_path / "h.pt2", change(good))
    with pytest.raises(ValueError, match=words):
        read_all(path)
    refusal(path, read_all)
    assert capfd.readouterr().out == ""


def test_the_good_one_is_good(good, tmp_path):
    contents = {n: d for n, d in good.items() if "/extra/" not in n}
    read_all(write(tmp_path / "g.pt2", contents))


def test_members_under_one_name(good, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write(tmp_path / "d.pt2", [*good.items(), ("good/models/model.json", b"{}")])
    assert "two members of one name" in refusal(path)


def test_bombs(good, tmp_path):
    zeros = {**good, "good/data/weights/weight_0": bytes(50_000_000)}
    path = write(tmp_path / "b.pt2", zeros, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "unpacks to more than its size" in refusal(path)
    # Members that lie over each other: small in the file, and large together
    path = write(tmp_path / "o.pt2", {**good, "good/data/weights/weight_0": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    entry = data[start:end]
    place = entry.find(b"good/data/weights/weight_0") - 46
    size = 46 + len("good/data/weights/weight_0")
    again = bytearray(entry[place : place + size])
    copies = b"".join(
        again[:-1] + bytes([letter]) for letter in range(ord("a"), ord("a") + 20)
    )  # fmt: skip
    count = int.from_bytes(data[end + 10 : end + 12], "little") + 20
    data[end + 8 : end + 12] = count.to_bytes(2, "little") * 2
    data[end + 12 : end + 16] = (len(entry) + len(copies)).to_bytes(4, "little")
    path.write_bytes(data[:end] + copies + data[end:])
    assert "whose members overlap" in refusal(path)


def scripted(path):
    torch.jit.script(nn.Sequential(nn.ReLU())).save(path)


OTHERS = {
    "TorchScript": (scripted, "TorchScript, which keeps the program as code"),
    "checkpoint": (lambda p: torch.save({"a": torch.ones(1)}, p), "weights and no program"),
    "AOTInductor": (
        lambda p: write(p, {"n/data/aotinductor/model/a.so": b"x", "n/archive_format": b"pt2"}),
        "AOTInductor package",
    ),
    "ExecuTorch": (lambda p: p.write_bytes(b"\x30\x00\x00\x00ET12" + bytes(99)), r"\.pte file"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(1)), "members"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes"),
    "text": (lambda p: p.write_text("hello"), "5 bytes that begin"),
    "empty zip": (lambda p: write(p, {}), "begin 50 4b 05 06"),
    "zip of one": (lambda p: write(p, {"a": b""}), "members"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("save", "words"), OTHERS.values(), ids=OTHERS)
def test_other_files(tmp_path, save, words):
    save(tmp_path / "o.pt2")
    with pytest.raises(ValueError, match=words):
        read_program(tmp_path / "o.pt2")
    assert "torch.export.save" in refusal(tmp_path / "o.pt2")


def test_as_a_checkpoint(good, tmp_path):
    for contents in (good, {"serialized_exported_program.json": b"{}"}):
        assert "read_program" in refusal(write(tmp_path / "g.pt2", contents), load_checkpoint)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_program(tmp_path / "none.pt2")
    with pytest.raises(IsADirectoryError, match="expected a .pt2"):
        read_program(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_cut_and_flipped(good, tmp_path, seed):
    """Whatever happens to the bytes, it is a program or one line."""
    draw = random.Random(seed)
    whole = write(tmp_path / "w.pt2", good).read_bytes()
    text = good["good/models/model.json"]
    for _ in range(60):
        if draw.random() < 0.3:
            data = whole[: draw.randrange(len(whole))]
        elif draw.random() < 0.5:
            data = bytearray(whole)
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        else:  # the program, inside an archive that is whole
            changed = bytearray(text)
            for _ in range(draw.randrange(1, 4)):
                changed[draw.randrange(len(changed))] = draw.choice(b'{}[]",:0189-aent')
            write(tmp_path / "c.pt2", {**good, "good/models/model.json": bytes(changed)})
            data = (tmp_path / "c.pt2").read_bytes()
        (tmp_path / "x.pt2").write_bytes(data)
        try:
            read_all(tmp_path / "x.pt2")
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 1000


def test_pickles_of_older_archives(tmp_path):
    stream = io.BytesIO()
    torch.save({"w": torch.ones(2), "e": Evil()}, stream)
    program = {"schema_version": {"major": 5, "minor": 3}, "graph_module": {}}
    contents = {
        "serialized_exported_program.json": repr(program).replace("'", '"').encode(),
        "serialized_state_dict.pt": stream.getvalue(),
    }
    assert "system" in refusal(write(tmp_path / "old.pt2", contents))
    contents["serialized_state_dict.pt"] = pickle.dumps([1])
    assert "zip archive" in refusal(write(tmp_path / "old.pt2", contents))


READ_EVERYTHING = r"""
import re, sys, time
from converters import read_program
def peak():  # not ru_maxrss, which begins with the peak of the process that started this one
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024
before, start = peak(), time.perf_counter()
program = read_program(sys.argv[1])
held = {key: program.tensors[key] for key in program.tensors}
print(peak() - before, time.perf_counter() - start, sum(a.nbytes for a in held.values()))
"""


class Large(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.slow
def test_memory(tmp_path):
    """Above the imported process: 1.2 times the file and 64 MB, weights held; linear in time."""
    seconds = {}
    for depth in (30, 120):
        path = tmp_path / f"{depth}.pt2"
        torch.export.save(torch.export.export(Large(512, depth), (torch.randn(1, 512),)), path)
        command = [sys.executable, "-c", READ_EVERYTHING, str(path)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        peak, seconds[depth], held = map(float, output.stdout.split())
        assert held == depth * 512 * 512 * 4
        assert 0.9 * held < peak <= 1.2 * path.stat().st_size + 64e6
    assert path.stat().st_size > 100e6
    # Four times the weights, and some for noise
    assert seconds[120] < 12 * seconds[30] + 1
