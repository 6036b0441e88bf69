"""ULSAM in PyTorch in many spellings, and what is almost ULSAM: tables for `test_graph_ulsam.py`.

Imports PyTorch only. A spelling is a dict of what replaces the steps of `STEPS`.
"""

import torch
import torch.nn.functional as F
from torch import nn

N, C, H, W, GROUPS = 2, 8, 5, 6, 4


def by_view(score):
    """The published spelling: view, softmax, view, expand."""
    n, one, h, w = score.shape
    return torch.softmax(score.view(n, one, -1), dim=2).view(n, one, h, w)


STEPS = {
    "cut": lambda x, g: x.chunk(g, dim=1),
    "depthwise": lambda s, x: s.depthwise(x),
    "first_norm": lambda s, t: s.first(t),
    "first_relu": lambda t: F.relu(t),
    "between": lambda t: t,
    "pool": lambda t, x: F.max_pool2d(t, 3, 1, 1),
    "pointwise": lambda s, t: s.pointwise(t),
    "second_norm": lambda s, t: s.second(t),
    "second_relu": lambda t: F.relu(t),
    "softmax": by_view,
    "spread": lambda a, x: a.expand(x.shape),
    "sum": lambda x, a: x * a + x,
    "join": lambda parts, x: torch.cat(parts, dim=1),
}


class EFF(nn.Module):
    """One group of `channels`."""

    def __init__(self, channels, steps, bias=True, eps=(1e-5, 1e-5), momentum=(0.9, 0.9)):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.first = nn.BatchNorm2d(channels, eps=eps[0], momentum=momentum[0])
        self.pointwise = nn.Conv2d(channels, 1, 1, bias=bias)
        self.second = nn.BatchNorm2d(1, eps=eps[1], momentum=momentum[1])
        self.layer_norm = nn.LayerNorm([channels, H, W])
        self.steps = steps

    def forward(self, x):
        step = self.steps
        t = step["first_relu"](step["first_norm"](self, step["depthwise"](self, x)))
        t = step["pool"](step["between"](t), x)
        s = step["second_relu"](step["second_norm"](self, step["pointwise"](self, t)))
        return step["sum"](x, step["spread"](step["softmax"](s), x))


class DSC(nn.Module):
    """All groups; one without a cut and a join if there is one."""

    def __init__(self, groups=GROUPS, channels=C, shared=False, steps=None, **options):
        super().__init__()
        self.steps = {**STEPS, **(steps or {})}
        width = channels // groups
        parts = [EFF(width, self.steps, **options) for _ in range(1 if shared else groups)]
        self.parts = nn.ModuleList(parts * groups if shared else parts)

    def forward(self, x):
        if len(self.parts) == 1:
            return self.parts[0](x)
        cut = self.steps["cut"](x, len(self.parts))
        return self.steps["join"]([m(p) for m, p in zip(self.parts, cut, strict=True)], x)


def _slices(x, g):
    width = x.shape[1] // g
    return [x[:, k * width : (k + 1) * width] for k in range(g)]


def _quotient(s):
    """Exponentials of what is at most 0, by their sum."""
    flat = s.flatten(1)
    e = torch.exp(flat - flat.max(1, keepdim=True)[0].detach())
    return (e / e.sum(1).unsqueeze(1).expand_as(e)).view(s.shape)


def _add_in_place(x, a):
    y = x * a
    y += x
    return y


def _add_in_place_apart(x, a):
    y = x * a
    y.add_(x)
    return y


def _of_another(x, a):
    r = x.relu()
    return r * a + r


# Computes ULSAM: step: other spellings of it.
SAME = {
    "cut": {
        "split": lambda x, g: x.split(x.shape[1] // g, 1),
        "split_sizes": lambda x, g: torch.split(x, [x.shape[1] // g] * g, dim=-3),
        "slices": _slices,
        "narrow": lambda x, g: [x.narrow(1, k * (C // g), C // g) for k in range(g)],
        "unbind": lambda x, g: x.view(x.shape[0], g, -1, H, W).unbind(1),
        "select": lambda x, g: [x.unflatten(1, (g, -1))[:, k] for k in range(g)],
        "tensor_split": lambda x, g: x.tensor_split(g, 1),
        "tensor_split_places": lambda x, g: x.tensor_split((2, 4, 6), dim=1),
        "hsplit": lambda x, g: x.hsplit(g),
        "index_select": lambda x, g: [
            x.index_select(1, torch.arange(k * (C // g), (k + 1) * (C // g))) for k in range(g)
        ],
        "positions": lambda x, g: [x[:, [2 * k, 2 * k + 1]] for k in range(g)],
        "rearranged": lambda x, g: x.unflatten(1, (g, -1)).permute(1, 0, 2, 3, 4).unbind(0),
        "moved": lambda x, g: [x.unflatten(1, (g, -1)).movedim(1, 0)[k] for k in range(g)],
        "swapped": lambda x, g: list(x.unflatten(1, (g, -1)).swapaxes(0, 1)),
        "tensor_of_tensor": lambda x, g: [
            p for half in x.chunk(2, 1) for p in half.chunk(g // 2, 1)
        ],
    },
    "first_relu": {
        "in_place": lambda t: F.relu(t, inplace=True),
        "module": lambda t: nn.ReLU(inplace=True)(t),
        "clamp": lambda t: t.clamp(min=0),
        "clip_in_place": lambda t: t.clip_(0),
        "threshold": lambda t: F.threshold(t, 0, 0),
        "threshold_module": nn.Threshold(0.0, 0.0),
        "leaky": lambda t: F.leaky_relu(t, 0.0),
        "max": lambda t: torch.max(t, torch.tensor(0.0)),
        "maximum": lambda t: torch.maximum(torch.zeros_like(t), t),
        "where": lambda t: torch.where(t > 0, t, 0),
        "where_below": lambda t: torch.where(t < 0, torch.zeros(1), t),
        "masked": lambda t: t.masked_fill(t <= 0, 0.0),
        "times_mask": lambda t: t * (t > 0).float(),
        "mask_times": lambda t: (t >= 0) * t,
    },
    "between": {
        "no_ops": lambda t: F.dropout(t.contiguous().clone(), 0.0, True),
        "dropout": lambda t: F.dropout(t, 0.2, False),
        "cast": lambda t: t.to(torch.float32).float(),
        "float64": lambda t: t.double().float(),
    },
    "pool": {
        "module": lambda t, x: nn.MaxPool2d(kernel_size=3, stride=1, padding=1)(t),
        "ceil": lambda t, x: F.max_pool2d(t, (3, 3), 1, 1, ceil_mode=True),
        "indices": lambda t, x: F.max_pool2d(t, 3, 1, 1, return_indices=True)[0],
    },
    "softmax": {
        "flatten": lambda s: s.flatten(2).softmax(-1).unflatten(2, (H, W)),
        "vector": lambda s: F.softmax(s.reshape(s.shape[0], -1), dim=1).reshape(s.shape),
        "last_of_three": lambda s: s.view(len(s), -1, 1).softmax(1).view(len(s), 1, H, W),
        "module": lambda s: nn.Softmax(dim=2)(s.flatten(2)).view_as(s),
        "squeezed": lambda s: s.squeeze(1).flatten(1).softmax(1).view(len(s), H, W).unsqueeze(1),
        "moved": lambda s: s.permute(0, 2, 3, 1).flatten(1).softmax(1).view(len(s), 1, H, W),
        "dtype": lambda s: F.softmax(s.flatten(2), 2, dtype=torch.float32).view_as(s),
        "quotient": lambda s: s.exp() / s.exp().sum((2, 3), keepdim=True),
        "of_shifted": lambda s: by_view(s - s.amax((2, 3), keepdim=True)),
        "quotient_of_shifted": _quotient,
        "times_reciprocal": lambda s: s.exp() * s.exp().sum((-1, -2), True).reciprocal(),
        "shifted_by_all": lambda s: by_view(s - s.max()),
        "exp_log": lambda s: s.flatten(2).log_softmax(2).exp().view(s.shape),
        "log_sum_exp": lambda s: (s - s.logsumexp((2, 3), keepdim=True)).exp(),
        "rows_of_all": lambda s: (
            s.view(len(s), -1).exp() / s.view(len(s), -1).exp().sum(1, True)
        ).view_as(s),
    },
    "spread": {
        "broadcast": lambda a, x: a,
        "expand_as": lambda a, x: a.expand_as(x),
        "repeat": lambda a, x: a.repeat(1, x.shape[1], 1, 1),
        "repeat_interleave": lambda a, x: a.repeat_interleave(x.shape[1], 1),
        "broadcast_to": lambda a, x: torch.broadcast_to(a, x.shape),
        "flat": lambda a, x: a.flatten(2).expand(-1, x.shape[1], -1).reshape(x.shape),
    },
    "sum": {
        "other_order": lambda x, a: x + a * x,
        "functions": lambda x, a: torch.add(torch.mul(a, x), x),
        "one_more": lambda x, a: x * (1 + a),
        "one_more_first": lambda x, a: (a + 1.0) * x,
        "addcmul": lambda x, a: torch.addcmul(x, x, a),
        "addcmul_turned": lambda x, a: x.addcmul(a, x, value=1),
        "ones": lambda x, a: x * (torch.ones_like(a) + a),
        "in_place": _add_in_place,
        "in_place_apart": _add_in_place_apart,
    },
    "join": {
        "positional": lambda parts, x: torch.cat(parts, 1),
        "negative": lambda parts, x: torch.cat(parts, -3),
        "stack": lambda parts, x: torch.stack(parts, 1).flatten(1, 2),
        "stack_viewed": lambda parts, x: torch.stack(parts, 1).view(x.shape),
        "hstack": lambda parts, x: torch.hstack(parts),
        "rearranged": lambda parts, x: torch.stack(parts).permute(1, 0, 2, 3, 4).reshape(x.shape),
        "transposed": lambda parts, x: torch.stack(parts).transpose(0, 1).flatten(1, 2),
    },
}

# Computes something else: step: name: (how, what the report says, if it is like ULSAM at all).
OTHER = {
    "cut": {
        "overlapping": (
            lambda x, g: [x[:, k : k + C // g] for k in range(g)],
            "its groups of (2, 2, 2, 2) channels start at (0, 1, 2, 3)",
        ),
        "backwards": (
            lambda x, g: x.chunk(g, 1)[::-1],
            "its groups are joined in the order 3, 2, 1, 0",
        ),
        "index_select_overlapping": (
            lambda x, g: [x.index_select(1, torch.arange(k, k + 2)) for k in range(g)],
            "its groups of (2, 2, 2, 2) channels start at (0, 1, 2, 3)",
        ),
    },
    "first_norm": {
        "layer_norm": (
            lambda s, t: s.layer_norm(t),
            "the depthwise batch norm is replaced by layer_norm",
        ),
        "missing": (lambda s, t: t, "the depthwise batch norm is missing"),
        "no_affine": (
            lambda s, t: F.batch_norm(t, s.first.running_mean, s.first.running_var),
            "the depthwise batch norm has no weight; the depthwise batch norm has no bias",
        ),
        "computed": (
            lambda s, t: F.batch_norm(
                t, s.first.running_mean, s.first.running_var, s.first.weight + 1, s.first.bias
            ),
            "the weight of the depthwise batch norm is computed",
        ),
    },
    "first_relu": {
        "missing": (lambda t: t, "the ReLU before the pool is missing"),
        "gelu": (F.gelu, "the ReLU before the pool is replaced by gelu"),
        "relu6": (F.relu6, "the ReLU before the pool is replaced by relu6"),
        "threshold": (
            lambda t: F.threshold(t, 0.1, 0),
            "the ReLU before the pool is replaced by threshold",
        ),
        "clamp": (
            lambda t: t.clamp(min=0.1),
            "the ReLU before the pool is replaced by clamp",
        ),
        "clamp_both": (
            lambda t: t.clamp(0, 6),
            "the ReLU before the pool is replaced by clamp",
        ),
        "leaky": (F.leaky_relu, "the ReLU before the pool is replaced by leaky_relu"),
    },
    "between": {
        "scaled": (lambda t: t * 2, "there is multiply before the max-pool"),
        "detached": (lambda t: t.detach(), "there is detach before the max-pool"),
        "float16": (
            lambda t: t.half().float(),
            "there is cast before the max-pool; part of it is computed in float16",
        ),
    },
    "pool": {
        "reads_input": (lambda t, x: F.max_pool2d(x, 3, 1, 1), "the pool reads the input"),
        "five": (
            lambda t, x: F.max_pool2d(t, 5, 1, 2),
            "the max-pool has kernel (5, 5), not (3, 3); "
            "the max-pool has padding (2, 2), not (1, 1)",
        ),
        "average": (
            lambda t, x: F.avg_pool2d(t, 3, 1, 1),
            "the max-pool is replaced by avg_pool2d",
        ),
        "dilated": (
            lambda t, x: F.max_pool2d(t, 2, 1, 1, 2),
            "the max-pool has kernel (2, 2), not (3, 3); "
            "the max-pool has dilation (2, 2), not (1, 1)",
        ),
    },
    "second_relu": {"missing": (lambda s: s, "the ReLU before the softmax is missing")},
    "softmax": {
        "sigmoid": (torch.sigmoid, "the softmax is replaced by sigmoid"),
        "channels": (lambda s: s.softmax(1), "the softmax runs over axis 1 of (2, 1, 5, 6)"),
        "columns": (lambda s: s.softmax(3), "the softmax runs over axis 3 of (2, 1, 5, 6)"),
        "samples": (
            lambda s: s.view(N, 1, -1).softmax(0).view_as(s),
            "the softmax runs over axis 0 of (2, 1, 30)",
        ),
        "wrong_axis": (
            lambda s: s.view(len(s), 1, -1).softmax(1).view_as(s),
            "the softmax runs over axis 1 of (2, 1, 30)",
        ),
        "batch": (
            lambda s: s.flatten().softmax(0).view_as(s),
            "the softmax runs over axis 0 of (60)",
        ),
        "rows_quotient": (
            lambda s: s.exp() / s.exp().sum(3, keepdim=True),
            "the softmax runs over axis 3 of (2, 1, 5, 6)",
        ),
        "all_quotient": (
            lambda s: s.exp() / s.exp().sum(),
            "the softmax runs over axes (0, 1, 2, 3) of (2, 1, 5, 6)",
        ),
        "rows_log": (
            lambda s: s.log_softmax(3).exp(),
            "the softmax runs over axis 3 of (2, 1, 5, 6)",
        ),
        "of_shifted_rows": (lambda s: by_view(s - s.amax(2, keepdim=True)), None),
        "hot": (lambda s: by_view(s / 0.5), "there is div before the softmax"),
        "transposed": (
            lambda s: s.flatten(2).softmax(2).view(len(s), 1, W, H).transpose(2, 3),
            "there is permute after the softmax",
        ),
    },
    "sum": {
        "no_residual": (lambda x, a: x * a, "the input is not added to the product"),
        "subtracted": (lambda x, a: x - x * a, "the input is not added to the product"),
        "other_residual": (lambda x, a: x * a + x.relu(), "the input is not added to the product"),
        "alpha": (
            lambda x, a: torch.add(x, x * a, alpha=2),
            "the input is not added to the product",
        ),
        "addcmul": (
            lambda x, a: torch.addcmul(x, x, a, value=2),
            "the input is not added to the product",
        ),
        "addcmul_of_another": (
            lambda x, a: torch.addcmul(x.relu(), x, a),
            "the input is not added to the product",
        ),
        "one_and_a_half": (
            lambda x, a: x * (1.5 + a),
            "there is add after the softmax; the input is not added to the product",
        ),
        "attention_added": (
lambda x, a: x * a + a, "the input is not added to the product"),
        "other_value": (_of_another, "it weighs another value than it reads"),
    },
    "join": {
        "permuted": (
            lambda parts, x: torch.cat([parts[1], parts[0], *parts[2:]], 1),
            "its groups are joined in the order 1, 0, 2, 3",
        ),
        "one_less": (lambda parts, x: torch.cat(parts[:-1], 1), "its groups cover 6 of 8 channels"),
        "added": (lambda parts, x: sum(parts), "its groups are not joined again"),
        "rows": (lambda parts, x: torch.cat(parts, 2), "its groups are not joined again"),
    },
}  # fmt: skip


def _at_once(weigh, spread=STEPS["spread"]):
    """Steps that join the attention of the groups, and weigh the input of all with it."""
    return {"sum": lambda x, a: a, "spread": spread, "join": lambda a, x: weigh(x, torch.cat(a, 1))}


def _each(a, x):
    return a


# The attention of all groups is joined before one product: computes ULSAM, and something else.
AT_ONCE = {
    "expanded": _at_once(lambda x, a: x * a + x),
    "one more": _at_once(lambda x, a: (1 + a) * x),
    "repeated": _at_once(lambda x, a: x + a.repeat_interleave(C // GROUPS, 1) * x, _each),
    "repeated, one more": _at_once(lambda x, a: x * (a.repeat_interleave(2, dim=1) + 1), _each),
}
AT_ONCE_WRONG = {
    "tiled": _at_once(lambda x, a: x * a.repeat(1, C // GROUPS, 1, 1) + x, _each),
    "no residual": _at_once(lambda x, a: x * a),
    "of another": _at_once(lambda x, a: x.flip(1) * a + x),
    "backwards": _at_once(lambda x, a: x * torch.cat(a.split(2, 1)[::-1], 1) + x),
    "used elsewhere": _at_once(lambda x, a: x * a + x + a),
    "scaled": _at_once(lambda x, a: x * (2 * a) + x),
}


class Together(nn.Module):
    """All groups computed at once."""

    def __init__(self, weigh, groups=2):
        super().__init__()
        self.first, self.second = (
            nn.BatchNorm2d(C, momentum=0.9),
            nn.BatchNorm2d(groups, momentum=0.9),
        )
        self.depthwise = nn.Conv2d(C, C, 1, groups=C)
        self.pointwise = nn.Conv2d(C, groups, 1, groups=groups)
        self.parts, self.weigh = range(groups), weigh

    def forward(self, x):
        t = F.max_pool2d(F.relu(self.first(self.depthwise(x))), 3, 1, 1)
        s = F.relu(self.second(self.pointwise(t)))
        return self.weigh(x, s.flatten(2).softmax(2).view(s.shape))


def _five_axes(x, a):
    n, g = a.shape[:2]
    y = x.view(n, g, -1, H, W)
    return (y + y * a.unsqueeze(2)).flatten(1, 2)


def _five_axes_inside(x, a):
    return (x.unflatten(1, (a.shape[1], -1)) * a.unsqueeze(2)).view(x.shape) + x


def _expanded(x, a):
    n, g = a.shape[:2]
    return x * (1 + a.unsqueeze(2).expand(n, g, C // g, H, W).reshape(x.shape))


TOGETHER = {
    "five axes": _five_axes,
    "five axes for the product": _five_axes_inside,
    "repeated": lambda x, a: x * a.repeat_interleave(C // a.shape[1], dim=1) + x,
    "expanded": _expanded,
}
TOGETHER_WRONG = {
    "tiled": lambda x, a: x * a.repeat(1, C // a.shape[1], 1, 1) + x,
    "interleaved": lambda x, a: (
        (x.view(N, -1, a.shape[1], H, W) * a.unsqueeze(1)).view(x.shape) + x
    ),
    "left in five axes": lambda x, a: _five_axes(x, a).unflatten(1, (2, -1)).transpose(1, 2),
}


def randomised(module):
    """The module in eval mode with random weights and statistics, most scores alive."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif key.endswith("second.bias"):
                value.uniform_(1.0, 2.0)
            elif value.is_floating_point():
                value.normal_(0.3, 1.0)
    return module.eval()
