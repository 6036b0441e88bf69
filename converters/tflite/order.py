"""Inputs and outputs of a ``.tflite`` file by number: in the order that Keras has them.

The converter sorts them by name, and who reads outputs by number gets another one. Imports the
flatbuffer reader.
"""

from collections.abc import Sequence

from converters.tflite.flatbuffer import TfliteFile, packed


def in_order(file: TfliteFile, inputs: Sequence[str], outputs: Sequence[str]) -> TfliteFile:
    """The file with its inputs and outputs in an order.

    Args:
        file: A `.tflite` file with one signature.
        inputs: All names of the signature's inputs.
        outputs: All names of its outputs.
    """
    graph = file.graph
    first = [graph.named_inputs[name].index for name in inputs]
    last = [graph.named_outputs[name].index for name in outputs]
    numbers = ([t.index for t in graph.inputs], [t.index for t in graph.outputs])
    # Two names of one tensor have one number in some versions.
    if numbers == (first, last) or sorted(map(len, numbers)) != sorted((len(first), len(last))):
        return file
    model = file.changeable()
    model.subgraphs[0].inputs, model.subgraphs[0].outputs = first, last
    signature = next(s for s in model.signatureDefs if s.subgraphIndex == 0)
    for ends, names in (("inputs", inputs), ("outputs", outputs)):
        entries = {_name(entry.name): entry for entry in getattr(signature, ends)}
        setattr(signature, ends, [entries[name] for name in names])
    return packed(model)


def _name(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
