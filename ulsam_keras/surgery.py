"""ULSAM in a model that one already has.

Imports Keras (public names only), NumPy, `ulsam_keras.layer`, `ulsam_keras.graph` and
`ulsam_keras.splits`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from difflib import get_close_matches
from typing import Any, TypeAlias

import keras
import numpy as np

from ulsam_keras.graph import (
    Graph,
    as_functional,
    is_graph,
    layers_within,
    new_inputs,
    symbolic_tensors,
    trace,
)
from ulsam_keras.layer import ULSAM
from ulsam_keras.splits import check_splits, splits_by_site

# A layer or bare operation of the model, or its name: `"nested/layer"` inside of a nested model.
Layer: TypeAlias = str | keras.Operation

_LAYOUTS = ("channels_first", "channels_last")
# Layers that move the axes, so that what was known of the channels no longer holds.
_MOVES_AXES = frozenset({"Permute", "Reshape", "Transpose", "Moveaxis", "Swapaxes", "Lambda"})


def add_ulsam(
    model: keras.Model,
    after: Layer | Iterable[Layer] = (),
    replace: tuple[Layer, Layer] | Iterable[tuple[Layer, Layer]] = (),
    num_splits: int | Mapping[str, int] = 4,
    *,
    data_format: str | None = None,
    **kwargs: Any,
) -> keras.Model:
    """Puts ULSAM layers into a model: after layers, and in place of chains of layers.

    The new model has layers and weights of its own, equal to those of the model, which is left
    exactly as it is. It is a plain functional model, not compiled, of the same name, inputs and
    outputs. ULSAM layers are new and trainable, also where the rest is frozen. A new one changes
    little: it multiplies by `1 + a`, where `a` averages `1 / (H * W)`.

    The ULSAM after layer `"block_12_add"`, or in place of a chain that ends in it, is called
    `"block_12_add_ulsam"`, with `_1`, `_2`, ... if there is one of that name already.

    What is not a plain chain of layers:

    * Layers inside a nested model are named `"nested/layer"`; the nested model becomes a plain
      functional one too.
    * After a layer, or nested model, that is called several times the one ULSAM is called as
      often: it is shared like the layer.
    * A model's outputs are wherever they were; a ULSAM after an output's layer comes before it.
    * Refused by name: layers with several outputs, inputs, layers called several times as an end of
      a replaced chain, and models that use one layer inside of a nested model and outside of it.

    Args:
        model: A functional or built Sequential model. Others have no graph to change.
        after: The layers, or bare operations, to put a ULSAM after: names or layers, one or
            several. `ulsam_keras.sites(model)` lists them.
        replace: Pairs `(first, last)` of the same, or one pair. Everything that lies between the
            input of `first` and the output of `last`, these two and shortcuts included, is removed
            and one ULSAM put in its place. The two tensors must have the same shape.
        num_splits: The number of groups of every ULSAM, or a mapping from the name in `after`, or
            of `last`, to it. Defaults to 4.
        data_format: `"channels_last"` or `"channels_first"`; `None` takes that of the layer, or of
            the nearest one before it that has one. Defaults to `None`.
        **kwargs: Further arguments of every `ULSAM`, such as `momentum`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If the model has no graph, a name is none of its layers', a site's output is
            not a rank-4 tensor whose channels `num_splits` divides, or a chain has a second input,
            is used from within elsewhere, or does not keep the shape.

    Example:
    >>> base = keras.applications.MobileNetV2(weights=None)
    >>> model = add_ulsam(base, after=["block_12_add"], num_splits=8)
    >>> model = add_ulsam(base, replace=[("block_14_expand", "block_14_add")])
    >>> model.get_layer("block_14_add_ulsam").num_splits
    4
    """
    check_graph(model)
    sites = _sites(model, after, replace, num_splits)
    _check_sharing(model)
    return _rebuild(model, sites, {"data_format": data_format, **kwargs}, not model.trainable)


def check_graph(model: Any) -> None:
    """Raises a ValueError unless the model has a graph."""
    if not is_graph(model):
        raise ValueError(
            "`model` must be a functional or built Sequential model: others, and subclasses with a "
            "call of their own, have no graph to put a layer into. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )


@dataclass(frozen=True)
class _Site:
    """Where a ULSAM goes: after `last`, or in place of all from `first` to it.

    `path` holds the names of the nested models on the way there, `outer` of those gone through.
    """

    path: tuple[str, ...]
    first: str | None
    last: str
    num_splits: int
    outer: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join((*self.outer, *self.path, self.last))

    @property
    def inside(self) -> "_Site":
        """The same site, seen from within the first nested model."""
        return replace_fields(self, path=self.path[1:], outer=(*self.outer, self.path[0]))


def _sites(
    model: keras.Model, after: Any, replace: Any, num_splits: int | Mapping[str, int]
) -> list[_Site]:
    single = (str, keras.Operation)
    several = isinstance(after, Iterable) and not isinstance(after, single)
    pairs: list[tuple[str | None, str]] = []
    for layer in after if several else [after]:
        if not isinstance(layer, single):
            raise ValueError(
                "`after` must be layers, or names of layers, of the model. "
                f"Received: after={after!r}"
            )
        pairs.append((None, _name(model, layer)))
    one_pair = isinstance(replace, tuple) and len(replace) == 2 and isinstance(replace[0], single)
    listed = isinstance(replace, Iterable) and not isinstance(replace, single)
    for pair in [replace] if one_pair or not listed else replace:
        ends = pair if isinstance(pair, (tuple, list)) else ()
        if len(ends) != 2 or not all(isinstance(layer, single) for layer in ends):
            raise ValueError(
                "`replace` must be pairs (first, last) of layers, or of names of layers. "
                f"Received: replace={replace!r}"
            )
        pairs.append((_name(model, ends[0]), _name(model, ends[1])))
    names = [last for _, last in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "A layer can get one ULSAM, after it or in place of a chain that ends in it. "
            f"Received more than once: {twice}"
        )
    if not pairs:
        raise ValueError(
            "`after` or `replace` must name a layer; ulsam_keras.sites(model) lists them. "
            "Received: neither"
        )
    splits = splits_by_site(num_splits, names, "layer")
    sites = []
    for first, name in pairs:
        *path, last = name.split("/")
        if first is not None:
            *first_path, first = first.split("/")
            if first_path != path:
                raise ValueError(
                    "The ends of a replaced chain must lie in the same model. "
                    f"Received: replace={[('/'.join((*first_path, first)), name)]}"
                )
        sites.append(_Site(tuple(path), first, last, splits[name]))
    return sites


def _name(model: keras.Model, layer: Any) -> str:
    """The name of a layer, with the nested models that it is in."""
    if isinstance(layer, str):
        return layer
    for path, container in _containers(model):
        if any(layer is operation for operation in as_functional(container).operations):
            return path + layer.name
    raise ValueError(
        f"Model {model.name!r} has no such layer. Received: {layer.name!r} of type "
        f"{type(layer).__name__}"
    )


def _containers(model: keras.Model, path: str = "") -> Iterator[tuple[str, keras.Model]]:
    """The model and the models inside of it, each with the path of its layers."""
    yield path, model
    for layer in model.layers:
        if is_graph(layer):
            yield from _containers(layer, f"{path}{layer.name}/")


def _check_sharing(model: keras.Model) -> None:
    """Raises a ValueError if a layer belongs to two models, whose copies would not share it."""
    homes: dict[int, tuple[int, str]] = {}
    for path, container in _containers(model):
        for layer in container.layers:
            home, name = homes.setdefault(id(layer), (id(container), path + layer.name))
            if home != id(container):
                raise ValueError(
                    f"Layer {name!r} is used in another model too, as {path + layer.name!r}; the "
                    "copies would not share it. Put the ULSAM in where the model is built. "
                    f"Received: {name!r}"
                )


def _rebuild(
    model: keras.Model, sites: Sequence[_Site], arguments: dict[str, Any], frozen: bool
) -> keras.Model:
    """A copy of the model with the ULSAM of these sites; `frozen`: only these are trainable."""
    model_of_layers = as_functional(model)
    graph = trace(model)
    numbers = _call_numbers(graph, sites, model.name)
    nested: dict[str, list[_Site]] = {}
    for site in sites:
        if site.path:
            nested.setdefault(site.path[0], []).append(site.inside)

    removed: set[int] = set()
    starts: dict[int, int] = {}  # the last call of each removed chain -> its first call
    for site in sites:
        if site.first is not None and not site.path:
            chain = _chain(graph, numbers, site)
            if removed & chain:
                other = graph.calls[min(removed & chain)].operation.name
                raise ValueError(
                    "Replaced chains must not overlap. "
                    f"Received: layer {other!r} in two of them, one of which ends in {site.last!r}"
                )
            removed |= chain
            starts[numbers[site.last][0]] = numbers[site.first][0]

    ulsams: dict[int, ULSAM] = {}
    layouts = data_formats(graph)
    taken = {operation.name for operation in model_of_layers.operations}
    for site in sites:
        name = site.path[0] if site.path else site.last
        if (site.path or site.first is None) and removed.intersection(numbers[name]):
            raise ValueError(
                f"Layer {name!r} lies in a chain that is replaced, so nothing can be put after or "
                f"into it. Received: {str(site)!r}"
            )
        if not site.path:
            outputs = [graph.calls[number].outputs for number in numbers[name]]
            layer = _ulsam(site, outputs, layouts, taken, arguments)
            ulsams.update(dict.fromkeys(numbers[name], layer))

    copies: dict[int, tuple[Any, Any]] = {}

    def copy(operation: Any) -> Any:
        if operation.name in nested:
            new = _rebuild(operation, nested[operation.name], arguments, frozen)
        else:
            new = _copied(operation)
        copies[id(new)] = (operation, new)
        return new

    called: set[int] = set()
    numbered = iter(range(len(graph.calls)))
    heads: dict[int, Any] = {}  # the first call of each removed chain -> its input

    def call(new: Any, *args: Any, **kwargs: Any) -> Any:
        number = next(numbered)
        heads[number] = symbolic_tensors(args, kwargs)[:1] if number in starts.values() else ()
        if number in starts:
            return ulsams[number](*heads[starts[number]])
        if number in removed:
            # Only calls that are removed as well take these, and they do nothing with them.
            return list(graph.calls[number].outputs)
        called.add(id(new))
        outputs = new(*args, **kwargs)
        return ulsams[number](*symbolic_tensors(outputs)) if number in ulsams else outputs

    new_model = keras.models.clone_model(
        model_of_layers,
        input_tensors=new_inputs(model_of_layers),
        clone_function=copy,
        call_function=call,
    )
    for operation, new in (copies[key] for key in called):
        if operation.name not in nested:
            _copy_state(operation, new)
            if frozen and isinstance(new, keras.layers.Layer):
                new.trainable = False
    return new_model


def _call_numbers(graph: Graph, sites: Sequence[_Site], model_name: str) -> dict[str, list[int]]:
    """The calls of each layer, once the sites have been found to name layers of the model."""
    numbers: dict[str, list[int]] = {}
    for number, call in enumerate(graph.calls):
        numbers.setdefault(call.operation.name, []).append(number)
    for site in sites:
        for name in (site.path[0],) if site.path else (site.first, site.last):
            if name is None:
                continue
            if name not in numbers:
                outer = "".join(f"{part}/" for part in site.outer)
                near = _paths_to(graph, name) or get_close_matches(name, numbers, n=3)
                hint = "; ulsam_keras.sites(model) lists them."
                if near:
                    hint = f"; is it {' or '.join(repr(outer + path) for path in near)}?"
                raise ValueError(
                    f"Model {model_name!r} has no layer of this name that something could be put "
                    f"after or that could be replaced{hint} Received: {outer + name!r}"
                )
            if site.path and not is_graph(graph.calls[numbers[name][0]].operation):
                raise ValueError(
                    f"Layer {name!r} is not a functional or Sequential model, so no layer inside "
                    f"it can be named. Received: {str(site)!r}"
                )
    return numbers


def _paths_to(graph: Graph, name: str) -> list[str]:
    """Where in the nested models there is a layer of that name."""
    paths = []
    for call in graph.calls:
        if is_graph(call.operation):
            if name in {layer.name for layer in call.operation.layers}:
                paths.append(f"{call.operation.name}/{name}")
            inner = _paths_to(trace(call.operation), name)
            paths += [f"{call.operation.name}/{path}" for path in inner]
    return list(dict.fromkeys(paths))


def _chain(graph: Graph, numbers: Mapping[str, Sequence[int]], site: _Site) -> set[int]:
    """The calls that a ULSAM takes the place of.

    They are what the output of `last` depends on and the input of `first` does not.
    """
    assert site.first is not None
    outer = "".join(f"{part}/" for part in site.outer)
    received = f"Received: replace={[(outer + site.first, outer + site.last)]}"
    for name in (site.first, site.last):
        if len(numbers[name]) > 1:
            raise ValueError(
                f"Layer {name!r} is called {len(numbers[name])} times, so it does not tell where a "
                f"chain begins or ends. {received}"
            )
    first, last = (numbers[name][0] for name in (site.first, site.last))
    if len(graph.calls[first].inputs) != 1 or len(graph.calls[last].outputs) != 1:
        raise ValueError(
            "The first layer of a replaced chain must have one input and the last one output; "
            f"{site.first!r} has {len(graph.calls[first].inputs)} and {site.last!r} "
            f"{len(graph.calls[last].outputs)}. {received}"
        )
    (source,), (result,) = graph.calls[first].inputs, graph.calls[last].outputs

    producers = {id(t): n for n, call in enumerate(graph.calls) for t in call.outputs}
    chain: set[int] = set()
    waiting = [result]
    while waiting:
        tensor = waiting.pop()
        if tensor is source:
            continue
        if id(tensor) not in producers:  # An input of the model, which does not lead to `first`.
            chain.clear()
            break
        number = producers[id(tensor)]
        if number not in chain:
            chain.add(number)
            waiting += graph.calls[number].inputs
    if first not in chain:
        raise ValueError(
            f"{site.last!r} must depend on {site.first!r} and its input, and on nothing before "
            f"that by another way; these two do not enclose a block. {received}"
        )
    inner = {id(t): n for n in chain - {last} for t in graph.calls[n].outputs}
    users = [call for number, call in enumerate(graph.calls) if number not in chain]
    used = [(t, call.operation.name) for call in users for t in call.inputs]
    used += [(tensor, "an output of the model") for tensor in graph.outputs]
    for tensor, user in used:
        if id(tensor) in inner:
            name = graph.calls[inner[id(tensor)]].operation.name
            raise ValueError(
                f"The output of {name!r}, inside the chain, is also used by {user!r}, outside it. "
                f"{received}"
            )
    if tuple(source.shape) != tuple(result.shape):
        raise ValueError(
            "A ULSAM keeps its input's shape, so it can only take the place of a chain that does; "
            f"this one goes from {tuple(source.shape)} to {tuple(result.shape)}. {received}"
        )
    return chain


def data_formats(graph: Graph) -> dict[int, str]:
    """The data format of each tensor of the graph for which it is known."""
    layouts: dict[int, str] = {}
    for call in graph.calls:
        layout = _layout(call.operation)
        if layout is None and type(call.operation).__name__ not in _MOVES_AXES:
            known = (layouts[id(tensor)] for tensor in call.inputs if id(tensor) in layouts)
            layout = next(known, None)
        if layout is not None:
            layouts.update({id(tensor): layout for tensor in call.outputs})
    return layouts


def _layout(operation: Any) -> str | None:
    """The data format that a layer works in, if it tells."""
    if is_graph(operation):
        return next(filter(None, map(_layout, reversed(operation.layers))), None)
    if isinstance(operation, keras.layers.BatchNormalization):
        return {1: "channels_first", 3: "channels_last", -1: "channels_last"}.get(operation.axis)
    layout = getattr(operation, "data_format", None)
    return layout if layout in _LAYOUTS else None


def _ulsam(
    site: _Site,
    outputs: Sequence[tuple[Any, ...]],
    layouts: Mapping[int, str],
    taken: set[str],
    arguments: dict[str, Any],
) -> ULSAM:
    """The ULSAM for one site; there is one tuple of outputs for every call of the layer."""
    if any(len(tensors) != 1 for tensors in outputs):
        raise ValueError(
            f"Layer {str(site)!r} has several outputs, and a ULSAM takes one. "
            f"Received: {str(site)!r}"
        )
    tensors = [tensor for (tensor,) in outputs]
    data_format = arguments["data_format"] or layouts.get(id(tensors[0]))
    data_format = data_format or keras.config.image_data_format()
    axis = 1 if data_format == "channels_first" else 3
    channels = tensors[0].shape[axis] if len(tensors[0].shape) == 4 else None
    alike = all(len(tensor.shape) == 4 and tensor.shape[axis] == channels for tensor in tensors[1:])
    if channels is None or not alike:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(
            f"A ULSAM needs a tensor of rank 4 with a known number of channels (axis {axis} for "
            f"data_format={data_format!r}), the same at every call of the layer. "
            f"Received: layer {str(site)!r} with output shape {shapes}"
        )
    check_splits(f"layer {str(site)!r}", channels, site.num_splits)

    name = stem = f"{site.last}_ulsam"
    suffix = 0
    while name in taken:
        suffix += 1
        name = f"{stem}_{suffix}"
    taken.add(name)
    dtype = keras.backend.standardize_dtype(tensors[0].dtype)
    policy = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}.get(dtype, dtype)
    chosen = {"dtype": policy, **arguments, "data_format": data_format}
    return ULSAM(site.num_splits, name=name, **chosen)


def _copied(operation: Any) -> Any:
    if type(operation) is keras.layers.Lambda:
        # Its configuration is code without what it refers to.
        return keras.layers.Lambda(
            operation.function,
            mask=operation.mask,
            arguments=operation.arguments,
            dtype=operation.dtype_policy,
            name=operation.name,
        )
    return type(operation).from_config(operation.get_config())


def _copy_state(source: Any, copy: Any) -> None:
    if is_graph(source):
        for layer in source.layers:
            _copy_state(layer, copy.get_layer(layer.name))
        return
    if not isinstance(source, keras.layers.Layer):
        return
    # True copies: JAX would share the buffers, and training the one model delete the other's.
    copy.set_weights([np.array(weight) for weight in source.get_weights()])
    # A part or a weight can be frozen by itself, which no configuration says.
    parts, originals = layers_within(copy), layers_within(source)
    if [*map(type, parts)] == [*map(type, originals)]:
        for part, original in zip(parts, originals, strict=True):
            part.trainable = original.trainable
    for weight, original in zip(copy.weights, source.weights, strict=True):
        weight.trainable = original.trainable
    # Normalization, and others perhaps, derive more from their weights when these are loaded.
    store: dict[str, Any] = {}
    source.save_own_variables(store)
    if store:
        own = {key: np.array(keras.ops.convert_to_numpy(value)) for key, value in store.items()}
        copy.load_own_variables(own)
