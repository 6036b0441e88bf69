"""Which outputs of a ``.tflite`` file are attention: a mark in its metadata, whatever their names.

Imports the flatbuffer reader; the schema that the LiteRT wheel carries inside the function.
"""

import json
from collections.abc import Mapping

from converters.tflite.flatbuffer import TfliteFile, packed

# {output: layer} as JSON.
NAME = "ulsam_attention"


def mark_attention(file: TfliteFile, outputs: Mapping[str, str]) -> TfliteFile:
    """The file with the mark that outputs are the attention of layers; itself for none.

    Args:
        file: A `.tflite` file.
        outputs: The name of the ULSAM layer by the name of the output.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not outputs:
        return file
    model = file.changeable()
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(json.dumps(outputs).encode())
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    return packed(model)


def marked_attention(file: TfliteFile) -> dict[str, str]:
    """The layer by the name of each output that is marked as attention.

    Raises:
        ValueError: If the mark is damaged.
    """
    try:
        outputs = json.loads(file.metadata.get(NAME, b"{}"))
    except (ValueError, RecursionError):
        outputs = None
    names = file.graph.named_outputs
    if not isinstance(outputs, dict) or not all(isinstance(v, str) for v in outputs.values()):
        raise ValueError(
            f"The mark of attention outputs in the file's metadata is damaged; convert it again. "
            f"Received: {file.metadata[NAME][:40]!r}"
        )
    return {name: layer for name, layer in outputs.items() if name in names}
