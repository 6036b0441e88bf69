"""Graphs of a few operators, written with the flatbuffer schema itself. Imports no TensorFlow."""

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


@dataclass
class T:
    """A tensor: its shape, type, value if it is a constant, and unknown dimensions as -1.

    Integers of a `scale` stand for numbers.
    """

    shape: tuple[int, ...]
    dtype: str = "FLOAT32"
    value: Any = None
    scale: float | None = None


_NUMPY = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT64": np.int64}
_NUMPY |= {"INT8": np.int8, "BOOL": np.bool_}
# The first version that the runtime has, where it is not 1.
_FIRST = {"BROADCAST_TO": 2}


def build(tensors, operators, inputs, outputs) -> bytes:
    """A .tflite file.

    Args:
        tensors: A dictionary from names to `T`.
        operators: Pairs or more: operator name, input names (None for one left out), output
            names, and an options object of the schema.
        inputs: Names of the graph's inputs.
        outputs: Names of the graph's outputs.
    """
    names = list(tensors)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators, graph.name = [], [], "main"
    for name, tensor in tensors.items():
        made = schema.TensorT()
        made.name = name
        made.shape = [max(size, 1) for size in tensor.shape]
        if -1 in tensor.shape:
            made.shapeSignature = list(tensor.shape)
        made.type = getattr(schema.TensorType, tensor.dtype)
        if tensor.scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [tensor.scale], [0]
        if tensor.value is not None:
            buffer = schema.BufferT()
            value = np.broadcast_to(np.asarray(tensor.value, _NUMPY[tensor.dtype]), tensor.shape)
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
    for name, ins, outs, *options in operators:
        code = schema.OperatorCodeT()
        code.version = _FIRST.get(name, 1)
        builtin = getattr(schema.BuiltinOperator, name, None)
        if builtin is None:
            builtin, code.customCode = schema.BuiltinOperator.CUSTOM, name
        code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
        model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs = [-1 if n is None else names.index(n) for n in ins]
        operator.outputs = [names.index(n) for n in outs]
        if options:
            operator.builtinOptions = options[0]
            kind = type(options[0]).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        graph.operators.append(operator)
    graph.inputs = [names.index(n) for n in inputs]
    graph.outputs = [names.index(n) for n in outputs]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


IMAGE = (1, 4, 4, 8)


def one(operator, *inputs, output=None, options=(), **more) -> bytes:
    """A graph of one operator, whose inputs are the given tensors."""
    tensors = {f"in{i}": t for i, t in enumerate(inputs)} | {"out": output or T(IMAGE)} | more
    fed = [n for n in tensors if n.startswith("in") and tensors[n].value is None]
    call = (operator, [f"in{i}" for i in range(len(inputs))], ["out", *more], *options)
    return build(tensors, [call], fed, ["out"])


def branch(then: bytes, other: bytes) -> bytes:
    """A graph of one IF, whose two sides are graphs of one image."""
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    model = _unpacked(one("IF", T((), "BOOL", True), T(IMAGE), options=[options]))
    for side in map(_unpacked, (then, other)):
        for operator in side.subgraphs[0].operators:
            operator.opcodeIndex += len(model.operatorCodes)
        model.operatorCodes += side.operatorCodes
        model.subgraphs += side.subgraphs
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _unpacked(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(bytearray(content))
