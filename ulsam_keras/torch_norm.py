"""The norm of a training step by PyTorch's own kernels. Imports PyTorch.

An eager step is as long as its way through memory: statistics, norm and gradient are one kernel
each here, where Keras's operations are twenty.
"""

from typing import Any

import torch


def normalized(
    x: torch.Tensor,
    kernel: torch.Tensor,
    weight: torch.Tensor,
    beta: torch.Tensor,
    epsilon: float,
    axis: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`training_forms.normalized` before its ReLU; of half precision with float32 statistics."""
    # A compiler fuses what follows by itself.
    function = _in_operations if torch.compiler.is_compiling() else _Normalized.apply
    y, mean, variance = function(x.movedim(axis, 1), kernel, weight, beta, epsilon)
    return y.movedim(1, axis), mean, variance


def _in_operations(
    x: torch.Tensor, kernel: torch.Tensor, weight: torch.Tensor, beta: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    wide = x.to(kernel.dtype)
    variance, mean = torch.var_mean(wide, (0, *range(2, x.ndim)), correction=0)
    scale = weight * torch.rsqrt(kernel.square() * variance + epsilon)
    near, scale, shift = (t.reshape(-1, *[1] * (x.ndim - 2)) for t in (mean, scale, beta))
    return ((wide - near) * scale + shift).to(x.dtype), mean, variance


# Of a kernel's size, which is divided by: nothing beside the root of any epsilon.
_LEAST = 1e-12


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        kernel: torch.Tensor,
        weight: torch.Tensor,
        beta: torch.Tensor,
        epsilon: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # In the type of these two, also of a half precision x; with a momentum of 0 they stay.
        unused = torch.zeros_like(kernel), torch.ones_like(kernel)
        mean, variance = torch.batch_norm_update_stats(x, *unused, 0.0)
        # The norm in terms of x, whose variance is that of x * kernel through the kernel's square.
        size = kernel.abs().clamp(min=_LEAST)
        spread = variance + epsilon / size.square()
        outputs = torch.nn.functional.batch_norm(
            x, mean, spread, weight / size, beta, training=False, eps=0.0
        )
        ctx.save_for_backward(x, kernel, weight, beta, mean, variance, spread, size)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, variance)
        return outputs, mean, variance

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x, kernel, weight, beta, mean, variance, spread, size = ctx.saved_tensors
        if torch.is_grad_enabled():  # The gradient is to be differentiated again.
            inputs = x, kernel, weight, beta
            wanted = [t for t in inputs if t.requires_grad]
            outputs = _in_operations(*inputs, ctx.epsilon)[0]
            found = iter(torch.autograd.grad(outputs, wanted, upstream, create_graph=True))
            return *(next(found) if t.requires_grad else None for t in inputs), None
        root = torch.rsqrt(spread)
        of_x, along, of_beta = torch.ops.aten.native_batch_norm_backward(
            upstream,
            x,
            weight / size,
            mean,
            spread,
            mean,
            root,
            True,
            0.0,
            [True, True, True],
        )
        of_weight = along / size
        of_kernel = -weight * kernel * variance * of_weight / (size.square() * spread)
        return of_x, of_kernel, of_weight, of_beta, None
