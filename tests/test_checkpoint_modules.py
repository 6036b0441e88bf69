"""Whole pickled modules as checkpoints: what PyTorch's own `state_dict()` gives, as data."""

import functools
import pickle
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import weight_norm  # the old one, which has a hook instead of a class

from checkpoint_files import TORCH_FORMATS, zip_of
from converters import list_tensors, load_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.nn.utils.weight_norm` is deprecated",
    "ignore:Couldn't retrieve source code",
)


# Of a weight that was multiplied by its length: two roundings of its type.
NORM = {torch.float32: 3e-7, torch.float16: 2e-3}


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.act = torch.nn.functional.gelu
        self.pick = {1, 2}
        self.make = functools.partial(nn.BatchNorm2d, eps=1e-3)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x))) + x


class Net(nn.Module):
    """Tied weights, buffers that are not persistent, a parameter of its own, a block used twice."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3))
        self.register_parameter("absent", None)
        self.register_buffer("anchors", torch.arange(4.0))
        self.register_buffer("grid", torch.arange(6.0), persistent=False)
        self.blocks = nn.Sequential(Block(3), Block(3))
        self.again = self.blocks[0]
        self.head = nn.Linear(3, 5)
        self.tied = nn.Linear(3, 5, bias=False)
        self.tied.weight = self.head.weight
        self.normed = weight_norm(nn.Conv1d(2, 4, 1))
        self.register_buffer("late", torch.zeros(2, dtype=torch.int64))


def gone():
    """A module of a class that cannot be imported when the file is read."""
    module = types.ModuleType("gone_away")
    source = "class Gone(base):\n    pass\n"
    exec(source, vars(module) | {"base": Net, "__name__": "gone_away"}, vars(module))
    sys.modules["gone_away"] = module
    return module.Gone()


def expected(module):
    """Its state dict, with the norm of `normed` folded, which PyTorch computed when it was made."""
    state = {key.removeprefix("module."): value for key, value in module.state_dict().items()}
    weight = getattr(module, "module", module).normed.weight
    found = {}
    for key, value in state.items():
        if key == "normed.weight_g":
            found["normed.weight"] = weight.to(value.dtype)
        elif key != "normed.weight_v":
            found[key] = value
    return found


def read(path, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = load_checkpoint(path, **kwargs)
    listed = [t.name for t in list_tensors_quietly(path, **kwargs)]
    assert listed == list(state)
    return state, [str(w.message) for w in caught]


def list_tensors_quietly(path, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list_tensors(path, **kwargs)


def assert_equal(state, wanted):
    assert list(state) == list(wanted)
    for key, tensor in wanted.items():
        near = np.testing.assert_allclose if key == "normed.weight" else None
        same = near and functools.partial(near, rtol=NORM[tensor.dtype])
        same = same or np.testing.assert_array_equal
        same(state[key], tensor.detach().numpy(), err_msg=key)
        assert state[key].dtype == tensor.detach().numpy().dtype


@pytest.mark.parametrize("save", TORCH_FORMATS.values(), ids=TORCH_FORMATS)
@pytest.mark.parametrize("make", [Net, lambda: nn.DataParallel(Net()), gone])
def test_as_state_dict(tmp_path, save, make):
    module = make()
    save(module, tmp_path / "m.pt")
    sys.modules.pop("gone_away", None)
    state, messages = read(tmp_path / "m.pt")
    assert_equal(state, expected(module))
    assert np.shares_memory(state["tied.weight"], state["head.weight"])
    whole, norm, left, names = messages
    assert "\n" not in whole and "export_program" in whole and "whole module" in whole
    assert "weight norm of 1 weight" in norm
    assert "grid' (an attribute or buffer that is not in its state dict)" in left
    assert "gelu" in names and ".Net'" not in names and "Conv2d" not in names


def test_weights_in_a_checkpoint_of_yolo(tmp_path):
    model, ema = Net().half(), Net().half()
    file = {"epoch": -1, "model": model, "ema": ema, "updates": 7, "train_args": {"imgsz": 640}}
    torch.save(file, tmp_path / "yolo.pt")
    state, messages = read(tmp_path / "yolo.pt")
    assert_equal(state, expected(model))
    assert state["scale"].dtype == np.float16
    assert any("'ema'" in message for message in messages)
    state, messages = read(tmp_path / "yolo.pt", entry="ema")
    assert_equal(state, expected(ema))
    assert not any("several" in message for message in messages)
    torch.save({"model": None, "ema": ema}, tmp_path / "stripped.pt")
    assert_equal(read(tmp_path / "stripped.pt")[0], expected(ema))


def test_state_dict_beside_a_module(tmp_path):
    module = Net()
    torch.save({"state_dict": module.state_dict(), "teacher": Net()}, tmp_path / "c.pt")
    state, _ = read(tmp_path / "c.pt")
    assert_equal(state, expected(module))


class Named:
    """Pickles as a plain object of any class, with a state."""

    def __init__(self, state):
        self.__dict__ = state


def module_of(**state):
    return Named({"_parameters": {}, "_buffers": {}, "_modules": {}, **state})


def nested(depth):
    """A pickle of modules inside modules, written by hand: no recursion limit on this side."""
    start = b"ctests.gone\nNet\n)\x81"
    inside = b"}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00a"
    return b"\x80\x02" + (start + inside) * depth + b"N" + b"sub" * depth + b"."


def cycle():
    module = module_of()
    module._modules["inner"] = module_of(_modules={"outer": module})
    return module


def shared(depth):
    module = module_of()
    for _ in range(depth):
        module = module_of(_modules={"a": module, "b": module})
    return module


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def evil():
    return module_of(attribute=Call(print, "executed"))


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (lambda: pickle.dumps(cycle(), 2), "inside themselves"),
        (lambda: pickle.dumps(shared(60), 2), "nested as in no network"),
        (lambda: nested(1000), "nested as in no network"),
        (lambda: nested(100_000), "more than a file of its size"),
        (lambda: pickle.dumps(evil(), 2), "builtins.print"),
        (lambda: pickle.dumps({"model": module_of(_parameters=[1])}, 2), "no tensors"),
        (lambda: pickle.dumps(module_of(_modules=7, _buffers="x"), 2), "no tensors"),
    ],
    ids=["cycle", "shared", "deep", "deeper", "call", "no dict", "no dicts"],
)
def test_hostile(tmp_path, capfd, pickled, words):
    (tmp_path / "m.pt").write_bytes(zip_of(pickled().replace(b"__builtin__", b"builtins")))
    with pytest.raises(ValueError, match=words) as caught:
        load_checkpoint(tmp_path / "m.pt")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    assert capfd.readouterr().out == ""


def test_subclass_of_a_tensor_inside_itself(tmp_path):
    start = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    depth = 10_000
    call = b"(" + start + b"ctorch\nTensor\n"
    pickled = b"\x80\x02" + start + call * depth + b"N" + b"Nt" * depth + b"R."
    (tmp_path / "m.pt").write_bytes(zip_of(pickled))
    with pytest.raises(ValueError, match="damaged") as caught:
        load_checkpoint(tmp_path / "m.pt")
    assert str(caught.value).isprintable()
