"""`sites`: where in a model a ULSAM can go, and what it costs there.

Imports Keras (public names only), `ulsam_keras.cost`, `ulsam_keras.graph`, `ulsam_keras.splits` and
`ulsam_keras.surgery`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from ulsam_keras import cost
from ulsam_keras.graph import is_graph, trace
from ulsam_keras.splits import divisors
from ulsam_keras.surgery import check_graph, data_formats


@dataclass(frozen=True)
class Site:
    """A place for a ULSAM: after one layer.

    Attributes:
        name: The layer, as `add_ulsam` takes it: `"nested/layer"` inside of a nested model.
        channels: The number of channels C.
        height: The height of the map; `None` if it is not known.
        width: The width of the map; `None` if it is not known.
        num_splits: The numbers of groups that divide the channels.
        multiply_adds: What a ULSAM costs there for one image, `3 * C * H * W` at every call of the
            layer; `None` if the size is not known.
    """

    name: str
    channels: int
    height: int | None
    width: int | None
    num_splits: tuple[int, ...]
    multiply_adds: int | None

    def __str__(self) -> str:
        size = f"{self.height or '?'} x {self.width or '?'} x {self.channels}"
        cost = "?" if self.multiply_adds is None else f"{self.multiply_adds:,}"
        splits = ", ".join(map(str, self.num_splits))
        return f"{self.name}: {size}, num_splits {splits}, {cost} multiply-adds"


def sites(model: keras.Model) -> list[Site]:
    """Lists where `add_ulsam` can put a ULSAM after a layer.

    Args:
        model: A functional or built Sequential model.

    Returns:
        A `Site` for each layer or bare operation that has one output of rank 4 whose channels are
        known and the same at every call, in the model's order.

    Raises:
        ValueError: If the model has no graph.

    Example:

    >>> for site in sites(keras.applications.MobileNetV2(weights=None)):
    ...     print(site)
    Conv1: 112 x 112 x 32, num_splits 1, 2, 4, 8, 16, 32, 1,204,224 multiply-adds
    """
    check_graph(model)
    return list(_sites(model, ""))


def _sites(model: keras.Model, path: str) -> Iterator[Site]:
    graph = trace(model)
    formats = data_formats(graph)
    outputs: dict[int, list[tuple]] = {}
    for call in graph.calls:
        outputs.setdefault(id(call.operation), []).append(call.outputs)
    for call in graph.calls:
        tensors = outputs.pop(id(call.operation), None)
        if tensors is None:  # a further call of a shared layer
            continue
        if is_graph(call.operation):
            yield from _sites(call.operation, f"{path}{call.operation.name}/")
        if any(len(each) != 1 or len(each[0].shape) != 4 for each in tensors):
            continue
        first = formats.get(id(tensors[0][0])) or keras.config.image_data_format()
        axis = 1 if first == "channels_first" else 3
        shapes = [each[0].shape for each in tensors]
        channels = {shape[axis] for shape in shapes}
        if len(channels) > 1 or None in channels:
            continue
        [channels_of_all] = channels
        positions = [[n for k, n in enumerate(shape) if k not in (0, axis)] for shape in shapes]
        known = all(None not in size for size in positions)
        total = sum(cost.multiply_adds(channels_of_all, *size) for size in positions if known)
        height, width = positions[0]
        yield Site(
            path + call.operation.name,
            channels_of_all,
            height,
            width,
            divisors(channels_of_all),
            total if known else None,
        )
