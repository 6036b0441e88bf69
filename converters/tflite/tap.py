"""A ``.tflite`` file with inner tensors as further outputs: the same operators and constants.

Imports flatbuffers and the schema that the LiteRT wheel carries, inside the function.
"""

from collections.abc import Mapping

from converters.tflite.flatbuffer import Tensor


def with_outputs(content: bytes, tensors: Mapping[str, Tensor]) -> bytes:
    """The model with tensors of its first graph as further outputs of its signature.

    Args:
        content: The content of a `.tflite` file that has one signature.
        tensors: The tensors, by the name that each output gets.

    Returns:
        The content of the new file.

    Raises:
        ValueError: If the model has no signature.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == 0]
    if not signatures:
        raise ValueError(
            "The .tflite file must have a signature; convert it with `to_tflite`. Received: none"
        )
    graph = model.subgraphs[0]
    outputs = list(graph.outputs)
    for name, tensor in tensors.items():
        if tensor.index not in outputs:
            outputs.append(tensor.index)
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor.index
        signatures[0].outputs.append(entry)
    graph.outputs = outputs
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
