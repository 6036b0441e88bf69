"""A ``.tflite`` file with inner tensors as further outputs: the same operators and constants.

Imports the flatbuffer reader; the schema that the LiteRT wheel carries inside the function.
"""

from collections.abc import Mapping

from converters.tflite.flatbuffer import Tensor, TfliteFile, packed


def with_outputs(file: TfliteFile, tensors: Mapping[str, Tensor]) -> TfliteFile:
    """The model with tensors of its first graph as further outputs of its signature.

    Args:
        file: A `.tflite` file that has one signature.
        tensors: The tensors, by the name that each output gets; the file itself for none.

    Raises:
        ValueError: If the model has no signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not tensors:
        return file
    model = file.changeable()
    signatures = [s for s in model.signatureDefs if s.subgraphIndex == 0]
    if not signatures:
        raise ValueError(
            "The .tflite file must have a signature; convert it with `to_tflite`. Received: none"
        )
    graph = model.subgraphs[0]
    for name, tensor in tensors.items():
        if tensor.index not in graph.outputs:
            graph.outputs.append(tensor.index)
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor.index
        signatures[0].outputs.append(entry)
    return packed(model)
