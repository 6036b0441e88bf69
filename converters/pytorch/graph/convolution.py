"""Convolutions, forward and transposed, and linear layers.

PyTorch: Keras

- conv1d, conv2d, conv3d, convolution: `Conv1D`, `Conv2D`, `Conv3D`; `DepthwiseConv1D/2D` where
  groups are the input's channels; in three dimensions, groups and dilations are filled with zeros
- padding that "same" gives for these sizes: `padding="same"`; any other a `ZeroPadding` layer
  before
- dilation together with a stride: stride 1, then every n-th position
- conv_transpose1d, 2d, 3d: `Conv1DTranspose`, `Conv2DTranspose`, `Conv3DTranspose`, cropped;
  dilated and grouped kernels are filled with zeros
- conv2d with kernels that depend on the input: a product of its windows with them
- linear, addmm, mm, matmul with a weight: `Dense`; after a flatten its rows are reordered instead
  of the map
- embedding: `Embedding`
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.call import Call, Held
from converters.pytorch.graph.layout import (
    Atom,
    Value,
    constant,
    extent,
    flat,
    is_free,
    permuted,
    reshaped,
    squeezed,
    with_axis,
)
from converters.pytorch.graph.registry import converts


@converts(
    "aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution", "aten._convolution",
    "aten.cudnn_convolution", "aten.mkldnn_convolution",
)  # fmt: skip
def convolution(call: Call) -> Value:
    """Every forward convolution; `aten.convolution` is the transposed one, too."""
    weight = call.weight("weight")
    count = weight.rank - 2
    if call.get("transposed", False):
        return convolution_transpose(call)
    x = call.value("input")
    if x.rank == count + 1:
        call.refuse("its input has no batch")
    stride, dilation = call.ints("stride", count, 1), call.ints("dilation", count, 1)
    padding = call.get("padding", 0)
    kernel = weight.shape[2:]
    if not weight.constant:
        return _with_computed_kernel(call, x, weight)
    if padding == "same":
        pads = [divmod((k - 1) * d, 2) for k, d in zip(kernel, dilation, strict=True)]
        before_after = [(half, half + odd) for half, odd in pads]
    else:
        sizes = (0,) * count if padding == "valid" else call.ints("padding", count, 0)
        before_after = [(p, p) for p in sizes]
    return _convolved(call, x, weight, stride, dilation, before_after)


def _with_computed_kernel(call: Call, x: Value, weight: Value) -> Value:
    """A product of windows with kernels that depend on the input; each group may be a sample."""
    from converters.pytorch.graph.attention import multiplied
    from converters.pytorch.graph.elementwise import added
    from converters.pytorch.graph.slicing import windows

    groups, count = call.get("groups", 1), weight.rank - 2
    if count != 2 or isinstance(call.get("padding", 0), str) or groups > 1 and x.shape[0] > 1:
        call.refuse("its weight depends on the input, which is known of maps, in groups of one map")
    # Of one sample, a group for each looks like no groups.
    apart = groups > 1 or is_free(weight.dims[0])
    rows = call.meta.hint[2:]
    channels, units = x.shape[1] // groups, weight.shape[0] // groups
    unsure = [None] * 4
    if apart:
        # (1, groups * channels, …) as a map for each group.
        maps = reshaped(squeezed(x, [0]), (groups, channels, *x.shape[2:]), unsure, call.batch)
        each = (groups, units, *weight.shape[1:])
        kernels = reshaped(weight, each, [*unsure, None], call.batch)
        assert maps is not None and kernels is not None
        x, weight = maps, kernels
    flat_weight = replace(weight, dims=(*weight.dims[:-3], tuple(flat(weight.dims[-3:]))))
    kernel = weight.shape[-2:]
    product = multiplied(call, flat_weight, windows(call, x, kernel))
    bias = call.optional("bias")
    if bias is not None:
        bias = reshaped(bias, (groups, units), [None, None], call.batch) if apart else bias
        assert bias is not None
        product = added(call, product, replace(bias, dims=(*bias.dims, ())))
    found = reshaped(product, (*product.shape[:2], *rows), unsure, call.batch)
    assert found is not None
    if apart:
        found = replace(found, dims=((), (*found.dims[0], *found.dims[1]), *found.dims[2:]))
    return found


def _convolved(
    call: Call,
    x: Value,
    weight: Value,
    stride: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Value:
    import keras

    count = weight.rank - 2
    groups = call.get("groups", 1)
    order = CHANNELS_LAST[count + 2]
    x = call.ordered(x, order)
    channels, kernel = x.shape[1], weight.shape[2:]
    if count == 3 and (groups > 1 or any(d > 1 for d in dilation)):
        # LiteRT has neither groups nor dilations in three dimensions.
        weight, dilation, groups = _filled_in(call, weight, dilation, groups), (1, 1, 1), 1
        kernel = weight.shape[2:]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    # Neither Keras nor TensorFlow has a stride and a dilation together.
    thin = any(s > 1 for s in stride) and any(d > 1 for d in dilation)
    strides = (1,) * count if thin else tuple(stride)
    tensor, mode = padded(call, x.tensor, pads, spans, strides)
    shared: dict[str, Any] = {
        "kernel_size": kernel,
        "padding": mode,
        "data_format": "channels_last",
        "dilation_rate": tuple(dilation),
        "use_bias": call.optional_weight("bias") is not None,
    }
    bias = call.held(call.optional_weight("bias"))
    depthwise = groups == channels > 1 and count < 3 and len(set(strides)) == 1
    if depthwise:
        # TensorFlow's depthwise kernels take no dilation that differs between the dimensions.
        multiplier = weight.shape[0] // groups
        kind = {1: keras.layers.DepthwiseConv1D, 2: keras.layers.DepthwiseConv2D}[count]
        held = call.held(
            weight,
            lambda w: np.moveaxis(w.reshape(groups, multiplier, *kernel), (0, 1), (-2, -1)),
        )
        # Keras takes one stride per dimension only where there are several.
        shared["depth_multiplier"] = multiplier
        tensor = call.layer(
            kind, tensor, {"kernel": held, "bias": bias}, strides=_one(strides), **_ones(shared)
        )
    else:
        kind = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[count]
        held = call.held(weight, lambda w: np.moveaxis(w, (1, 0), (-2, -1)))
        tensor = call.layer(
            kind,
            tensor,
            {"kernel": held, "bias": bias},
            filters=weight.shape[0],
            groups=groups,
            strides=strides,
            **shared,
        )
    if thin:
        tensor = tensor[(slice(None), *(slice(None, None, s) for s in stride))]
    return call.result(tensor, order)


def _filled_in(call: Call, weight: Value, dilation: Sequence[int], groups: int) -> Value:
    """A kernel with zeros between what is dilated, and between groups."""
    kernel = call.array(weight)
    assert kernel is not None
    kernel = _dilated(kernel, dilation)
    if groups > 1:
        # (out, in / groups, …) turned over is as that of a transposed convolution.
        parts = np.split(kernel, groups)
        turned = np.concatenate([part.swapaxes(0, 1) for part in parts])
        kernel = _block_diagonal(turned, groups).swapaxes(0, 1)
        if groups > 8:
            call.note(f"{groups} groups as one kernel with zeros between them")
    return constant(kernel, weight.keys)


def _one(values: Sequence[int]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _ones(config: dict[str, Any]) -> dict[str, Any]:
    names = ("kernel_size", "dilation_rate")
    return {k: _one(v) if k in names else v for k, v in config.items()}


def padded(
    call: Call,
    tensor: Any,
    pads: Sequence[tuple[int, int]],
    spans: Sequence[int],
    strides: Sequence[int],
) -> tuple[Any, str]:
    """A channels-last tensor ready for a window, and the padding mode that the window is to have.

    Args:
        call: The call.
        tensor: The tensor.
        pads: Zeros before and after, in each spatial dimension.
        spans: The extents of the window.
        strides: Its strides.
    """
    import keras

    if not any(flat_pads := [p for pair in pads for p in pair]):
        return tensor, "valid"
    sizes = tensor.shape[1:-1]
    if all(map(is_same, sizes, pads, spans, strides)):
        return tensor, "same"
    assert flat_pads
    count = len(sizes)
    kind = {
        1: keras.layers.ZeroPadding1D,
        2: keras.layers.ZeroPadding2D,
        3: keras.layers.ZeroPadding3D,
    }[count]
    amount: Any = pads[0] if count == 1 else tuple(map(tuple, pads))
    extra: dict[str, Any] = {} if count == 1 else {"data_format": "channels_last"}
    return call.layer(kind, tensor, part="pad", padding=amount, **extra), "valid"


def is_same(size: int | None, pads: tuple[int, int], span: int, stride: int) -> bool:
    """Whether TensorFlow's "same" pads a dimension just so."""
    if stride == 1:
        half, odd = divmod(span - 1, 2)
        return pads == (half, half + odd)
    if size is None:
        return False
    count = (size + sum(pads) - span) // stride + 1
    total = max((count - 1) * stride + span - size, 0)
    return count == -(-size // stride) and pads[0] == total // 2


@converts("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def convolution_transpose(call: Call) -> Value:
    """Keras gives the whole result, which is cropped to PyTorch's."""
    import keras

    x, weight = call.value("input"), call.weight("weight")
    count = weight.rank - 2
    order = CHANNELS_LAST[count + 2]
    stride, dilation = call.ints("stride", count, 1), call.ints("dilation", count, 1)
    padding, extra = call.ints("padding", count, 0), call.ints("output_padding", count, 0)
    groups = call.get("groups", 1)
    x = call.ordered(x, order)
    kernel = call.array(weight)
    assert kernel is not None
    kernel = _dilated(kernel, dilation)
    spans = kernel.shape[2:]
    # What is cut off after; where it is less than nothing the kernel is given zeros.
    after = [p - e for p, e in zip(padding, extra, strict=True)]
    after = [
        a - max(s - k, 0) if a < 0 else a for a, s, k in zip(after, stride, spans, strict=True)
    ]
    grow = [
        max(-(p - e), 0, s - k) for p, e, s, k in zip(padding, extra, stride, spans, strict=True)
    ]
    kernel = np.pad(kernel, [(0, 0), (0, 0), *((0, g) for g in grow)])
    spans = kernel.shape[2:]
    after = [p - e + g for p, e, g in zip(padding, extra, grow, strict=True)]
    if groups > 1:
        kernel = _block_diagonal(kernel, groups)
        if groups > 8:
            call.note(f"{groups} groups as one kernel with zeros between them")
    same = all(
        k >= s and p == (k - s) // 2 and a == k - s - p
        for k, s, p, a in zip(spans, stride, padding, after, strict=True)
    )
    changed = np.moveaxis(kernel, (1, 0), (-2, -1))
    bias = call.optional_weight("bias")
    kind = getattr(keras.layers, f"Conv{count}DTranspose")
    tensor = call.layer(
        kind,
        x.tensor,
        {
            "kernel": Held(np.ascontiguousarray(changed, "float32"), weight.keys, "rearranged"),
            "bias": call.held(bias),
        },
        filters=kernel.shape[1],
        kernel_size=_one(spans),
        strides=_one(stride),
        padding="same" if same else "valid",
        use_bias=bias is not None,
        data_format="channels_last",
    )
    crop = list(zip(padding, after, strict=True))
    if not same and any(map(any, crop)):
        kind = getattr(keras.layers, f"Cropping{count}D")
        where: dict[str, Any] = {} if count == 1 else {"data_format": "channels_last"}
        cut: Any = crop[0] if count == 1 else tuple(crop)
        tensor = call.layer(kind, tensor, part="crop", cropping=cut, **where)
    return call.result(tensor, order)


def _dilated(kernel: np.ndarray, dilation: Sequence[int]) -> np.ndarray:
    for axis, d in enumerate(dilation, 2):
        if d > 1:
            shape = list(kernel.shape)
            shape[axis] = (shape[axis] - 1) * d + 1
            wide = np.zeros(shape, kernel.dtype)
            wide[(slice(None),) * axis + (slice(None, None, d),)] = kernel
            kernel = wide
    return kernel


def _block_diagonal(kernel: np.ndarray, groups: int) -> np.ndarray:
    """A grouped kernel (in, out / groups, …) as one of a plain convolution (in, out, …)."""
    inputs, outputs = kernel.shape[:2]
    whole = np.zeros((inputs, outputs * groups, *kernel.shape[2:]), kernel.dtype)
    each = inputs // groups
    for g in range(groups):
        rows, columns = slice(g * each, (g + 1) * each), slice(g * outputs, (g + 1) * outputs)
        whole[rows, columns] = kernel[rows]
    return whole


@converts("aten.linear")
def linear(call: Call) -> Value:
    """`Dense`, over the last dimension."""
    return dense(call, call.value("input"), "weight", "bias")


def dense(call: Call, x: Value, weight_name: str, bias_name: str, turned: bool = False) -> Value:
    """A `Dense` layer over the last dimension.

    Args:
        call: The call.
        x: What it is of.
        weight_name: The argument that is (out, in).
        bias_name: The one that is (out,), or left out.
        turned: Whether the first is (in, out).
    """
    import keras

    weight, bias = call.weight(weight_name), call.optional_weight(bias_name)
    weight = permuted(weight, (1, 0)) if turned else weight
    if not weight.constant:
        from converters.pytorch.graph.attention import multiplied
        from converters.pytorch.graph.elementwise import added

        product = multiplied(call, x, permuted(weight, (1, 0)))
        shift = call.optional(bias_name)
        return product if shift is None else added(call, product, shift)
    call.arranger.own_to_a_sample(x.dims[-1])
    x, group = _last_in_any_order(call, x)
    rows = _rows(x.dims[-1], group)
    units = weight.shape[0]
    tensor = call.layer(
        keras.layers.Dense,
        x.tensor,
        {
            "kernel": call.held(weight, lambda w: w.T if rows is None else w.T[rows]),
            "bias": call.held(bias),
        },
        units=units,
        use_bias=bias is not None,
    )
    return with_axis(x, x.rank - 1, len(x.axes) - 1, tensor, units)


def _last_in_any_order(call: Call, x: Value) -> tuple[Value, tuple[Atom, ...]]:
    """The value with the last dimension in the last axis, its atoms as they lie."""
    group = x.dims[-1]
    atoms = flat(x.axes)
    if not all(a in atoms for a in group):
        x = call.last(x, -1)
        return x, x.axes[-1]
    as_it_lies = tuple(a for a in atoms if a in group)
    view = replace(x, dims=(*x.dims[:-1], as_it_lies))
    view = call.last(view, -1)
    return replace(view, dims=(*x.dims[:-1], group)), view.axes[-1] if group else ()


def _rows(wanted: tuple[Atom, ...], have: tuple[Atom, ...]) -> np.ndarray | None:
    """For each position in an axis, which row of the weight is its."""
    if wanted == have:
        return None
    numbers = np.arange(extent(wanted)).reshape([a.size for a in wanted])
    return numbers.transpose([wanted.index(a) for a in have]).ravel()


@converts("aten.embedding")
def embedding(call: Call) -> Value:
    """`Embedding`, of whole numbers."""
    import keras

    weight, indices = call.weight("weight"), call.value("indices")
    if indices.constant and not call.again:
        table, rows = call.array(weight), call.array(indices)
        assert table is not None and rows is not None
        return call.result(table[rows], keys=weight.keys)
    indices = call.ordered(indices)
    tensor = call.layer(
        keras.layers.Embedding,
        indices.tensor,
        {"embeddings": call.held(weight)},
        input_dim=weight.shape[0],
        output_dim=weight.shape[1],
    )
    return call.result(tensor)
