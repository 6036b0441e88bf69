"""Recurrent layers.

PyTorch: Keras

- lstm, gru, rnn_tanh, rnn_relu: `LSTM`, `GRU`, `SimpleRNN`, one for each layer and direction,
  unrolled; the two biases as their sum where Keras has one
- lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell: `Dense`, and operations
- of packed sequences, with projections, of an open length: refused
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.program import Ref
from converters.pytorch.graph.call import Call, Held
from converters.pytorch.graph.convolution import dense
from converters.pytorch.graph.elementwise import added
from converters.pytorch.graph.layout import Value, is_free, squeezed
from converters.pytorch.graph.registry import converts
from converters.pytorch.graph.slicing import parts, sliced


@dataclass(frozen=True)
class _Kind:
    """A kind of recurrent layer.

    Attributes:
        layer: The Keras layer.
        gates: The place of each of Keras's gates among PyTorch's.
        states: How many states it has.
        config: The layer's further arguments.
    """

    layer: str
    gates: tuple[int, ...]
    states: int
    config: dict[str, Any]


_KINDS = {
    "lstm": _Kind("LSTM", (0, 1, 2, 3), 2, {}),
    "gru": _Kind("GRU", (1, 0, 2), 1, {"reset_after": True}),
    "rnn_tanh": _Kind("SimpleRNN", (0,), 1, {"activation": "tanh"}),
    "rnn_relu": _Kind("SimpleRNN", (0,), 1, {"activation": "relu"}),
}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@converts(*(f"aten.{name}" for name in _KINDS))
def recurrent(call: Call) -> list[Value]:
    """Layers over each other, each in one direction or two."""
    import keras

    kind = _KINDS[call.node.target.split(".")[1]]
    if "batch_sizes" in call.node.arguments:
        call.refuse("its sequences are packed; export it with padded ones")
    if call.get("train", False):
        call.refuse("it is in training mode; call .eval() on the module before the export")
    x = call.value("input")
    if x.rank != 3:
        call.refuse("its input has no batch")
    order = (0, 1, 2) if call.get("batch_first", False) else (1, 0, 2)
    if is_free(x.dims[order[1]]):
        call.refuse("the length of its sequences is open; export it with a fixed length")
    names = _listed(call, "params")
    count = 4 if call.get("has_biases", True) else 2
    directions = 2 if call.get("bidirectional", False) else 1
    layers = call.get("num_layers", 1)
    if len(names) != count * directions * layers:
        call.refuse("it projects its states (proj_size), which no Keras layer does")
    starts = [call.listed(n) for n in _listed(call, "hx")]
    tensor = call.ordered(x, order).tensor
    ends: list[list[Any]] = [[] for _ in range(kind.states)]
    for level in range(layers):
        found = []
        for backward in range(directions):
            number = level * directions + backward
            held = [call.listed_weight(n) for n in names[number * count : (number + 1) * count]]
            sequence, *states = call.layer(
                getattr(keras.layers, kind.layer),
                tensor,
                _weights(call, kind, held),
                part=".".join([str(level), *["reverse"] * backward]),
                states=_states(call, starts, number, tensor),
                units=held[1].shape[1],
                use_bias=count == 4,
                return_sequences=True,
                return_state=True,
                go_backwards=bool(backward),
                unroll=True,
                **kind.config,
            )
            found.append(call.ops.flip(sequence, axis=1) if backward else sequence)
            for end, state in zip(ends, states, strict=True):
                end.append(state)
        tensor = call.ops.concatenate(found, axis=-1) if directions == 2 else found[0]
        if level + 1 < layers and 0 < call.get("dropout", 0.0) < 1:
            part = f"{level}.dropout"
            tensor = call.layer(keras.layers.Dropout, tensor, part=part, rate=call.get("dropout"))
    # A sequence is (N, L, C), a state (N, C), of which PyTorch stacks those of all layers.
    results = [call.result(tensor, order)]
    for number, end in enumerate(ends, 1):
        if call.used(number):
            stacked = call.ops.stack(end, axis=1)
            results.append(call.result(stacked, (1, 0, 2), index=number))
        else:
            results.append(results[0])
    return results


def _listed(call: Call, name: str) -> list[str]:
    given = call.node.arguments.get(name)
    given = given if isinstance(given, tuple) else (given,)
    return [entry.name for entry in given if isinstance(entry, Ref)]


def _weights(call: Call, kind: _Kind, held: Sequence[Value]) -> dict[str, Held | None]:
    """Gates in Keras's order."""
    units = held[1].shape[1]

    def ordered(array: Any) -> np.ndarray:
        return np.concatenate([array[g * units : (g + 1) * units] for g in kind.gates])

    weights = {
        "kernel": call.held(held[0], lambda w: ordered(w).T),
        "recurrent_kernel": call.held(held[1], lambda w: ordered(w).T),
    }
    if len(held) == 4:
        first, second = (ordered(call.array(v)) for v in held[2:])
        both = np.stack([first, second]) if kind.layer == "GRU" else first + second
        keys = tuple(key for value in held[2:] for key in value.keys)
        how = "one above the other" if kind.layer == "GRU" else "their sum"
        weights["bias"] = Held(np.ascontiguousarray(both, "float32"), keys, how)
    return weights


def _states(call: Call, starts: Sequence[Value], number: int, tensor: Any) -> Any:
    """What a layer starts from; `None` for zeros."""
    if not starts or all(v.constant and not v.tensor.any() for v in starts):
        return None
    found = []
    for start in starts:
        state = squeezed(sliced(call, start, 0, number, number + 1), [0])
        if call.arranger.fixed(state):
            row = call.arranger.ordered(state, (1,)).tensor
            found.append(call.ops.add(call.ops.zeros_like(tensor[:, 0, :1]), row))
        else:
            found.append(call.ordered(state).tensor)
    return found


def _cell(
    target: str, combine: Callable[[Call, Value, Value, Sequence[Value]], list[Value]]
) -> None:
    @converts(target)
    def convert(call: Call) -> list[Value]:
        names = _listed(call, "hx")
        states = [call.listed(name) for name in names]
        x = dense(call, call.value("input"), "w_ih", "b_ih")
        h = dense(call, states[0], "w_hh", "b_hh")
        return combine(call, x, h, states)


def _gates(call: Call, value: Value, count: int) -> list[Value]:
    return parts(call, value, value.rank - 1, [value.shape[-1] // count] * count)


def _lstm(call: Call, x: Value, h: Value, states: Sequence[Value]) -> list[Value]:
    ops, times = call.ops, call.ops.multiply
    i, f, g, o = _gates(call, added(call, x, h), 4)
    cell = call.elementwise(
        lambda i, f, g, c: ops.add(times(ops.sigmoid(f), c), times(ops.sigmoid(i), ops.tanh(g))),
        *(i, f, g, states[1]),
    )
    return [call.elementwise(lambda o, c: times(ops.sigmoid(o), ops.tanh(c)), o, cell), cell]


def _gru(call: Call, x: Value, h: Value, states: Sequence[Value]) -> list[Value]:
    ops, times = call.ops, call.ops.multiply

    # An array has no sum with a tensor of the model but by Keras.
    def compute(*of: Any) -> Any:
        r, z, n, hr, hz, hn, state = of
        z = ops.sigmoid(ops.add(z, hz))
        new = ops.tanh(ops.add(n, times(ops.sigmoid(ops.add(r, hr)), hn)))
        return ops.add(times(ops.subtract(1.0, z), new), times(z, state))

    return [call.elementwise(compute, *_gates(call, x, 3), *_gates(call, h, 3), states[0])]


def _simple(name: str) -> Callable[[Call, Value, Value, Sequence[Value]], list[Value]]:
    def combine(call: Call, x: Value, h: Value, states: Sequence[Value]) -> list[Value]:
        total = added(call, x, h)
        return [total.with_tensor(getattr(call.ops, name)(total.tensor))]

    return combine


_cell("aten.lstm_cell", _lstm)
_cell("aten.gru_cell", _gru)
_cell("aten.rnn_tanh_cell", _simple("tanh"))
_cell("aten.rnn_relu_cell", _simple("relu"))
