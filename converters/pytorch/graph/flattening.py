"""Whether a map of one position is read as its channels alone.

Imports `converters.program`.

A global pool gives (N, C) at once where all that follows works on channels until the positions
go: dropout, LayerNorm, an activation, then `flatten`. Were it a map, the file would have a
reshape. What is not in these tables is given the map: a convolution, as of squeeze-and-excitation,
`Dropout2d`; a residual and an output of the program are too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from converters.program import Argument, Node, Program
from converters.pytorch.graph.registry import base_name
from converters.pytorch.graph.uses import given

# Give the same numbers in other sizes.
_VIEWS = "flatten view reshape squeeze _unsafe_view"
# Give them as they are, or reorder dimensions, all but two of which are 1.
_MOVES = "permute transpose movedim contiguous clone detach alias to _to_copy"
# Take each number by itself, or the channels of one position.
_WORKS = """
    dropout native_dropout alpha_dropout batch_norm _native_batch_norm_legit_no_training layer_norm
    native_layer_norm prelu relu relu6 hardtanh leaky_relu elu celu selu gelu silu mish softplus
    hardswish hardsigmoid sigmoid tanh log_sigmoid threshold
    add sub mul div clamp clamp_min clamp_max where gt
"""
_KIND = {
    f"aten.{name}": kind
    for kind, names in (("view", _VIEWS), ("move", _MOVES), ("work", _WORKS))
    for name in names.split()
}


def flattened(
    program: Program, users: Mapping[str, Sequence[Node]], wanted: set[Any], name: str
) -> bool:
    """Whether nothing but channels is read of a value that has one position.

    Args:
        program: The program.
        users: The nodes that take each value.
        wanted: The values that something reads.
        name: The value, (N, C, 1, 1).
    """
    answered = {end.value for end in program.outputs}
    channels = program.values[name].hint[1]
    ends, left, found, beside = 0, [name], {name}, set[str]()
    while left:
        value = left.pop()
        if value in answered:
            return False
        for node in users.get(value, ()):
            kind, result = _KIND.get(base_name(node.target).removesuffix("_")), node.outputs[0]
            if kind is None or result is None or wanted.intersection(node.outputs[1:]):
                return False
            before, after = (program.values[v].hint for v in (value, result))
            if kind == "view" and len(after) < len(before):
                ends += 1
                continue
            beside.update(given(node))
            normalized = node.arguments.get("normalized_shape", (channels,))
            if kind != "move" and before != after or not _sized(normalized, channels):
                return False
            if result not in found:
                found.add(result)
                left.append(result)
    return ends > 0 and beside <= found | program.weights.keys()


def _sized(sizes: Argument, count: int) -> bool:
    """Whether sizes are known, and their product is this."""
    listed = sizes if isinstance(sizes, tuple) else ()
    known = [size for size in listed if isinstance(size, int)]
    return len(known) == len(listed) and math.prod(known) == count
