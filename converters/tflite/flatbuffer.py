"""Reads a ``.tflite`` file into plain Python objects, and writes changed ones.

Imports NumPy and the schema that the LiteRT wheel carries, no TensorFlow: the wheel is the
runtime that the models are verified with anyway, so the schema is the one it reads.
"""

import os
import struct
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from converters.extras import require
from converters.tflite.integrity import OPTIONS, Cost, check_operator, check_tensor

_IDENTIFIER = b"TFL3"
# What NumPy calls the schema's types, of those that constants are looked into.
_FLOATS: dict[str, Any] = {"FLOAT16": np.float16, "FLOAT32": np.float32, "FLOAT64": np.float64}
_INTEGERS: dict[str, Any] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph.

    Attributes:
        index: Its number in the graph.
        name: Its name, as the converter chose it.
        shape: Its shape; unknown dimensions count 1.
        dynamic: Whether a dimension is unknown until run time.
        dtype: The schema's name of its type, `"FLOAT32"` for example.
        variable: Whether it keeps its value between runs.
        data: The raw bytes of a constant, as a `uint8` array; `None` for the others.
        scales: The steps that its integers count: one, or one per index of `axis`; empty if it is
            not of integers, or these stand for themselves.
        zero_points: The integers that stand for 0, likewise.
        axis: The dimension along which the steps differ.
        open_shape: Its shape with `None` for dimensions that are unknown until run time.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dynamic: bool
    dtype: str
    variable: bool
    data: np.ndarray | None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    open_shape: tuple[int | None, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether the file holds its value."""
        return self.data is not None

    def floats(self) -> np.ndarray | None:
        """The values of a floating point constant, flat; `None` for any other tensor."""
        if self.data is None or self.dtype not in _FLOATS:
            return None
        return self.data.view(_FLOATS[self.dtype])

    def stored(self) -> np.ndarray | None:
        """The numbers that the file holds of a constant, in its shape; `None` if it has none."""
        dtype = _FLOATS.get(self.dtype) or _INTEGERS.get(self.dtype)
        if self.data is None or dtype is None:
            return None
        return self.data.view(dtype).reshape(self.shape)

    def values(self) -> np.ndarray | None:
        """The numbers that a constant stands for, in its shape; `None` if it is none of numbers."""
        stored = self.stored()
        return None if stored is None else self.dequantized(stored)

    def dequantized(self, integers: np.ndarray) -> np.ndarray:
        """The numbers that integers of this tensor stand for; floats are given back as they are."""
        if not self.scales:
            return integers
        along = [1] * integers.ndim
        if along:
            along[self.axis] = -1
        scales = np.reshape(np.asarray(self.scales, "float32"), along)
        zeros = np.reshape(np.asarray(self.zero_points, "int64"), along)
        return ((integers - zeros) * scales).astype("float32")

    def quantized(self, numbers: np.ndarray) -> np.ndarray:
        """The integers of this tensor that are nearest to numbers, clipped to what it can hold."""
        if not self.scales or self.dtype not in _INTEGERS:
            return numbers
        limits = np.iinfo(_INTEGERS[self.dtype])
        steps = np.round(numbers / np.float32(self.scales[0])) + self.zero_points[0]
        return np.clip(steps, limits.min, limits.max).astype(limits.dtype)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator of a graph.

    Attributes:
        index: Its number in the order of execution.
        name: The schema's name, `"CONV_2D"`, or the custom code of a custom operator.
        custom: Whether it is a custom operator.
        inputs: Its inputs; `None` stands for an optional one left out.
        outputs: Its outputs.
        options: The schema's options object, or `None`.
    """

    index: int
    name: str
    custom: bool
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    @property
    def activation(self) -> str:
        """The schema's name of the activation that it ends with, `"NONE"` or `"RELU"` and so on."""
        code = getattr(self.options, "fusedActivationFunction", 0)
        return _names("ActivationFunctionType").get(code, "NONE")


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph.

    Attributes:
        name: Its name.
        tensors: Its tensors, by number.
        operators: Its operators, in the order of execution.
        inputs: The tensors that it is fed.
        outputs: The tensors that it gives back.
        named_inputs: The inputs by their names in its signature; empty if it has none.
        named_outputs: Likewise for the outputs.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    named_inputs: dict[str, Tensor]
    named_outputs: dict[str, Tensor]

    @property
    def given(self) -> dict[str, Tensor]:
        """The inputs by their names in the signature, or by their own without one."""
        return self.named_inputs or {tensor.name: tensor for tensor in self.inputs}

    @property
    def answered(self) -> dict[str, Tensor]:
        """The outputs, likewise."""
        return self.named_outputs or {tensor.name: tensor for tensor in self.outputs}


class TfliteFile:
    """The content of a `.tflite` file, parsed once.

    Args:
        tflite: The content, or the path of a file.

    Attributes:
        content: The content.

    Raises:
        ImportError: Of what is read of it, if the extra `convert` is not installed.
        OSError: If the file cannot be read.
        TypeError: If `tflite` is neither bytes nor a path.
    """

    def __init__(self, tflite: bytes | str | os.PathLike[str]) -> None:
        self.content, self._source = _content(tflite)

    @classmethod
    def of(cls, tflite: "Tflite") -> "TfliteFile":
        """The file itself, or the file of a content or a path."""
        return tflite if isinstance(tflite, cls) else cls(tflite)  # type: ignore[arg-type]

    @property
    def graph(self) -> Graph:
        """The subgraph that runs."""
        return self.graphs[0]

    @cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """The subgraphs. The whole file is walked, so that damage is found here, not at run time.

        Raises:
            ValueError: If the content is not a LiteRT model, or is truncated or damaged.
        """
        graphs = self._read(lambda: _graphs(self._model, Cost(len(self.content))))
        if not graphs:
            raise ValueError(
                f"{self._source} has no graph; convert or copy it again. "
                f"Received: {len(self.content)} bytes"
            )
        return graphs

    @cached_property
    def metadata(self) -> dict[str, bytes]:
        """What is stored beside the graph, by its name."""
        return self._read(
            lambda: {
                _text(entry.name): bytes(_list(_at(self._model.buffers, entry.buffer).data))
                for entry in _list(self._model.metadata)
            }
        )

    def changeable(self) -> Any:
        """The schema's object of the model, whose first graph and signatures may be changed.

        What a file may leave out is an empty list. Everything else is this file's own: replace
        it, do not change it. `packed` writes it.
        """
        model = copy(self._model)
        model.subgraphs = [copy(model.subgraphs[0]), *model.subgraphs[1:]]
        graph = model.subgraphs[0]
        graph.tensors = [copy(tensor) for tensor in graph.tensors]
        for tensor in graph.tensors:
            tensor.quantization = copy(tensor.quantization)
        graph.operators = [copy(operator) for operator in _list(graph.operators)]
        model.signatureDefs = [copy(signature) for signature in _list(model.signatureDefs)]
        for owner in (graph, *graph.operators, *model.signatureDefs):
            owner.inputs, owner.outputs = list(_list(owner.inputs)), list(_list(owner.outputs))
        for signature in model.signatureDefs:
            for ends in (signature.inputs, signature.outputs):
                ends[:] = map(copy, ends)
        model.operatorCodes, model.buffers = list(model.operatorCodes), list(model.buffers)
        model.metadata = list(_list(model.metadata))
        return model

    @cached_property
    def _model(self) -> Any:
        Cost(len(self.content)).walk(schema().Model.GetRootAs(self.content, 0), schema())
        return schema().ModelT.InitFromPackedBuf(self.content, 0)

    def _read(self, read: Any) -> Any:
        content = self.content
        if content[4:8] != _IDENTIFIER:
            raise ValueError(
                f"{self._source} is not a LiteRT model: bytes 4 to 8 of a .tflite file are "
                f"{_IDENTIFIER!r}. Received: {bytes(content[4:8])!r}, {len(content)} bytes in all"
            )
        try:
            return read()
        # What the schema's reader runs into where an offset or a length points nowhere.
        except (
            struct.error, ValueError, IndexError, TypeError, AttributeError, KeyError,
            OverflowError, MemoryError, RecursionError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"{self._source} is a truncated or damaged LiteRT model; convert or copy it "
                f"again. Received: {len(content)} bytes, {type(error).__name__} while reading"
            ) from error


Tflite = TfliteFile | bytes | str | os.PathLike[str]


def schema() -> Any:
    """The module of the schema's classes.

    Raises:
        ImportError: If the extra that holds LiteRT is not installed.
    """
    require("Reading a .tflite file", "ai_edge_litert")
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def read_graphs(tflite: Tflite) -> tuple[Graph, ...]:
    """The subgraphs of a LiteRT model, the one that runs first; raises as `TfliteFile` does."""
    return TfliteFile.of(tflite).graphs


def packed(model: Any) -> TfliteFile:
    """The file of a model as the schema's object."""
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    return TfliteFile(bytes(convert_object_to_bytearray(model)))


def _content(tflite: Any) -> tuple[bytes, str]:
    if isinstance(tflite, (bytes, bytearray, memoryview)):
        return bytes(tflite), "The given content"
    if not isinstance(tflite, (str, os.PathLike)):
        raise TypeError(
            "`tflite` must be the content of a .tflite file (bytes) or its path. "
            f"Received: {type(tflite).__name__}"
        )
    return Path(tflite).read_bytes(), f"{os.fspath(tflite)!r}"


def _graphs(model: Any, cost: Cost) -> tuple[Graph, ...]:
    """The graphs; their shapes and the like, each a number in a tuple then, have their cost."""
    for graph in model.subgraphs:
        lists = [graph.inputs, graph.outputs]
        for tensor in graph.tensors:
            steps = tensor.quantization
            lists += [tensor.shape, tensor.shapeSignature]
            lists += [] if steps is None else [steps.scale, steps.zeroPoint]
        for operator in _list(graph.operators):
            lists += [operator.inputs, operator.outputs]
        cost.take(count=4 * sum(len(each) for each in lists if each is not None))
    return tuple(_graph(model, index) for index in range(len(model.subgraphs)))


def _graph(model: Any, index: int) -> Graph:
    subgraph = model.subgraphs[index]
    tensors = tuple(
        _tensor(index, tensor, model.buffers) for index, tensor in enumerate(subgraph.tensors)
    )
    operators = tuple(
        _operator(index, operator, model.operatorCodes, tensors)
        for index, operator in enumerate(_list(subgraph.operators))
    )
    signatures = [s for s in _list(model.signatureDefs) if s.subgraphIndex == index]

    def named(ends: str) -> dict[str, Tensor]:
        maps = _list(getattr(signatures[0], ends)) if signatures else ()
        return {_text(end.name): _at(tensors, end.tensorIndex) for end in maps}

    return Graph(
        name=_text(subgraph.name),
        tensors=tensors,
        operators=operators,
        inputs=tuple(_at(tensors, i) for i in _list(subgraph.inputs)),
        outputs=tuple(_at(tensors, i) for i in _list(subgraph.outputs)),
        named_inputs=named("inputs"),
        named_outputs=named("outputs"),
    )


def _tensor(index: int, tensor: Any, buffers: list[Any]) -> Tensor:
    data = _at(buffers, tensor.buffer).data
    data = None if data is None or len(data) == 0 else np.asarray(data, dtype=np.uint8)
    dtype = _names("TensorType")[tensor.type]
    shape = tuple(int(size) for size in _list(tensor.shape))
    quantization = tensor.quantization if "INT" in dtype else None
    scales = () if quantization is None else _list(quantization.scale)
    zeros: Any = ()
    axis = 0
    if quantization is not None and len(scales):
        zeros = _list(quantization.zeroPoint)
        axis = int(quantization.quantizedDimension) if len(scales) > 1 else 0
    check_tensor(
        dtype,
        shape,
        None if data is None else len(data),
        (len(scales), len(zeros), axis),
        sparse=tensor.sparsity is not None,
    )
    return Tensor(
        index=index,
        name=_text(tensor.name),
        shape=shape,
        dynamic=any(size < 0 for size in _list(tensor.shapeSignature)),
        dtype=dtype,
        variable=bool(tensor.isVariable),
        data=data,
        scales=tuple(float(scale) for scale in scales),
        zero_points=tuple(int(zero) for zero in zeros),
        axis=axis,
        open_shape=_open(tensor),
    )


def _open(tensor: Any) -> tuple[int | None, ...]:
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return tuple(None if size < 0 else int(size) for size in _list(sizes))


def _operator(index: int, operator: Any, codes: list[Any], tensors: tuple[Tensor, ...]) -> Operator:
    code = _at(codes, operator.opcodeIndex)
    # Files from before 2020 have the code in the deprecated field alone.
    name = _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
    custom = name == "CUSTOM"
    inputs = tuple(None if i == -1 else _at(tensors, i) for i in _list(operator.inputs))
    outputs = tuple(_at(tensors, i) for i in _list(operator.outputs))
    check_operator(name, inputs, outputs)
    options = operator.builtinOptions
    if type(options).__name__ != (kind := OPTIONS.get(name, type(options).__name__)):
        options = getattr(schema(), kind)()
    return Operator(
        index=index,
        name=_text(code.customCode) if custom else name,
        custom=custom,
        inputs=inputs,
        outputs=outputs,
        options=options,
    )


@cache
def _names(enum: str) -> dict[int, str]:
    members = vars(getattr(schema(), enum))
    return {code: name for name, code in members.items() if not name.startswith("_")}


def _at(items: Any, index: int) -> Any:
    if index < 0:
        raise IndexError(index)
    return items[index]


def _list(values: Any) -> Any:
    return () if values is None else values


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
