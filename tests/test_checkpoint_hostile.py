"""Malicious and damaged checkpoints: refused with a line that names the cause, nothing executed."""

import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoint_files import (
    ALL_FORMATS,
    Declared,
    DeclaredStorage,
    legacy_of,
    pickle_of,
    save_legacy,
    save_safetensors,
    zip_of,
)
from converters.checkpoint import list_tensors, load_checkpoint

DATA = np.arange(4, dtype="<f4").tobytes()


def refusal(path, content):
    path.write_bytes(content)
    messages = set()
    for function in (load_checkpoint, list_tensors):
        with pytest.raises(ValueError) as caught:
            function(path)
        assert type(caught.value) is ValueError
        messages.add(str(caught.value))
    (message,) = messages
    assert message.isprintable() and len(message) < 1000
    return message


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def text(value):
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def global_(module, name):
    return text(module) + text(name) + b"\x93"


def malicious(command):
    """Pickles that would run a command, and the name that a refusal must give."""
    yield pickle.dumps(Call(os.system, command), 2), f"{os.name}.system"
    yield pickle.dumps({"state_dict": {"a": Call(os.system, command)}}, 4), f"{os.name}.system"
    yield f"cos\nsystem\n(S'{command}'\ntR.".encode(), "os.system"
    yield f"(S'{command}'\nios\nsystem\n.".encode(), "os.system"
    yield f"(cos\nsystem\nS'{command}'\no.".encode(), "os.system"
    code = f"__import__('os').system({command!r})"
    yield pickle.dumps(Call(eval, code), 2), "__builtin__.eval"
    yield pickle.dumps(Call(exec, code), 4), "builtins.exec"
    yield pickle.dumps(Call(subprocess.getoutput, command), 4), "subprocess.getoutput"
    yield pickle.dumps(Call(functools.partial, os.system, command), 2), "functools.partial"
    # attributes of what is admitted, through dots
    for module, name in (
        ("torch", "os.system"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("collections", "_sys.modules"),
        ("torch", "FloatStorage.__reduce__"),
        ("numpy", "ndarray.__reduce__"),
        ("_codecs", "lookup"),
    ):
        call = b"\x80\x04" + global_(module, name) + text(command) + b"\x85R."
        yield call, f"{module}.{name}"
    yield b"\x80\x02cbuiltins\ngetattr\ncos\n__dict__\nX\x06\x00\x00\x00system\x86R.", "getattr"
    # named but not called, and called beside an admitted object
    yield b"\x80\x02cos\nsystem\n0}.", "os.system"
    yield b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\ns.", "os.system"
    nested = io.BytesIO()
    torch.save({"a": torch.ones(1)}, nested)
    yield (
        pickle.dumps(Call(torch.storage._load_from_bytes, nested.getvalue()), 2),
        ("torch.storage._load_from_bytes"),
    )
    for module, name in (
        ("torch.jit", "load"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("numpy", "load"),
        ("runpy", "run_path"),
        ("torch.utils.cpp_extension", "load"),
        ("numpy.f2py.crackfortran", "myeval"),
        ("pickle", "loads"),
        ("importlib", "import_module"),
        ("converters.checkpoint.unpickler", "Unpickler"),
    ):
        yield b"\x80\x04" + global_(module, name) + text(command) + b"\x85R.", f"{module}.{name}"


MALICIOUS_COUNT = len(list(malicious("true")))


class TestMalicious:
    @pytest.mark.parametrize("index", range(MALICIOUS_COUNT))
    def test_refused_by_name_and_not_run(self, tmp_path, index):
        sentinel = tmp_path / "ran"
        pickled, name = list(malicious(f"touch {sentinel}"))[index]
        containers = [zip_of(pickled), zip_of(pickled, compression=zipfile.ZIP_DEFLATED)]
        containers.append(legacy_of(pickled))
        if pickled.startswith(b"\x80"):
            containers.append(pickled)
        for content in containers:
            message = refusal(tmp_path / "c", content)
            assert name in message and "nothing of it was executed" in message
        assert not sentinel.exists()

    def test_the_sentinel_works(self, tmp_path):
        """The same pickle under Python's own unpickler does run."""
        pickle.loads(next(malicious(f"touch {tmp_path / 'ran'}"))[0])
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "pickled",
        [
            # states for a function, a class and an instance that are admitted
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0b\x00\x00\x00__globals__K\x01sb0}.",
            b"\x80\x02ctorch._utils\n_rebuild_parameter\nN}X\x0c\x00\x00\x00__defaults__)s\x86b0}.",
            b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cargparse\n"
            b"Namespace\nsb.",
            b"\x80\x02cargparse\nNamespace\n)\x81}X\x09\x00\x00\x00__class__ccollections\n"
            b"OrderedDict\nsb.",
        ],
    )
    def test_build_changes_nothing(self, tmp_path, pickled):
        import argparse
        import collections

        from converters.checkpoint import torch_tensors

        before = dict(vars(torch_tensors))
        assert "no tensors" in refusal(tmp_path / "c", zip_of(pickled))
        assert vars(torch_tensors) == before
        assert not hasattr(argparse.Namespace(), "__setstate__")
        assert not hasattr(collections.OrderedDict(), "__globals__")
        path = tmp_path / "fine"
        torch.save({"a": torch.ones(2)}, path)
        assert load_checkpoint(path)["a"].tolist() == [1, 1]

    @pytest.mark.parametrize(
        "call",
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n)R",
            b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04K\x05K\x06tR",
            b"ctorch._utils\n_rebuild_parameter\n(K\x01K\x02K\x03tR",
            b"ctorch._utils\n_rebuild_tensor_v2\nK\x01R",
            b"K\x01)R",
            b"ccollections\nOrderedDict\n(]((tatR",
            b"ctorch\nSize\n(X\x02\x00\x00\x00abtR",
            b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00base64tR",
            b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR",
            b"cnumpy\ndtype\n(X\x0c\x00\x00\x00f4,f4,O,f4,f4tR",
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\nndarray\ntR",
            b"(X\x07\x00\x00\x00storageK\x01tQ",
            b"X\x07\x00\x00\x00storageQ",
            b"cargparse\nNamespace\n)RK\x01a]K\x01b(K\x01u",
            b"\x82\x01",
            b"\x97",
            b"0",
            b"h\x07",
            b"t",
        ],
    )
    def test_odd_calls(self, tmp_path, call):
        refusal(tmp_path / "c", zip_of(b"\x80\x02" + call + b"."))
        refusal(tmp_path / "c", legacy_of(b"\x80\x02" + call + b"."))

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_arrays_of_objects(self, tmp_path, protocol):
        for value, word in (
            (np.array([Call(os.system, "true"), None]), "system"),
            (np.zeros(2, [("a", "f4")]), "dtype 'V'"),
        ):
            pickled = pickle.dumps({"a": value}, protocol)
            assert word in refusal(tmp_path / "c", zip_of(pickled))

    @pytest.mark.parametrize("index", range(MALICIOUS_COUNT))
    def test_beside_weights_not_run(self, tmp_path, index):
        """Any of these beside good weights: the weights, and a line that names it."""
        sentinel = tmp_path / "ran"
        pickled, name = list(malicious(f"touch {sentinel}"))[index]
        inner = pickled[2:-1] if pickled[:1] == b"\x80" else pickled[:-1]
        if inner[:1] == b"\x95":  # a frame
            inner = inner[9:]
        weights = pickle_of({"a": Declared(DeclaredStorage("0", 4), 0, (4,), (1,))})[2:-1]
        content = b"\x80\x04}(X\x05\x00\x00\x00model" + weights
        content += b"X\x01\x00\x00\x00x" + inner + b"u."
        (tmp_path / "c").write_bytes(zip_of(content, {"0": DATA}))
        with pytest.warns(UserWarning, match="not executed") as caught:
            state = load_checkpoint(tmp_path / "c")
        np.testing.assert_array_equal(state["a"], [0, 1, 2, 3])
        assert any(name in str(w.message) for w in caught)
        assert not sentinel.exists()


class TestDeclarations:
    """Tensors whose pickle declares what the file does not hold."""

    @pytest.mark.parametrize(
        ("offset", "shape", "strides"),
        [
            (0, (5,), (1,)),
            (1, (4,), (1,)),
            (0, (2, 2), (3, 2)),
            (4, (1,), (1,)),
            (0, (2,), (1 << 62,)),
            (0, (1 << 62,), (1,)),
            (0, (1 << 40,), (0,)),
            (0, (1 << 64, 0), (1, 1)),
            (-1, (2,), (1,)),
            (0, (-1,), (1,)),
            (3, (4,), (-1,)),
            (0, (2,), (1, 1)),
            (0, (1,) * 65, (1,) * 65),
            (0, (2.0,), (1,)),
            (0, ("2",), (1,)),
            (0, 2, 1),
            (None, (2,), (1,)),
            (True, (2,), (1,)),
        ],
    )
    def test_outside_the_storage(self, tmp_path, offset, shape, strides):
        tensor = {"a": Declared(DeclaredStorage("0", 4), offset, shape, strides)}
        for content in (zip_of, legacy_of):
            refusal(tmp_path / "c", content(pickle_of(tensor), {"0": DATA}))

    def test_the_helper_writes_what_loads(self, tmp_path):
        tensor = {"a": Declared(DeclaredStorage("0", 4), 1, (3, 1), (1, 1 << 62))}
        for content in (zip_of, legacy_of):
            (tmp_path / "c").write_bytes(content(pickle_of(tensor), {"0": DATA}))
            np.testing.assert_array_equal(load_checkpoint(tmp_path / "c")["a"], [[1], [2], [3]])

    @pytest.mark.parametrize(
        "storage",
        [
            DeclaredStorage("0", 1 << 60),
            DeclaredStorage("0", 5),
            DeclaredStorage("0", 3),
            DeclaredStorage("0", -4),
            DeclaredStorage("0", 4.0),
            DeclaredStorage("1", 4),
            DeclaredStorage("../data.pkl", 4),
            DeclaredStorage(0, 4),
            DeclaredStorage("0", 4, kind=torch.Size),
            DeclaredStorage("0", 4, kind="FloatStorage"),
            DeclaredStorage("0", 4, tag="module"),
            DeclaredStorage("0", 4, tag="reduce"),
            DeclaredStorage("0", 4, extra=(None, None)),
            DeclaredStorage("0", 4, extra=(("v", 2, 3),)),
            DeclaredStorage("0", 4, extra=(("v", -1, 3),)),
            DeclaredStorage("0", 4, extra=("v",)),
        ],
        ids=lambda s: str(s.id),
    )
    def test_false_storages(self, tmp_path, storage):
        pickled = pickle_of({"a": Declared(storage, 0, (1,), (1,))})
        for content in (zip_of, legacy_of):
            refusal(tmp_path / "c", content(pickled, {"0": DATA}))

    def test_storages_of_two_sizes(self, tmp_path):
        pickled = pickle_of(
            {
                "a": Declared(DeclaredStorage("0", 4), 0, (1,), (1,)),
                "b": Declared(DeclaredStorage("0", 4, torch.DoubleStorage), 0, (4,), (1,)),
            }
        )
        for content in (zip_of, legacy_of):
            refusal(tmp_path / "c", content(pickled, {"0": DATA}))

    def test_directory_that_promises_too_much(self, tmp_path):
        """A member whose size in the zip directory is beyond the end of the file."""
        count = 50_000_000
        pickled = pickle_of({"a": Declared(DeclaredStorage("0", count), 0, (count,), (1,))})
        content = bytearray(zip_of(pickled, {"0": DATA}))
        entry = content.index(b"PK\x01\x02", content.index(DATA))
        while content[entry + 46 : entry + 60] != b"archive/data/0":
            entry = content.index(b"PK\x01\x02", entry + 1)
        content[entry + 20 : entry + 28] = struct.pack("<II", 4 * count, 4 * count)
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(ValueError, match="overlap"):
            load_checkpoint(tmp_path / "c")

    def test_byteorder(self, tmp_path):
        pickled = pickle_of({"a": Declared(DeclaredStorage("0", 4), 0, (4,), (1,))})
        content = zip_of(pickled, {"0": DATA}, byteorder=b"middle")
        assert "'middle'" in refusal(tmp_path / "c", content)

    def test_damaged_storage(self, tmp_path):
        """A flipped bit in a weight does not pass where that is asked for, as `convert` does."""
        pickled = pickle_of({"a": Declared(DeclaredStorage("0", 4), 0, (4,), (1,))})
        content = zip_of(pickled, {"0": DATA}).replace(DATA, b"\x01" + DATA[1:])
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(ValueError, match="CRC"):
            load_checkpoint(tmp_path / "c", checksums=True)


def deep(opcode, depth=200_000):
    return b"\x80\x02" + b")" + opcode * depth


def doubled(depth=100):
    """A tuple of two times a tuple of two times ..., in a few bytes."""
    step = b"q\x000h\x00h\x00\x86"
    return b"\x80\x02)" + step * depth


class TestBombs:
    """Small files that would take the machine's memory, stack or time."""

    @pytest.mark.parametrize(
        "pickled",
        [
            b"\x80\x02X\xff\xff\xff\xff.",
            b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
            b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
            b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
            b"\x80\x02\x8b\xff\xff\xff\x7f.",
            b"\x80\x02\x8b\xff\xff\xff\xff.",
            b"\x80\x02Nr\xff\xff\xff\xff.",
            b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
            b"\x80\x02c" + b"a" * 1_000_000,
            deep(b"\x85") + b".",
            deep(b"\x85") + b"}q\x010h\x01(h\x00K\x01u.",
            b"\x80\x02]q\x00" + b"h\x00a" * 1000 + b".",
            b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
            doubled() + b".",
            doubled() + b"q\x01}(h\x01K\x01u.",
            # as the shape of a tensor, which the refusal shows
            doubled() + b"q\x01ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x01h\x01tR.",
            b"\x80\x02ctorch\nSize\n" + doubled()[2:] + b"\x85R.",
        ],
        ids=range(17),
    )
    def test_pickles(self, tmp_path, pickled):
        refusal(tmp_path / "c", zip_of(pickled))
        refusal(tmp_path / "c", legacy_of(pickled))

    def test_dicts_that_share_their_parts(self, tmp_path):
        wrappers = {"x": {}}
        for _ in range(60):
            wrappers = {f"k{i}": wrappers for i in range(50)}
        assert "no tensors" in refusal(tmp_path / "c", zip_of(pickle.dumps(wrappers, 2)))

    def test_zip_that_unpacks_to_much(self, tmp_path):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            with archive.open("archive/data/0", "w", force_zip64=True) as member:
                for _ in range(1100):
                    member.write(bytes(1 << 20))
        assert "much more than its size" in refusal(tmp_path / "c", stream.getvalue())

    def test_two_members_of_one_name(self, tmp_path):
        stream = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
            warnings.simplefilter("ignore")
            archive.writestr("a/data.pkl", b"\x80\x02}.")
            archive.writestr("a/data.pkl", b"\x80\x02}.")
        assert "one name" in refusal(tmp_path / "c", stream.getvalue())

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 100000000000000000000), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 300 + ")" * 300 + ", }",
            "__import__('os').system('true')",
            # found by fuzzing: NumPy's parsers of old headers raise what is no ValueError
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4,",
            "{'descr': '<f4', 'fortran_order': \0False, 'shape': (4,), }",
        ],
    )
    def test_npy_headers(self, tmp_path, header):
        data = header.encode()
        member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data)) + data + DATA
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.npy", member)
        refusal(tmp_path / "c", stream.getvalue())

    @pytest.mark.parametrize(
        "header",
        [
            b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,16]}}',
            b'{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}',
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,17]}}',
            b'{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}',
            b'{"a":{"dtype":"F4","shape":[32],"data_offsets":[0,16]}}',
            b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}',
            b'{"a":[]}',
            b"{",
            b"{}",
        ],
    )
    def test_safetensors_headers(self, tmp_path, header):
        refusal(tmp_path / "c", struct.pack("<Q", len(header)) + header + DATA)


def valid_files(folder):
    """One small training checkpoint or state dict in every format, as bytes."""
    state = {
        "a.weight": torch.arange(6.0).reshape(2, 3).T,
        "a.bias": torch.ones(2, dtype=torch.bfloat16),
        "n": torch.tensor(3),
    }
    flat = {k: v.float().contiguous() for k, v in state.items()}
    wrapped = {"model": state, "ema": {"shadow": state}, "epoch": 3, "acc": np.float64(0.5)}
    wrapped["array"] = np.arange(3)
    for name, write in ALL_FORMATS.items():
        path = folder / f"{name}.npz"
        write(wrapped if name in ("zip", "legacy") else flat, path)
        yield name, path.read_bytes()


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return dict(valid_files(tmp_path_factory.mktemp("valid")))


def outcome(path, content):
    """Only ValueError and OSError may come out, on one line; or a dict of arrays."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function in (load_checkpoint, list_tensors):
            try:
                function(path)
            except (ValueError, OSError) as error:
                assert str(error).isprintable(), error
                result = error
            else:
                result = None
    return result


SETTINGS = settings(
    deadline=None,
    max_examples=600,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _text(value):
    return b"X" + len(value).to_bytes(4, "little") + value


# Whole opcodes of a pickle as torch.save writes it, with the arguments that they need.
OPCODES = st.sampled_from(
    [
        *(b"}", b")", b"]", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q", b"s", b"u"),
        *(
            b"a",
            b"e",
            b"0",
            b"2",
            b"N",
            b"\x88",
            b"\x89",
            b"K\x03",
            b"M\x00\x01",
            b"J\xff\xff\xff\xff",
        ),
        *(b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"\x8a\x01\x02", b"G" + bytes(8), b"."),
        *map(_text, (b"storage", b"cpu", b"0", b"weight", b"state_dict", b"")),
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        b"cos\nsystem\n",
    ]
)


class TestDamaged:
    @pytest.mark.parametrize("name", ALL_FORMATS)
    @SETTINGS
    @given(data=st.data())
    def test_flipped_bytes(self, tmp_path, valid, name, data):
        content = bytearray(valid[name])
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        outcome(tmp_path / "c", bytes(content))

    @pytest.mark.parametrize("name", ALL_FORMATS)
    def test_truncated_anywhere(self, tmp_path, valid, name):
        content = valid[name]
        for length in range(0, len(content), max(1, len(content) // 400)):
            assert isinstance(outcome(tmp_path / "c", content[:length]), ValueError), length

    @SETTINGS
    @given(pickled=st.lists(OPCODES, max_size=40).map(b"".join))
    def test_random_pickles(self, tmp_path, pickled):
        """Of opcodes that are whole, so that the interpreter gets far."""
        outcome(tmp_path / "c", zip_of(b"\x80\x02" + pickled))
        outcome(tmp_path / "c", legacy_of(b"\x80\x02" + pickled))

    @SETTINGS
    @given(data=st.data())
    def test_flipped_bytes_of_a_pickle(self, tmp_path, valid, data):
        """In the pickle alone, under right checksums."""
        with zipfile.ZipFile(io.BytesIO(valid["zip"])) as archive:
            files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        pickled = bytearray(files["data.pkl"])
        for _ in range(data.draw(st.integers(1, 3))):
            pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
        storages = {k.removeprefix("data/"): v for k, v in files.items() if k.startswith("data/")}
        outcome(tmp_path / "c", zip_of(bytes(pickled), storages))

    @SETTINGS
    @given(content=st.binary(max_size=600))
    def test_random_files(self, tmp_path, content):
        outcome(tmp_path / "c", content)


def many(opcodes, megabytes=20):
    """The same opcodes again and again."""
    return zip_of(b"\x80\x02" + opcodes * ((megabytes << 20) // len(opcodes)) + b".")


def numbered(make, count):
    return b"".join(make(i) for i in range(count))


def name_of(value):
    data = str(value).encode()
    return b"X" + len(data).to_bytes(4, "little") + data


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x04tQ"


def expanded():
    """Many tensors of 8 Mi elements, all of them one element of 4."""
    tensor = REBUILD + b"(" + STORAGE + b"K\x00J\x00\x00\x80\x00\x85K\x00\x85\x89NtR"
    items = numbered(lambda i: name_of(f"a{i}") + tensor, 3000)
    return zip_of(b"\x80\x02}(" + items + b"u.", {"0": DATA})


def safetensors_of(header):
    return struct.pack("<Q", len(header)) + header


def directory(count, name=b""):
    """A zip directory of members that have no data and a number behind their name."""
    entries = numbered(
        lambda i: (
            b"PK\x01\x02"
            + bytes(24)
            + struct.pack("<H", len(name) + 4)
            + bytes(16)
            + name
            + struct.pack("<I", i)
        ),
        count,
    )
    end = struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, len(entries), 30, 0)
    return b"PK\x03\x04" + bytes(26) + entries + b"PK\x05\x06" + end


def deflated(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", content)
    return stream.getvalue()


def compressed_npz():
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(150 << 20, np.uint8))
    return stream.getvalue()


def expanded_and_pruned():
    """Weights of 64 MiB, each of which is one element of 4, and to be computed."""
    tensor = REBUILD + b"(" + STORAGE + b"K\x00M\x00\x10M\x00\x10\x86K\x00K\x00\x86\x89NtR"
    pairs = numbered(
        lambda i: name_of(f"a{i}_orig") + b"h\x00" + name_of(f"a{i}_mask") + b"h\x00", 8
    )
    return zip_of(b"\x80\x02" + tensor + b"q\x000}(" + pairs + b"u.", {"0": DATA})


def a_module_of_many_names():
    """In another one many times: each time all names would be looked at."""
    start = b"ca\nb\n)\x81}(" + name_of("_parameters") + b"}("
    inner = start + numbered(lambda i: name_of(i) + b"N", 100_000) + b"u"
    inner += name_of("_modules") + b"}ub"
    outer = b"ca\nb\n)\x81}(" + name_of("_parameters") + b"}" + name_of("_modules") + b"}("
    outer += numbered(lambda i: name_of(i) + b"h\x00", 5000) + b"uub"
    return zip_of(b"\x80\x02" + inner + b"q\x000" + outer + b".")


def shared_modules():
    """Modules in which each has the one before twice: 2^17 paths to a thousand parameters."""
    start = b"ca\nb\n)\x81}(" + name_of("_parameters")
    tensor = REBUILD + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85\x89NtR"
    pickled = start + b"}(" + numbered(lambda i: name_of(i) + tensor, 1000) + b"u"
    pickled += name_of("_modules") + b"}ub"
    for _ in range(17):
        inner = name_of("a" * 200) + b"h\x00" + name_of("b" * 200) + b"h\x00"
        pickled += b"q\x000" + start + b"}" + name_of("_modules") + b"}(" + inner + b"uub"
    return zip_of(b"\x80\x02" + pickled + b".", {"0": DATA})


BOMBS = {
    "dicts": lambda: many(b"}"),
    "lists": lambda: many(b"]"),
    "tuples": lambda: zip_of(b"\x80\x02)" + b"\x85" * (10 << 20) + b"."),
    "memo": lambda: many(b"N\x94"),
    "memo with gaps": lambda: zip_of(
        b"\x80\x02N" + numbered(lambda i: b"r" + struct.pack("<I", 1009 * i + 1000), 1 << 20) + b"."
    ),
    "objects": lambda: zip_of(b"\x80\x02ca\nb\nq\x00" + b"h\x00)R" * (4 << 20) + b"."),
    "numbers": lambda: many(b"\x8a\xff" + b"\x01" * 255),
    "one large number": lambda: zip_of(
        b"\x80\x02\x8b\x00\x00\x00\x02" + b"\x01" * (32 << 20) + b"."
    ),
    "small numbers": lambda: many(b"M\xff\xff"),
    "fractions": lambda: many(b"G" + bytes(8)),
    "items": lambda: many(b"}K\x01Ns"),
    "wide text": lambda: many(b"X\xe8\x03\x00\x00\xf0\x9f\x98\x80" + b"a" * 996),
    "names": lambda: zip_of(b"\x80\x02" + numbered(lambda i: b"ca%d\nb\n" % i, 1 << 20) + b"."),
    "tensors of one storage": lambda: zip_of(
        b"\x80\x02](" + STORAGE + b"K\x00K\x04\x85K\x01\x85\x89Ntq\x02"
        + REBUILD + b"q\x03" + b"h\x03h\x02R" * (2 << 20) + b"e.",
        {"0": DATA},
    ),
    "expanded": expanded,
    "expanded and pruned": expanded_and_pruned,
    "calls with many arguments": lambda: zip_of(
        b"\x80\x02(" + b"N" * (1 << 20) + b"tq\x00ctorch._utils\n_rebuild_sparse_tensor\nq\x01"
        + b"h\x01h\x00R" * 50 + b"."
    ),
    "a module of many names": a_module_of_many_names,
    "entries": lambda: zip_of(
        b"\x80\x02}(" + name_of("model") + b"}" + name_of("a") + REBUILD + b"(" + STORAGE
        + b"K\x00K\x04\x85K\x01\x85\x89NtRq\x00s"
        + numbered(lambda i: name_of(f"n{i}") + b"}" + name_of("a") + b"h\x00s", 40_000) + b"u.",
        {"0": DATA},
    ),
    "copies of a dict": lambda: zip_of(
        b"\x80\x02}(" + numbered(lambda i: name_of(i) + b"N", 1000) + b"uq\x00"
        + b"ccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R" * (1 << 20) + b"."
    ),
    "shared modules": shared_modules,
    "deflated pickle": lambda: deflated(b"\x80\x02" + b"}" * (20 << 20) + b"."),
    "small deflated pickle": lambda: deflated(b"\x80\x02" + b"}" * ((1 << 20) - 99) + b"."),
    "members": lambda: zip_of(b"\x80\x02}.", dict.fromkeys(range(100_000), b"")),
    "directory": lambda: directory(400_000),
    "long names": lambda: directory(600, b"a/" + b"\xb0" * 0xFFF9),
    "compressed npz": compressed_npz,
    "header of entries": lambda: safetensors_of(
        b"{" + b",".join(
            b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(300_000)
        ) + b"}"
    ),
    "header of dicts": lambda: safetensors_of(b'{"a":[' + b"{}," * (4 << 20) + b"{}]}"),
    "small header of dicts": lambda: safetensors_of(b'{"a":[' + b"{}," * 600_000 + b"{}]}"),
    "legacy": lambda: legacy_of(b"\x80\x02" + b"}" * (20 << 20) + b"."),
}  # fmt: skip

MEASURE = """
import sys
import numpy, ml_dtypes, safetensors, zipfile
from converters.checkpoint import list_tensors, load_checkpoint
def memory(kind):  # VmHWM, for ru_maxrss begins with the parent's
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(kind))
before = memory("VmRSS")
listed = list_tensors(sys.argv[1])
after_listing = memory("VmHWM") - before
state = load_checkpoint(sys.argv[1])
print(after_listing, memory("VmHWM") - before, sum(array.nbytes for array in state.values()))
"""
MEASURE_BOMBS = (
    MEASURE[: MEASURE.index("before =")]
    + """
import time, warnings
warnings.simplefilter("ignore")
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # the mark begins anew
    before, start = memory("VmRSS"), time.monotonic()
    try:
        state = load_checkpoint(path)
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
    print(memory("VmHWM") - before, time.monotonic() - start)
"""
)
PEAK = 1.2  # times the size of the file
ALLOWED = 64 << 20  # bytes beside that, whatever the file
LISTING = 8 << 20  # bytes: the readers' modules and the pickle, whatever the tensors take


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measured through /proc")
class TestMemory:
    @pytest.mark.parametrize("name", ["zip", "legacy", "safetensors", "npz"])
    def test_peak(self, tmp_path, name):
        state = {f"layers.{i}.weight": torch.full((1024, 2048), float(i)) for i in range(10)}
        state["head"] = torch.ones(9_000_000)  # one tensor that is a large part of the file
        path = tmp_path / "c.npz"
        ALL_FORMATS[name](state, path)
        size = path.stat().st_size
        assert size > 115e6
        child = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
        )
        listing, peak, loaded = map(int, child.stdout.split())
        assert loaded == sum(t.nbytes for t in state.values())
        assert listing < LISTING
        # What is measured is there; a page or two of it may have been there before.
        assert 0.99 * loaded < peak < PEAK * size

    def test_numpy_arrays(self, tmp_path):
        """Arrays whose bytes protocol 2 spells as text are read straight from the file."""
        rng = np.random.default_rng(0)
        arrays = {f"a{i}.w": rng.integers(0, 256, 4_000_000, np.uint8) for i in range(10)}
        torch.save(arrays, tmp_path / "c")
        child = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / "c")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(child.stdout.split()[1]) < PEAK * (tmp_path / "c").stat().st_size
        for key, array in load_checkpoint(tmp_path / "c").items():
            np.testing.assert_array_equal(array, arrays[key])

    def test_bombs(self, tmp_path):
        """The worst files that we know, one after another in one child."""
        for name, make in BOMBS.items():
            (tmp_path / name).write_bytes(make())
        child = subprocess.run(
            [sys.executable, "-c", MEASURE_BOMBS, *(str(tmp_path / name) for name in BOMBS)],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = child.stdout.splitlines()
        assert len(lines) == len(BOMBS)
        for name, line in zip(BOMBS, lines, strict=True):
            size, (peak, seconds) = (tmp_path / name).stat().st_size, map(float, line.split())
            assert peak < PEAK * size + ALLOWED, name
            assert seconds < 10, name

    @pytest.mark.parametrize("save", [torch.save, save_legacy])
    def test_optimizer_state_is_not_read(self, tmp_path, save):
        moments = {0: {"exp_avg": torch.ones(25_000_000)}}
        content = {
            "state_dict": {"a": torch.ones(10)},
            "optimizer": {"state": moments, "param_groups": []},
        }
        save(content, tmp_path / "c")
        child = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / "c")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(child.stdout.split()[1]) < LISTING

    def test_parts_of_a_safetensors_file(self, tmp_path):
        """Places are computed from the header's order: names, kinds and sizes all mixed."""
        torch.manual_seed(0)
        kinds = [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.float64]
        state = {
            f"{(i * 7919) % 101}.w": (torch.randn(i % 7, 3) * 9).to(kinds[i % 5]) for i in range(60)
        }
        save_safetensors(state, tmp_path / "c")
        loaded = load_checkpoint(tmp_path / "c")
        for key, tensor in state.items():
            np.testing.assert_array_equal(loaded[key].astype(float), tensor.double().numpy())
