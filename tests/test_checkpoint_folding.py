"""Weight norm, spectral norm and pruning in a checkpoint: the weight that PyTorch computes."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from checkpoint_files import ALL_FORMATS, TORCH_FORMATS
from converters import list_tensors, load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")

RTOL = 1e-6  # of float32: two norms summed in another order, and one product

LAYERS = {
    "conv": lambda: nn.Conv2d(3, 6, 3),
    "grouped": lambda: nn.Conv2d(6, 6, 3, groups=3),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "conv1d": lambda: nn.Conv1d(3, 6, 5),
    "transposed": lambda: nn.ConvTranspose2d(3, 6, 3),
    "square transposed": lambda: nn.ConvTranspose2d(24, 24, 3),
    "linear": lambda: nn.Linear(7, 5),
    "square": lambda: nn.Linear(24, 24),
    "embedding": lambda: nn.Embedding(9, 4),
    "one output": lambda: nn.Linear(7, 1),
}
old_weight_norm, old_spectral_norm = nn.utils.weight_norm, nn.utils.spectral_norm
WAYS = {
    "weight norm": parametrizations.weight_norm,
    "weight norm 1": lambda m: parametrizations.weight_norm(m, dim=1),
    "weight norm of all": lambda m: parametrizations.weight_norm(m, dim=None),
    "old weight norm": old_weight_norm,
    "old weight norm 1": lambda m: old_weight_norm(m, dim=1),
    "old weight norm of all": lambda m: old_weight_norm(m, dim=None),
    "spectral norm": parametrizations.spectral_norm,
    "old spectral norm": old_spectral_norm,
    "pruning": lambda m: prune.l1_unstructured(m, "weight", 0.4),
    "structured pruning": lambda m: prune.ln_structured(m, "weight", 0.4, n=2, dim=0),
}


def trained(module):
    """After some steps, so that no part is what it was made of; in inference mode."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for _ in range(3):
        module.train()
        for part in module:
            part(example(part)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    module.eval()
    for part in module:
        part(example(part))  # the old forms compute their weight in a call
    return module


def example(layer):
    if isinstance(layer, nn.Embedding):
        return torch.arange(layer.num_embeddings)
    if isinstance(layer, nn.Linear):
        return torch.randn(4, layer.in_features)
    return torch.randn(2, layer.in_channels, *[9] * len(layer.kernel_size))


def read(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = load_checkpoint(path)
        listed = list_tensors(path)
    assert [(t.name, t.shape) for t in listed] == [(k, v.shape) for k, v in state.items()]
    return state, [str(w.message) for w in caught[: len(caught) // 2]]


@pytest.mark.parametrize("way", WAYS)
def test_as_pytorch_computes_it(tmp_path, way):
    torch.manual_seed(0)
    model = trained(nn.Sequential(*(WAYS[way](make()) for make in LAYERS.values())))
    torch.save(model.state_dict(), tmp_path / "c.pth")
    state, (message,) = read(tmp_path / "c.pth")
    assert f"{len(LAYERS)} weights apart, which was folded" in message
    plain = [name for name, _ in nn.Sequential(*(m() for m in LAYERS.values())).named_parameters()]
    assert sorted(state) == sorted(plain)
    for index, kind in enumerate(LAYERS):
        weight = model[index].weight.detach().numpy()
        np.testing.assert_allclose(
            state[f"{index}.weight"], weight, rtol=RTOL, atol=RTOL * abs(weight).max(), err_msg=kind
        )


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_in_every_format(tmp_path, name):
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Linear(2, 3))
    prune.random_unstructured(model[1], "weight", 0.5)
    ALL_FORMATS[name](dict(model.state_dict()), tmp_path / "c.npz")
    state, (message,) = read(tmp_path / "c.npz")
    assert "weight norm of 1 weight and pruning of 1 weight" in message
    for index in (0, 1):
        expected = model[index].weight.detach().numpy()
        np.testing.assert_allclose(state[f"{index}.weight"], expected, rtol=RTOL)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(tmp_path, dtype):
    torch.manual_seed(0)
    layer = old_weight_norm(nn.Conv2d(3, 4, 3).to(dtype))
    torch.save(layer.state_dict(), tmp_path / "c.pth")
    state, _ = read(tmp_path / "c.pth")
    assert f"torch.{state['weight'].dtype.name}" == str(dtype)
    expected = layer.weight.detach().double().numpy()
    # Two roundings: of the length over the norm, and of the product.
    rtol = 2 * torch.finfo(dtype).eps
    np.testing.assert_allclose(state["weight"].astype(float), expected, rtol=rtol)


@pytest.mark.parametrize("save", TORCH_FORMATS.values(), ids=TORCH_FORMATS)
def test_parts_that_are_shared(tmp_path, save):
    """Two layers of one direction, a view of it, and other names than `weight`."""
    torch.manual_seed(0)
    first, second = (old_weight_norm(nn.Linear(4, 3)) for _ in range(2))
    second.weight_v = first.weight_v
    lstm = nn.LSTM(3, 4)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        old_weight_norm(lstm, name)
    state = nn.ModuleList([first, second, lstm]).state_dict()
    state["view"] = state["0.weight_v"][1:]
    with torch.no_grad():
        state["1.weight_g"] = state["1.weight_g"] * 3
    expected = {
        "0.weight": torch._weight_norm(first.weight_v, state["0.weight_g"], 0),
        "1.weight": torch._weight_norm(first.weight_v, state["1.weight_g"], 0),
        "2.weight_hh_l0": lstm.weight_hh_l0,
        "view": state["view"].clone(),
    }
    save(state, tmp_path / "c")
    loaded, _ = read(tmp_path / "c")
    for key, tensor in expected.items():
        np.testing.assert_allclose(loaded[key], tensor.detach().numpy(), rtol=RTOL, err_msg=key)


def test_a_large_kernel_of_one_pixel(tmp_path):
    """More elements than the longest row may have, in rows that are short."""
    layers = [way(nn.Conv2d(1024, 1536, 1)) for way in (old_weight_norm, old_spectral_norm)]
    torch.save(nn.Sequential(*layers).state_dict(), tmp_path / "c.pth")
    names = [t.name for t in list_tensors(tmp_path / "c.pth")]
    assert sorted(names) == ["0.bias", "0.weight", "1.bias", "1.weight"]


def test_position_and_order(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), parametrizations.weight_norm(nn.Linear(3, 2)))
    torch.save(model.state_dict(), tmp_path / "c.pth")
    assert list(read(tmp_path / "c.pth")[0]) == ["0.weight", "0.bias", "1.bias", "1.weight"]


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def parametrized():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Halved())
    return layer.state_dict()


def vector():
    """A vector's spectral norm keeps no vectors: only code tells it from any parametrization."""
    module = nn.Module()
    module.scale = nn.Parameter(torch.randn(5))
    return parametrizations.spectral_norm(module, "scale").state_dict()


@pytest.mark.parametrize("make", [parametrized, vector])
def test_what_keys_do_not_tell(tmp_path, make):
    state = make()
    torch.save(state, tmp_path / "c.pth")
    loaded, (message,) = read(tmp_path / "c.pth")
    assert list(loaded) == list(state)
    assert "remove_parametrizations" in message


def test_axis_that_cannot_be_told(tmp_path):
    """A square weight whose vectors fit neither axis."""
    state = old_spectral_norm(nn.ConvTranspose2d(24, 24, 1)).state_dict()
    state["weight_u"] = nn.functional.normalize(torch.ones(24), dim=0)
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"cannot be told.*'weight'") as caught:
        load_checkpoint(tmp_path / "c.pth")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "state",
    [
        {"a_g": torch.ones(4), "a_v": torch.ones(4)},
        {"a_g": torch.ones(4, 4), "a_v": torch.ones(4, 4)},
        {"a_g": torch.ones(4, 1), "a_v": torch.ones(4, 4), "a": torch.ones(4, 4)},
        {"a_orig": torch.ones(4), "a_mask": torch.ones(3)},
        {"a_orig": torch.ones(4, 2), "a_u": torch.ones(4)},
        {"a_g": torch.ones(()), "w_v": torch.ones(4, 4)},
    ],
)
def test_names_of_ones_own(tmp_path, state):
    torch.save(state, tmp_path / "c.pth")
    loaded, messages = read(tmp_path / "c.pth")
    assert list(loaded) == list(state) and messages == []


def test_copies_are_left_alone(tmp_path):
    """The parts are in the file as they were: reading twice gives the same."""
    model = trained(nn.Sequential(old_weight_norm(nn.Linear(4, 3))))
    whole = copy.deepcopy(model[0].weight.detach())
    torch.save(model.state_dict(), tmp_path / "c.pth")
    for _ in range(2):
        np.testing.assert_allclose(read(tmp_path / "c.pth")[0]["0.weight"], whole, rtol=RTOL)
