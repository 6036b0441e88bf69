"""Every operator with its arguments, by family: functions and modules of one map (N, 4, 9, 11)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, as everywhere
from torch import Tensor, nn
from torch.nn.utils import parametrizations

SHAPE = (1, 4, 9, 11)
POSITIONS = 9 * 11
Cases = dict[str, Callable[..., Any]]


def tokens(x: Tensor) -> Tensor:
    """(N, 99, 4)."""
    return x.flatten(2).transpose(1, 2)


def _conv(**cases: tuple[Any, ...]) -> Cases:
    return {
        name: nn.Conv2d(4, *args, **({"padding": 0} | rest[0] if rest else {}))
        for name, (args, *rest) in cases.items()
    }


class Parts(nn.Module):
    """Two parts of one parameter as the weights of two layers of the same sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 4, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        a, b, c = self.weight.chunk(3)
        return [F.conv2d(x, a), F.conv2d(x, b), F.conv2d(x, c[:, :, 0, 0, None, None])]


CONVOLUTIONS = _conv(
    plain=((6, 3),),
    one_filter=((1, 1),),
    symmetric=((6, 3), {"padding": 1}),
    strided=((6, 3, 2), {"padding": 1}),
    same=((6, (1, 3)), {"padding": "same"}),
    same_even=((6, 4), {"padding": "same"}),
    dilated=((6, 3), {"dilation": 2, "padding": 2}),
    dilated_strided=((6, 3, 2), {"dilation": 2, "padding": 2}),
    oblong=((4, (3, 5), (1, 2)), {"padding": (2, 1)}),
    groups=((8, 3), {"groups": 2, "bias": False}),
    depthwise=((4, 3), {"groups": 4, "padding": 1}),
    depthwise_multiplier=((8, 3, 2), {"groups": 4}),
    depthwise_strides=((4, 3, (2, 1)), {"groups": 4}),
    depthwise_dilations=((4, 3), {"groups": 4, "dilation": (1, 2)}),
    reflect=((4, 3), {"padding": 1, "padding_mode": "reflect"}),
    replicate=((4, 3), {"padding": 1, "padding_mode": "replicate"}),
    circular=((4, 3), {"padding": 1, "padding_mode": "circular"}),
) | {
    "one_dimension": nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3, 2, 1)),
    "one_dimension_depthwise": nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 4, 3, groups=4)),
    "three_dimensions": nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, (1, 3, 3))),
    "three_dimensions_groups": nn.Sequential(
        nn.Unflatten(1, (4, 1)), nn.Conv3d(4, 8, (1, 3, 3), (1, 2, 1), (0, 1, 2), (1, 1, 2), 2)
    ),
    "of_a_part": Parts(),
}
TRANSPOSED: Cases = {
    "twice": nn.ConvTranspose2d(4, 6, 2, 2),
    "output_padding": nn.ConvTranspose2d(4, 6, 3, 2, 1, 1),
    "four": nn.ConvTranspose2d(4, 6, 4, 2, 1),
    "dilated": nn.ConvTranspose2d(4, 6, 3, dilation=2),
    "more_than_the_kernel": nn.ConvTranspose2d(4, 6, 3, 3, 0, 2),
    "stride_over_kernel": nn.ConvTranspose2d(4, 6, 2, 3, 0, 1),
    "gaps": nn.ConvTranspose2d(4, 4, 2, 3),
    "groups": nn.ConvTranspose2d(4, 6, 3, 1, 1, groups=2),
    "depthwise": nn.ConvTranspose2d(4, 4, 3, 2, 1, groups=4, bias=False),
    "oblong": nn.ConvTranspose2d(4, 4, (2, 3), (2, 1), (0, 1)),
    "one_dimension": nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 3, 3, 2, 1)),
    "three_dimensions": nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.ConvTranspose3d(2, 3, 3, 2, 1, (1, 0, 1))
    ),
}
POOLS: Cases = {
    "max": nn.MaxPool2d(2),
    "max_padded": nn.MaxPool2d(3, 2, 1),
    "max_padded_after_relu": lambda x: F.max_pool2d(F.relu(x), 3, 2, 1),
    "max_padded_even": nn.MaxPool2d(4, 2, 1),
    "max_same": nn.MaxPool2d(5, 1, 2),
    "max_ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max_ceil_padded": nn.MaxPool2d(2, 2, 1, ceil_mode=True),
    "max_dilated": nn.MaxPool2d(3, 2, 1, dilation=2),
    "max_oblong": lambda x: F.max_pool2d(F.relu(x), (3, 5), (2, 2), (1, 2)),
    "max_one_dimension": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1),
    "average": nn.AvgPool2d(2),
    "average_padded": nn.AvgPool2d(3, 2, 1),
    "average_same": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average_without_padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average_ceil": nn.AvgPool2d(3, 2, ceil_mode=True),
    "average_ceil_padded": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average_ceil_without": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "average_divisor": nn.AvgPool2d(2, divisor_override=3),
    "average_one_dimension": lambda x: F.avg_pool1d(x.flatten(2), 3, 2, 1),
    "to_one": nn.AdaptiveAvgPool2d(1),
    "to_one_flat": lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1),
    "to_a_divisor": nn.AdaptiveAvgPool2d((3, 11)),
    "to_any": nn.AdaptiveAvgPool2d((5, 7)),
    "to_rows": nn.AdaptiveAvgPool2d((1, None)),
    "to_one_1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 1),
    "max_to_one": nn.AdaptiveMaxPool2d(1),
    "max_to_any": nn.AdaptiveMaxPool2d((3, 4)),
    "max_three": lambda x: F.max_pool3d(x.unsqueeze(1), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "average_three": lambda x: F.avg_pool3d(x.unsqueeze(1), 2, padding=1),
    "to_one_three": lambda x: F.adaptive_avg_pool3d(x.unsqueeze(1), 1),
    "area": lambda x: F.interpolate(x, size=(5, 7), mode="area"),
}


def _resized(**how: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, **how)


RESIZING: Cases = {
    "nearest_twice": _resized(scale_factor=2),
    "nearest": _resized(size=(15, 13)),
    "nearest_down": _resized(size=(4, 7)),
    "nearest_exact": _resized(size=(15, 13), mode="nearest-exact"),
    "bilinear_twice": _resized(scale_factor=2, mode="bilinear"),
    "bilinear": _resized(size=(15, 13), mode="bilinear"),
    "bilinear_down": _resized(size=(5, 4), mode="bilinear"),
    "bilinear_factor": _resized(scale_factor=1.3, mode="bilinear"),
    "bilinear_corners": _resized(scale_factor=2, mode="bilinear", align_corners=True),
    "bilinear_corners_size": _resized(size=(5, 17), mode="bilinear", align_corners=True),
    "bicubic": _resized(scale_factor=2, mode="bicubic"),
    "bilinear_smooth": _resized(size=(4, 17), mode="bilinear", antialias=True),
    "bicubic_smooth": _resized(size=(5, 17), mode="bicubic", antialias=True),
    "bicubic_smooth_corners": _resized(
        size=(4, 6), mode="bicubic", antialias=True, align_corners=True
    ),
    "linear": lambda x: F.interpolate(x.flatten(2), scale_factor=2, mode="linear"),
    "trilinear": lambda x: F.interpolate(x.unsqueeze(1), scale_factor=2, mode="trilinear"),
    "nearest_volume": lambda x: F.interpolate(x.unsqueeze(1), size=(8, 7, 5)),
    "nearest_of_few": lambda x: F.interpolate(x[..., :4, :6], size=(82, 94)),
    "nearest_exact_of_few": lambda x: F.interpolate(x[..., :4, :6], (41, 47), mode="nearest-exact"),
    "nearest_factor": lambda x: F.interpolate(x.flatten(2)[..., :20], scale_factor=2.2),
    "bicubic_of_the_same_size": _resized(scale_factor=1.05, mode="bicubic"),
    "pixel_shuffle": nn.PixelShuffle(2),
    "pixel_shuffle_of_frames": lambda x: F.pixel_shuffle(x.unsqueeze(1), 2),
    "pixel_unshuffle_of_frames": lambda x: F.pixel_unshuffle(x.unsqueeze(2)[..., :8, :10], 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8, :8], 2),
    "channel_shuffle": nn.ChannelShuffle(2),
    "channel_shuffle_by_hand": lambda x: (
        x.view(x.shape[0], 2, 2, *x.shape[2:]).transpose(1, 2).contiguous().view(x.shape)
    ),
    "pixel_shuffle_by_hand": lambda x: (
        x.view(x.shape[0], 1, 2, 2, 9, 11).permute(0, 1, 4, 2, 5, 3).reshape(x.shape[0], 1, 18, 22)
    ),
}
PADDING: Cases = {
    "zeros": nn.ZeroPad2d((1, 2, 0, 3)),
    "crop": lambda x: F.pad(x, (-1, 2, 1, -2)),
    "number": lambda x: F.pad(x, (1, 1), value=2.0),
    "channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "reflect": nn.ReflectionPad2d(2),
    "replicate": nn.ReplicationPad2d((1, 2, 3, 0)),
    "circular": lambda x: F.pad(x, (1, 2, 1, 1), mode="circular"),
    "reflect_volume": lambda x: F.pad(x.unsqueeze(1), (1, 1, 2, 0, 1, 1), mode="reflect"),
    "mask": lambda x: F.pad(x > 0, (1, 0), value=True),
    "whole_numbers": lambda x: F.pad((x * 3).long(), (1, 0, 0, 2), value=7),
    "minus_infinity": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2),
}
ACTIVATIONS: Cases = {
    name: getattr(F, name)
    for name in (
        "relu",
        "relu6",
        "hardtanh",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardsigmoid",
        "softplus",
        "softsign",
        "logsigmoid",
        "sigmoid",
        "tanh",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "rrelu",
    )
} | {
    "relu_in_place": lambda x: F.relu_(x * 1),
    "bounds": nn.Hardtanh(-0.3, 0.4),
    "leaky": nn.LeakyReLU(0.3),
    "elu_alpha": nn.ELU(0.5),
    "celu_alpha": nn.CELU(0.7),
    "gelu_tanh": nn.GELU("tanh"),
    "softplus_beta": nn.Softplus(2.0),
    "softplus_threshold": nn.Softplus(2.0, 0.5),
    "prelu": nn.PReLU(),
    "prelu_channels": nn.PReLU(4),
    "prelu_volume": nn.Sequential(nn.Unflatten(1, (2, 2)), nn.PReLU(2)),
    "threshold": nn.Threshold(0.1, 2.0),
    "special_softmax": lambda x: torch.special.softmax(x, 1) - torch.special.log_softmax(x, 2),
    "safe_softmax": lambda x: torch.ops.aten._safe_softmax(
        x.masked_fill((x > 0.5) | (x[..., :1] > 0), -torch.inf), 3
    ),
    "glu": lambda x: F.glu(x, 1),
    "softmax_channels": lambda x: F.softmax(x, 1),
    "softmax_rows": lambda x: F.softmax(x, 3),
    "softmax_positions": lambda x: F.softmax(x.flatten(2), -1),
    "softmin": lambda x: F.softmin(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "dropout": nn.Dropout(0.3),
    "dropout_channels": nn.Dropout2d(0.3),
}
NORMALIZATIONS: Cases = {
    "batch": nn.BatchNorm2d(4),
    "batch_plain": nn.BatchNorm2d(4, affine=False, momentum=0.03, eps=1e-3),
    "batch_1d": nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4)),
    "batch_flat": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4 * POSITIONS)),
    "layer": nn.LayerNorm(11),
    "layer_rows": nn.LayerNorm((9, 11)),
    "layer_whole": nn.LayerNorm((4, 9, 11), eps=1e-3),
    "layer_plain": nn.LayerNorm(11, elementwise_affine=False),
    "layer_no_bias": nn.LayerNorm(11, bias=False),
    "group": nn.GroupNorm(2, 4),
    "group_plain": nn.GroupNorm(1, 4, affine=False),
    "group_1d": nn.Sequential(nn.Flatten(2), nn.GroupNorm(2, 4)),
    "instance": nn.InstanceNorm2d(4),
    "instance_affine": nn.InstanceNorm2d(4, affine=True),
    "instance_running": nn.InstanceNorm2d(4, track_running_stats=True),
    "rms": nn.RMSNorm(11),
    "weight": parametrizations.weight_norm(nn.Conv2d(4, 5, 3)),
    "weight_of_one_length": parametrizations.weight_norm(nn.Linear(11, 5), dim=None),
    "normalize": lambda x: F.normalize(x, dim=1),
    "local_response": nn.LocalResponseNorm(3),
}


class Attention(nn.Module):
    """`MultiheadAttention`; by default PyTorch counts positions before samples."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2)[:, :, :8]
        y = y if self.inner.batch_first else y.transpose(0, 1)
        y = self.inner(y, y, y, need_weights=False)[0]
        return y if self.inner.batch_first else y.transpose(0, 1)


class Masked(nn.Module):
    """`MultiheadAttention` with a mask of positions and one of each sample's own, and its weights.

    Args:
        **how: Arguments of the layer.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True, **how)

    def forward(self, x: Tensor) -> Any:
        y, padded = x.flatten(2)[:, :, :8], x[:, :, 0, 0] > x[:, :, 0, 0].mean(1, True) + 0.5
        return self.inner(y, y, y, padded, attn_mask=torch.ones(4, 4).triu(3).bool())


class Packed(nn.Module):
    """Attention as vision transformers write it: query, key and value in one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = tokens(x)
        n, length, c = y.shape
        q, k, v = self.qkv(y).reshape(n, length, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        a = ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(n, length, c))


class Excitation(nn.Module):
    """Squeeze and excitation, by linear layers and by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 2), nn.Linear(2, 4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], 4)
        y = torch.sigmoid(self.b(F.relu(self.a(y)))).view(x.shape[0], 4, 1, 1)
        return x * y.expand_as(x), x * torch.sigmoid(self.c(x.mean((2, 3), keepdim=True)))


class Tokens(nn.Module):
    """A class token before positions, and embeddings of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.positions = nn.Parameter(torch.randn(1, POSITIONS + 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens(x)], 1)
        return y + self.positions


def _einsum(equation: str, *operands: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.einsum(equation, *(operand(x) for operand in operands))


def _same(x: Tensor) -> Tensor:
    return x


PRODUCTS: Cases = {
    "matmul": lambda x: tokens(x) @ tokens(x).transpose(1, 2),
    "bmm": lambda x: torch.bmm(x.flatten(2), tokens(x)),
    "baddbmm": lambda x: torch.baddbmm(
        x[:, 0, :9, :9], x[:, 1, :9, :9], x[:, 2, :9, :9], beta=0.5, alpha=2.0
    ),
    "vector": lambda x: x @ torch.arange(11.0),
    "matmul_of_linalg": lambda x: torch.linalg.matmul(x, x.transpose(2, 3)),
    "addmm": lambda x: torch.addmm(x[0, 0], torch.ones(9, 3), x[0, 1, :3], beta=0.5) + x,
    "addmv": lambda x: torch.addmv(x[0, 0, :, 0], x[0, 1], torch.arange(11.0), alpha=2) + x[..., 0],
    "addr": lambda x: torch.addr(torch.ones(9, 11), torch.arange(9.0), torch.ones(11)) * x,
    "kron": lambda x: torch.kron(x[0, 0, :3, :4], torch.arange(9.0).view(3, 3))[:, :11] + x,
    "outer": lambda x: tokens(x)[:, :, :1] - tokens(x)[:, :, :1].transpose(1, 2),
    "attention": lambda x: F.scaled_dot_product_attention(tokens(x), tokens(x) * 2, tokens(x)),
    "attention_masked": lambda x: F.scaled_dot_product_attention(
        tokens(x), tokens(x), tokens(x), attn_mask=torch.ones(99, 99).tril().bool()
    ),
    "attention_masked_by_the_input": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=x @ x.tanh().transpose(2, 3) > -3
    ),
    "attention_to_nothing": lambda x: F.scaled_dot_product_attention(
        tokens(x), tokens(x), tokens(x), attn_mask=torch.ones(99, 99).tril(-1).bool()
    ),
    "attention_to_nothing_infinities": lambda x: F.scaled_dot_product_attention(
        tokens(x), tokens(x), tokens(x), attn_mask=torch.ones(99, 99).tril(-1).log()
    ),
    "attention_to_nothing_by_the_input": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=x[..., :1] > 0
    ),
    "attention_heads_share_keys": lambda x: F.scaled_dot_product_attention(
        x, x[:, :2], x[:, 2:], enable_gqa=True
    ),
    "attention_causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "tensordot": lambda x: torch.tensordot(x, torch.arange(8.0).view(4, 2), dims=([1], [0])),
    "inner": lambda x: torch.inner(x, torch.arange(11.0)),
    "einsum_channels": _einsum("nchw,nchw->nhw", _same, torch.tanh),
    "einsum_positions": _einsum("nchw,nkhw->nck", _same, torch.tanh),
    "einsum_constant": _einsum("nchw,dc->ndhw", _same, lambda x: torch.arange(8.0).view(2, 4)),
    "einsum_one": _einsum("nchw->nwc", _same),
    "einsum_outer": _einsum("ni,nj->nij", lambda x: x[:, :, 0, 0], lambda x: x[:, :, 1, 0]),
    "einsum_heads": _einsum("bchw,bchv->bcwv", _same, _same),
    "einsum_dots": _einsum("...hw,...hv->...wv", _same, _same),
    "einsum_dots_without_output": lambda x: torch.einsum("...ij,...jk", x, x.transpose(2, 3)),
    "outer_product": lambda x: torch.outer(torch.arange(9.0), torch.arange(11.0)) * x,
    "multi_dot": lambda x: (
        torch.linalg.multi_dot([x[0, 0], torch.ones(11, 3), torch.ones(3, 2)])[None, None]
        + x[:, :, :, :2]
    ),
    "vecdot": lambda x: torch.linalg.vecdot(x, x.tanh(), dim=1),
    "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:].sigmoid(), dim=1),
    "cross_of_the_first_three": lambda x: (
        torch.cross(torch.arange(9.0).view(3, 3), torch.ones(3, 3)) + x[..., :3, :3]
    ),
    "bilinear": lambda x: F.bilinear(
        x, x.tanh(), torch.arange(242.0).view(2, 11, 11) / 99, torch.ones(2)
    ),
    "distances": lambda x: torch.cdist(tokens(x), tokens(x)[:, :7].tanh()),
    "distances_of_order_1": lambda x: torch.cdist(x, x[:, :, :5].tanh(), p=1),
    "distances_of_order_3": lambda x: torch.cdist(x, x[:, :, :5].tanh(), p=3),
    "distances_by_hand": lambda x: x.mean((1, 2))[:, :9, None] + x.mean((1, 3))[:, None],
    "multihead": Attention(True),
    "multihead_positions_first": Attention(False),
    "multihead_masked": Masked(),
    "multihead_with_more_keys": Masked(add_bias_kv=True, add_zero_attn=True),
    "packed": Packed(),
    "encoder": nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(POSITIONS, 3, 32, batch_first=True)
    ),
    "excitation": Excitation(),
    "tokens": Tokens(),
    "linear_on_a_map": nn.Linear(11, 3),
    "linear_after_flatten": nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(80), nn.ReLU(), nn.Dropout(), nn.Linear(80, 3)
    ),
    "linear_between_views": nn.Sequential(
        nn.Flatten(1, 2),
        nn.Linear(11, 2),
        nn.Unflatten(1, (4, 9)),
        nn.Flatten(2),
        nn.Linear(18, 2),
    ),
}


def windows(x: Tensor) -> Tensor:
    """Softmax within windows of 4 x 4, as window attention splits a map."""
    n = x.shape[0]
    y = x[:, :, :8, :8].reshape(n, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4)
    y = y.softmax(1).reshape(n, 2, 2, 4, 4, 4)
    return y.permute(0, 5, 1, 3, 2, 4).reshape(n, 4, 8, 8)


def in_place(x: Tensor) -> tuple[Tensor, Tensor]:
    """Writing to parts, and to all, of what is read later."""
    y = x * 1
    y[:, 1] = 2.0
    y[:, 2:, 3] = y[:, :2, 4]
    y.add_(1)
    return y.flatten(2).relu_(), y.mul(2)


def copied(x: Tensor) -> tuple[Tensor, ...]:
    """Writing to what looks like a view and is a copy, or gives what it is given."""
    a, b, c, d = (x * n for n in range(1, 5))
    y, z, u = a.permute(0, 2, 3, 1).contiguous(), b.transpose(2, 3).reshape(-1, 4, 99), b.flatten(2)
    v, w = F.dropout(c, 0.3, False), d[:, 1:3].reshape(-1, 2, 99)
    for part in (y, z, u, v, w):
        part.mul_(3)
    whole = torch.zeros(x.shape[0], 4, 9, 11).long()
    whole[:, 1] = x[:, 1] * 3
    return a, b, c, d, y, z, whole


def boxes(x: Tensor) -> Tensor:
    """The heads of a single-shot detector, joined."""
    return torch.cat(
        [
            y.view(y.shape[0], 2, 2, *y.shape[2:]).permute(0, 3, 4, 1, 2).reshape(y.shape[0], -1, 2)
            for y in (x, x[:, :, :4, :4])
        ],
        1,
    )


def grid(x: Tensor) -> Tensor:
    """Coordinates added to a map."""
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    return x + torch.stack((rows, columns), 0).repeat(2, 1, 1)


def every_other(x: Tensor) -> Tensor:
    """The inverse of a wavelet transform: every other row and column is written."""
    y = torch.zeros(x.shape[0], 1, 18, 22)
    for number, part in enumerate(x.split(1, 1)):
        y[:, :, number % 2 :: 2, number // 2 :: 2] = part
    return y


SHAPING: Cases = {
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute_used": lambda x: x.permute(0, 3, 1, 2) * 2,
    "transpose": lambda x: x.transpose(1, 3),
    "swapaxes": lambda x: x.swapaxes(1, 2),
    "movedim": lambda x: x.movedim(1, -1),
    "flatten": lambda x: x.flatten(1),
    "flatten_positions": lambda x: x.flatten(2),
    "rank_5": lambda x: x.view(x.shape[0], 2, 2, 9, 11),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2),
    "reshape": lambda x: x.reshape(x.shape[0], 36, 11),
    "view_as": lambda x: x.view_as(x * 2),
    "no_common_factor": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], 6, 66),
    "windows": windows,
    "boxes": boxes,
    "anchors": lambda x: (
        x.view(x.shape[0], 2, 2, 9, 11).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
    ),
    "grid": grid,
    "unsqueeze": lambda x: x.unsqueeze(1).squeeze(1),
    "squeeze": lambda x: x.mean(1, keepdim=True).squeeze(1),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1) * 2,
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "tile": lambda x: x[:, :, :1].tile((1, 1, 3, 1)),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "cat_rows": lambda x: torch.cat([x, x[:, :, :1]], 2),
    "cat_flat": lambda x: torch.cat([x.flatten(1), x.mean((2, 3))], 1),
    "cat_expanded": lambda x: torch.cat([x.mean((2, 3), keepdim=True).expand(-1, -1, 9, 11), x], 1),
    "cat_constant": lambda x: torch.cat([x, torch.ones(x.shape[0], 1, 9, 11)], 1),
    "stack": lambda x: torch.stack([x[:, 0], x[:, 1]], 1),
    "stack_last": lambda x: torch.stack([x, x], -1),
    "chunk": lambda x: torch.chunk(x, 3, 2),
    "split": lambda x: x.split([1, 3], 1),
    "hsplit": lambda x: x.hsplit(2),
    "dsplit": lambda x: x.dsplit((2, 5)),
    "unbind": lambda x: x.unbind(1)[:2],
    "select": lambda x: x[:, 1],
    "slices": lambda x: x[:, 1:3, ::2, 2:-1],
    "positions": lambda x: x[:, :, [0, 2, 5]],
    "channels_reversed": lambda x: x[:, torch.tensor([3, 1, 0])],
    "index_select": lambda x: x.index_select(2, torch.tensor([0, 3, 1])),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "flip": lambda x: x.flip(2, 3),
    "roll": lambda x: x.roll((2, -3), (2, 3)),
    "hstack": lambda x: torch.hstack([x, x]),
    "dstack": lambda x: torch.dstack([x.flatten(2), x.flatten(2)]),
    "fliplr": torch.fliplr,
    "fold": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 11), 3, padding=1, stride=2),
    "fold_dilated": lambda x: F.fold(F.unfold(x, (2, 3), dilation=2), (9, 11), (2, 3), dilation=2),
    "diagonal": lambda x: torch.diagonal(x, 1, 2, 3),
    "linalg_diagonal": lambda x: torch.linalg.diagonal(x, offset=-2),
    "diag": lambda x: x[0, 0].diag(1) + x[..., 0, None][..., :8, :],
    "diag_of_a_vector": lambda x: x[0, 0, 0].diag()[:9] + x,
    "trace": lambda x: x[0, 0].trace() + x,
    "diag_embed": lambda x: torch.diag_embed(x[:, :, 0]),
    "fill_diagonal": lambda x: x[:, :, :, :9] * torch.ones(9, 9).fill_diagonal_(0),
    "diff": lambda x: x.diff(dim=2),
    "diff_twice": lambda x: x.diff(2, 3),
    "every_other": every_other,
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "unfold": lambda x: x.unfold(2, 3, 3),
    "unfold_over": lambda x: x.unfold(2, 3, 2),
    "im2col": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "positions_in_pairs": lambda x: x[:, :, torch.tensor([0, 1, -1]), torch.tensor([2, 3, 0])],
    "positions_of_a_mask": lambda x: x[:, :, torch.ones(9, 11).tril().bool()],
    "triangle": lambda x: (
        x[..., *torch.tril_indices(9, 9, -1)] + x[:, :, *torch.triu_indices(8, 8)]
    ),
    "repeated_as_often": lambda x: x.repeat_interleave(torch.tensor([1, 2, 0, 1]), 1),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x.mean(1, keepdim=True), x)[0] * 2,
    "rows_and_columns": lambda x: x[:, :, torch.arange(9).view(-1, 1), torch.arange(0, 11, 2)],
    "in_place": in_place,
    "copied": copied,
    "cat_masks": lambda x: torch.cat([x > 0, torch.ones(x.shape[0], 1, 9, 11).bool()], 1),
}
ARITHMETIC: Cases = {
    "add_pooled": lambda x: x + x.mean(1, keepdim=True),
    "add_rows": lambda x: x + torch.arange(99.0).view(9, 11),
    "add_columns": lambda x: x + torch.arange(36.0).view(4, 9, 1),
    "add_alpha": lambda x: torch.add(x, x.sigmoid(), alpha=2),
    "times_vector": lambda x: x * torch.arange(11.0),
    "from_one": lambda x: 1 - x,
    "sub": lambda x: x - x.tanh(),
    "rsub": lambda x: torch.rsub(x, x.tanh(), alpha=3),
    "sub_alpha_of_a_number": lambda x: torch.sub(x, 2, alpha=2.5),
    "div": lambda x: x / 3,
    "div_to_whole": lambda x: (
        ((x.round()[..., :1] + torch.arange(200.0)) * 47 / 47).floor() + 0.1 * x[..., :1]
    ),
    "div_of_positions": lambda x: (x[..., :2].argmax(1) * 47 / 47).int(),
    "whole_truncated": lambda x: torch.div((x * 3).long(), 2, rounding_mode="trunc"),
    "whole_left": lambda x: torch.fmod((x * 3).long(), 2) * (x * 9).long().remainder(-4),
    "whole_bounds": lambda x: (x * 3).long().clamp(-1, 2) ** 2.0,
    "div_by": lambda x: x / (x.abs() + 1),
    "div_floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "div_trunc": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "square": lambda x: x**2,
    "cube": lambda x: x**3,
    "root": lambda x: x.abs() ** 0.5,
    "power": lambda x: (x.abs() + 1) ** -1.5,
    "two_to_the": lambda x: 2**x,
    "float_power": lambda x: torch.float_power(x.abs() + 1, 1.5).float(),
    "itself": lambda x: x * x,
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: (x.abs() + 1).rsqrt(),
    "reciprocal": lambda x: 1 / (x.abs() + 1),
    "log": lambda x: (x.abs() + 1).log(),
    "log1p": lambda x: x.abs().log1p(),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp_0_1": lambda x: x.clamp(0, 1),
    "clamp_crossed": lambda x: x.clamp(0.5, -0.5) + x,
    "clamp_min": lambda x: x.clamp(min=0.1),
    "clamp_max": lambda x: x.clamp_max(0.2),
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
    "masked_fill": lambda x: x.masked_fill(x < 0, -1.0),
    "compare": lambda x: (x > 0.1).float() + (x.le(0) & (x > -1)).float() * x,
    "maximum": lambda x: torch.maximum(x, x.mean(1, keepdim=True)),
    "minimum": lambda x: torch.min(x, x.roll(1, 1)),
    "remainder": lambda x: torch.remainder(x, 0.7),
    "fmod": lambda x: torch.fmod(x, 0.7),
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "arctan2": lambda x: torch.arctan2(x + 1, x),
    "atan2": lambda x: torch.atan2(x, x + 1),
    "round_decimals": lambda x: torch.round(x, decimals=1),
    "masks": lambda x: (x > 0) * (x < 1) * x + ((x > 1) + (x < -1)) * x,
    "bits_of_constants": lambda x: x + (torch.arange(11) & 3 | 8) - ~torch.arange(11),
    "bits_shifted": lambda x: x + (torch.arange(11) << 2) - (torch.arange(11) >> 1),
    "not_nan": lambda x: x * (~torch.isnan(x)),
    "logical_not": lambda x: torch.logical_not(x > 0).to(x.dtype) + x,
    "to_int": lambda x: (x * 3).to(torch.int32).float(),
    "to_double": lambda x: x.double().float(),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "frac": torch.frac,
    "nan_to_num": torch.nan_to_num,
    "nan_of_a_masked_row": lambda x: (
        x.masked_fill(x[..., :1] > 0, -torch.inf).softmax(-1).nan_to_num()
    ),
    "logit": lambda x: torch.logit(x.sigmoid()),
    "expit": torch.special.expit,
    "one_hot": lambda x: F.one_hot(x.argmax(1), 4).float(),
    "lower_triangle": lambda x: x.tril(),
    "erfc": torch.erfc,
    "ndtr": torch.special.ndtr,
    "sinc": lambda x: torch.sinc(x.relu()),
    "entr": lambda x: torch.special.entr(x.relu()),
    "xlog1py": lambda x: torch.special.xlog1py(x.relu(), x.abs()),
    "copysign": lambda x: torch.copysign(x, x.roll(1, 1)),
    "signbit": lambda x: torch.signbit(x) * x,
    "infinite": lambda x: torch.isposinf((x * 1e30) ** 3) * 2.0 + torch.isneginf((x * 1e30) ** 3),
    "ldexp": lambda x: torch.ldexp(x, torch.arange(11)),
    "logaddexp2": lambda x: torch.logaddexp2(x, x.roll(1, 1)),
    "isclose": lambda x: torch.isclose(x, x.roll(1, 1), rtol=0.5, atol=0.1) * x,
    "isin": lambda x: torch.isin(x.round(), torch.tensor([-1.0, 0.0, 2.0])) * x,
    "window": lambda x: x * torch.hann_window(11) + torch.kaiser_window(11, False),
    "windows": lambda x: x * torch.hamming_window(11) + torch.blackman_window(11, False),
    "chosen": lambda x: x + torch.cartesian_prod(torch.arange(11.0), torch.ones(1))[:, 0],
    "logspace": lambda x: x * torch.logspace(-1, 1, 11),
    "xlogy": lambda x: torch.xlogy(x.relu(), x.relu()),
    "heaviside": lambda x: torch.heaviside(x.relu(), torch.tensor(0.5)),
    "asin": lambda x: torch.asin(x.tanh()),
    "acos": lambda x: torch.acos(x.tanh()),
    "tan": lambda x: torch.tan(x.tanh()),
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(1 + x.abs()),
    "atanh": lambda x: torch.atanh(0.9 * torch.tanh(x)),
    "rad2deg": torch.rad2deg,
    "add_columns_of_a_square": lambda x: x[..., :9] + torch.arange(9.0),
    "add_rows_of_a_square": lambda x: x[..., :9] + torch.arange(9.0).view(9, 1),
    "add_pooled_columns": lambda x: x[..., :9] + x[..., :9].mean((1, 2), keepdim=True),
    "add_pooled_rows": lambda x: x[..., :9] + x[..., :9].mean((1, 3), keepdim=True),
    "new_ones": lambda x: x.new_ones(3, 1, 1, 1)[:1] * x,
} | {
    name: getattr(torch, name)
    for name in ("exp", "neg", "sin", "cos", "erf", "floor", "sign", "atan", "sinh", "cosh")
}


def response(x: Tensor) -> Tensor:
    """Global response normalization, as ConvNeXt V2 has it."""
    norm = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x * (norm / (norm.mean(dim=1, keepdim=True) + 1e-6))


REDUCTIONS: Cases = {
    "mean_map": lambda x: x.mean((2, 3)),
    "mean_map_kept": lambda x: x.mean((2, 3), keepdim=True),
    "mean_channels": lambda x: x.mean(1),
    "mean_flat": lambda x: x.flatten(1).mean(1),
    "mean_of_a_group": lambda x: x.view(x.shape[0], 2, 2, 9, 11).mean(2),
    "mean_of_two": lambda x: x.view(x.shape[0], 2, 2, 9, 11).mean(dim=(2, 3)),
    "sum": lambda x: x.sum((1, 2)),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(1, keepdim=True),
    "max": lambda x: x.max(1)[0],
    "max_position": lambda x: x.max(2, keepdim=True)[1].float() + x[:, :, :1],
    "argmax": lambda x: x.argmax(1),
    "min": lambda x: x.min(3)[0],
    "var": lambda x: x.var(1),
    "var_biased": lambda x: x.var((2, 3), unbiased=False, keepdim=True),
    "std": lambda x: x.std((1, 2, 3)),
    "var_mean": lambda x: torch.var_mean(x, 1),
    "norm": lambda x: x.norm(dim=1),
    "norm_3": lambda x: x.norm(p=3, dim=(1, 2)),
    "norm_1": lambda x: x.norm(p=1, dim=(2, 3)),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "logsumexp": lambda x: x.logsumexp(1),
    "logcumsumexp": lambda x: x.logcumsumexp(2),
    "nansum": lambda x: x.sqrt().nansum(1),
    "nanmean": lambda x: (x + 1).sqrt().nanmean((2, 3)),
    "norm_0": lambda x: x.relu().norm(p=0, dim=1) + x[:, 0],
    "norm_least": lambda x: x.norm(p=-torch.inf, dim=(1, 2)),
    "matrix_norm": lambda x: torch.linalg.matrix_norm(x, keepdim=True),
    "matrix_norm_1": lambda x: torch.linalg.matrix_norm(x, 1, (1, 3)),
    "matrix_norm_inf": lambda x: torch.linalg.norm(x, torch.inf, (2, 3)),
    "any_number": lambda x: x.relu().any(1) * x[:, 0],
    "cumsum": lambda x: x.cumsum(2),
    "prod": lambda x: x.prod(1),
    "cumprod": lambda x: x.cumprod(1),
    "cummax": lambda x: x.cummax(2)[0],
    "aminmax": lambda x: torch.aminmax(x, dim=1),
    "count_nonzero": lambda x: x.relu().count_nonzero(1) + x[:, 0],
    "any": lambda x: (x > 2).any(1).float() + x[:, 0],
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.roll(1, 1), 1),
    "cosine_similarity_of_ranks": lambda x: F.cosine_similarity(
        x, torch.arange(396.0).view(4, 9, 11), dim=-1
    ),
    "how_many_are_infinite": lambda x: x.masked_fill(x > 0, -torch.inf).isinf().sum(1),
    "cumsum_whole": lambda x: (x * 3).long().cumsum(1) // 2,
    "pairwise_distance_3": lambda x: F.pairwise_distance(x, x.roll(1, 1), p=3),
    "pairwise_distance": lambda x: F.pairwise_distance(x.flatten(2), x.flatten(2) * 2),
    "linalg_norm": lambda x: torch.linalg.norm(x.flatten(1), dim=1),
    "response": response,
}


class Recurrent(nn.Module):
    """A recurrent layer over the rows of a map; PyTorch counts steps before samples by default."""

    def __init__(self, kind: Callable[..., nn.Module], starts: bool = False, **how: Any) -> None:
        super().__init__()
        self.inner, self.starts = kind(11, 5, **how), starts

    def forward(self, x: Tensor) -> Any:
        first = bool(self.inner.batch_first)
        y = x[:, 0] if first else x[:, 0].transpose(0, 1)
        state = x[:, 1:2, 0, :5].transpose(0, 1) if self.starts else None
        answer, end = self.inner(y) if state is None else self.inner(y, (state, state * 2))
        ends = end if isinstance(end, tuple) else (end,)
        answer = answer if first else answer.transpose(0, 1)
        return [answer, *(e.transpose(0, 1) for e in ends)]


class Cells(nn.Module):
    """A step of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(11, 5), nn.GRUCell(11, 5, bias=False)
        self.rnn = nn.RNNCell(11, 5, nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        h, c = self.lstm(x[:, 0, 0], (x[:, 1, 0, :5], x[:, 1, 1, :5]))
        first = torch.zeros(len(x), 11)  # as decoders begin with
        return [h, c, self.gru(x[:, 0, 1], h), self.gru(first, h), self.rnn(x[:, 0, 2])]


class Started(nn.Module):
    """A layer that starts from a parameter and a constant, the same for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(11, 5, batch_first=True)
        self.start = nn.Parameter(torch.randn(1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        return self.inner(x[:, 0], (self.start.repeat(1, n, 1), torch.full((1, n, 5), 0.5)))[0]


RECURRENT: Cases = {
    "lstm": Recurrent(nn.LSTM, batch_first=True),
    "lstm_two_ways": Recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.1),
    "lstm_from_states": Recurrent(nn.LSTM, True, batch_first=True, bias=False),
    "lstm_from_a_parameter": Started(),
    "gru": Recurrent(nn.GRU, num_layers=2),
    "gru_without_bias": Recurrent(nn.GRU, bidirectional=True, bias=False, batch_first=True),
    "rnn": Recurrent(nn.RNN, nonlinearity="relu", batch_first=True),
    "rnn_tanh": Recurrent(nn.RNN),
    "cells": Cells(),
}


def _sampled(**how: Any) -> Callable[[Tensor], Tensor]:
    """At coordinates that the map itself gives, some of them outside."""
    return lambda x: F.grid_sample(
        x, x[:, :2, :6, :7].permute(0, 2, 3, 1).tanh() * 1.4, **{"align_corners": False} | how
    )


def fixed_grid(x: Tensor) -> Tensor:
    """All samples at the same coordinates."""
    at = torch.linspace(-0.9, 1.2, 5)
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    return F.grid_sample(x, grid.expand(x.shape[0], -1, -1, -1), align_corners=False)


def warped(x: Tensor) -> Tensor:
    """By a matrix for each sample."""
    grid = F.affine_grid(x[:, :2, 0, :3], [x.shape[0], 4, 5, 6], align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


SAMPLING: Cases = {
    "bilinear": _sampled(),
    "corners": _sampled(align_corners=True),
    "border": _sampled(padding_mode="border"),
    "reflection": _sampled(padding_mode="reflection"),
    "reflection_corners": _sampled(padding_mode="reflection", align_corners=True),
    "nearest": _sampled(mode="nearest"),
    "nearest_border": _sampled(mode="nearest", padding_mode="border", align_corners=True),
    "bicubic": _sampled(mode="bicubic"),
    "bicubic_reflection": _sampled(mode="bicubic", padding_mode="reflection"),
    "fixed_grid": fixed_grid,
    "warped": warped,
    "volume": lambda x: F.grid_sample(
        x.unsqueeze(1), x[:, :3, :2, :6].permute(0, 2, 3, 1)[:, None].tanh(), align_corners=True
    ),
}


def written(x: Tensor) -> list[Tensor]:
    """Masks and constant positions written to."""
    y, z, masked = x * 1, x * 1, x * 1
    y[:, [3, 0]] = x[:, :2] * 2
    z[:, :, 2] = 0.5
    masked[x > 0.5] = -1.0
    diagonal, pairs, at = x[..., :9] * 1, x * 1, torch.arange(9)
    diagonal[:, :, at, at] = 0
    pairs[:, :, at[:2], at[3:5]] = x[..., 0, :2] * 3
    return [y, z, masked, diagonal, pairs]


def spread(x: Tensor) -> Tensor:
    """The weights of the best two, where they were."""
    best, at = x.mean((2, 3)).topk(2, 1)
    return torch.zeros(x.shape[0], 4).scatter(1, at, best.softmax(1)) + 0.01 * x[:, :, 0, 0]


class Bags(nn.Module):
    """Sums and means of the rows of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.sum, self.mean = nn.EmbeddingBag(5, 3, mode="sum"), nn.EmbeddingBag(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        at = (x[:, :, 0, 0].sigmoid() * 5).long()
        return self.sum(at) * self.mean(at)


POSITIONS_READ: Cases = {
    "topk": lambda x: x.topk(2, 1)[0],
    "sort": lambda x: x.sort(1)[0],
    "sort_falling": lambda x: x.sort(3, descending=True)[0],
    "argsort": lambda x: x.argsort(1).float() + x,
    "kth": lambda x: x.kthvalue(3, 1)[0],
    "kth_of_the_last": lambda x: x.kthvalue(3)[0],
    "quantile": lambda x: x.quantile(0.3, 1, keepdim=True),
    "quantiles": lambda x: x.quantile(torch.tensor([0.25, 0.5, 0.9]), 2).transpose(0, 1),
    "quantile_nearest": lambda x: x.quantile(0.8, 3, interpolation="nearest"),
    "median": lambda x: x.median(2, keepdim=True)[0],
    "gather": lambda x: x.gather(1, x.argsort(1)[:, :2]),
    "gather_constant": lambda x: x.gather(
        2, torch.tensor([[1, 4], [0, 3], [8, 8], [2, 5]])[None, :, :, None].expand(len(x), 4, 2, 11)
    ),
    "gather_of_a_list": lambda x: torch.arange(9.0).gather(0, x.argmax(1)[:, 0, 0]) + x[:, 0, 0, 0],
    "take_along": lambda x: torch.take_along_dim(x, x.argsort(3), 3),
    "take_along_columns": lambda x: torch.take_along_dim(x, x.mean(2, keepdim=True).argsort(3), 3),
    "take_along_constant": lambda x: torch.take_along_dim(
        x[:, :1], torch.arange(8).view(1, 4, 2, 1), 2
    ),
    "looked_up_map": lambda x: (
        torch.arange(8.0).view(4, 2)[x.argmax(1)] + 0.1 * x[:, 0, :, :, None]
    ),
    "of_each_sample": lambda x: x[torch.arange(len(x)), x.mean((2, 3)).argmax(1)],
    "of_each_sample_several": lambda x: tokens(x)[
        torch.arange(len(x)).view(-1, 1).repeat(1, 5), x.flatten(2)[:, 0].topk(5)[1]
    ],
    "looked_up": lambda x: torch.arange(8.0).view(4, 2)[x[:, :, 0, 0].argmax(1)] + x[:, 0, :1, 0],
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-0.5, 0.0, 1.0])) + 0.1 * x,
    "searchsorted": lambda x: torch.searchsorted(torch.arange(4.0), x.round(), side="right") + x,
    "index_put": lambda x: (
        torch.zeros(9, 11).index_put((torch.tensor([1]), torch.tensor([2])), torch.tensor(3.0)) + x
    ),
    "written": written,
    "index_fill": lambda x: x.index_fill(2, torch.tensor([0, 5]), 2.0),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([2, 0]), x[:, :2].tanh()),
    "index_add": lambda x: x.index_add(3, torch.tensor([1, 1, 4]), x[..., :3], alpha=2),
    "scatter_number": lambda x: x.scatter(1, x.argmax(1, keepdim=True), 9.0),
    "scatter_add": lambda x: x.scatter_add(1, x.argmax(1, keepdim=True), x[:, :1]),
    "scatter_mean": lambda x: x.scatter_reduce(1, (x > 0).long(), x.tanh(), "mean"),
    "scatter_amax": lambda x: x.scatter_reduce(
        2, (x > 0).long(), x.tanh(), "amax", include_self=False
    ),
    "scatter_prod": lambda x: x.scatter_reduce(3, (x > 0).long()[..., :3], x[..., :3], "prod"),
    "scatter_sum": lambda x: x.scatter_reduce(
        1, (x > 0).long(), x.tanh(), "sum", include_self=False
    ),
    "bags": Bags(),
    "scatter_constant": lambda x: x.scatter(
        3, torch.tensor([2, 0]).expand(len(x), 4, 9, 2), x[..., 4:6]
    ),
    "spread": spread,
}
FAMILIES = {
    "convolutions": CONVOLUTIONS,
    "transposed convolutions": TRANSPOSED,
    "pools": POOLS,
    "resizing": RESIZING,
    "padding": PADDING,
    "activations": ACTIVATIONS,
    "normalizations": NORMALIZATIONS,
    "products": PRODUCTS,
    "shaping": SHAPING,
    "arithmetic": ARITHMETIC,
    "recurrent": RECURRENT,
    "sampling": SAMPLING,
    "positions": POSITIONS_READ,
    "reductions": REDUCTIONS,
}
