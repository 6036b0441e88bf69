"""From a `.pt2` to a `Program`. May import `checkpoint` and this package."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from converters.checkpoint import files
from converters.checkpoint.content import ContentError, LazyTensor, naming, shown
from converters.program import ends, symbols
from converters.program.arguments import named_values, read_argument, union
from converters.program.container import Content, open_content
from converters.program.graph import Graph
from converters.program.program import Dimension, Dtype, End, Meta, Program, Ref, Weight

_LEAST_SCHEMA, _LATEST_SCHEMA = 2, 8
_UNBOUNDED = 1 << 62
_KINDS: dict[str, Literal["parameter", "buffer", "constant"]] = {
    "parameter": "parameter",
    "buffer": "buffer",
    "tensor_constant": "constant",
}
_DYNAMO_NAME = re.compile(r"^l_(\w+?)_$")  # PyTorch 2.2 calls the argument x `l_x_`
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b(?!\()")
_IN_PLACE = re.compile(r"^\w+\.\w*[^\W_]_\.")  # aten.add_.Tensor
Held = TypeVar("Held")


def read_program(path: str | os.PathLike[str]) -> Program:
    """Read a program that `torch.export.save` wrote. Nothing in the file is executed.

    Weights, example inputs and recorded arrays are read when they are asked for; until then the
    file stays open.

    Args:
        path: A `.pt2` of PyTorch 2.2 or later.

    Returns:
        The program.

    Raises:
        OSError: There is no such file, it is a directory or it may not be read.
        ValueError: The content is not such an archive, is damaged, or holds something that would
            have to be executed. Reading a tensor may raise it, too.
    """
    source = os.fspath(path)
    file = files.open_binary(path, "expected a .pt2 archive of torch.export.save")
    try:
        content = open_content(file)
        program = _program(content, source)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        file.close()
        what = error if isinstance(error, ContentError) else _damage(error)
        raise ValueError(f"{source!r}: {what}") from None
    except BaseException:
        file.close()
        raise
    return program


def _damage(error: Exception) -> str:
    return (
        "a damaged program, or not one of torch.export; export it again. "
        f"Received: {type(error).__name__} {shown(str(error))}"
    )


def _program(content: Content, source: str) -> Program:
    written = content.program
    _check_version(written)
    module = written["graph_module"]
    call: Mapping[str, Any] = next((c for c in module["module_call_graph"] if c["fqn"] == ""), {})
    called = call.get("signature") or {}
    fields = module.get("treespec_namedtuple_fields") or {}
    graph, signature = Graph(), module["signature"]
    weights, given = _inputs(signature["input_specs"], graph, module["graph"], content.tensors)
    paths = ends.leaves(called.get("in_spec"), fields)
    names = ends.input_names(paths, called.get("forward_arg_names"))
    if names is None or len(names) != len(given):
        paths = [] if len(paths) != len(given) else paths
        names = [_DYNAMO_NAME.sub(r"\1", name or "") for name in given]
    graph.read(module["graph"])
    answered, mutated = _outputs(signature["output_specs"], graph)
    for node in graph.nodes:
        first = next(iter(node.arguments.values()), None)
        if isinstance(first, Ref) and first.name in weights and _IN_PLACE.search(node.target):
            mutated[weights[first.name].key] = next(filter(None, node.outputs), first.name)
    out_paths = ends.leaves(called.get("out_spec"), fields)
    if len(out_paths) != len(answered):
        out_paths = [(i,) for i in range(len(answered))]
    places = dict(zip(names, paths, strict=False))
    return Program(
        name=Path(source).stem,
        torch_version=str(written.get("torch_version", "")),
        nodes=tuple(graph.nodes),
        values=graph.values,
        numbers=graph.numbers,
        inputs=tuple(End(v, n) for v, n in zip(given, names, strict=True) if v is not None),
        outputs=tuple(
            End(v, n) for v, n in zip(answered, ends.output_names(out_paths), strict=True)
        ),
        weights=weights,
        tensors=_Lazy(source, content.tensors, lambda tensor: tensor.read()),
        dynamic=_dynamic(written.get("range_constraints") or {}, graph),
        aliases=_aliases(content.tensors),
        examples=_Lazy(
            source,
            _examples(content, given, names, places, graph),
            lambda tensor: tensor.read(),
        ),
        reference=_Lazy(source, content.reference, lambda read: read()),
        mutated=mutated,
    )


def _check_version(written: Mapping[str, Any]) -> None:
    version = written.get("schema_version")
    major = version.get("major") if isinstance(version, dict) else version
    if type(major) is not int or not _LEAST_SCHEMA <= major <= _LATEST_SCHEMA:
        raise ContentError(
            f"expected version {_LEAST_SCHEMA} to {_LATEST_SCHEMA} of the schema, as PyTorch 2.2 "
            f"to 2.14 write; export with one of these. Received: {shown(major)} of PyTorch "
            f"{shown(written.get('torch_version', 'unknown'))}"
        )


def _inputs(
    specs: list[Any], graph: Graph, outermost: Mapping[str, Any], tensors: Mapping[str, LazyTensor]
) -> tuple[dict[str, Weight], list[str | None]]:
    """Read the weights by their names, and what a user gives; None for what is no value."""
    weights: dict[str, Weight] = {}
    given: list[str | None] = []
    frozen: set[str] = set()
    for spec in specs:
        kind, inner = union(spec)
        if kind in _KINDS:
            name, key = inner["arg"]["name"], inner[f"{kind}_name"]
            graph.enter(name, outermost)
            persistent = kind == "parameter" or inner.get("persistent", kind == "buffer")
            weights[name] = Weight(key, _KINDS[kind], bool(persistent), kind == "parameter")
            if outermost["tensor_values"][name].get("requires_grad", True) is False:
                frozen.add(name)
            _check_weight(graph.values.get(name), key, tensors)
        elif kind == "user_input":
            named = named_values(inner["arg"])
            given.extend(named)
            for name in filter(None, named):
                graph.enter(name, outermost)
        elif kind == "constant_input":  # a number or None, by which the program was specialised
            given.append(None)
        else:
            raise ContentError(
                "an input of a kind that only code can use; export the network without script "
                f"objects and side effects. Received: {shown(kind)}"
            )
    if any(weight.trains and name not in frozen for name, weight in weights.items()):
        weights |= {name: replace(weights[name], trains=False) for name in frozen}
    return weights, given


def _check_weight(meta: Meta | None, key: Any, tensors: Mapping[str, LazyTensor]) -> None:
    """Hold what the program says of a weight to what the archive holds."""
    if type(key) is not str or key not in tensors:
        raise ContentError(
            f"the archive holds no data of {shown(key)}; export it again. "
            f"Received: {len(tensors)} tensors"
        )
    held = tensors[key]
    if meta is None or meta.shape != held.shape or meta.dtype != held.dtype.name:
        raise ContentError(
            f"expected {shown(key)} as the program says, {shown(meta and meta.shape)} of "
            f"{meta and meta.dtype}; the file is damaged. "
            f"Received: {shown(held.shape)} of {held.dtype.name}"
        )


def _outputs(
    specs: list[Any], graph: Graph
) -> tuple[list[str | int | float | bool | None], dict[str, str]]:
    """Read what the program answers, and what it writes into its buffers."""
    answered: list[str | int | float | bool | None] = []
    mutated: dict[str, str] = {}
    for spec in specs:
        kind, inner = union(spec)
        match kind:
            case "user_output":
                result = read_argument(inner["arg"], graph.find)
                for value in result if isinstance(result, tuple) else (result,):
                    if isinstance(value, Dtype | tuple):
                        raise ContentError(
                            "expected tensors and numbers as outputs. "
                            f"Received: {shown(str(inner['arg']))}"
                        )
                    answered.append(value.name if isinstance(value, Ref) else value)
            case "buffer_mutation" | "parameter_mutation":
                value = graph.find(inner["arg"]["name"])
                key = inner[kind.replace("mutation", "name")]
                if isinstance(value, Ref):
                    mutated[str(key)] = value.name
            case "user_input_mutation" | "token":
                pass  # what is answered does not depend on it
            case _:
                raise ContentError(
                    "a program of a training step; export the network in inference with .eval(). "
                    f"Received: an output of kind {shown(kind)}"
                )
    return answered, mutated


def _dynamic(ranges: Mapping[str, Any], graph: Graph) -> dict[str, tuple[int, int | None]]:
    """Read the ranges of those dynamic dimensions that a shape depends on."""
    sizes: set[Dimension] = {size for meta in graph.values.values() for size in meta.shape}
    names = {name for size in sizes if isinstance(size, str) for name in _IDENTIFIER.findall(size)}
    found = {}
    for text, limits in ranges.items():
        name = symbols.readable(text)
        if name in names:
            least, most = limits.get("min_val"), limits.get("max_val")
            found[name] = (
                least if type(least) is int and least > 0 else 0,
                most if type(most) is int and most < _UNBOUNDED else None,
            )
    return {**{name: (0, None) for name in sorted(names - found.keys())}, **found}


def _aliases(tensors: Mapping[str, LazyTensor]) -> dict[str, str]:
    first: dict[Any, str] = {}
    aliases = {}
    for key, tensor in tensors.items():
        if tensor.place is not None and first.setdefault(tensor.place, key) != key:
            aliases[key] = first[tensor.place]
    return aliases


def _examples(
    content: Content,
    given: list[str | None],
    names: list[str],
    places: Mapping[str, ends.Path],
    graph: Graph,
) -> dict[str, LazyTensor]:
    """Find the example inputs, which are nested as the inputs are."""
    tree = content.examples()
    found = {}
    for value, name in zip(given, names, strict=True):
        example = ends.at(tree, places.get(name, ()))
        meta = graph.values.get(value or "")
        if meta is None or not isinstance(example, LazyTensor):
            continue
        sizes = zip(meta.hint, example.shape, strict=False)
        if len(example.shape) != meta.rank or any(h not in {-1, size} for h, size in sizes):
            raise ContentError(
                f"expected an example of {shown(name)} of shape {shown(meta.hint)}; the file is "
                f"damaged. Received: {shown(example.shape)}"
            )
        found[name] = example
    return found


class _Lazy(Mapping[str, np.ndarray], Generic[Held]):
    """Arrays that are read, anew each time, when they are asked for."""

    def __init__(self, source: str, items: Mapping[str, Held], read: Callable[[Held], np.ndarray]):
        self._source, self._items, self._read = source, items, read

    def __getitem__(self, key: str) -> np.ndarray:
        item = self._items[key]
        with naming(self._source):
            return self._read(item)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
