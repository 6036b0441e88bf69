"""What a model's graph shows and keys do not, where Keras's habit is not PyTorch's: warnings.

A state dict holds no stride, padding, axis or epsilon. Where the Keras model has what PyTorch's
layers cannot do, or what Keras does unless told and PyTorch does not, the port says so, once for
all layers of a kind.

Imports NumPy through ``flattening``; Keras only inside functions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from converters.pytorch.flattening import FIRST, LAST, Graph, tensors
from converters.pytorch.mismatch import few
from converters.pytorch.targets import Leaf

_KERAS_EPSILON = 1e-3


def doubts(ported: Sequence[Leaf], others: Sequence[Any], graph: Graph) -> list[str]:
    """Give the warnings for the layers that were ported and those without weights around them.

    Args:
        ported: The layers that were ported.
        others: Layers that no table is for.
        graph: The model's operations; those inside of layers of one's own are not among them.
    """
    labels = {id(leaf.layer): leaf.label for leaf in ported}
    every = {id(op): op for op in (*graph.operations, *(leaf.layer for leaf in ported), *others)}
    # Not those that keep weights of their own.
    operations = [
        op for key, op in every.items() if key in labels or not getattr(op, "weights", None)
    ]
    found = []
    for test, text in TESTS:
        named = [labels.get(id(op), op.name) for op in operations if test(op, graph)]
        found += [text.format(few(map(repr, named)))] if named else []
    return found + list(_reshaped_outputs(labels, graph))


# Padding


def _uneven(op: Any, graph: Graph) -> bool:
    """Whether `same` or `causal` pads more at one side than at the other."""
    padding = getattr(op, "padding", None)
    if _transposed(op) or padding not in ("same", "causal"):
        return False
    totals = [total for window in _windows(op) for total in window.paddings(padding)]
    return any(total % 2 or (total and padding == "causal") for total in totals)


def _uneven_before(op: Any, graph: Graph) -> bool:
    """Whether a padding of zeros has no like in the layer behind it, both sides being the same."""
    pads = _zeros(op)
    readers = [reader for output in tensors(op, "output") for reader in graph.readers(output)]
    return any(
        start != end and window.differs(start, end)
        for reader in readers
        if pads and getattr(reader, "padding", None) == "valid" and not _transposed(reader)
        for window, (start, end) in zip(_windows(reader), pads, strict=False)
    )


def _uneven_crop(op: Any, graph: Graph) -> bool:
    """Whether a transposed convolution crops more at one side than at the other."""
    if not _transposed(op) or op.padding != "same":
        return False
    return any(total % 2 for window in _windows(op) for total in window.crops())


def _averages_padding(op: Any, graph: Graph) -> bool:
    """Whether an average pool pads: Keras leaves that out of the average."""
    averages = "AveragePool" in type(op).__name__ and getattr(op, "padding", None) == "same"
    return averages and any(any(window.paddings("same")) for window in _windows(op))


def _zeros_before_maximum(op: Any, graph: Graph) -> bool:
    """Whether a maximum is taken of zeros around values that may be negative."""
    if "MaxPool" not in type(op).__name__:
        return False
    (source,) = tensors(op, "input")[:1] or (None,)
    pad = graph.producer(source) if source is not None else None
    if pad is None or not any(map(any, _zeros(pad))) or not _filled_with_zeros(pad):
        return False
    op = graph.producer(tensors(pad, "input")[0])
    while op is not None and any(part in type(op).__name__ for part in ("Pool", "Dropout")):
        op = graph.producer(tensors(op, "input")[0])
    return not _never_negative(op)


def _never_negative(op: Any) -> bool:
    name = getattr(getattr(op, "activation", None), "__name__", type(op).__name__)
    positive = name.lower().replace("_", "") in (
        "relu",
        "relu6",
        "sigmoid",
        "hardsigmoid",
        "softmax",
    )
    return positive and not getattr(op, "negative_slope", 0)


def _transposed(op: Any) -> bool:
    from keras import layers

    return isinstance(op, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose))


@dataclass(frozen=True)
class _Window:
    """What moves over one axis of a map.

    Attributes:
        reach: From its first to its last place.
        stride: How far it moves.
        size: Size of the axis; None if it is open.
        more: The output padding of a transposed convolution; None if it has none.
    """

    reach: int
    stride: int
    size: int | None
    more: int | None

    def paddings(self, kind: str) -> set[int]:
        """How much `same` or `causal` pads in all; several where the size is open."""
        if kind == "causal":
            return {self.reach - 1}
        sizes = range(1, self.stride + 1) if self.size is None else [self.size]
        rests = {size % self.stride or self.stride for size in sizes}
        return {max(self.reach - rest, 0) for rest in rests}

    def crops(self) -> set[int]:
        """How much a transposed convolution crops: what one of its output would pad."""
        if self.more is None:
            return {max(self.reach - self.stride, 0)}
        size = self.reach % 2 + self.more + self.stride
        return _Window(self.reach, self.stride, size, None).paddings("same")

    def differs(self, start: int, end: int) -> bool:
        """Whether as much padding at both sides as at the start gives another number of outputs."""
        size = self.reach + self.stride
        sizes = range(size, size + self.stride) if self.size is None else [self.size - start - end]
        return any(
            (size + start + end - self.reach) // self.stride
            != (size + 2 * start - self.reach) // self.stride
            for size in sizes
        )


def _windows(op: Any) -> list[_Window]:
    """The window of a convolution or pool along each axis."""
    window = getattr(op, "kernel_size", None) or getattr(op, "pool_size", None)
    if window is None:
        return []
    sources = tensors(op, "input")
    if sources:
        first = getattr(op, "data_format", LAST) == FIRST
        sizes = tuple(sources[0].shape[2:] if first else sources[0].shape[1:-1])
    else:
        sizes = (None,) * len(_each(window, 1))
    if isinstance(window, (list, tuple)) and len(window) != len(sizes):
        return []  # a user's layer, whose windows are its own
    options = (
        window,
        getattr(op, "strides", None) or window,
        getattr(op, "dilation_rate", 1),
        sizes,
        getattr(op, "output_padding", None),
    )
    each = zip(*(_each(option, len(sizes)) for option in options), strict=True)
    return [_Window((k - 1) * d + 1, s, size, more) for k, s, d, size, more in each]


def _zeros(op: Any) -> list[tuple[int, int]]:
    """What a layer or operation pads with zeros, at the start and the end of each axis of a map."""
    if isinstance(op, _zero_paddings()):
        pairs = [op.padding] if isinstance(op.padding[0], int) else op.padding
        return [tuple(pair) for pair in pairs]
    if type(op).__name__ == "Pad" and op.mode == "constant":
        pairs = [tuple(pair) for pair in op.pad_width if not isinstance(pair, int)]
        channels_first = len(pairs) > 2 and not any(pairs[1]) and any(pairs[-1])
        return pairs[2:] if channels_first else pairs[1:-1]
    return []


def _filled_with_zeros(pad: Any) -> bool:
    """Whether a padding's value is 0, which of `ops.pad` only running it shows."""
    import keras

    if isinstance(pad, _zero_paddings()):
        return True
    inputs, outputs = tensors(pad, "input"), tensors(pad, "output")
    if len(inputs) != 1:
        return False
    below = keras.ops.full([size or 1 for size in inputs[0].shape], -1.0, inputs[0].dtype)
    return float(keras.ops.max(keras.Function(inputs, outputs)([below])[0])) == 0


def _zero_paddings() -> tuple[Any, ...]:
    import keras

    return tuple(getattr(keras.layers, f"ZeroPadding{rank}D") for rank in (1, 2, 3))


def _each(value: Any, rank: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank


# Defaults


def _epsilon(op: Any, graph: Graph) -> bool:
    # A ULSAM has 1e-5 unless its author wrote another.
    return getattr(op, "epsilon", None) == _KERAS_EPSILON and hasattr(op, "gamma")


def _slope(op: Any, graph: Graph) -> bool:
    import keras

    leaky = isinstance(op, keras.layers.LeakyReLU) and round(float(op.negative_slope), 6) == 0.3
    bare = type(op).__name__ == "LeakyRelu" and op.negative_slope == 0.2
    return leaky or bare or getattr(op, "activation", None) is keras.activations.leaky_relu


def _approximate(op: Any, graph: Graph) -> bool:
    return type(op).__name__ == "Gelu" and bool(op.approximate)


def _resizes(op: Any, graph: Graph) -> bool:
    """Whether a map is resized in a way that PyTorch has another formula for."""
    kind = getattr(op, "interpolation", None)
    if kind == "nearest":
        # Of whole multiples they are the same.
        before, after = (tensors(op, side)[:1] for side in ("input", "output"))
        sizes = zip(before[0].shape, after[0].shape, strict=False) if before and after else ()
        return any(a is not None and b is not None and b % a for a, b in sizes)
    return kind in ("bicubic", "lanczos3", "lanczos5")


# Axes


def _other_axis(op: Any, graph: Graph) -> bool:
    """Whether a norm or slope per channel is at another axis than the channels'."""
    import keras

    (source,) = tensors(op, "input")[:1] or (None,)
    if source is None or len(source.shape) < 3:
        return False
    kinds = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
    if isinstance(op, kinds):
        axis = op.axis if isinstance(op.axis, int) else op.axis[0]
    elif isinstance(op, keras.layers.PReLU) and sum(n > 1 for n in op.alpha.shape) == 1:
        axis = 1 + max(range(len(op.alpha.shape)), key=lambda n: op.alpha.shape[n])
    else:
        return False
    layout = graph.layout(source)
    rank = len(source.shape)
    return layout is not None and axis % rank != (1 if layout == FIRST else rank - 1)


# What is looked for, and what is said of the layers found.
TESTS: tuple[tuple[Callable[[Any, Graph], bool], str], ...] = (
    (
        _uneven,
        "Layers that pad one side by more than the other: {}. Keras's padding does that at some "
        "sizes, PyTorch's padding=N never, and a state dict does not tell: put ZeroPadding2D(N) "
        'before them and give them padding="valid", unless the PyTorch network pads so by itself.',
    ),
    (
        _uneven_before,
        "Paddings of one side by more than the other, before a convolution or pool: {}. PyTorch's "
        "padding=N pads both sides alike, and a state dict does not tell: make it "
        "ZeroPadding2D(N), unless the PyTorch network pads so by itself.",
    ),
    (
        _uneven_crop,
        "Transposed convolutions that crop one more at the end than at the start: {}. PyTorch's "
        "with padding=N and output_padding crops more at the start, and a state dict does not "
        'tell: give them padding="valid" and put Cropping2D behind them.',
    ),
    (
        _averages_padding,
        "Average pools that pad: {}. Keras leaves the padding out of the average, PyTorch counts "
        "its zeros unless count_include_pad=False, and a state dict does not tell: put "
        'ZeroPadding2D(N) before them and give them padding="valid".',
    ),
    (
        _zeros_before_maximum,
        "Maximum pools of padded maps that may be negative: {}. PyTorch's MaxPool2d(padding=N) "
        "pads with minus infinity, and a state dict does not tell: pad with that, by "
        "keras.ops.pad(x, ..., constant_values=-1e30), unless the PyTorch network pads with zeros.",
    ),
    (
        _epsilon,
        "Normalizations with Keras's default epsilon of 1e-3: {}. PyTorch's "
        "default is 1e-5, and a state dict does not tell: build them with epsilon=1e-5 unless the "
        "PyTorch network has eps=1e-3.",
    ),
    (
        _slope,
        "Leaky ReLUs with Keras's default slope of 0.3, or 0.2 as an activation: {}. PyTorch's is "
        "0.01, and a state dict does not tell: give them its negative_slope.",
    ),
    (
        _approximate,
        "The approximate gelu, keras.ops.gelu's default: {}. PyTorch's is exact unless "
        'approximate="tanh", and a state dict does not tell: give it approximate=False.',
    ),
    (
        _resizes,
        "Maps resized by another formula than PyTorch's: {}. PyTorch's bicubic and its nearest of "
        "sizes that are no multiples are others, and a state dict does not tell: use bilinear, "
        "unless the PyTorch network has nearest-exact.",
    ),
    (
        _other_axis,
        "Layers whose weights lie along another axis than the channels: {}. PyTorch's are those of "
        "the channels: give them the channels' axis.",
    ),
)


def _reshaped_outputs(labels: dict[int, str], graph: Graph) -> Iterator[str]:
    """Warn of layers whose output vector becomes a map."""
    for layer, shape in graph.reshaped_into_maps():
        if id(layer) in labels:
            yield (
                f"The output of layer {labels[id(layer)]!r} is reshaped into a map of {shape}, "
                "which PyTorch fills channel by channel. It was ported in PyTorch's order: compare "
                "the model's outputs with PyTorch's."
            )
