"""Blocks as networks have them, of no library: in Keras and in the file they give PyTorch's values.

Channels, height and width are equal, so that no axis can be taken for another unseen.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, as everywhere

from graph_tools import Functions, compare, compare_file

C = 8
SHAPE = (1, C, C, C)


class Cbam(nn.Module):
    """Channel attention by both pools, spatial attention by both means."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(C, 2, 1), nn.ReLU(), nn.Conv2d(2, C, 1))
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pools = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.mlp(pools[0]) + self.mlp(pools[1]))
        both = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.conv(both))


class ChannelConvolution(nn.Module):
    """Efficient channel attention: a convolution over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2))
        return x * torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1)).expand_as(x)


class Coordinates(nn.Module):
    """Coordinate attention: rows and columns apart."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm = nn.Conv2d(C, 4, 1), nn.BatchNorm2d(4)
        self.rows, self.columns = nn.Conv2d(4, C, 1), nn.Conv2d(4, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        y = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], 2)
        rows, columns = torch.split(F.hardswish(self.norm(self.both(y))), [h, w], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


class Dual(nn.Module):
    """Attention over positions and over channels, each with a weight that starts at nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(C, 2, 1), nn.Conv2d(C, 2, 1), nn.Conv2d(C, C, 1)
        self.alpha, self.beta = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        a = torch.bmm(self.q(x).view(b, -1, h * w).permute(0, 2, 1), self.k(x).view(b, -1, h * w))
        y = torch.bmm(self.v(x).view(b, -1, h * w), a.softmax(-1).permute(0, 2, 1)).view(b, c, h, w)
        flat = x.view(b, c, -1)
        energy = torch.bmm(flat, flat.permute(0, 2, 1))
        energy = (energy.max(-1, keepdim=True)[0].expand_as(energy) - energy).softmax(-1)
        return self.alpha * y + self.beta * torch.bmm(energy, flat).view(b, c, h, w) + x


class Pyramid(nn.Module):
    """Pools of several sizes, resized and joined; atrous convolutions beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(C, 2, 1)) for n in (1, 2, 3)
        )
        self.wide = nn.Conv2d(C, 2, 3, padding=4, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        parts = [
            F.interpolate(s(x), size, mode="bilinear", align_corners=True) for s in self.stages
        ]
        return torch.cat([*parts, self.wide(x)], 1)


class Weighted(nn.Module):
    """A sum of maps with weights that are learned and sum to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.conv = (
            nn.Parameter(torch.ones(3)),
            nn.Conv2d(C, C, 3, padding=1, groups=C),
        )

    def forward(self, x: Tensor) -> Tensor:
        w = F.relu(self.weights)
        w = w / (w.sum(0) + 1e-4)
        up = F.interpolate(F.max_pool2d(x, 2), scale_factor=2)
        return self.conv(F.silu(w[0] * x + w[1] * up + w[2] * F.avg_pool2d(x, 3, 1, 1)))


class Response(nn.Module):
    """ConvNeXt V2's block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(C, C, 7, padding=3, groups=C), nn.LayerNorm(C)
        self.a, self.b = nn.Linear(C, 2 * C), nn.Linear(2 * C, C)
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, 1, 1, 2 * C)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.a(self.norm(self.conv(x).permute(0, 2, 3, 1))))
        g = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        y = self.gamma * (y * (g / (g.mean(-1, keepdim=True) + 1e-6))) + self.beta + y
        return x + self.b(y).permute(0, 3, 1, 2)


class Windows(nn.Module):
    """Attention within windows that are shifted, with a table of relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(49, 2))
        at = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        apart = (at[:, :, None] - at[:, None, :]) + 3
        self.register_buffer("index", apart[0] * 7 + apart[1])
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = torch.roll(x.permute(0, 2, 3, 1), (-2, -2), (1, 2))
        y = y.view(b, 2, 4, 2, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(16, 16, 2).permute(2, 0, 1).contiguous()
        a = (q @ k.transpose(-2, -1) * 0.5 + bias.unsqueeze(0)).softmax(-1)
        y = self.out((a @ v).transpose(1, 2).reshape(-1, 16, c))
        y = y.view(b, 2, 2, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2)


class Statistics(nn.Module):
    """Weights that are standardised, a mean of learned power, a norm that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.power = nn.Parameter(torch.randn(4, C, 3, 3)), nn.Parameter(torch.ones(1))
        self.gain, self.shift = nn.Parameter(torch.ones(1, 4, 1, 1)), nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        y = F.conv2d(x, w / (w.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5), padding=1)
        rows = self.weight.reshape(1, 4, -1)
        w = F.batch_norm(rows, None, None, self.gain.flatten() * 0.7, training=True).view_as(w)
        y = y + F.conv2d(x, w, padding=1)
        y = y * torch.rsqrt(y.pow(2).mean((2, 3), keepdim=True) + 1e-6) * self.gain
        y = torch.max(y + self.shift.view(1, -1, 1, 1), self.gain)
        p = self.power.abs() + 2
        return F.avg_pool2d(y.clamp(min=1e-3).pow(p), 2).pow(1.0 / p)


class Modulated(nn.Module):
    """A learned constant, modulated by the image, with noise that is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.conv = nn.Parameter(torch.randn(1, 4, C, C)), nn.Conv2d(4, C, 3, padding=1)
        self.style, self.strength = nn.Linear(C, C), nn.Parameter(torch.ones(1))
        self.register_buffer("noise", torch.randn(1, 1, C, C))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.start.repeat(x.shape[0], 1, 1, 1))
        y = y * self.style(x.mean((2, 3)))[:, :, None, None] + self.strength * self.noise
        return F.instance_norm(y) + x


class Experts(nn.Module):
    """The best two of four, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(C, 4)
        self.experts = nn.ModuleList(nn.Conv2d(C, C, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        scores, at = self.gate(x.mean((2, 3))).topk(2, 1)
        gates = torch.zeros(x.shape[0], 4).scatter(1, at, scores.softmax(1))
        return sum(gates[:, n, None, None, None] * e(x) for n, e in enumerate(self.experts))


class Queries(nn.Module):
    """Learned queries that attend to an image, and a recurrent layer over the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.where = nn.Embedding(5, C), nn.Parameter(torch.randn(C * C, 1, C))
        self.attend = nn.MultiheadAttention(C, 2)
        self.recur, self.out = nn.GRU(C, 4, batch_first=True, bidirectional=True), nn.Linear(C, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2).permute(2, 0, 1) + self.where
        q = self.query.weight.unsqueeze(1).repeat(1, x.shape[0], 1)
        y = self.attend(q, y, y, need_weights=False)[0].transpose(0, 1)
        return self.out(self.recur(y)[0])


class Rotary(nn.Module):
    """Attention whose biases are joined of two parameters and zeros, with positions that turn."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * C, C) / 3)
        self.q, self.v = nn.Parameter(torch.randn(C)), nn.Parameter(torch.randn(C))
        angles = torch.arange(C * C)[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
        self.register_buffer("none", torch.zeros(C))
        self.register_buffer("sines", angles.sin().repeat_interleave(2, -1))
        self.register_buffer("cosines", angles.cos().repeat_interleave(2, -1))

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q, self.none, self.v])
        qkv = F.linear(x.flatten(2).transpose(1, 2), self.weight, bias)
        q, k, v = qkv.unflatten(-1, (3, C)).unbind(2)
        table = torch.cat([self.sines, self.cosines], -1)
        q, k = self.turned(q, table), self.turned(k, table)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)

    @staticmethod
    def turned(x: Tensor, table: Tensor) -> Tensor:
        sines, cosines = table.tensor_split(2, -1)
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * cosines + turned * sines


class Neighbours(nn.Module):
    """A convolution over the nearest of each point, rows of all samples being looked up as one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * C, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        points = x.flatten(2).transpose(1, 2)
        at = torch.cdist(points, points).topk(3, largest=False)[1]
        at = (at + torch.arange(n).view(-1, 1, 1) * (h * w)).view(-1)
        near = points.reshape(n * h * w, c)[at].view(n, h * w, 3, c)
        own = points.unsqueeze(2).expand_as(near)
        return self.conv(torch.cat([near - own, own], 3).permute(0, 3, 1, 2)).amax(3)


class Kernels(nn.Module):
    """A mixture of kernels for each sample, the samples as groups of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(C, 3)
        self.kernels, self.biases = nn.Parameter(torch.randn(3, 4 * C * 9)), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        shares = self.gate(x.mean((2, 3))).softmax(1)
        kernels = (shares @ self.kernels).view(n * 4, c, 3, 3)
        bias = self.biases(shares).view(-1)
        y = F.conv2d(x.reshape(1, n * c, h, w), kernels, bias, padding=1, groups=n)
        return y.view(n, 4, h, w)


class Channels(nn.Module):
    """Attention within each channel, as samples of their own, over patches of a series."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.attend = nn.Linear(8, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x.flatten(2), (0, 4), mode="replicate").unfold(-1, 8, 4)
        n, c, length, size = y.shape
        y = self.patch(y.reshape(n * c, length, size))
        return self.attend(y, y, y, need_weights=False)[0].reshape(n, c, -1)


class Codes(nn.Module):
    """The nearest code of each pixel, by a matrix of ones that is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(6, C)

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1)
        rows, table = y.reshape(-1, C), self.codes.weight
        apart = rows.pow(2).sum(1, keepdim=True) + table.pow(2).sum(1) - 2 * rows @ table.t()
        at = apart.argmin(1).unsqueeze(1)
        ones = torch.zeros(at.shape[0], 6).scatter_(1, at, 1)
        return (y + ((ones @ table).view(y.shape) - y).detach()).permute(0, 3, 1, 2)


def focused(x: Tensor) -> Tensor:
    """Pixels become channels; a wavelet transform of them, and back."""
    a, b = x[:, :, ::2, ::2] / 2, x[:, :, 1::2, 1::2] / 2
    y = torch.zeros_like(x)
    y[:, :, ::2, 1::2], y[:, :, 1::2, ::2] = a + b, a - b
    return torch.cat([F.pixel_unshuffle(x, 2), F.pixel_unshuffle(y, 2)], 1)


def simple(x: Tensor) -> Tensor:
    """SimAM."""
    n = x.shape[2] * x.shape[3] - 1
    d = (x - x.mean((2, 3), keepdim=True)).pow(2)
    return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / n + 1e-4)) + 0.5)


def flowed(x: Tensor) -> Tensor:
    """Sampled where a flow says."""
    h, w = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    at = torch.stack((columns, rows), 2) + x[:, :2].permute(0, 2, 3, 1)
    at = 2 * at / (torch.tensor([w, h]) - 1) - 1
    return F.grid_sample(x, at, padding_mode="border", align_corners=True)


def correlated(x: Tensor) -> Tensor:
    """A map for every row, each read at constant coordinates of its own."""
    at = torch.linspace(-1, 1, C)[:, None, None, None] * torch.linspace(0.2, 1, 6).view(3, 1, 2)
    maps = x.transpose(1, 2).reshape(-1, 1, C, C)
    grid = at.expand(C, 3, 5, 2).repeat(x.shape[0], 1, 1, 1)
    return F.grid_sample(maps, grid, align_corners=True).view(x.shape[0], C, 3, 5)


def relative(x: Tensor) -> Tensor:
    """Scores of relative positions become those of absolute ones, by joining zeros."""
    n, table = x.shape[0], torch.arange(4 * (2 * C - 1.0)).view(-1, 4) / 99
    y = x.view(n, 2, 4, C * C).transpose(2, 3).reshape(n, 2, C, C, 4)
    y = torch.einsum("nhxyd,rd->nhxyr", y, table).reshape(n, 2 * C, C, -1)
    y = torch.cat((y, torch.zeros(n, 2 * C, C, 1)), 3).flatten(2)
    y = torch.cat((y, torch.zeros(n, 2 * C, C - 1)), 2)
    return y.reshape(n, 2 * C, C + 1, 2 * C - 1)[:, :, :C, C - 1 :]


BLOCKS = {
    "cbam": Cbam(),
    "channel_convolution": ChannelConvolution(),
    "coordinates": Coordinates(),
    "dual": Dual(),
    "pyramid": Pyramid(),
    "weighted": Weighted(),
    "response": Response(),
    "windows": Windows(),
    "statistics": Statistics(),
    "modulated": Modulated(),
    "experts": Experts(),
    "queries": Queries(),
    "rotary": Rotary(),
    "neighbours": Neighbours(),
    "focused": focused,
    "relative": relative,
    "simple": simple,
    "flowed": flowed,
    "correlated": correlated,
}


def test_blocks(tmp_path: Path) -> None:
    module = Functions(BLOCKS)
    batch = ({0: torch.export.Dim("batch")},)
    two = (2, *SHAPE[1:])
    # As many samples as channels: a value for each sample is not one for each channel.
    model, report = compare(module, [two], tmp_path, samples=C, dynamic_shapes={"inputs": batch})
    kinds = {(record.kind, record.status) for record in report.weights}
    assert ("parameter", "constant") not in kinds
    compare_file(module, model, report, SHAPE)


# Of one sample, as programs are exported most: where the batch is has to be found.
OF_ONE_SAMPLE = {"kernels": Kernels(), "channels": Channels(), "codes": Codes()}


def test_blocks_of_one_sample(tmp_path: Path) -> None:
    module = Functions(OF_ONE_SAMPLE)
    model, report = compare(module, [SHAPE], tmp_path, samples=C)
    compare_file(module, model, report, SHAPE)
