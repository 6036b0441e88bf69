"""A program becomes a Keras model, node by node.

Imports NumPy, and Keras inside functions.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.program import End, Node, Program
from converters.pytorch.graph import aliasing
from converters.pytorch.graph.arrange import Arranger
from converters.pytorch.graph.call import Call, Held, Number
from converters.pytorch.graph.layout import Atom, BatchError, Value, constant, extent, is_free
from converters.pytorch.graph.operations import Operations, arrays
from converters.pytorch.graph.parameters import Parameters
from converters.pytorch.graph.registry import base_name, handler, in_place
from converters.pytorch.graph.report import EndRecord, NodeRecord, PortedWeight
from converters.pytorch.graph.uses import given, live, users

_HALF = ("float16", "bfloat16")
WAY_OUT = (
    "export it with a dynamic batch: torch.export.export(module, inputs, "
    'dynamic_shapes={"x": {0: torch.export.Dim("batch")}}), two samples in the inputs'
)


class Emitter:
    """The state of a conversion.

    Args:
        program: The program.
        reserved: Names that no layer may have.

    Attributes:
        program: The program.
        ops: `keras.ops`, folding.
        arranger: Brings values into the axes that are needed.
        values: The values so far, by their names in the program.
        users: The nodes that take each value.
        sizes: How many elements each weight has, by its key.
        batch: The batch of the example.
        batch_in_sizes: Whether sizes in the program have that batch in them, as a number.
        notes: What the report is to say of nodes, by their names.
        nodes: What became of every node.
        ported: Where weights of the program went.
    """

    def __init__(self, program: Program, reserved: frozenset[str] = frozenset()) -> None:
        self.program = program
        self.ops = Operations()
        self.batch, self.batch_in_sizes = _batch(program)
        self.arranger = Arranger(
            self._reshape,
            self._transpose,
            self._tile,
            self._samples,
            self._take,
            lambda tensor: id(tensor) in self.ops.fixed,
            (self.batch, self.batch_in_sizes),
        )
        self.values: dict[str, Value | Number | None] = {}
        self.notes: dict[str, list[str]] = {}
        self.nodes: list[NodeRecord] = []
        self.ported: list[PortedWeight] = []
        self.transposes: list[str] = []
        self.users = users(program.nodes)
        self.sizes = {
            weight.key: math.prod(program.values[name].hint)
            for name, weight in program.weights.items()
        }
        self.parameters = Parameters(self)
        self.first_input: Any = None
        self._current: Node | None = None
        self._made: list[str] = []
        self._names: Counter[str] = Counter(reserved)
        self.inputs: list[EndRecord] = []
        self.made: dict[Any, Any] = {}
        self.ulsam: list[str] = []
        self.needed = live(program)
        # The names of values that are read.
        self.wanted = {
            *(
                name
                for name, nodes in self.users.items()
                if any(n.name in self.needed for n in nodes)
            ),
            *(end.value for end in program.outputs),
        }
        self._sole = _sole_emitters(program)
        self._training = {weight.key for weight in program.weights.values() if weight.trains}
        self._aliases = aliasing.Aliases(program)

    @property
    def way_out(self) -> str:
        """What to do where a constant is held against a dimension that is open."""
        return WAY_OUT if self.batch_in_sizes else "export it with fixed sizes"

    def run(self, skip: Mapping[str, Callable[["Emitter"], None]] | None = None) -> None:
        """Converts every node that the outputs need.

        Args:
            skip: By name of a node, what is done in its place.
        """
        for position, node in enumerate(self.program.nodes):
            self._current, self._made, self.ops.used = node, [], []
            if skip is not None and node.name in skip:
                skip[node.name](self)
                continue
            if node.name not in self.needed:
                self._record(node, "unused", "no output needs it")
                continue
            self._read_weights(node)
            try:
                results = self._converted(node)
                self._keep(node, results, position)
            except BatchError as error:
                raise ValueError(f"{self.where(node)}{error}; {self.way_out}") from None
            self._drop_weights(node)

    def _converted(self, node: Node, again: bool = False) -> list[Any]:
        function = handler(node.target)
        assert function is not None, node.target
        try:
            results = function(Call(self, node, again))
        except BatchError:
            raise
        except ValueError as error:
            text = str(error).splitlines()[0]
            start = self.where(node)
            raise ValueError(text if text.startswith(start) else start + text) from error
        except Exception as error:  # a back end's own, of what Keras let pass
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ValueError(self.where(node) + text) from error
        return list(results) if isinstance(results, list | tuple) else [results]

    def _keep(self, node: Node, results: list[Any], position: int) -> None:
        for number, name in enumerate(node.outputs[: len(results)]):
            if name is None:
                continue
            if isinstance(results[number], Value):
                results[number] = self._declared(results[number], self.program.values[name].dtype)
            self.values[name] = results[number]
        first = results[0] if results else None
        if in_place(node.target):
            self._aliases.written(self, node, first, position)
        if isinstance(first, Value) and first.constant:
            self.parameters.note(node)
            self._record(node, "constant", "computed at conversion")
        elif self._made or self.ops.used:
            made = [*self._made, *(f"keras.ops.{name}" for name in self.ops.used)]
            self._record(node, "converted", ", ".join(made))
        else:
            self._record(node, "folded", "changes how the value is seen, or nothing")

    def _declared(self, value: Value, dtype: str) -> Value:
        """A value in its dtype in the program; of the real and of the whole numbers, any."""
        kinds = _kind(str(value.tensor.dtype)), _kind(dtype)
        if not value.constant and kinds[0] != kinds[1]:
            cast = self.ops.cast(value.tensor, _keras_dtype(dtype))
            value = replace(value, tensor=cast)
        return _as_declared(value, dtype)

    def again(self, node: Node) -> list[Any]:
        """What a node gives that is a constant so far, computed in the model."""
        before, self._current = self._current, node
        try:
            return self._converted(node, again=True)
        finally:
            self._current = before

    def at(self, value: str) -> None:
        """What is emitted next belongs to the node that gave a value."""
        for node in self.program.nodes:
            if value in node.outputs:
                self._current = node

    def _record(self, node: Node, status: str, detail: str) -> None:
        notes = self.notes.get(node.name, [])
        self.nodes.append(
            NodeRecord(node.name, node.target, node.module, status, "; ".join([detail, *notes]))
        )

    def covered(self, nodes: Iterable[Node], layer: str) -> None:
        """Says that nodes became one layer."""
        self.nodes += [
            NodeRecord(n.name, n.target, n.module, "converted", f"part of {layer}") for n in nodes
        ]

    def where(self, node: Node) -> str:
        """The beginning of an error: which node of which module."""
        module = f" in module {node.module!r}" if node.module else ""
        return f"{node.target} (node {node.name!r}{module}) cannot be converted: "

    def number(self, found: Any, call: Call) -> int | float:
        """A number of the program that is the same for every input."""
        if isinstance(found, Value):
            raise call.refusal("it takes a number that depends on the input")
        if found.free:
            raise call.refusal(
                "it computes with the size of a dimension that is open; export the program with "
                "that dimension fixed"
            )
        return found.value

    # Weights and inputs

    def _read_weights(self, node: Node) -> None:
        """Reads the weights that a node takes."""
        for name in self._weights_of(node):
            if name not in self.values:
                self.values[name] = self.constant(name)

    def constant(self, name: str) -> Value:
        """A value that no input changes, as an array; a weight is read."""
        found = self.values.get(name)
        if found is None:
            key = self.program.weights[name].key
            array = self.program.tensors[key]
            key = self.program.aliases.get(key, key)
            return _as_declared(constant(array, (key,)), array.dtype.name)
        assert isinstance(found, Value)
        return found

    def _drop_weights(self, node: Node) -> None:
        """Drops the weights that no later node takes: a model's weights are held once."""
        for name in self._weights_of(node):
            if self.users[name][-1] is node:
                del self.values[name]

    def _weights_of(self, node: Node) -> list[str]:
        return [name for name in given(node) if name in self.program.weights]

    def input(self, end: End, order: Sequence[int] | None) -> Any:
        """Makes a Keras input; its value is in the axes that `order` gives."""
        import keras

        assert isinstance(end.value, str)
        meta = self.program.values[end.value]
        order = tuple(range(meta.rank)) if order is None else tuple(order)
        sizes = [None if isinstance(s, str) else s for s in meta.shape]
        if meta.rank and meta.hint[0] == self.batch:
            sizes[0] = None
        tensor = keras.Input(
            batch_shape=[sizes[d] for d in order],
            dtype=_keras_dtype(meta.dtype),
            name=self.named(end.name),
        )
        axes = tuple(
            () if sizes[d] == 1 else (Atom(meta.hint[d], sizes[d] is None),) for d in order
        )
        dims = tuple(axes[order.index(d)] for d in range(meta.rank))
        value = Value(tensor, axes, dims, dtype=meta.dtype)
        self.values[end.value] = value
        self.first_input = tensor if self.first_input is None else self.first_input
        self.inputs.append(end_record(tensor.name, value, order))
        return tensor

    # Layers and their names

    def layer(
        self,
        node: Node,
        kind: Callable[..., Any],
        inputs: Any,
        weights: Mapping[str, Held],
        part: str,
        config: Mapping[str, Any],
        path: str = "",
        states: Any = None,
    ) -> Any:
        """As `Call.layer`."""
        symbolic = _any_symbolic(inputs)
        keys = tuple((name, held.keys, held.how) for name, held in weights.items())
        if self._frozen(weights):
            config = {**config, "trainable": False}
        share = symbolic and bool(weights) and all(held.keys for held in weights.values())
        shared = (kind, part, repr(sorted(config.items())), keys) if share else None
        made = next((m for m in self.made.get(shared, ()) if _holds(m, weights)), None)
        if made is None:
            name = self.named(path or self._path(node, weights, part)) if symbolic else None
            made = kind(name=name, **config)
            if weights:
                _built_with_zeros(made, inputs.shape)
                self._fill(made, weights, symbolic)
            if share:
                self.made.setdefault(shared, []).append(made)
            if symbolic:
                self._made.append(f"{made.name} ({type(made).__name__})")
        elif symbolic:
            self._made.append(f"{made.name} ({type(made).__name__}), called again")
        tensor = made(inputs) if states is None else made(inputs, initial_state=states)
        return self.ops.settle(inputs, tensor) if symbolic else arrays(tensor)

    def table(
        self,
        key: str,
        kind: Callable[..., Any],
        inputs: Any,
        weights: Mapping[str, Held],
        config: Mapping[str, Any],
    ) -> Any:
        """Calls a layer that holds a parameter by itself, named after it."""
        assert self._current is not None
        return self.layer(self._current, kind, inputs, weights, "", config, key)

    def _frozen(self, weights: Mapping[str, Held]) -> bool:
        """Whether training is to leave a layer alone: its weights are buffers, or do not train."""
        keys = {key for held in weights.values() for key in held.keys}
        counts = any(name.startswith("moving_") for name in weights)
        return bool(keys) and not counts and not keys & self._training

    def _fill(self, layer: Any, weights: Mapping[str, Held], kept: bool) -> None:
        variables = {variable.name: variable for variable in layer.weights}
        for name, held in weights.items():
            variables[name].assign(held.array)
            if not kept:
                continue
            self.ported.append(PortedWeight(f"{layer.name}/{name}", held.keys, held.how))

    def _path(self, node: Node, weights: Mapping[str, Held], part: str) -> str:
        operator = base_name(node.target).split(".")[-1].strip("_")
        owners = {k.rpartition(".")[0] for held in weights.values() for k in held.keys}
        if len(owners) == 1 and owners != {""}:
            path = owners.pop()
        elif node.name in self._sole and node.module:
            path = node.module
        else:
            path = f"{node.module}.{operator}" if node.module else f"forward.{operator}"
        return f"{path}.{part}" if part else path

    def named(self, path: str) -> str:
        """A name that no layer has yet; names of layers hold no "/"."""
        import keras

        # Nor ".", where they become names of PyTorch's parameters.
        dot = "" if keras.config.backend() == "torch" else "."
        path = re.sub(rf"[^A-Za-z0-9_{dot}\-]", "_", re.sub(r"@\d+", "", path))
        path = path.lstrip("_-.") or "value"
        self._names[path] += 1
        count = self._names[path]
        if count == 1:
            return path
        return self.named(f"{path}_{count - 1}")

    # What arranging emits

    def _reshape(self, tensor: Any, shape: tuple[int, ...], keeps: bool) -> Any:
        import keras

        assert self._current is not None
        if keeps and tensor.shape[0] is None and shape[0] == -1 and shape[1:].count(-1) <= 1:
            config = {"target_shape": shape[1:]}
            return self.layer(self._current, keras.layers.Reshape, tensor, {}, "reshape", config)
        if shape.count(-1) > 1 and _alike(tensor.shape, shape):
            ones = tuple(n for n, size in enumerate(tensor.shape) if size == 1)
            tensor = self.ops.squeeze(tensor, ones) if ones else tensor
            for axis in (n for n, size in enumerate(shape) if size == 1):
                tensor = self.ops.expand_dims(tensor, axis)
            return tensor
        if shape.count(-1) > 1:
            raise ValueError(
                self.where(self._current) + "more than one of the sizes that it gives is open; "
                "export the program with fixed height and width"
            )
        return self.ops.reshape(tensor, shape)

    def _transpose(self, tensor: Any, order: tuple[int, ...]) -> Any:
        import keras

        assert self._current is not None
        if id(tensor) not in self.ops.fixed:
            self.transposes.append(self._current.name)
        if order[0] == 0:
            return self.layer(
                self._current, keras.layers.Permute, tensor, {}, "permute", {"dims": order[1:]}
            )
        return self.ops.transpose(tensor, order)

    def _tile(self, tensor: Any, times: tuple[int, ...]) -> Any:
        return self.ops.tile(tensor, times)

    def _samples(self, tensor: Any, axis: int) -> Any:
        given = self.first_input
        if given is None or not given.shape or given.shape[0] is not None:
            raise BatchError("a constant is repeated as often as there are samples")
        ops, shape = self.ops, [1] * len(tensor.shape)
        shape[axis] = -1
        zeros = ops.zeros_like(given[(slice(None), *(0,) * (len(given.shape) - 1))])
        zeros = ops.reshape(ops.cast(zeros, str(tensor.dtype)), tuple(shape))
        return ops.add(zeros, tensor)

    def positions(self, symbol: str, size: int) -> Value | None:
        """0, 1, 2 … along a dimension that is open, by its name in the program."""
        for end in self.program.inputs:
            value = self.values.get(end.value) if isinstance(end.value, str) else None
            shape = self.program.values[str(end.value)].shape if value is not None else ()
            if symbol in shape and isinstance(value, Value) and not value.constant:
                group = value.dims[shape.index(symbol)]
                if group in value.axes and is_free(group):
                    return self._counted(value.tensor, value.axes.index(group), size)
        return None

    def samples(self) -> Value:
        """Which sample each is."""
        if self.first_input is None or self.first_input.shape[0] is not None:
            raise BatchError("it counts the samples")
        return self._counted(self.first_input, 0, self.batch)

    def _counted(self, tensor: Any, axis: int, size: int) -> Value:
        cut = tuple(slice(None) if n == axis else 0 for n in range(len(tensor.shape)))
        ones = self.ops.ones_like(tensor[cut], dtype="int32")
        group = (Atom(size, True),)
        places = self.ops.subtract(self.ops.cumsum(ones, axis=0), ones)
        return Value(places, (group,), (group,), dtype="int64")

    def _take(self, tensor: Any, positions: np.ndarray, axis: int) -> Any:
        return self.ops.take(tensor, positions.astype("int32"), axis=axis)


def end_record(name: str, value: Value, order: Sequence[int]) -> EndRecord:
    """The account of an input or output."""
    sizes = tuple(None if is_free(group) else extent(group) for group in value.dims)
    return EndRecord(name, sizes, tuple(order))


def _alike(have: Sequence[int | None], want: Sequence[int]) -> bool:
    """Whether only axes of one come or go."""
    return [n for n in have if n != 1] == [None if n == -1 else n for n in want if n != 1]


def _built_with_zeros(layer: Any, shape: Any) -> None:
    """Makes a layer's weights, which are filled anyway, without drawing random numbers."""
    import keras

    kinds = ("kernel", "recurrent", "depthwise", "embeddings")
    owner = getattr(layer, "cell", layer)
    names = [f"{kind}_initializer" for kind in kinds]
    kept = {name: getattr(owner, name) for name in names if hasattr(owner, name)}
    for name in kept:
        setattr(owner, name, keras.initializers.Zeros())
    layer.build(shape)
    for name, initializer in kept.items():
        setattr(owner, name, initializer)


def _holds(layer: Any, weights: Mapping[str, Held]) -> bool:
    """Whether a layer's weights are these: of one parameter, they may be other parts."""
    variables = {variable.name: variable for variable in layer.weights}
    return all(np.array_equal(variables[name], held.array) for name, held in weights.items())


def _batch(program: Program) -> tuple[int, bool]:
    """The batch of the example, and whether sizes in the program have it in them."""
    for end in program.inputs:
        if isinstance(end.value, str) and program.values[end.value].rank:
            meta = program.values[end.value]
            return meta.hint[0], not isinstance(meta.shape[0], str)
    return 1, False


def _sole_emitters(program: Program) -> set[str]:
    """The nodes that are the only one in their module, so that its path is their name."""
    count = Counter(node.module for node in program.nodes if node.module)
    return {
        node.name
        for node in program.nodes
        if count[node.module] == 1
        or (node.modules and node.modules[-1].kind.startswith("torch.nn.modules."))
        and not node.modules[-1].kind.startswith("torch.nn.modules.container")
    }


def _as_declared(value: Value, dtype: str) -> Value:
    """A value with its dtype in the program; arrays of half and double precision in float32."""
    wanted = "float32" if dtype in (*_HALF, "float64") else dtype
    if value.constant and value.tensor.dtype.name != wanted:
        value = replace(value, tensor=value.tensor.astype(wanted))
    return replace(value, dtype=dtype)


def _kind(dtype: str) -> str:
    return "float" if "float" in dtype else "bool" if dtype == "bool" else "int"


def _keras_dtype(dtype: str) -> str:
    if dtype in (*_HALF, "float64"):
        return "float32"
    return "int32" if dtype == "int64" else dtype


def _any_symbolic(inputs: Any) -> bool:
    import keras

    return any(isinstance(t, keras.KerasTensor) for t in keras.tree.flatten(inputs))
