"""The graph of a program: its calls in order, each value made once and before it is used.

May import this package.
"""

import re
from collections.abc import Mapping
from typing import Any

from converters.checkpoint.content import ContentError, shown
from converters.program import symbols
from converters.program.arguments import named_values, read_argument, scalar_type, union
from converters.program.program import Argument, Dimension, Meta, Module, Node, Ref

# Calls of a graph inside the graph that compute what the inner graph computes: `no_grad` and the
# like. Their operands follow the graph.
_INLINED = {
    f"higher_order.{name}"
    for name in (
        *("wrap_with_set_grad_enabled", "wrap_with_autocast", "wrap", "hints_wrapper"),
        *("tag_activation_checkpoint", "wrap_activation_checkpoint", "invoke_subgraph"),
    )
}
_DEEPEST, _LONGEST_ENTRY = 16, 2000
_OPERATORS = "torch.ops."
_LAYOUT_STRIDED = 7
# L__self___features_12, L['self'].features[12], getattr(L__self___features, "12")
_ROOT = re.compile(r"^(L__self__|L\['self'\]|self)[._]*")
_REPEAT = re.compile(r"@\d+")
_GETATTR = re.compile(r",\s*[\"']([^\"']*)[\"']\)")
_INDEX = re.compile(r"\[[\"']?([^\]\"']*)[\"']?\]")


class Graph:
    """The calls of a program, graphs inside the graph among them.

    Attributes:
        nodes: The calls.
        values: What is known of the tensors.
        numbers: Expressions of the numbers that the program computes of sizes.
        names: What the names of the outermost graph stand for.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: dict[str, Meta] = {}
        self.numbers: dict[str, Dimension] = {}
        self.names: dict[str, Argument] = {}
        self._taken: dict[str, int] = {}  # how often a name was given

    def enter(self, name: str, graph: Mapping[str, Any]) -> None:
        """Make an input of the program known."""
        self._make(name, self.names, graph)

    def read(self, graph: Mapping[str, Any]) -> None:
        """Read the outermost graph, its inputs being known."""
        self._calls(graph, self.names, depth=0)

    def find(self, name: str) -> Argument:
        """Say what a name of the outermost graph stands for."""
        return _find(self.names, name)

    def _make(self, name: Any, names: dict[str, Argument], graph: Mapping[str, Any]) -> str:
        """Make a value known under a name that no other has."""
        if type(name) is not str or not name or name in names:
            raise ContentError(
                "the program makes a value twice, or one without a name; the file is damaged or "
                f"malicious. Received: {shown(name)}"
            )
        own = name
        while own in self._taken:
            self._taken[name] += 1
            own = f"{name}_{self._taken[name]}"
        self._taken[own] = 0
        if name in graph["tensor_values"]:
            self.values[own] = meta(graph["tensor_values"][name])
        elif name in graph.get("sym_int_values", {}):
            self.numbers[own] = symbols.dimension(graph["sym_int_values"][name])[0]
        elif any(name in graph.get(kind, {}) for kind in ("sym_bool_values", "sym_float_values")):
            self.numbers[own] = own
        else:
            raise ContentError(
                "the program says nothing of a value's shape; the file is damaged. "
                f"Received: {shown(name)}"
            )
        names[name] = Ref(own)
        return own

    def _calls(self, graph: Mapping[str, Any], names: dict[str, Argument], depth: int) -> None:
        if depth > _DEEPEST:
            raise ContentError(
                f"graphs inside graphs, more than {_DEEPEST} deep, are refused. "
                f"Received: {shown(str(graph.get('inputs')))}"
            )
        for call in graph["nodes"]:
            target = call["target"].removeprefix(_OPERATORS)
            outputs = [name for output in call["outputs"] for name in named_values(output)]
            if target in _INLINED:
                self._inline(call, outputs, names, depth)
                continue
            arguments = {
                argument["name"] or f"_{position}": self._argument(argument["arg"], names)
                for position, argument in enumerate(call["inputs"])
            }
            made = tuple(None if o is None else self._make(o, names, graph) for o in outputs)
            name = str(call.get("name") or next(filter(None, made), target))
            self.nodes.append(Node(target, arguments, made, modules(call["metadata"]), name))

    def _argument(self, argument: Any, names: dict[str, Argument]) -> Argument:
        kind, value = union(argument)
        if kind == "as_graph":  # of torch.cond and the like, which nobody converts
            return str(value["name"])
        return read_argument(argument, lambda name: _find(names, name))

    def _inline(
        self,
        call: Mapping[str, Any],
        outputs: list[str | None],
        names: dict[str, Argument],
        depth: int,
    ) -> None:
        """Read the calls of a graph inside the graph as if they stood in its place."""
        given = [union(argument["arg"]) for argument in call["inputs"]]
        place = next((i for i, (kind, _) in enumerate(given) if kind == "as_graph"), None)
        inner = given[place][1]["graph"] if place is not None else None
        if inner is None or place is None:
            raise ContentError(f"expected a graph at {shown(call['target'])}. Received: none")
        operands = [
            self._argument(argument["arg"], names) for argument in call["inputs"][place + 1 :]
        ]
        taken = [name for value in inner["inputs"] for name in named_values(value)]
        given_back = [v for output in inner["outputs"] for v in _results(output)]
        if len(taken) > len(operands) or len(given_back) != len(outputs):
            raise ContentError(
                "a graph inside the graph is called with other values than it has; the file is "
                f"damaged. Received: {len(operands)} values for {len(taken)}, {len(outputs)} for "
                f"{len(given_back)}"
            )
        inside = {n: o for n, o in zip(taken, operands, strict=False) if n is not None}
        self._calls(inner, inside, depth + 1)
        for name, result in zip(outputs, given_back, strict=True):
            if name is None:
                continue
            if name in names:
                raise ContentError(
                    f"the program makes a value twice; the file is damaged. Received: {shown(name)}"
                )
            names[name] = self._argument(result, inside)


def _results(output: Any) -> list[Any]:
    """Split an output of an inner graph into single arguments."""
    kind, value = union(output)
    return [{"as_tensor": item} for item in value] if kind == "as_tensors" else [output]


def _find(names: Mapping[str, Argument], name: Any) -> Argument:
    if type(name) is not str or name not in names:
        raise ContentError(
            "the program uses a value before it is made, or one that never is; the file is damaged "
            f"or malicious. Received: {shown(name)}"
        )
    return names[name]


def meta(value: Mapping[str, Any]) -> Meta:
    """Read what is known of a tensor."""
    sizes = [symbols.dimension(size) for size in value["sizes"]]
    if value.get("layout", _LAYOUT_STRIDED) != _LAYOUT_STRIDED:
        raise ContentError(
            "a sparse tensor in the program; export the network with dense tensors. "
            f"Received: layout {shown(value['layout'])}"
        )
    return Meta(
        tuple(size for size, _ in sizes),
        scalar_type(value["dtype"]),
        tuple(hint for _, hint in sizes),
        tuple(symbols.dimension(stride)[1] for stride in value.get("strides") or ()),
    )


def modules(metadata: Mapping[str, Any]) -> tuple[Module, ...]:
    """Read the modules that a node was called in, the innermost last."""
    stack = metadata.get("nn_module_stack") or ""
    found = []
    for entry in stack.split(";"):
        parts = _split(entry) if len(entry) <= _LONGEST_ENTRY else []
        if len(parts) == 3 and not parts[0].startswith("_empty_nn_module_stack"):
            found.append(Module(module_path(parts[1]), parts[2]))
    return tuple(found)


def module_path(text: str) -> str:
    """Write the path of a module as its name among `named_modules()`.

    PyTorch has written `features.12`, `L['self'].features[12]`, `L__self___features_12`,
    `getattr(L__self___features, "12")` and, when a module is called again, `features.12@1`.
    """
    text = _GETATTR.sub(r".\1", _REPEAT.sub("", text).replace("getattr(", ""))
    return _INDEX.sub(r".\1", _ROOT.sub("", text)).strip(".")


def _split(entry: str) -> list[str]:
    """Split at commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(entry):
        depth += (character in "[(") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(entry[start:position])
            start = position + 1
    return [*parts, entry[start:]]
