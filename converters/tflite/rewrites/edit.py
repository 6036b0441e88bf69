"""Changes to the first graph of a ``.tflite`` file: operators put in, taken out, tensors reshaped.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, TfliteFile, packed, schema
from converters.tflite.view import VIEWS, View

# What the schema calls NumPy's types, of those that new constants have.
_TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "int16": "INT16", "int32": "INT32",
}  # fmt: skip
# The version that first took integers, where it is not the second.
_INTEGER_VERSION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "RESHAPE": 1}
# Operators whose version counts dimensions: above four they have one that the GPU does not take.
_BY_RANK = {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "TRANSPOSE"}
# Operators that compute each value by itself, of values in the same place.
ELEMENTWISE = frozenset({
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "PRELU", "NEG",
    "ABS", "SQUARE", "SQRT", "RSQRT", "EXP", "LOG", "LOGISTIC", "TANH", "RELU", "RELU6", "ELU",
    "GELU", "HARD_SWISH", "LEAKY_RELU", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "QUANTIZE",
    "DEQUANTIZE", "CAST",
})  # fmt: skip
# Bytes of a constant that is written in place of something smaller.
_LARGEST = 1 << 27
# Operators that are taken out where nothing reads them any more.
_IDLE = {*VIEWS, "TRANSPOSE", "TILE", "SPLIT", "SPLIT_V", "PAD", "PADV2", "BROADCAST_TO"}


class Edit:
    """One graph under change. Tensors and operators are those of the parsed file, and new ones.

    Args:
        file: A `.tflite` file.

    Attributes:
        file: The file, as it was.
        graph: Its graph, likewise.
        view: The same, with who makes and who reads each tensor.
    """

    def __init__(self, file: TfliteFile) -> None:
        self.graph = file.graph
        self.view = View(file.graph)
        self.file = file
        self._put: dict[int, list[Any]] = {}
        self._dropped: set[int] = set()
        self._tensors = list(self.graph.tensors)
        # What each tensor is a view of: without a circle, as makers come before readers.
        self._viewed = {
            tensor.index: o.inputs[0]
            for tensor, o in self.view.producer.items()
            if o.name in VIEWS and o.inputs[0] is not None
        }

    @cached_property
    def _model(self) -> Any:
        return self.file.changeable()

    def _new_tensor(self, twin: Any, like: Tensor, **changes: Any) -> Tensor:
        self._model.subgraphs[0].tensors.append(twin)
        values = {**vars(like), "index": len(self._tensors), **changes}
        tensor = Tensor(**values)
        self._tensors.append(tensor)
        return tensor

    def without_steps(self, tensor: Tensor, dtype: str, part: str) -> Tensor:
        """A new tensor of the shape of one of integers, of another type.

        Args:
            tensor: The tensor.
            dtype: The schema's name of the type: `"BOOL"`, `"FLOAT32"`.
            part: What it is, which its name ends with.
        """
        made = self.like(tensor, tensor.shape, part)
        twin = self._model.subgraphs[0].tensors[made.index]
        twin.type, twin.quantization = getattr(schema().TensorType, dtype), None
        changed = Tensor(**{**vars(made), "dtype": dtype, "scales": (), "zero_points": ()})
        self._tensors[made.index] = changed
        return changed

    def like(self, tensor: Tensor, shape: Sequence[int], part: str) -> Tensor:
        """A new tensor of another shape, of the same type and range.

        Args:
            tensor: The tensor.
            shape: The new one's shape.
            part: What it is, which its name ends with.
        """
        size = tuple(int(n) for n in shape)
        twin = copy(self._model.subgraphs[0].tensors[tensor.index])
        twin.shape, twin.shapeSignature = list(size), None
        name = f"{tensor.name};{part}"
        twin.name, twin.buffer = name, 0 if not tensor.constant else twin.buffer
        return self._new_tensor(twin, tensor, name=name, shape=size, open_shape=size)

    def constant(
        self,
        values: Any,
        part: str,
        like: Tensor | None = None,
        scales: Any = (),
        zeros: Any = (),
        axis: int = -1,
    ) -> Tensor:
        """A new constant.

        Args:
            values: An array of the type that is to be stored.
            part: Its name.
            like: A tensor whose steps it counts in; `None` if it has none, or has `scales`.
            scales: Its own steps.
            zeros: The integers that stand for 0.
            axis: The axis along which its steps lie, if there are several.

        Raises:
            ValueError: If it is larger than what a model for a phone would have in one piece.
        """
        if np.asarray(values).nbytes > _LARGEST:
            raise ValueError(f"a constant of the shape {np.shape(values)}")
        array = np.ascontiguousarray(values)
        data = np.frombuffer(array.tobytes(), np.uint8)
        dtype = _TYPES[array.dtype.name]
        tensor, buffer = schema().TensorT(), schema().BufferT()
        buffer.data = data
        tensor.shape, tensor.type = list(array.shape), getattr(schema().TensorType, dtype)
        tensor.name, tensor.buffer = part, len(self._model.buffers)
        tensor.quantization, tensor.hasRank = schema().QuantizationParametersT(), True
        if like is not None:
            scales, zeros = like.scales, like.zero_points
        if len(scales):
            tensor.quantization.scale = [float(s) for s in scales]
            tensor.quantization.zeroPoint = [int(z) for z in zeros]
            axis = axis % array.ndim if len(scales) > 1 else 0
            tensor.quantization.quantizedDimension = axis
        self._model.buffers.append(buffer)
        return self._new_tensor(
            tensor,
            Tensor(0, part, array.shape, False, dtype, False, data),
            scales=tuple(scales),
            zero_points=tuple(zeros),
            axis=axis if len(scales) > 1 else 0,
            open_shape=array.shape,
        )

    def put(
        self,
        at: Operator,
        name: str,
        inputs: Sequence[Tensor | None],
        output: Tensor,
        options: Any = None,
        code: int | None = None,
    ) -> Tensor:
        """Puts a new operator before another one; the result is its output.

        Args:
            at: The operator.
            name: The schema's name of the new one.
            inputs: Its inputs.
            output: Its output: a new tensor, or one whose operator is dropped.
            options: The schema's options object.
            code: The number of its code in the file, with the version; `None` for the first
                version that there is for the type.
        """
        new = schema().OperatorT()
        types = (t.dtype for t in (output, *inputs) if t is not None)
        kind = next((dtype for dtype in types if dtype != "BOOL"), "BOOL")
        new.opcodeIndex = self._code(name, kind) if code is None else code
        new.inputs = [-1 if t is None else t.index for t in inputs]
        new.outputs = [output.index]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            new.builtinOptionsType = getattr(schema().BuiltinOptions, kind)
            new.builtinOptions = options
        self._put.setdefault(at.index, []).append(new)
        return output

    def again(
        self, operator: Operator, inputs: Sequence[Tensor | None], output: Tensor, **options: Any
    ) -> Tensor:
        """Puts an operator once more, in its own place, with other inputs, output and options."""
        changed = copy(operator.options)
        for key, value in options.items():
            setattr(changed, key, value)
        known = self._model.subgraphs[0].operators[operator.index].opcodeIndex
        code = None if operator.name in _BY_RANK else known
        return self.put(operator, operator.name, inputs, output, changed, code)

    def drop(self, *operators: Operator) -> None:
        """Takes operators out."""
        self._dropped |= {operator.index for operator in operators}

    def dropped(self, *operators: Operator) -> bool:
        """Whether one of the operators was taken out."""
        return not self._dropped.isdisjoint(o.index for o in operators)

    def reshape(self, at: Operator, tensor: Tensor, output: Tensor) -> Tensor:
        """Puts a `RESHAPE` to the shape of `output` before an operator.

        What the tensor is a view of is read in its place, so that there is one `RESHAPE` and not a
        chain of them.
        """
        while tensor.index in self._viewed:
            tensor = self._viewed[tensor.index]
        if tensor is not output:  # as in a damaged file, whose views are of each other
            self._viewed[output.index] = tensor
        options = schema().ReshapeOptionsT()
        options.newShape = list(output.shape)
        shape = self.constant(np.array(output.shape, "int32"), f"{output.name};shape")
        return self.put(at, "RESHAPE", (tensor, shape), output, options)

    def reshaped(self, at: Operator, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The tensor in another shape: itself, what it is a view of, or a new `RESHAPE`."""
        size, source = tuple(shape), tensor
        while source.shape != size and source.index in self._viewed:
            source = self._viewed[source.index]
        if source.shape == size:
            return source
        if tensor.constant:
            return self.like(tensor, size, "view")
        return self.reshape(at, tensor, self.like(tensor, size, "view"))

    def finished(self) -> "Edit":
        """The changed file, to be changed further; itself if nothing was changed."""
        if not self._put and not self._dropped:
            return self
        model = self._model
        graph = model.subgraphs[0]
        operators: list[Any] = []
        for index, operator in enumerate(graph.operators):
            operators += self._put.get(index, ())
            if index not in self._dropped:
                operators.append(operator)
        graph.operators = self._read(operators)
        prune(model)
        return Edit(packed(model))

    def _read(self, operators: list[Any]) -> list[Any]:
        """The operators without those that only move values, and that nothing reads now."""
        idle = {getattr(schema().BuiltinOperator, name) for name in _IDLE}
        codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in self._model.operatorCodes]
        read, kept = {t.index for t in self.view.outputs}, []
        for operator in reversed(operators):
            if codes[operator.opcodeIndex] in idle and read.isdisjoint(operator.outputs):
                continue
            read.update(int(i) for i in operator.inputs)
            kept.append(operator)
        return kept[::-1]

    @cached_property
    def _codes(self) -> dict[tuple[int, int], int]:
        """The numbers of the file's codes, by operator and version."""
        return {
            (max(code.builtinCode, code.deprecatedBuiltinCode), code.version): number
            for number, code in enumerate(self._model.operatorCodes)
        }

    def _code(self, name: str, dtype: str) -> int:
        """The number of an operator's code in the file, which gets one if it has none."""
        builtin = getattr(schema().BuiltinOperator, name)
        version = _INTEGER_VERSION.get(name, 2) if dtype in ("INT8", "UINT8") else 1
        if (builtin, version) not in self._codes:
            code = schema().OperatorCodeT()
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            self._codes[builtin, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[builtin, version]


def prune(model: Any) -> None:
    """Takes out the tensors that nothing refers to, and the data of their buffers."""
    graph = model.subgraphs[0]
    signatures = [s for s in model.signatureDefs if s.subgraphIndex == 0]
    maps = [end for s in signatures for end in (*s.inputs, *s.outputs)]
    lists = [
        (owner, key)
        for owner in graph.operators
        for key in ("inputs", "outputs", "intermediates")
        if getattr(owner, key) is not None
    ]
    lists += [(graph, "inputs"), (graph, "outputs")]
    used = {int(i) for owner, key in lists for i in getattr(owner, key)}
    used |= {end.tensorIndex for end in maps}
    used |= {i for i, tensor in enumerate(graph.tensors) if tensor.isVariable}
    kept = sorted(used - {-1})
    number = {-1: -1} | {old: new for new, old in enumerate(kept)}
    buffers = {t.buffer for i, t in enumerate(graph.tensors) if i not in used}
    graph.tensors = [graph.tensors[i] for i in kept]
    for owner, key in lists:
        setattr(owner, key, [number[int(i)] for i in getattr(owner, key)])
    for end in maps:
        end.tensorIndex = number[end.tensorIndex]
    held = {t.buffer for g in model.subgraphs for t in g.tensors}
    held |= {entry.buffer for entry in model.metadata}
    for index in buffers - held - {0}:
        model.buffers[index] = schema().BufferT()
