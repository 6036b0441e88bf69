"""Changes inside the structure of a file, so that inputs get past its header.

A zip keeps its directory and checksums while one member changes; a pickle stays a row of whole
opcodes; JSON stays JSON; a safetensors header keeps its length right. Everything is drawn from one
`random.Random`. Imports the standard library only.
"""

import contextlib
import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable

_NUMBERS = (0, 1, 2, 3, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, 1 << 70, -1)
_TEXTS = (
    *("", "storage", "cpu", "0", "1", "a.weight", "weight_g", "weight_v", "x_mask", "state_dict"),
    *("model", "ema", "module.a", "n_averaged", "optimizer", "_parameters", "_buffers", "_modules"),
    *(
        "_extra_state",
        "latin1",
        "f4",
        "<f4",
        "F32",
        "BF16",
        "é",
        "../x",
        "a" * 1100,
        "param_groups",
    ),
    *("parametrizations.weight.original0", "parametrizations.weight.0._u", "_fsdp_wrapped_module"),
    *("s0", "12", "2*s0 + 1", "Max(1, Symbol('s0'))", "Add(Symbol('s0'), Integer(1))", "as_none"),
)
_GLOBALS = (
    *(("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3")),
    *(("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_sparse_tensor")),
    *(("torch._tensor", "_rebuild_from_type_v2"), ("collections", "OrderedDict")),
    *(("torch", "FloatStorage"), ("torch", "float8_e5m2"), ("torch", "Size"), ("torch", "Tensor")),
    *(("numpy", "dtype"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray")),
    *(("numpy._core.numeric", "_frombuffer"), ("numpy._core.multiarray", "scalar")),
    *(("_codecs", "encode"), ("builtins", "set"), ("builtins", "bytearray"), ("os", "system")),
    *(("some.module", "Class"), ("argparse", "Namespace")),
)
_SINGLE = b"Nl)]}(tRbQsuaed02o\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94."


def flip(data: bytes, draw: random.Random) -> bytes:
    """Other bytes in a few places, a piece more or less."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.random()
        if kind < 0.5 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind < 0.7:
            width = draw.choice((1, 2, 4, 8))
            value = draw.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            changed[at : at + width] = value.to_bytes(width, "little")
        elif kind < 0.85:
            del changed[at : at + draw.randint(1, 16)]
        else:
            start = draw.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + draw.randint(1, 32)]
    return bytes(changed)


def opcode(draw: random.Random) -> bytes:
    """A whole opcode with its argument."""
    kind = draw.randrange(10)
    if kind < 3:
        return draw.choice(_SINGLE).to_bytes(1, "little")
    if kind == 3:
        module, name = draw.choice(_GLOBALS)
        return f"c{module}\n{name}\n".encode()
    if kind == 4:
        text = draw.choice(_TEXTS).encode()
        head = {"X": "<I", "T": "<I", "B": "<I", "\x8d": "<Q", "\x96": "<Q"}
        code = draw.choice(list(head))
        return code.encode("latin-1") + struct.pack(head[code], len(text)) + text
    if kind == 5:
        return draw.choice(
            (
                b"K" + bytes([draw.randrange(256)]),
                b"M" + draw.randbytes(2),
                b"J" + draw.randbytes(4),
                b"I%d\n" % draw.choice(_NUMBERS),
                b"L%dL\n" % draw.choice(_NUMBERS),
                b"I01\n",
                b"F1.5\n",
                b"G" + bytes(8),
                b"\x8a\x02" + draw.randbytes(2),
                b"\x8b\x03\0\0\0" + draw.randbytes(3),
            )
        )
    if kind == 6:
        text = draw.choice(_TEXTS).encode()[:200]
        code = draw.choice((b"U", b"\x8c", b"C"))
        return draw.choice((code + bytes([len(text)]) + text, b"S'%b'\n" % text, b"V%b\n" % text))
    if kind == 7:
        return draw.choice((b"q", b"h")) + bytes([draw.randrange(24)])
    if kind == 8:
        index = draw.choice((0, 3, 9, 40, 1 << 20))
        code = draw.choice((b"r", b"j", b"p", b"g"))
        return code + (struct.pack("<I", index) if code in b"rj" else b"%d\n" % index)
    module, name = draw.choice(_GLOBALS)
    return b"(i%b\n%b\n" % (module.encode(), name.encode())


def pickled(data: bytes, draw: random.Random) -> bytes:
    """Opcodes of a pickle left out, put twice, put elsewhere, or others put in."""
    places = []
    with contextlib.suppress(ValueError):  # what lies before can be changed
        places.extend(place for _, _, place in pickletools.genops(data))
    if len(places) < 4:
        return flip(data, draw)
    operations = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    for _ in range(draw.randint(1, 3)):
        if len(operations) < 2:
            break
        at = draw.randrange(1, len(operations))
        length = draw.choice((1, 1, 1, 2, 5, 20))
        kind = draw.randrange(6)
        if kind == 0:
            del operations[at : at + length]
        elif kind == 1:
            start = draw.randrange(len(operations))
            operations[at:at] = operations[start : start + length]
        elif kind == 2:
            operations[at : at + 1] = [opcode(draw)]
        elif kind == 3:
            operations[at:at] = [opcode(draw) for _ in range(length)]
        elif kind == 4:
            operations[at] = flip(operations[at], draw)
        else:
            other = draw.randrange(1, len(operations))
            operations[at], operations[other] = operations[other], operations[at]
    return b"".join(operations)


def json_value(draw: random.Random) -> object:
    """A value that may be anything."""
    return draw.choice((*_NUMBERS, *_TEXTS, 1.5, None, True, [], {}, [1, "a"], {"as_int": 3}))


def json_text(data: bytes, draw: random.Random) -> bytes:
    """Values of a JSON document replaced, left out, put twice, or keys renamed."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return flip(data, draw)
    for _ in range(draw.randint(1, 3)):
        holders: list = [document] if isinstance(document, dict | list) else []
        for holder in holders:
            inner = holder.values() if isinstance(holder, dict) else holder
            holders.extend(value for value in inner if isinstance(value, dict | list) and value)
        if not holders:
            break
        holder = draw.choice(holders)
        if not holder:
            continue
        key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
        kind = draw.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[draw.randrange(len(holder))])
        elif kind == 1:
            holder[draw.choice(_TEXTS)] = holder.pop(key)
        elif kind == 2:
            other = draw.choice(holders)
            holder[key] = draw.choice(list(other.values() if isinstance(other, dict) else other))
        elif isinstance(holder[key], int) and kind == 3:
            holder[key] = draw.choice((holder[key] + 1, -holder[key], *_NUMBERS))
        else:
            holder[key] = json_value(draw)
        try:
            json.dumps(document)
        except (ValueError, RecursionError):  # a value inside itself
            return flip(data, draw)
    return json.dumps(document).encode()


def zipped(change: Callable[[str, bytes, random.Random], bytes]) -> Callable:
    """Members of a zip archive changed, renamed, left out or compressed, its directory right."""

    def mutate(data: bytes, draw: random.Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(name, archive.read(name)) for name in archive.namelist()]
        except Exception:  # damaged already: zipfile raises anything
            return flip(data, draw)
        if not members:
            return flip(data, draw)
        method = draw.choice((zipfile.ZIP_STORED,) * 8 + (zipfile.ZIP_DEFLATED,))
        at = draw.randrange(len(members))
        weighty = [i for i, (n, _) in enumerate(members) if n.endswith((".pkl", ".json", ".npy"))]
        if weighty and draw.random() < 0.8:
            at = draw.choice(weighty)
        name, content = members[at]
        kind = draw.randrange(20)
        if kind == 0:
            del members[at]
        elif kind == 1:
            members[at] = draw.choice((name + "x", "data.pkl", "a/data.pkl", "a.npy")), content
        elif kind == 2:
            members.append((name + "2", content))
        else:
            members[at] = name, change(name, content, draw)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            written = set()
            for name, content in members:
                if name not in written:
                    archive.writestr(name, content)
                written.add(name)
        result = stream.getvalue()
        return flip(result, draw) if draw.random() < 0.05 else result

    return mutate


def member(name: str, content: bytes, draw: random.Random) -> bytes:
    """What changes a member, by what it is."""
    if name.endswith(".pkl"):
        return pickled(content, draw)
    if name.endswith(".json"):
        return json_text(content, draw)
    if name.endswith(".pt"):
        return zipped(member)(content, draw)
    if name.endswith(".npy"):
        return npy(content, draw)
    return flip(content, draw)


def npy(data: bytes, draw: random.Random) -> bytes:
    """The header of an array, its length kept right, or the data."""
    end = data.find(b"\n")
    if end < 0 or draw.random() < 0.2:
        return flip(data, draw)
    header = bytearray(data[10:end])
    for _ in range(draw.randint(1, 2)):
        pairs = (
            (b"<f4", b">i2"),
            (b"<f4", b"|O"),
            (b"False", b"True"),
            (b"(", b"(3,"),
            (b"'", b""),
        )
        old, new = draw.choice(pairs)
        header = bytearray(
            header.replace(old, new, 1) if draw.random() < 0.7 else flip(header, draw)
        )
    version = draw.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0"))
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(header) + 1)
    return b"\x93NUMPY" + version + length + bytes(header) + data[end:]


def legacy(data: bytes, draw: random.Random) -> bytes:
    """One of the pickles behind the mark, or the storages."""
    ends = [0]
    with contextlib.suppress(ValueError):
        for _ in range(5):
            *_, (_, _, place) = pickletools.genops(data[ends[-1] :])
            ends.append(ends[-1] + place + 1)
    if len(ends) < 5 or draw.random() < 0.1:
        return flip(data, draw)
    which = draw.choice((3, 3, 3, 3, 2, 4 if len(ends) > 5 else 3))
    start, end = ends[which], ends[which + 1]
    return data[:start] + pickled(data[start:end], draw) + data[end:]


def safetensors(data: bytes, draw: random.Random) -> bytes:
    """The header, its length kept right."""
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data) or draw.random() < 0.05:
        return flip(data, draw)
    header = json_text(data[8:end], draw) if draw.random() < 0.8 else flip(data[8:end], draw)
    return struct.pack("<Q", len(header)) + header + data[end:]
