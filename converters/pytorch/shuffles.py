"""The order of channels before a pixel shuffle, and after what undoes one.

PyTorch's `PixelShuffle(r)` takes the r * r values of a block from neighbouring channels, (C, r, r);
Keras's `depth_to_space` from channels that lie C apart, (r, r, C). The shapes are the same. What a
model does is seen by running its operations without weights on numbered values, be it that
operation, a Lambda or a reshape between permutations; then the convolution before it gets its
outputs in Keras's order, or, after `space_to_depth`, the one behind it its inputs.

Imports NumPy; Keras only inside functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from converters.pytorch.flattening import FIRST, Graph, is_stock, tensors

# Reshape, permute and reshape are three.
_LONGEST = 6
_DIGITS = 128


@dataclass(frozen=True)
class Channels:
    """An order of channels.

    Attributes:
        index: The place in PyTorch's order of each channel in Keras's.
        name: What the reordering is called in the port report.
    """

    index: tuple[int, ...]
    name: str


class Shuffles:
    """The layers of a model whose channels come in another order than in PyTorch.

    Args:
        graph: The model's operations.

    Attributes:
        inputs: By ``id`` of a layer, the order of its input channels.
        outputs: By ``id`` of a layer, the order of its output channels.
        warnings: What could not be followed, in words.
    """

    def __init__(self, graph: Graph) -> None:
        self.inputs: dict[int, Channels] = {}
        self.outputs: dict[int, Channels] = {}
        self.warnings: list[str] = []
        self._graph = graph
        for op in graph.operations:
            if found := _blocks(graph, op):
                self._settle(op, *found)

    def _settle(self, op: Any, chain: list[Any], block: int, together: bool) -> None:
        (source,), (end,) = tensors(chain[0], "input"), tensors(op, "output")
        first = self._graph.layout(source) == FIRST
        try:
            moved = _moved(chain, source.shape, first, 2 * block)
        except Exception:  # whatever a user's function makes of numbers
            index, why = None, "it cannot be run by itself"
        else:
            index, why = _order(moved, block, together), "it is in no order that PixelShuffle has"
            if moved is None and is_stock(op):
                return  # no shuffle
        if index == tuple(range(len(index or ()))):
            return
        if index is not None:
            kind = "features" if together else "outputs"
            channels = len(index) // block**2
            name = f"{kind} C,r,r -> r,r,C = {block},{block},{channels}"
            order = Channels(index, name)
            why = self._behind(end, order) if together else self._before(source, order)
        if why:
            self.warnings.append(
                f"{op.name!r} moves {block} x {block} positions "
                f"{'into' if together else 'out of'} the channels, which PyTorch's Pixel"
                f"{'Unshuffle' if together else 'Shuffle'} orders (C, {block}, {block}), and "
                f"{why}. All was ported in PyTorch's order: compare the model's outputs with "
                "PyTorch's."
            )

    def _before(self, tensor: Any, order: Channels) -> str:
        """Reorder the outputs of what makes a tensor; say why not if that is not possible."""
        layers = []
        while True:
            if len(self._graph.readers(tensor)) > 1 or self._graph.read_unseen(tensor):
                return "what goes into it is read elsewhere too"
            op = self._graph.producer(tensor)
            sources = tensors(op, "input")
            if op is None or not sources:
                return "no layer that makes its channels can be seen"
            if _makes_channels(op):
                layers.append(op)
                if self._called_again(layers):
                    return "a layer before it is called more than once"
                self.outputs |= {id(layer): order for layer in layers}
                return ""
            if len(sources) > 1 or not _keeps_channels(op):
                return f"{op.name!r} lies between it and the layer that makes its channels"
            layers += [op] if op.weights else []
            tensor = sources[0]

    def _behind(self, tensor: Any, order: Channels) -> str:
        """Reorder the inputs of what reads a tensor; say why not if that is not possible."""
        layers, waiting = [], [tensor]
        while waiting:
            tensor = waiting.pop()
            readers = self._graph.readers(tensor)
            if not readers or None in readers or self._graph.read_unseen(tensor):
                return "not all that reads its channels can be seen"
            for op in readers:
                keeps = len(tensors(op, "input")) == 1 and _keeps_channels(op, depthwise=True)
                if not keeps and not _makes_channels(op):
                    return f"{op.name!r} lies between it and the layers that read its channels"
                layers += [op] if getattr(op, "weights", None) else []
                waiting += tensors(op, "output") if keeps else []
        if self._called_again(layers):
            return "a layer behind it is called more than once"
        self.inputs |= {id(layer): order for layer in layers}
        return ""

    def _called_again(self, layers: Sequence[Any]) -> bool:
        return not self._graph.called_again.isdisjoint(map(id, layers))


def _makes_channels(op: Any) -> bool:
    """Tell whether every output channel of an operation is made of all input channels."""
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.Dense)
    return isinstance(op, kinds) and getattr(op, "groups", 1) == 1


def _keeps_channels(op: Any, depthwise: bool = False) -> bool:
    """Tell whether every output channel of an operation is made of the input channel alone."""
    import keras

    if getattr(op, "weights", None):
        kinds = (keras.layers.BatchNormalization, keras.layers.PReLU)
        alone = depthwise and isinstance(op, keras.layers.DepthwiseConv2D)
        return isinstance(op, kinds) or (alone and op.depth_multiplier == 1)
    before, after = tensors(op, "input")[0].shape, tensors(op, "output")[0].shape
    if is_stock(op):
        return len(before) == len(after)
    return before == after and not isinstance(op, keras.layers.Layer)


def _blocks(graph: Graph, op: Any) -> tuple[list[Any], int, bool] | None:
    """Find operations that move blocks of positions out of the channels or into them.

    Returns:
        Those up to this one, the size of a block, and whether it goes into the channels; None if
        it is not the last of such.
    """
    ends, chain = tensors(op, "output"), [op]
    if len(ends) != 1 or len(ends[0].shape) != 4:
        return None
    while len(chain) <= _LONGEST and not getattr(chain[0], "weights", None):
        sources = tensors(chain[0], "input")
        if len(sources) != 1 or sources[0].shape == ends[0].shape:
            return None
        for first in (False, True) if len(sources[0].shape) == 4 else ():
            before, after = (_sizes(t.shape, first) for t in (sources[0], ends[0]))
            block = _ratio(before, after) or _ratio(after, before)
            if block and (graph.layout(sources[0]) == FIRST) == first:
                return chain, block, not _ratio(before, after)
        chain.insert(0, graph.producer(sources[0]))
        if chain[0] is None:
            return None
    return None


def _sizes(shape: Sequence[int | None], first: bool) -> tuple[int | None, ...]:
    """Height, width and channels of a map."""
    _, *sizes = shape
    return (*sizes[1:], sizes[0]) if first else tuple(sizes)


def _ratio(small: Sequence[int | None], large: Sequence[int | None]) -> int:
    """Give the size of the blocks that channels of the one are in the other; 0 if they are not."""
    if not small[2] or not large[2] or small[2] % large[2]:
        return 0
    block = isqrt(small[2] // large[2])
    sides = zip(small[:2], large[:2], strict=True)
    fits = all(a is None or b is None or b == a * block for a, b in sides)
    return block if block > 1 and block**2 * large[2] == small[2] and fits else 0


def _moved(
    chain: Sequence[Any], shape: Sequence[int | None], first: bool, size: int
) -> np.ndarray | None:
    """Run operations on a map of numbered values.

    Args:
        chain: The operations.
        shape: Shape of the map, with the batch.
        first: Whether its channels come first.
        size: Height and width where they are open.

    Returns:
        The number of the value at each place (H, W, C) of the result, ``(y, x, c)`` of the map;
        None if they are not those of the map, each once.
    """
    import keras

    height, width, channels = (n or size for n in _sizes(shape, first))
    numbers = np.arange(height * width * channels).reshape(1, height, width, channels)
    digits: list[np.ndarray] = []
    unit = 1
    while not digits or unit < numbers.size:
        # Digits, which half precision holds exactly.
        value = (numbers // unit % _DIGITS).astype("float32")
        value = np.moveaxis(value, -1, 1) if first else value
        value = np.repeat(value, shape[0] or 1, axis=0)
        for op in chain:
            value = op(value)
        digits.append(keras.ops.convert_to_numpy(value)[:1].astype("float64") * unit)
        unit *= _DIGITS
    found = sum(digits[1:], digits[0])
    found = np.moveaxis(found, 1, -1) if first else found
    if not np.array_equal(np.sort(found, axis=None), numbers.ravel()):
        return None
    return np.stack(np.unravel_index(found[0].astype("int64"), numbers.shape[1:]), axis=-1)


def _order(moved: np.ndarray | None, block: int, together: bool) -> tuple[int, ...] | None:
    """Give the place in PyTorch's order of each channel; None if there is no such order."""
    if moved is None:
        return None
    y, x, c = np.moveaxis(moved, -1, 0)
    rows, columns, channels = np.indices(y.shape)
    if together:
        # Of each channel of the result: the channel and the place in the block that it is from.
        places = np.stack([c, y - rows * block, x - columns * block], axis=-1)
        per_channel = places[0, 0]
        if (places != per_channel).any():
            return None
        return tuple(int(n) for n in per_channel @ (block**2, block, 1))
    index = np.zeros(block**2 * y.shape[-1], "int64")
    wanted = (channels * block + rows % block) * block + columns % block
    index[c] = wanted
    same = (y == rows // block) & (x == columns // block) & (index[c] == wanted)
    return tuple(int(n) for n in index) if same.all() else None
