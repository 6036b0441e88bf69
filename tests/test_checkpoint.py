"""load_checkpoint and list_tensors on checkpoints written by PyTorch, safetensors and NumPy."""

import argparse
import collections
import dataclasses
import enum
import functools
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tarfile
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch

from checkpoint_files import (
    ALL_FORMATS,
    LEGACY_START,
    TORCH_FORMATS,
    Declared,
    DeclaredStorage,
    assert_same,
    bits,
    legacy_of,
    pickle_of,
    torch_bits,
    zip_of,
)
from converters.checkpoint import TensorInfo, list_tensors, load_checkpoint

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
]


@pytest.fixture(params=TORCH_FORMATS)
def save(request):
    return TORCH_FORMATS[request.param]


def small_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def trained():
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return model, optimizer


def load_quietly(path, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_checkpoint(path, **kwargs)


def load_and_notes(path, **kwargs):
    """What is loaded, and the lines that say what was left."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = load_checkpoint(path, **kwargs)
    assert all(w.filename == __file__ and str(w.message).isprintable() for w in caught)
    return state, [str(w.message).removeprefix(repr(str(path))) for w in caught]


def refusal(path, **kwargs):
    """The single line of a ValueError that both functions raise alike."""
    with pytest.raises(ValueError) as loading:
        load_checkpoint(path, **kwargs)
    with pytest.raises(ValueError) as listing:
        list_tensors(path, **kwargs)
    message = str(loading.value)
    assert str(listing.value) == message
    assert message.isprintable()
    assert repr(str(path)) in message
    return message


class TestFormats:
    @pytest.mark.parametrize("name", ALL_FORMATS)
    def test_state_dict_of_a_model(self, tmp_path, name):
        path = tmp_path / "weights.npz"  # the extension says nothing
        expected = dict(small_model().state_dict())
        ALL_FORMATS[name](expected, path)
        loaded = load_quietly(path)
        assert_same(loaded, expected)
        assert [TensorInfo(k, v.shape, v.dtype) for k, v in loaded.items()] == list_tensors(path)
        if name in TORCH_FORMATS:
            assert list(loaded) == list(expected)

    @pytest.mark.parametrize("name", ["zip", "legacy", "safetensors"])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_dtypes(self, tmp_path, name, dtype):
        if name == "safetensors" and dtype == torch.complex128:
            dtype = torch.complex64  # the format has no complex128
        expected = {"a": (torch.arange(12) * 3 - 7).to(dtype).reshape(3, 4)}
        ALL_FORMATS[name](expected, tmp_path / "c")
        assert_same(load_quietly(tmp_path / "c"), expected)

    def test_bfloat16_is_usable(self, tmp_path, save):
        save({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "c")
        array = load_checkpoint(tmp_path / "c")["a"]
        assert array.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(array.astype(np.float32) * 2, [3.0, -4.0])

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_pickle_protocols(self, tmp_path, protocol):
        expected = dict(small_model().state_dict())
        for new in (True, False):
            torch.save(
                expected,
                tmp_path / "c",
                pickle_protocol=protocol,
                _use_new_zipfile_serialization=new,
            )
            assert_same(load_quietly(tmp_path / "c"), expected)

    def test_views_and_shared_storages(self, tmp_path, save):
        base = torch.arange(60.0).reshape(3, 4, 5)
        expected = {
            "base": base,
            "transposed": base.permute(2, 0, 1),
            "sliced": base[1:, ::2, 1:4],
            "expanded": torch.arange(3.0)[:, None].expand(3, 4),
            "scalar": torch.tensor(7),
            "empty": torch.zeros(0, 3),
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        }
        save(expected, tmp_path / "c")
        loaded = load_quietly(tmp_path / "c")
        assert_same(loaded, expected)
        assert np.shares_memory(loaded["base"], loaded["sliced"])
        assert not loaded["expanded"].flags.writeable
        assert all(a.flags.writeable for k, a in loaded.items() if k != "expanded")

    def test_arrays_survive_the_file(self, tmp_path, save):
        expected = {"a": torch.randn(1000)}
        save(expected, tmp_path / "c")
        loaded = load_checkpoint(tmp_path / "c")
        (tmp_path / "c").write_bytes(b"")
        assert_same(loaded, expected)
        loaded["a"][0] = 1.0

    def test_tensor_with_attributes(self, tmp_path, save):
        tensor, parameter = torch.ones(2), torch.nn.Parameter(torch.ones(3))
        tensor.tag = parameter.tag = "x"
        save({"a": tensor, "b": parameter}, tmp_path / "c")
        assert_same(load_quietly(tmp_path / "c"), {"a": tensor, "b": parameter})

    def test_storages_without_checksums(self, tmp_path):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({"a": torch.arange(5.0)}, tmp_path / "c")
        finally:
            torch.serialization.set_crc32_options(True)
        assert_same(load_quietly(tmp_path / "c"), {"a": torch.arange(5.0)})

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
    def test_big_endian_zip(self, tmp_path, dtype):
        """A file as a big-endian machine writes it; PyTorch itself says what it means."""
        expected = {"a": torch.arange(6).to(dtype).reshape(2, 3)}
        torch.save(expected, tmp_path / "little")
        unit = torch.float32.itemsize if dtype.is_complex else dtype.itemsize
        with (
            zipfile.ZipFile(tmp_path / "little") as source,
            zipfile.ZipFile(tmp_path / "big", "w") as target,
        ):
            for name in source.namelist():
                data = source.read(name)
                if name.endswith("byteorder"):
                    data = b"big"
                elif "/data/" in name:
                    data = np.frombuffer(data, f"u{unit}").byteswap().tobytes()
                target.writestr(name, data)
        assert torch.equal(torch.load(tmp_path / "big")["a"], expected["a"])
        assert_same(load_quietly(tmp_path / "big"), expected)

    def test_deflated_zip(self, tmp_path):
        """A checkpoint that someone has zipped anew."""
        expected = {"a": torch.randn(300_000)}
        torch.save(expected, tmp_path / "stored")
        with (
            zipfile.ZipFile(tmp_path / "stored") as source,
            zipfile.ZipFile(tmp_path / "c", "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for name in source.namelist():
                target.writestr(name, source.read(name))
        assert_same(load_quietly(tmp_path / "c"), expected)

    def test_npz_orders(self, tmp_path):
        arrays = {
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "big": np.arange(4, dtype=">i4"),
            "empty": np.zeros((0, 3)),
            "scalar": np.float32(3),
            "a/code/b": np.ones(2),
        }
        np.savez(tmp_path / "c", **arrays)
        loaded = load_quietly(tmp_path / "c.npz")
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype.isnative and loaded[name].flags.writeable

    def test_numpy_arrays_in_a_pickle(self, tmp_path, save):
        for protocol in (2, 4, 5):
            arrays = {
                "w": np.arange(6, dtype=np.float32).reshape(2, 3),
                "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
                "b": np.arange(3, dtype=">i2"),
                "flags": np.array([True, False]),
            }
            arrays["again"] = arrays["w"]
            torch.save(arrays, tmp_path / "c", pickle_protocol=protocol)
            loaded = load_quietly(tmp_path / "c")
            assert list(loaded) == list(arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array)

    def test_python2_stream(self, tmp_path):
        """What PyTorch 0.3 wrote under Python 2: byte strings, pairs, a view of a storage."""
        pickled = (
            b"\x80\x02ccollections\nOrderedDict\nq\x00](]q\x01(U\x06weightctorch._utils\n"
            b"_rebuild_tensor\n((U\x07storagectorch.cuda\nFloatStorage\nU\x051a2b3U\x06cuda:0"
            b"K\x06(U\x05v1a2bK\x02K\x04ttQK\x01K\x03\x85K\x01\x85tRee\x85R."
        )
        data = np.arange(6, dtype="<f4")
        (tmp_path / "c").write_bytes(legacy_of(pickled, {"1a2b3": data.tobytes()}))
        np.testing.assert_array_equal(load_quietly(tmp_path / "c")["weight"], [3, 4, 5])

    def test_variables_of_old(self, tmp_path):
        """PyTorch 0.3 saved a Parameter by its class, with a state."""
        inner = pickle_of(Declared(DeclaredStorage("0", 2), 0, (2,), (1,)))[2:-1]
        pickled = (
            b"\x80\x02}U\x01actorch.nn.parameter\nParameter\n" + inner + b"\x85R\x88\x89}\x87bs."
        )
        data = np.array([1, 2], "<f4").tobytes()
        (tmp_path / "c").write_bytes(zip_of(pickled, {"0": data}))
        np.testing.assert_array_equal(load_quietly(tmp_path / "c")["a"], [1, 2])


class TestEntries:
    @pytest.mark.parametrize(
        "name",
        [
            *("state_dict", "model", "model_state_dict", "net", "network", "module", "params"),
            *("ema", "ema_state_dict", "model_ema", "state_dict_ema", "params_ema", "whatever"),
        ],
    )
    def test_a_single_wrapped_state_dict(self, tmp_path, save, name):
        model, optimizer = trained()
        content = {
            "epoch": 3,
            name: model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict(),
            "best_acc1": torch.tensor(0.7),
            "accuracy": np.float64(0.7),
            "args": argparse.Namespace(lr=0.1, out=pathlib.Path("out"), device=torch.device("cpu")),
            "rng_state": torch.get_rng_state(),
            "rng_states": {"torch": torch.get_rng_state(), "numpy": np.random.get_state()},
            "history": collections.defaultdict(list, loss=[1.0, 0.5]),
            "seen": {1, 2},
            "counts": collections.Counter("abba"),
            "dtype": torch.float16,
            "shape": torch.Size([1, 2]),
            "text": np.array(["a", "b"]),
            ("a", "tuple"): frozenset({1}),
        }
        save(content, tmp_path / "c")
        for kwargs in ({}, {"entry": name}):
            state, (note,) = load_and_notes(tmp_path / "c", **kwargs)
            assert_same(state, dict(model.state_dict()))
            for place in (
                "'optimizer' (state of an optimizer, 12 tensors)",
                "'best_acc1' (no weight of the model)",
                "'rng_state' (bookkeeping of the training)",
                "'rng_states' (bookkeeping of the training, 2 tensors)",
            ):
                assert place in note

    def test_optimizer_state_by_parameter_name(self, tmp_path, save):
        state = dict(small_model().state_dict())
        moments = {"0.weight": {"exp_avg": torch.ones(3)}}
        solver = {"state": moments, "param_groups": [{"lr": 0.1, "params": ["0.weight"]}]}
        save({"model": state, "solver": solver}, tmp_path / "c")
        loaded, (note,) = load_and_notes(tmp_path / "c")
        assert_same(loaded, state)
        assert "'solver' (state of an optimizer)" in note

    def test_nested_once_more(self, tmp_path, save):
        state = dict(small_model().state_dict())
        save({"checkpoint": {"model": state, "epoch": 1}}, tmp_path / "c")
        assert_same(load_quietly(tmp_path / "c"), state)

    @pytest.mark.parametrize(
        "ema",
        [
            lambda state: state,
            lambda state: {"shadow": state, "decay": 0.99},
            lambda state: {"module": state, "updates": 3},
            lambda state: {f"module.{k}": v for k, v in state.items()},
        ],
    )
    def test_several_take_the_model(self, tmp_path, save, ema):
        model = dict(small_model().state_dict())
        average = {k: v + 1 for k, v in model.items()}
        for content in (
            {"ema": ema(average), "model": model},
            {"state": {"model": model, "ema": ema(average)}},
        ):
            save(content, tmp_path / "c")
            loaded, (note,) = load_and_notes(tmp_path / "c")
            assert_same(loaded, model)
            assert re.search(r"'(state\.)?model'.*'(state\.)?ema", note)
            entry = "ema" if "ema" in content else "state.ema"
            assert_same(load_quietly(tmp_path / "c", entry=entry), average)
            assert [t.name for t in list_tensors(tmp_path / "c", entry=entry)] == list(model)

    def test_unknown_names_need_an_entry(self, tmp_path, save):
        state = dict(small_model().state_dict())
        save(
            {"student": {"model": state}, "teacher": {"model": state, "ema": state}}, tmp_path / "c"
        )
        message = refusal(tmp_path / "c")
        assert "'student', 'teacher.model', 'teacher.ema'" in message
        assert_same(load_quietly(tmp_path / "c", entry="student"), state)
        assert_same(load_quietly(tmp_path / "c", entry="teacher.ema"), state)
        assert "several entries match" in refusal(tmp_path / "c", entry="teacher")

    @pytest.mark.parametrize("entry", ["ema", "", "mode", "optimizer"])
    def test_no_such_entry(self, tmp_path, save, entry):
        model, optimizer = trained()
        save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")
        message = refusal(tmp_path / "c", entry=entry)
        assert "the entries are 'model'" in message and f"entry='{entry}'" in message

    @pytest.mark.parametrize("name", ALL_FORMATS)
    def test_bare_state_dict_has_no_entries(self, tmp_path, name):
        ALL_FORMATS[name]({"a": torch.ones(2)}, tmp_path / "c.npz")
        assert "leave `entry` out" in refusal(tmp_path / "c.npz", entry="model")

    def test_extra_state_and_other_values(self, tmp_path, save):
        content = {"a": torch.ones(2), "b._extra_state": {"x": torch.ones(3)}, "n": 3, "o": None}
        save(content, tmp_path / "c")
        state, (note,) = load_and_notes(tmp_path / "c")
        assert_same(state, {"a": torch.ones(2)})
        assert "'b._extra_state' (extra state)" in note

    @pytest.mark.parametrize("number", [0.5, 3, True, np.float32(0.5), np.int64(3)])
    def test_numbers_where_tensors_belong(self, tmp_path, save, number):
        state = {"a.0.weight": torch.ones(2), "a.0.scale": number, "a.1.scale": number, "lr": 0.1}
        save(state, tmp_path / "c")
        state, (note,) = load_and_notes(tmp_path / "c")
        assert list(state) == ["a.0.weight"] and note.endswith("were left: 'a.*.scale'")

    @pytest.mark.parametrize(
        ("beside", "other"),
        [
            ({"normalization": {"mean": torch.ones(3), "std": torch.ones(3)}}, "'normalization'"),
            ({"ema": dict(small_model().state_dict())}, "'ema'"),
            ({"params": {"lr": torch.ones(2)}, "n": torch.ones(4)}, "'params'"),
        ],
    )
    def test_flat_weights_with_dicts_beside_them(self, tmp_path, save, beside, other):
        state = dict(small_model().state_dict())
        save({**state, **beside}, tmp_path / "c")
        flat = {k: v for k, v in {**state, **beside}.items() if isinstance(v, torch.Tensor)}
        loaded, (note,) = load_and_notes(tmp_path / "c")
        assert_same(loaded, flat)
        assert f"took the model's, '.'; `entry` takes another: {other}" in note
        inner = next(iter(beside.values()))
        assert_same(load_quietly(tmp_path / "c", entry=other.strip("'")), inner)
        assert_same(load_quietly(tmp_path / "c", entry="."), flat)

    def test_weights_without_dots_with_an_average_beside_them(self, tmp_path, save):
        """One Linear: its keys look like those of any two tensors."""
        state = dict(torch.nn.Linear(3, 4).state_dict())
        save({**state, "ema": {k: v + 1 for k, v in state.items()}}, tmp_path / "c")
        loaded, (note,) = load_and_notes(tmp_path / "c")
        assert_same(loaded, state)
        assert "'ema'" in note

    def test_a_tensor_beside_the_model(self, tmp_path, save):
        state = dict(small_model().state_dict())
        save({"model": state, "anchors": torch.ones(9, 2)}, tmp_path / "c")
        loaded, (note,) = load_and_notes(tmp_path / "c")
        assert_same(loaded, state)
        assert "took the model's, 'model'; `entry` takes another: '.'" in note


class Config(dict):
    """Hyper-parameters as OmegaConf has them: a mapping with attributes."""

    def __init__(self, **values):
        super().__init__(values)
        self.__dict__["frozen"] = True


@dataclasses.dataclass
class Arguments:
    lr: float
    anchors: torch.Tensor


class Labelled(torch.Tensor):
    pass


class Kind(enum.Enum):
    A = 1


class History:
    """As mmengine's buffers in its message hub."""

    def __init__(self):
        self.values = np.arange(3.0)


class TestBeside:
    """What is not known and lies beside the weights: named, passed over, never executed."""

    BESIDE = {
        "callbacks by class": ({"callbacks": {History: {"best": torch.ones(2)}}}, ["History"]),
        "mapping": ({"hyper_parameters": Config(lr=0.1, sizes=Config(a=1))}, ["Config"]),
        "dataclass": ({"arguments": Arguments(0.1, torch.ones(3))}, ["Arguments"]),
        "message hub": ({"message_hub": {"loss": History()}}, ["History"]),
        "class as a value": ({"optimizer_type": torch.optim.Adam}, ["torch.optim.adam.Adam"]),
        "enum": ({"kind": Kind.A}, ["Kind"]),
        "function": ({"act": torch.nn.functional.gelu}, ["gelu"]),
        "partial": ({"make": functools.partial(torch.nn.Linear, 3)}, ["partial", "Linear"]),
        "array of objects": ({"names": np.array([Kind.A, None])}, ["Kind"]),
        "records": ({"table": np.zeros(2, [("a", "f4")])}, []),
        "subclass of a tensor": ({"extra": {"a": torch.ones(2).as_subclass(Labelled)}}, []),
    }

    @pytest.mark.parametrize("beside", BESIDE)
    def test_named_and_passed_over(self, tmp_path, save, beside):
        content, names = self.BESIDE[beside]
        state = dict(small_model().state_dict())
        flat = {**content, **state} if beside != "records" else {"state_dict": state}
        for file in ({"state_dict": state, **content}, flat):
            save(file, tmp_path / "c")
            loaded, notes = load_and_notes(tmp_path / "c")
            assert_same(loaded, state)
            assert all(name in " ".join(notes) for name in names)
            assert not names or "passed over and not executed" in notes[-1]

    @pytest.mark.parametrize(
        ("beside", "place"),
        [
            ("callbacks by class", "keys that are no text"),
            ("dataclass", "'arguments' (inside 'test_checkpoint.Arguments')"),
            ("message hub", "'message_hub.loss' (inside 'test_checkpoint.History')"),
            ("records", "'table' (no weight of the model)"),
        ],
    )
    def test_tensors_in_them_are_named(self, tmp_path, save, beside, place):
        content, _ = self.BESIDE[beside]
        save({"state_dict": dict(small_model().state_dict()), **content}, tmp_path / "c")
        _, notes = load_and_notes(tmp_path / "c")
        assert place in notes[0]

    @pytest.mark.parametrize(
        ("weight", "word"),
        [
            (lambda: History(), "History"),
            (lambda: torch.ones(2).as_subclass(Labelled), "Labelled"),
            (lambda: torch.nn.Parameter(torch.ones(2).as_subclass(Labelled)), "Labelled"),
        ],
    )
    def test_refused_where_a_weight_belongs(self, tmp_path, save, weight, word):
        save({"a.weight": torch.ones(2), "b.weight": weight()}, tmp_path / "c")
        message = refusal(tmp_path / "c")
        assert word in message and "'b.weight'" in message and "executed" in message

    def test_quantised_layers(self, tmp_path, save):
        """quantize_dynamic keeps weight and bias of a Linear in a tuple."""
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Linear(4, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
            save(quantised.state_dict(), tmp_path / "c")
        state, (note,) = load_and_notes(tmp_path / "c")
        assert "0.weight" in state and "1.weight" not in state
        assert "'1._packed_params._packed_params' (in a tuple, as in quantised layers, 2" in note

    def test_every_tensor_is_handed_over_or_named(self, tmp_path, save):
        """Whatever the nesting: as many are told as there are."""
        model, optimizer = trained()
        content = {
            "model": model.state_dict(),
            "lists": [torch.ones(1), {"deep": [[{"a": {"b": {"c": torch.ones(2)}}}]]}],
            3: torch.ones(3),
            (1, 2): torch.ones(4),
            "storage": torch.ones(5).untyped_storage(),
            "optimizer": optimizer.state_dict(),
            "sparse": torch.eye(3).to_sparse(),
        }
        save(content, tmp_path / "c")
        _, (note,) = load_and_notes(tmp_path / "c")
        for place in ("'lists.0'", "'lists.1.deep.0.0.a.b.c'", "'3'", "no text, and attributes"):
            assert place in note
        for place in ("'storage' (a storage)", "state of an optimizer, 12 tensors", "'sparse'"):
            assert place in note

    def test_many_of_them_make_one_short_line(self, tmp_path, save):
        state = dict(small_model().state_dict())
        layers = {f"layers.{i}.mask": [torch.ones(1)] for i in range(300)}
        others = {f"x{i}": [torch.ones(1)] for i in range(300)}
        save({"model": state, **layers, **others}, tmp_path / "c")
        _, (note,) = load_and_notes(tmp_path / "c")
        assert "'layers.*.mask.*' (no weight of the model, 300 tensors)" in note
        assert "and 241 more" in note and len(note) < 5000


class TestPrefixes:
    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            (["module.a.w", "module.b.w"], ["a.w", "b.w"]),
            (["_orig_mod.a.w", "_orig_mod.b.w"], ["a.w", "b.w"]),
            (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"]),
            (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
            (["module.module.a", "module.module.b"], ["a", "b"]),
            (["module._orig_mod.module.a", "module._orig_mod.module.b"], ["a", "b"]),
            # torch.compile of a part, under DataParallel
            (["module.body._orig_mod.0.w", "module.head.w"], ["body.0.w", "head.w"]),
            # a model's own `module`
            (["module.a", "head.b"], ["module.a", "head.b"]),
            (["features.module.0.w", "features.module.1.w"], None),
            (["model.a", "model.b"], None),
            (["d0_ulsam.subspaces.0.conv_dws.weight"], None),
            (["modules.a", "modules.b"], None),
            (["module"], None),
            # fully sharded, and activation checkpoints, anywhere
            (["_fsdp_wrapped_module.a", "_fsdp_wrapped_module.b._fsdp_wrapped_module.c"], None),
            (["a._checkpoint_wrapped_module.w", "b._checkpoint_wrapped_module.0.w"], None),
        ],
    )
    def test_stripped(self, tmp_path, save, keys, expected):
        save({key: torch.full((2,), float(i)) for i, key in enumerate(keys)}, tmp_path / "c")
        if expected is None:
            expected = [re.sub(r"_(fsdp|checkpoint)_wrapped_module\.", "", key) for key in keys]
        assert list(load_quietly(tmp_path / "c")) == expected

    def test_real_wrappers(self, tmp_path, save):
        model = small_model()
        for wrapped in (
            torch.nn.DataParallel(model),
            torch.compile(model),
            torch.compile(torch.nn.DataParallel(model)),
            torch.nn.DataParallel(torch.compile(model)),
        ):
            save(wrapped.state_dict(), tmp_path / "c")
            assert_same(load_quietly(tmp_path / "c"), dict(model.state_dict()))
        save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "c")
        state, (note,) = load_and_notes(tmp_path / "c")
        assert_same(state, dict(model.state_dict()))
        assert "'n_averaged'" in note

    def test_activation_checkpoints(self, tmp_path, save):
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

        model = small_model()
        expected = dict(model.state_dict())
        model[0] = checkpoint_wrapper(model[0])
        keys = {f"_fsdp_wrapped_module.{k}" for k, _ in model.named_parameters()}
        assert any("_checkpoint_wrapped_module" in key for key in keys)
        state = dict(model.named_parameters()) | dict(model.named_buffers())
        save({f"_fsdp_wrapped_module.{k}": v for k, v in state.items()}, tmp_path / "c")
        assert_same(load_quietly(tmp_path / "c"), expected)

    def test_collision(self, tmp_path, save):
        save({"a._orig_mod.w": torch.ones(1), "a.w": torch.ones(1)}, tmp_path / "c")
        assert "'a._orig_mod.w'" in refusal(tmp_path / "c") or "'a.w'" in refusal(tmp_path / "c")


def sparse():
    return torch.eye(3).to_sparse()


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


class TestUnsupportedTensors:
    @pytest.mark.parametrize(
        ("make", "word"),
        [
            (sparse, "sparse"),
            (quantized, "quantized"),
            (lambda: torch.ones(2, device="meta"), "meta"),
            (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conj"),
            (lambda: torch.zeros(2, dtype=torch.complex32), "complex32"),
        ],
    )
    def test_named_with_their_key(self, tmp_path, save, make, word):
        save({"fine": torch.ones(2), "block.weight": make()}, tmp_path / "c")
        message = refusal(tmp_path / "c")
        assert word in message and "'block.weight'" in message

    def test_harmless_outside_the_model(self, tmp_path, save):
        save({"model": {"a": torch.ones(2)}, "optimizer": {"x": sparse()}}, tmp_path / "c")
        state, (note,) = load_and_notes(tmp_path / "c")
        assert_same(state, {"a": torch.ones(2)})
        assert "'optimizer' (bookkeeping of the training)" in note

    def test_bfloat16_npz(self, tmp_path):
        np.savez(tmp_path / "c", w=np.ones(2, ml_dtypes.bfloat16))
        assert "V2" in refusal(tmp_path / "c.npz") and "safetensors" in refusal(tmp_path / "c.npz")

    def test_objects_in_npz(self, tmp_path):
        np.savez(tmp_path / "c", w=np.array([{}, None]))
        assert "|O" in refusal(tmp_path / "c.npz")


def tar_of(*names):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return stream.getvalue()


def zip_with(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            # Without the time of day, as the content is in the name of the test.
            archive.writestr(zipfile.ZipInfo(name), b"x")
    return stream.getvalue()


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "empty"),
            (b"epoch,loss\n1,0.5\n", "text file that begins 'epoch,loss"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
            (b"\n<!DOCTYPE html>\n<html>", "HTML page"),
            (b"<html><body>404", "HTML page"),
            (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
            (b"\x1f\x8b\x08" + bytes(99), "gzip"),
            (b"\x93NUMPY\x01\x00", "numpy.savez"),
            (b"\x1c\x00\x00\x00TFL3" + bytes(99), "TFLite"),
            (bytes(1000), "zeros"),
            (b"\x07\xff\x00\x13" * 9, "07 ff 00 13"),
            (tar_of("sys_info", "pickle", "tensors"), "before 0.1.10"),
            (tar_of("model.pth"), "tar archive (first member 'model.pth')"),
            (zip_with("config.json", "model.weights.h5", "metadata.json"), "Keras"),
            (zip_with("readme.md"), "members ('readme.md')"),
            (zip_with(), "members ()"),
            (zip_with("m/data.pkl", "m/constants.pkl", "m/code/m.py"), "torch.jit.load"),
            (pickle.dumps({"a": 1}), "plain pickle"),
            (LEGACY_START[:20], "damaged pickle"),
        ],
    )
    def test_said_what_it_is(self, tmp_path, content, words):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        assert words in refusal(path)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({}, "an empty dict"),
            ({"epoch": 3}, "a dict with keys ('epoch')"),
            ({0: torch.ones(2)}, "no tensors"),
            ([torch.ones(2)], "a list"),
            (torch.ones(2), "single tensor"),
            (argparse.Namespace(a=3), "an object of 'argparse.Namespace'"),
            (3, "Received: a int"),
        ],
    )
    def test_no_state_dict(self, tmp_path, save, content, words):
        save(content, tmp_path / "c")
        assert words in refusal(tmp_path / "c")

    def test_torchscript(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(small_model()).save(tmp_path / "c")
        assert "torch.jit.load" in refusal(tmp_path / "c")

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "no.pth"))):
            load_checkpoint(tmp_path / "no.pth")

    def test_directory(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="name the file inside it"):
            load_checkpoint(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a POSIX notion")
    def test_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="Not a regular file"):
            load_checkpoint(tmp_path / "pipe")

    def test_permission(self, tmp_path):
        path = tmp_path / "c"
        path.write_bytes(b"x")
        path.chmod(0)
        if os.access(path, os.R_OK):  # root may read everything: drop that in a child
            code = (
                "import os, sys\n"
                "from converters.checkpoint import load_checkpoint\n"
                "os.setgid(65534); os.setuid(65534)\n"
                "try: load_checkpoint(sys.argv[1])\n"
                "except PermissionError as error: print(error)"
            )
            for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
                folder.chmod(0o755)
            child = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True
            )
            assert "Permission denied" in child.stdout, child.stderr
        else:
            with pytest.raises(PermissionError):
                load_checkpoint(path)


class TestWithoutPyTorch:
    BLOCK = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'tensorflow', 'keras'}:\n"
        "            raise ImportError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
    )

    def test_subprocess(self, tmp_path):
        expected = {"a": torch.randn(3).bfloat16(), "b": torch.arange(4)}
        for name in ("zip", "legacy", "safetensors"):
            ALL_FORMATS[name](expected, tmp_path / name)
        code = self.BLOCK + (
            "from converters import load_checkpoint\n"
            "for path in sys.argv[1:]:\n"
            "    state = load_checkpoint(path)\n"
            "    print(state['a'].tobytes().hex(), state['b'].tobytes().hex())\n"
            "try: import torch\n"
            "except ImportError as error: print(error)\n"
        )
        child = subprocess.run(
            [sys.executable, "-c", code, *(str(tmp_path / n) for n in ALL_FORMATS if n[0] != "n")],
            capture_output=True,
            text=True,
            check=True,
        )
        line = f"{torch_bits(expected['a']).hex()} {bits(expected['b'].numpy()).hex()}"
        assert child.stdout.splitlines() == [line] * 3 + ["torch is blocked"]
