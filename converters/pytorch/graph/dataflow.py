"""A program as its arithmetic: what is computed from what, whatever spelling the operators have.

Imports `converters.program`.

Operators that give a value on as it is (clone, dropout at inference, a cast to more digits) are
looked through, operators that are one thing under several names have one kind, and an in-place
operator gives a new value that all later readers see.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.program import Argument, Dimension, Meta, Node, Program, Ref

# Kind: the operators, without their namespace, overload and trailing underscore.
_KINDS = {
    "convolution": "conv2d convolution",
    "batch_norm": "batch_norm _native_batch_norm_legit_no_training",
    "max_pool": "max_pool2d max_pool2d_with_indices",
    "softmax": "softmax _softmax special_softmax",
    "reshape": "view reshape flatten unflatten unsqueeze squeeze view_as reshape_as _unsafe_view",
    "permute": "permute transpose swapaxes swapdims movedim moveaxis",
    "expand": "expand expand_as broadcast_to repeat tile",
    "split": "chunk split split_with_sizes unsafe_chunk unsafe_split unbind tensor_split",
    "slice": "slice narrow select",
    "join": "cat concat concatenate",
    "multiply": "mul multiply",
    "copy": "clone",
    "same": "contiguous alias",
    "dropout": "dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout",
    "cast": "to _to_copy type_as",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}
# Results of these may share memory with what they read.
# Of floating point types: whether one has more digits.
WIDTHS = {"float16": 1, "bfloat16": 1, "float32": 2, "float64": 3}
_VIEWS = {"reshape", "permute", "expand", "split", "slice", "same", "cast", "dropout", "detach"}
_PAIRS = ("dim0", "dim1"), ("axis0", "axis1")


@dataclass(frozen=True, eq=False)
class Op:
    """A step of the arithmetic.

    Attributes:
        kind: What it does: a kind of the table above, else the operator's own name.
        node: The node.
        arguments: Those of the node; values are named as they are at that point, past in-place
            operators and what is looked through.
        inputs: The tensors computed with, weights and templates of shapes not among them.
        reads: All values among the arguments, numbers too.
    """

    kind: str
    node: Node
    arguments: Mapping[str, Any]
    inputs: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def result(self) -> str:
        """The name of its first value; empty without one."""
        return self.node.outputs[0] or "" if self.node.outputs else ""


@dataclass
class Dataflow:
    """The arithmetic of a program.

    Attributes:
        program: The program.
        ops: The steps in order, those looked through left out.
        made_by: The step by the value that it makes.
        readers: The steps that read a value.
        passing: The nodes that give a value on as it is, by that value, or that no other step
            needs since it is spelled otherwise.
        ends: The values that the program answers or keeps.
        inner: What is known of values that the program has no name for.
    """

    program: Program
    ops: list[Op] = field(default_factory=list)
    made_by: dict[str, Op] = field(default_factory=dict)
    readers: dict[str, list[Op]] = field(default_factory=dict)
    passing: dict[str, list[Node]] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    inner: dict[str, Meta] = field(default_factory=dict)

    def meta(self, value: str) -> Meta | None:
        """What is known of a tensor; None for numbers and values that were overwritten."""
        return self.program.values.get(value) or self.inner.get(value)

    def shape(self, value: str) -> tuple[Dimension, ...]:
        """The sizes of a tensor; none where they are not known."""
        meta = self.meta(value)
        return meta.shape if meta else ()

    def key(self, argument: Argument) -> str | None:
        """The key of the weight that an argument is, the first of those that are tied."""
        weight = self.program.weights.get(argument.name) if isinstance(argument, Ref) else None
        return self.program.aliases.get(weight.key, weight.key) if weight else None

    def add(self, op: Op, at: int | None = None) -> None:
        """Put a step in its place, by default at the end."""
        self.ops.insert(len(self.ops) if at is None else at, op)
        self.made_by |= {output: op for output in op.node.outputs if output}
        for name in op.reads:
            self.readers.setdefault(name, []).append(op)

    def replace(self, old: Op, *new: Op) -> None:
        """Put steps in the place of one; those that only it has needed go with it."""
        at = self.ops.index(old)
        self._take_out(old)
        for op in reversed(new):
            self.add(op, at)
        left, nodes = list(old.reads), []
        for value in left:
            made = self.made_by.get(value)
            if made is None or made in new or made not in self.ops:
                continue
            outputs = [output for output in made.node.outputs if output]
            readers = [r for output in outputs for r in self.readers.get(output, [])]
            if any(any(r.node.outputs) for r in readers) or not self.ends.isdisjoint(outputs):
                continue
            left += made.reads
            for gone in (made, *readers):  # and what asserts something of it
                self._take_out(gone)
                nodes.append(gone.node)
            nodes += [node for output in outputs for node in self.passing.pop(output, [])]
        for value in (new[0].inputs[0], new[-1].result):
            self.passing[value] = [*self.passing.get(value, []), *nodes]

    def _take_out(self, op: Op) -> None:
        self.ops.remove(op)
        for name in op.reads:
            self.readers[name].remove(op)


def dataflow(program: Program) -> Dataflow:
    """Give the arithmetic of a program."""
    flow = Dataflow(program)
    now = _Now()
    seen: dict[Any, Node] = {}
    for node in program.nodes:
        base = node.target.split(".")[1] if "." in node.target else node.target
        name = base.removesuffix("_")
        kind = _KIND_OF.get(name, name)
        arguments = {key: _renamed(value, now.read) for key, value in node.arguments.items()}
        reads = tuple(dict.fromkeys(ref.name for ref in _refs(tuple(arguments.values()))))
        inputs = _inputs(flow, kind, arguments, reads)
        kind = _refined(flow, kind, node, arguments, inputs)
        outputs = [output for output in node.outputs if output]
        first = next(_refs(tuple(node.arguments.values())), None)
        for output in outputs:
            if first and base != name:
                now.overwrite(first.name, output)
            else:
                now.add(output, first.name if first and kind in _VIEWS else output)
        # The same view taken twice is one value.
        earlier = seen.setdefault((node.target, tuple(arguments.items())), node)
        if kind == "same" or (kind in _VIEWS and earlier is not node):
            given = inputs if kind == "same" else earlier.outputs
            for alias, value in zip(node.outputs, given, strict=False):
                if alias and value:
                    now.root[alias] = value
                    flow.passing.setdefault(value, []).append(node)
            continue
        flow.add(Op(kind, node, arguments, inputs, reads))
    answered = [end.value for end in program.outputs if isinstance(end.value, str)]
    flow.ends = {now.read(value) for value in [*answered, *program.mutated.values()]}
    return flow


def axis(op: Op, rank: int, default: int = 0) -> int | None:
    """The one axis that an operator works along, from 0; None if it is not one known number."""
    found = axes(op, rank, default)
    return found[0] if len(found) == 1 else None


def axes(op: Op, rank: int, default: int = 0) -> tuple[int, ...]:
    """The axes that an operator works along, from 0, in order; none if they are not known."""
    given = op.arguments.get("dim", default)
    listed = given if isinstance(given, tuple) else (given,)
    return tuple(sorted(n % rank for n in listed)) if rank and _known(listed) else ()


def order(op: Op, rank: int) -> tuple[int, ...]:
    """The order that an operator brings dimensions into; none where it does something else."""
    given, name = op.arguments, op.node.target.split(".")[1]
    if name not in _KINDS["permute"].split():
        return ()
    if "dims" in given:
        return tuple(d % rank for d in given["dims"])
    moved = list(range(rank))
    for a, b in _PAIRS:
        if a in given:
            moved[given[a]], moved[given[b]] = moved[given[b]], moved[given[a]]
    if "source" in given:
        sources, places = (
            [d % rank for d in (v if isinstance(v, tuple) else (v,))]
            for v in (given["source"], given["destination"])
        )
        moved = [d for d in moved if d not in sources]
        for place, source in sorted(zip(places, sources, strict=True)):
            moved.insert(place, source)
    return tuple(moved)


def _known(numbers: tuple[Any, ...]) -> bool:
    return all(isinstance(n, int) for n in numbers)


class _Now:
    """What the names of the program stand for as its nodes go by."""

    def __init__(self) -> None:
        self.root: dict[str, str] = {}  # what is looked through
        self._next: dict[str, str] = {}  # what is overwritten
        self._memory: dict[str, str] = {}
        self._sharing: dict[str, set[str]] = {}

    def read(self, value: str) -> str:
        value = self._latest(value)
        return self.root.get(value, value)

    def add(self, value: str, of: str) -> None:
        """Note a new value in the memory of another, or in its own."""
        memory = self._memory.get(of, of)
        self._memory[value] = memory
        self._sharing.setdefault(memory, {memory}).add(value)

    def overwrite(self, written: str, result: str) -> None:
        """Let later readers of what an in-place operator writes see its result."""
        written = self._latest(written)
        self.add(result, result)
        for name in self._sharing.pop(self._memory.get(written, written), set()) - {written}:
            # A view of it, or what it is a view of: what that holds now has no name.
            lost = self._next[name] = f"{name} after {result}"
            self.add(lost, result)
        self._next[written] = result

    def _latest(self, value: str) -> str:
        while value in self._next:
            value = self._next[value]
        return value


def _refs(argument: Argument) -> Iterator[Ref]:
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, tuple):
        for item in argument:
            yield from _refs(item)


def _renamed(argument: Argument, name: Callable[[str], str]) -> Argument:
    if isinstance(argument, Ref):
        return Ref(name(argument.name))
    if isinstance(argument, tuple):
        return tuple(_renamed(item, name) for item in argument)
    return argument


def _inputs(
    flow: Dataflow, kind: str, arguments: Mapping[str, Any], reads: tuple[str, ...]
) -> tuple[str, ...]:
    """The tensors computed with: the first that an operator of one input reads, else all."""
    if kind in _KINDS and kind not in ("join", "multiply"):
        return reads[:1]
    both = [arguments.get(name) for name in ("self", "other")]  # of x + x, x twice
    names = reads if None in both else tuple(ref.name for ref in _refs(tuple(both)))
    return tuple(n for n in names if flow.meta(n) and n not in flow.program.weights)


def _refined(
    flow: Dataflow,
    kind: str,
    node: Node,
    arguments: Mapping[str, Any],
    inputs: tuple[str, ...],
) -> str:
    """The kind, once the arguments are known."""
    if not inputs:
        return kind
    ends = (inputs[0], node.outputs[0] or "" if node.outputs else "")
    before, after = flow.shape(ends[0]), flow.shape(ends[1])
    if kind == "dropout":  # its `train` has no default
        active = arguments.get("train", arguments.get("training")) is not False
        return "same" if not active or arguments.get("p") == 0 else kind
    if kind == "cast":
        widths = [WIDTHS.get(getattr(flow.meta(value), "dtype", ""), 0) for value in ends]
        dtypes = {getattr(flow.meta(value), "dtype", "") for value in ends}
        return "same" if 0 < widths[0] < widths[1] or len(dtypes) == 1 else kind
    if kind == "copy" or (kind == "slice" and before == after):
        return "same"
    if kind == "permute":
        op = Op(kind, node, arguments, inputs, inputs)
        moved = [d for d in order(op, len(before)) if before[d] != 1]  # of more than one element
        return "reshape" if moved == sorted(moved) else kind
    if kind == "stack":
        return "join"
    return kind
