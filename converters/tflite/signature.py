"""The named inputs and outputs of a `.tflite` file. Imports no TensorFlow."""

import os

from converters.tflite.flatbuffer import read_graphs

Shape = tuple[int | None, ...]


def read_signature(
    tflite: bytes | str | os.PathLike[str],
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Reads the shapes of the inputs and of the outputs by their names in the signature.

    Args:
        tflite: The content of a `.tflite` file, or the path of one.

    Returns:
        The inputs and the outputs, as `{name: shape}`. A model without a signature has the names
        of its tensors.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is not a LiteRT model.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = tflite if isinstance(tflite, bytes) else open(tflite, "rb").read()  # noqa: SIM115
    graph = read_graphs(content)[0]
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if not model.signatureDefs:
        return {t.name: t.shape for t in graph.inputs}, {t.name: t.shape for t in graph.outputs}
    [signature] = [s for s in model.signatureDefs if s.subgraphIndex == 0][:1]

    def shapes(entries: list[schema.TensorMapT]) -> dict[str, Shape]:
        return {e.name.decode(): graph.tensors[e.tensorIndex].shape for e in entries or []}

    return shapes(signature.inputs), shapes(signature.outputs)
