"""Changes inside the graph of a `.tflite` file: what it says stays a flatbuffer.

Needs the schema that the LiteRT wheel carries, and NumPy.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import integrity
from fuzz import mutation

_SIZES = (0, 1, 1, 2, 3, 4, 7, 8, 16, 97, 1 << 12, 1 << 20, (1 << 31) - 1, -1, -(1 << 31))
_RANKS = (0, 1, 2, 3, 4, 5, 6, 9, 40)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("nan"))
_OPERATORS = [
    value for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
]
_TYPES = [value for name, value in vars(schema.TensorType).items() if not name.startswith("_")]
# What is behind the flatbuffer: the labels of an app.
_ZIP = b"PK\x03\x04"


def changed(data: bytes, draw: random.Random) -> bytes:
    """Tensors, operators, options, constants, signatures or metadata changed in a few places."""
    if draw.random() < 0.05:
        return mutation.flip(data, draw)
    start = data.find(_ZIP)
    tail = data[start:] if start > 0 else b""
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for _ in range(draw.choice((1, 1, 1, 2, 3, 5))):
            draw.choice(_CHANGES)(model, draw)
        packed = _packed(model)
    except Exception:  # damaged already, or what no flatbuffer can hold: anything is raised
        return mutation.flip(data, draw)
    if tail and draw.random() < 0.1:
        tail = mutation.flip(tail, draw)
    return packed + tail


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _graph(model: Any, draw: random.Random) -> Any:
    return draw.choice(model.subgraphs)


def _numbers(values: Any) -> list:
    return [] if values is None else [v.item() if hasattr(v, "item") else v for v in values]


def _altered(
    values: Any, draw: random.Random, other: Callable[[], Any], near: bool = True
) -> list | None:
    """A list with an item replaced, left out, put twice or put elsewhere."""
    items = _numbers(values)
    at = draw.randrange(len(items) + 1)
    kind = draw.randrange(7)
    if kind < 3 and items:
        at = min(at, len(items) - 1)
        items[at] = items[at] + draw.choice((-1, 1)) if near and kind == 0 else other()
    elif kind == 3:
        del items[at : at + 1]
    elif kind == 4:
        items.insert(at, other())
    elif kind == 5:
        draw.shuffle(items)
    elif draw.random() < 0.3:
        return None
    return items


def _tensor_shape(model: Any, draw: random.Random) -> None:
    tensor = draw.choice(_graph(model, draw).tensors)
    key = draw.choice(("shape", "shape", "shape", "shapeSignature"))
    old = getattr(tensor, key)
    kind = draw.randrange(4)
    if kind == 0 and old is not None:  # as many values in other dimensions
        sizes = [n for n in _numbers(old) if n != 1]
        for _ in range(draw.randrange(3)):
            sizes.insert(draw.randrange(len(sizes) + 1), 1)
        setattr(tensor, key, sizes)
    elif kind == 1:
        rank = draw.choice(_RANKS)
        setattr(tensor, key, [draw.choice((1, 1, 1, 2, 3, 8)) for _ in range(rank)])
    else:
        setattr(tensor, key, _altered(old, draw, lambda: draw.choice(_SIZES)))


def _tensor_kind(model: Any, draw: random.Random) -> None:
    graph = _graph(model, draw)
    tensor = draw.choice(graph.tensors)
    kind = draw.randrange(5)
    if kind == 0:
        tensor.type = draw.choice(_TYPES)
    elif kind == 1:
        tensor.isVariable = not tensor.isVariable
    elif kind == 2:
        tensor.buffer = draw.choice((0, draw.randrange(len(model.buffers) + 1), 1 << 31))
    elif kind == 3:
        tensor.name = draw.choice((None, "", "a/b", "x" * 300, "\u00e9\n", b"\xff"))
    else:
        tensor.hasRank = not tensor.hasRank


def _steps(model: Any, draw: random.Random) -> None:
    graph = _graph(model, draw)
    with_steps = [t for t in graph.tensors if t.quantization and t.quantization.scale is not None]
    tensor = draw.choice(with_steps or graph.tensors)
    kind = draw.randrange(6)
    if kind == 0 or tensor.quantization is None:
        tensor.quantization = draw.choice((None, schema.QuantizationParametersT()))
        if tensor.quantization is not None and draw.random() < 0.7:
            count = draw.choice(
                (1, 1, 2, _numbers(tensor.shape)[-1] if _numbers(tensor.shape) else 1)
            )
            tensor.quantization.scale = [draw.choice(_FLOATS)] * min(count, 999)
            tensor.quantization.zeroPoint = [draw.choice((0, 0, 3, -128))] * min(count, 999)
    elif kind == 1:
        scales = tensor.quantization.scale
        tensor.quantization.scale = _altered(scales, draw, lambda: draw.choice(_FLOATS))
    elif kind == 2:
        zeros = tensor.quantization.zeroPoint
        other = lambda: draw.choice((0, 1, -128, 1 << 40, -(1 << 63)))  # noqa: E731
        tensor.quantization.zeroPoint = _altered(zeros, draw, other)
    elif kind == 3:
        tensor.quantization.quantizedDimension = draw.choice((0, 1, 3, 9, -1))
    else:
        tensor.type = draw.choice((schema.TensorType.INT8, schema.TensorType.UINT8))


def _ends(model: Any, draw: random.Random) -> None:
    """What an operator or the graph reads and writes."""
    graph = _graph(model, draw)
    owner = draw.choice([*(graph.operators or ()), graph, *(graph.operators or ())])
    key = draw.choice(("inputs", "inputs", "outputs"))

    def other() -> int:
        count = len(graph.tensors)
        return draw.choice((draw.randrange(count), draw.randrange(count), -1, count, 1 << 30))

    setattr(owner, key, _altered(getattr(owner, key), draw, other))


def _operators(model: Any, draw: random.Random) -> None:
    """Operators left out, put twice or put elsewhere."""
    graph = _graph(model, draw)
    operators = graph.operators or []
    if not operators:
        return
    at, other = (draw.randrange(len(operators)) for _ in range(2))
    kind = draw.randrange(4)
    if kind == 0:
        del operators[at]
    elif kind == 1:
        operators.insert(other, operators[at])
    elif kind == 2:
        operators[at], operators[other] = operators[other], operators[at]
    else:
        operators[at].opcodeIndex = draw.choice((draw.randrange(len(model.operatorCodes) + 1), -1))


def _code(model: Any, draw: random.Random) -> None:
    code = draw.choice(model.operatorCodes)
    kind = draw.randrange(5)
    if kind < 3:
        known = [c.builtinCode for c in model.operatorCodes]
        code.builtinCode = draw.choice(_USED if kind else [*known, *_OPERATORS, 9999])
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif kind == 3:
        code.version = draw.choice((0, 1, 2, 3, 5, 99))
    else:
        code.customCode = draw.choice((None, "", "FlexErf", "Mine", b"\xff"))


def _options(model: Any, draw: random.Random) -> None:
    operators = [o for o in _graph(model, draw).operators or () if o.builtinOptions is not None]
    if not operators:
        return
    operator = draw.choice(operators)
    kind = draw.randrange(8)
    if kind == 0:
        operator.builtinOptions, operator.builtinOptionsType = None, 0
    elif kind == 1:
        other = draw.choice(operators)
        operator.builtinOptions = other.builtinOptions
        operator.builtinOptionsType = other.builtinOptionsType
    else:
        key = draw.choice(list(vars(operator.builtinOptions)))
        old = getattr(operator.builtinOptions, key)
        if isinstance(old, bool):
            new: Any = not old
        elif isinstance(old, float):
            new = draw.choice(_FLOATS)
        elif isinstance(old, int):
            new = draw.choice((old + 1, old - 1, -old, 0, 1, 2, 1 << 20, -(1 << 31)))
        else:
            new = _altered(old, draw, lambda: draw.choice(_SIZES))
        setattr(operator.builtinOptions, key, new)


def _constant(model: Any, draw: random.Random) -> None:
    """The data of a constant; those of few numbers say what an operator does."""
    held = [b for b in model.buffers if b.data is not None and len(b.data)]
    small = [b for b in held if len(b.data) <= 64]
    if not held:
        return
    buffer = draw.choice(small if small and draw.random() < 0.8 else held)
    data = bytes(np.asarray(buffer.data, np.uint8))
    kind = draw.randrange(5)
    if kind < 3 and len(data) % 4 == 0:  # one integer or float
        words = np.frombuffer(data, np.int32).copy()
        at = draw.randrange(len(words))
        if kind == 2:
            words.view(np.float32)[at] = draw.choice(_FLOATS)
        else:
            words[at] = draw.choice((0, 1, 2, 3, 4, -1, -2, 9, (1 << 31) - 1, -(1 << 31)))
        data = words.tobytes()
    elif kind == 3:
        data = draw.choice((b"", data[:-1], data[:4], data * 2, data[:-4]))
    else:
        data = mutation.flip(data, draw)
    buffer.data = np.frombuffer(data, np.uint8)


def _signature(model: Any, draw: random.Random) -> None:
    signatures = model.signatureDefs or []
    if not signatures or draw.random() < 0.1:
        model.signatureDefs = draw.choice((None, signatures * 2))
        return
    signature = draw.choice(signatures)
    ends = draw.choice((signature.inputs, signature.outputs)) or []
    kind = draw.randrange(6)
    if kind == 0:
        signature.subgraphIndex = draw.choice((0, 1, 99))
    elif kind == 1:
        signature.signatureKey = draw.choice((None, "", "other"))
    elif not ends:
        return
    elif kind == 2:
        del ends[draw.randrange(len(ends))]
    elif kind == 3:
        ends.append(draw.choice(ends))
    elif kind == 4:
        draw.choice(ends).name = draw.choice((None, "", "x", "output_0", b"\xff"))
    else:
        count = len(model.subgraphs[0].tensors)
        draw.choice(ends).tensorIndex = draw.choice((draw.randrange(count), count, 1 << 31))


def _beside(model: Any, draw: random.Random) -> None:
    """What is beside the graph: metadata, and graphs that no one calls."""
    metadata = model.metadata or []
    kind = draw.randrange(6)
    if kind == 0:
        model.subgraphs = draw.choice((model.subgraphs * 2, model.subgraphs, []))
    elif kind == 1:
        graph = _graph(model, draw)
        graph.name = draw.choice((None, "", "main", b"\xff"))
    elif not metadata:
        return
    elif kind == 2:
        draw.choice(metadata).name = draw.choice((None, "", "TFLITE_METADATA", b"\xff"))
    elif kind == 3:
        draw.choice(metadata).buffer = draw.choice((0, draw.randrange(len(model.buffers)), 1 << 31))
    else:
        buffer = model.buffers[draw.choice(metadata).buffer]
        data = b"" if buffer.data is None else bytes(np.asarray(buffer.data, np.uint8))
        buffer.data = np.frombuffer(mutation.flip(data, draw), np.uint8)


# What the readers look for.
_USED = [vars(schema.BuiltinOperator)[name] for name in integrity.KINDS]
_CHANGES = (
    *(_tensor_shape,) * 5,
    *(_ends,) * 4,
    *(_options,) * 4,
    *(_constant,) * 4,
    *(_operators,) * 2,
    *(_code,) * 2,
    *(_steps,) * 3,
    _tensor_kind,
    _tensor_kind,
    _signature,
    _beside,
)
