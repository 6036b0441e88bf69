"""The directory of a zip archive, as `zipfile` reads it."""

import io
import zipfile

import pytest

from converters.zip_directory import members


def saved():
    import torch

    stream = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": torch.zeros(4)}, stream)
    return stream


def written(names, method=zipfile.ZIP_STORED, comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.comment = comment
        for name in names:
            archive.writestr(name, name * 3)
    return stream


def large():
    """Sizes in the extra field, as of a member above 4 GiB; those of a small one are as good."""
    stream = written(["a/data.pkl"])
    content = bytearray(stream.getvalue())
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    size = content[entry + 20 : entry + 24]
    extra = b"\x07\0\x01\0x" + b"\x01\0\x10\0" + (bytes(size) + bytes(4)) * 2
    content[entry + 20 : entry + 28] = b"\xff" * 8
    content[entry + 30 : entry + 32] = len(extra).to_bytes(2, "little")
    content[end + 12 : end + 16] = (end - entry + len(extra)).to_bytes(4, "little")
    return io.BytesIO(bytes(content[:end]) + extra + bytes(content[end:]))


@pytest.mark.parametrize(
    "make",
    [
        saved,
        large,
        lambda: written(["a", "é/ü", "\N{SNOWMAN}", "b" * 300], zipfile.ZIP_DEFLATED),
        lambda: written(["a"], comment=b"no end here" * 9),
        lambda: written(f"{i:06}" for i in range(70_000)),  # more than the end has a number for
        lambda: written([]),
    ],
    ids=["torch", "large", "names", "comment", "many", "empty"],
)
def test_as_zipfile(make):
    stream = make()
    with zipfile.ZipFile(stream) as archive:
        expected = [
            (i.filename, i.flag_bits, i.compress_type, i.CRC, i.compress_size, i.file_size,
             i.header_offset)
            for i in archive.infolist()
        ]  # fmt: skip
    assert [tuple(member) for member in members(stream)] == expected


@pytest.mark.parametrize("length", [0, 10, 21, 60, 100, 200])
def test_truncated(length):
    content = saved().getvalue()
    for part in (content[:length], content[:-length] if length else b""):
        with pytest.raises(zipfile.BadZipFile):
            list(members(io.BytesIO(part)))
