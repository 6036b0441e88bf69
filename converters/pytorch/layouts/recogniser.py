"""``recognise``: from names and shapes to a network. Imports the standard library."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from converters.pytorch.layouts.entries import Entries, read_entries
from converters.pytorch.layouts.layout import Layout
from converters.pytorch.layouts.marvis_v1 import MARVIS_V1
from converters.pytorch.layouts.network_keys import NetworkKeys, Shape, find_networks
from converters.pytorch.layouts.reading import read
from converters.pytorch.layouts.recognised import Recognised
from converters.pytorch.layouts.tonylins_v2 import TONYLINS_V2
from converters.pytorch.layouts.torchvision_v2 import TORCHVISION_V2
from converters.pytorch.mismatch import few
from converters.pytorch.modules import join, module_of

LAYOUTS = (TORCHVISION_V2, TONYLINS_V2, MARVIS_V1)


def recognise(
    state: Mapping[str, Any] | Iterable[Any], *, prefix: str = "", sites: str | None = None
) -> Recognised | None:
    """Recognise the network of a checkpoint from the names and shapes of its tensors.

    Args:
        state: A state dict, or any objects with ``name`` and ``shape`` as ``list_tensors`` gives.
        prefix: Path of the network in the checkpoint. Default: where it is found.
        sites: Which blocks the ULSAM modules are after and in place of, ``"after:3,instead:12"``
            for example. Default: where they are all after or all in place of blocks, as found.

    Returns:
        The network, or None if the keys are of none of ``LAYOUTS``.

    Raises:
        ValueError: If most of the keys are of one of ``LAYOUTS`` and something is odd, if some
            ULSAM are after and some in place of blocks and `sites` is not given, or if `sites`
            does not fit. The message is a single line.

    Example:
    >>> recognise(list_tensors("mv2_ulsam.pth")).description
    'torchvision MobileNetV2, alpha≈1.0, 1000 classes, ULSAM (g=4) instead of blocks 12, 13'
    """
    if isinstance(state, Mapping):
        shapes = {name: tuple(array.shape) for name, array in state.items()}
    else:
        infos: Iterable[Any] = state
        shapes = {info.name: tuple(info.shape) for info in infos}
    prefix = prefix.strip(".")
    found = find_networks(shapes, prefix, LAYOUTS)
    if not found:
        return None
    if len(found) > 1:
        places = [f"{_most(keys).title} at {keys.shown(keys.body)}" for keys in found]
        one_place = len({keys.prefix for keys in found}) == 1
        raise ValueError(
            "The checkpoint mixes keys of several networks: "
            + ("parts of two checkpoints" if one_place else "choose one with `prefix`")
            + f", or another network, to be given with `model`. Received: {', '.join(places)}"
        )
    [keys] = found
    layout = _most(keys)
    refuse = _refusing(layout)
    _check_one_layout(keys, layout, refuse)
    if keys.others:
        modules = dict.fromkeys(map(module_of, keys.others))
        refuse(
            f"has modules outside of it; take it alone with `prefix={keys.prefix!r}`",
            few(map(repr, modules)),
        )
    entries = read_entries(keys, layout, refuse)
    reading = read(entries.body, layout.family, sites, keys.shown, refuse)
    classifier, classes = _classifier(keys, layout, entries, refuse)
    return Recognised(layout, entries, reading, classifier, classes, keys.prefix)


def _most(keys: NetworkKeys) -> Layout:
    """Give the layout that most blocks are of."""
    return max(LAYOUTS, key=lambda layout: len(keys.votes.get(layout.title, ())))


def _refusing(layout: Layout) -> Callable[[str, str], NoReturn]:
    def refuse(odd: str, received: str) -> NoReturn:
        raise ValueError(
            f"The checkpoint looks like a {layout.title}, yet {odd}. If it is another network, "
            f"give that with `model`. Received: {received}"
        )

    return refuse


def _check_one_layout(
    keys: NetworkKeys, layout: Layout, refuse: Callable[[str, str], NoReturn]
) -> None:
    parts = [
        f"{title} at {few(keys.shown(keys.path(index)) for index in indices)}"
        for title, indices in keys.votes.items()
        if indices
    ]
    if len(parts) > 1:
        refuse(
            "has blocks of another layout: parts of two checkpoints, or keys renamed in part",
            "; ".join(parts),
        )


def _classifier(
    keys: NetworkKeys,
    layout: Layout,
    entries: Entries,
    refuse: Callable[[str, str], NoReturn],
) -> tuple[str | None, int | None]:
    """Find the classifier and its number of classes; check that nothing else is left."""
    inside = {keys.path(index, path) for index, paths in keys.modules.items() for path in paths}
    others = [path for path in dict.fromkeys(map(module_of, keys.shapes)) if path not in inside]
    if not others:
        return None, None
    if len(others) > 1 or others[0] not in layout.classifiers:
        known = " or ".join(map(repr, layout.classifiers))
        refuse(
            f"has modules other than its body and one classifier, {known}",
            few((keys.shown(path) for path in others), 6),
        )
    [path] = others
    weight, bias = (join(path, name) for name in ("weight", "bias"))
    kernel: Shape = keys.shapes.get(weight, ())
    if len(kernel) != 2 or kernel[1] != entries.features:
        refuse(
            f"has a classifier whose weight is not (classes, {entries.features}), as the "
            f"{'head' if entries.head else 'last block'} gives {entries.features} channels",
            f"{keys.shown(weight)} {kernel}" if kernel else f"no key {keys.shown(weight)}",
        )
    if keys.shapes.get(bias) != kernel[:1]:
        received = keys.shapes.get(bias)
        refuse(
            f"has a classifier of {kernel[0]} classes without a bias of as many",
            f"no key {keys.shown(bias)}" if received is None else f"{keys.shown(bias)} {received}",
        )
    return path, kernel[0]
