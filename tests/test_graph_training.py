"""Training goes on as in PyTorch: what trains, by how much, and what does not."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, as everywhere

import converters
from converters.tflite.flatbuffer import read_graphs
from graph_tools import LIMIT, answers, convert, random_inputs, randomized

IMAGE = (1, 3, 8, 8)
# Of the largest change: float32 gradients, summed in another order.
CHANGE_LIMIT = 1e-4


class Scales(nn.Module):
    """Scales of channels in every shape, a map of positions, a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.a, self.b = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(6, 1, 1))
        self.c, self.where = nn.Parameter(torch.rand(1, 6, 1, 1)), nn.Parameter(torch.rand(6, 8, 8))
        self.power, self.temperature = nn.Parameter(torch.rand(1)), nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        y = (self.conv(x).permute(0, 2, 3, 1) * self.a).permute(0, 3, 1, 2)
        y = y * self.b + self.where - self.c
        y = F.avg_pool2d(y.clamp(min=0.1).pow(self.power + 2), 2).pow(1 / (self.power + 2))
        return y / self.temperature.clamp(max=4.0).exp()


class Attention(nn.Module):
    """Window attention, its table of relative positions, positions computed by a network."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.positions = nn.Parameter(torch.rand(1, 17, 8))
        self.table = nn.Parameter(torch.rand(40, 2))
        self.register_buffer("index", torch.randint(0, 40, (17, 17)))
        self.register_buffer("coordinates", torch.rand(17 * 17, 2))
        self.register_buffer("mix", torch.rand(8, 8))
        self.bias = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))
        self.embed, self.qkv = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 24)
        self.query, self.key = nn.Embedding(5, 8), nn.Linear(8, 8)
        self.free = nn.Parameter(torch.rand(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x @ self.mix
        q, k, v = self.qkv(x).reshape(x.shape[0], 17, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(17, 17, 2).permute(2, 0, 1).contiguous()
        bias = bias + 4 * torch.sigmoid(
            self.bias(self.coordinates).view(17, 17, 2).permute(2, 0, 1)
        )
        x = ((q * 0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1) @ v
        x = x.transpose(1, 2).reshape(x.shape[0], 17, 8)
        return self.key(self.query.weight) @ (x @ self.free).transpose(1, 2)


class Fused(nn.Module):
    """Maps summed with weights, a shift that is used twice, weights that are left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(3))
        self.shift = nn.Parameter(torch.rand(1, 4, 1, 1))
        self.fixed = nn.Parameter(torch.rand(4, 1, 1), requires_grad=False)
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.b.weight.requires_grad_(False)
        self.b.bias.requires_grad_(False)
        self.register_buffer("blur", torch.rand(4, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        w = F.relu(self.weights)
        w = w / (w.sum() + 1e-4)
        a, b = self.a(x) + self.shift, self.b(x) * self.fixed
        a = F.conv2d(a, self.blur, padding=1, groups=4)
        return w[0] * a + w[1] * b + w[2] * (a * b) - self.shift.flatten(1)[:, :, None, None]


CASES: dict[str, Any] = {"scales": Scales, "attention": Attention, "fused": Fused}
FIXED = {"attention": {"index", "coordinates", "mix"}, "fused": {"fixed", "blur", "b"}}


@pytest.mark.parametrize("name", CASES)
def test_a_step_changes_what_pytorchs_changes_by_as_much(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = randomized(CASES[name]())
    x = random_inputs((4, *IMAGE[1:]), seed=3)
    model, report = convert(module, random_inputs(IMAGE), tmp_path)
    assert not report.warnings
    before = module(*x).detach().numpy()
    (given,), (end,) = report.inputs, report.outputs
    goal = np.random.default_rng(0).standard_normal(before.shape).astype("float32")

    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    F.mse_loss(module(*x), torch.from_numpy(goal)).backward()
    optimizer.step()
    after = module(*x).detach().numpy()

    start = {weight.path: np.array(weight) for weight in model.weights}
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    model.train_on_batch(x[0].numpy().transpose(given.order), goal.transpose(end.order))
    found = answers(model, report, x)[end.name]
    largest = np.abs(after - before).max()
    assert largest > 1e-2 * np.abs(before).max()
    assert np.abs(found - after).max() <= CHANGE_LIMIT * largest

    moved = {w.path for w in model.weights if not np.array_equal(start[w.path], np.array(w))}
    kept = FIXED.get(name, set())
    for record in report.weights:
        paths = (
            {path for path in start if path.endswith(record.weights)} if record.weights else set()
        )
        assert (record.key.partition(".")[0] in kept) == (not paths & moved), record.key


def test_stock_keras_loads_it_and_the_file_holds_no_trace(tmp_path: Path) -> None:
    module = randomized(Attention())
    model, report = convert(module, random_inputs(IMAGE), tmp_path)
    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    x = random_inputs((2, *IMAGE[1:]), seed=4)
    assert np.array_equal(*(answers(m, report, x)["output"] for m in (model, loaded)))
    assert {w.path for w in loaded.trainable_weights} == {w.path for w in model.trainable_weights}

    # The same with the parameters as buffers: constants, of which nothing is left to compute.
    held = Attention()
    for key, value in module.named_parameters(recurse=False):
        delattr(held, key)
        held.register_buffer(key, value.detach())
    (tmp_path / "held").mkdir()
    constant, _ = convert(held.eval(), random_inputs(IMAGE), tmp_path / "held")
    counts = [
        sorted(o.name for o in read_graphs(converters.to_tflite(m))[0].operators)
        for m in (model, constant)
    ]
    assert counts[0] == counts[1]


class Scaled(nn.Module):
    """A convolution whose channels are scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gamma = nn.Conv2d(3, 6, 3, padding=1), nn.Parameter(torch.rand(6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)) * self.gamma


@pytest.mark.slow
def test_quantization_takes_the_parameters_as_constants(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_model_optimization")
    from ulsam_keras import quantization

    model, _ = convert(randomized(Scaled()), random_inputs(IMAGE), tmp_path)
    x = random_inputs((2, *IMAGE[1:]))[0].numpy().transpose(0, 2, 3, 1)
    bridged = quantization.to_tf_keras(model)
    wanted = keras.ops.convert_to_numpy(model(x))
    assert np.abs(bridged(x).numpy() - wanted).max() <= LIMIT * np.abs(wanted).max()
    assert quantization.quantize_model(model).count_params() > model.count_params()
