"""Checkpoints in several files, and folders."""

import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from converters import list_tensors, load_checkpoint

STATE = {f"layers.{i}.weight": torch.full((2, 3), float(i)) for i in range(4)}
KINDS = {
    "safetensors": ("model", "safetensors", save_file),
    "bin": ("pytorch_model", "bin", torch.save),
}


@pytest.fixture(params=KINDS)
def sharded(request, tmp_path):
    """The index, in a folder with two shards."""
    stem, ending, save = KINDS[request.param]
    names = [f"{stem}-{i:05}-of-00002.{ending}" for i in (1, 2)]
    keys = list(STATE)
    for name, part in zip(names, (keys[:2], keys[2:]), strict=True):
        save({key: STATE[key] for key in part}, tmp_path / name)
    places = {key: names[i // 2] for i, key in enumerate(keys)}
    index = tmp_path / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 96}, "weight_map": places}))
    return index


def changed(index, change):
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))


def read(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return load_checkpoint(path), [str(w.message) for w in caught]


def refusal(path):
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable() and "Received: " in message and repr(str(path)) in message
    return message


def test_all_of_it(sharded):
    state, notes = read(sharded)
    assert list(state) == list(STATE) and notes == []
    for key, tensor in STATE.items():
        np.testing.assert_array_equal(state[key], tensor)
    assert [t.name for t in list_tensors(sharded)] == list(STATE)


def test_a_shard_that_is_missing(sharded):
    (shard,) = sharded.parent.glob("*-00002-of-*")
    shard.unlink()
    message = refusal(sharded)
    assert "1 of 2 shards are missing" in message and shard.name in message


def test_a_shard_too_many(sharded):
    (shard,) = sharded.parent.glob("*-00002-of-*")
    extra = shard.with_name(shard.name.replace("00002-of-00002", "00003-of-00003"))
    extra.write_bytes(shard.read_bytes())
    state, (note,) = read(sharded)
    assert list(state) == list(STATE) and f"names no {extra.name!r}, which" in note


def test_a_tensor_that_the_index_does_not_list(sharded):
    changed(sharded, lambda places: places.pop("layers.1.weight"))
    state, (note,) = read(sharded)
    assert "layers.1.weight" not in state
    assert f"{str(sharded)!r} does not list 'layers.*.weight' in " in note


def test_a_tensor_that_lies_in_two_shards(sharded):
    """The one that the index means is taken, the other named with its shard."""
    first, second = sorted(sharded.parent.glob("*-of-*"))
    second.write_bytes(first.read_bytes())
    key, other = [*STATE][:2]
    sharded.write_text(json.dumps({"weight_map": {key: first.name, other: second.name}}))
    state, (note,) = read(sharded)
    assert list(state) == [key, other]
    for left, shard in ((other, first), (key, second)):
        assert f"{re.sub('[0-9]', '*', left)!r} in {shard.name!r}" in note


def test_a_tensor_that_is_in_no_shard(sharded):
    changed(sharded, lambda places: places.update(head=next(iter(places.values()))))
    assert "no 'head' in" in refusal(sharded)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b", 3, None]
)
def test_paths_out_of_the_folder(sharded, name):
    changed(sharded, lambda places: places.update({"layers.0.weight": name}))
    assert "its folder" in refusal(sharded) or "missing" in refusal(sharded)


def test_an_index_of_itself(sharded):
    changed(sharded, lambda places: places.update({"layers.0.weight": sharded.name}))
    assert "a text file" in refusal(sharded)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"weight_map": {}}', '{"weight_map": 3}', "{", ""])
def test_no_index(sharded, text):
    sharded.write_text(text)
    assert "index of a sharded checkpoint" in refusal(sharded) or not text


@pytest.mark.parametrize("large", [False, True])
def test_the_index_of_many_experts(tmp_path, large):
    """As large as its shards allow: here one of 1 GiB, most of which is a hole."""
    keys = [f"model.layers.{i // 512}.mlp.experts.{i % 512}.weight" for i in range(26_000)]
    shape = [(1 << 28) if large else 1]
    sizes = [4] * (len(keys) - 1) + [4 * shape[0]]
    ends = np.cumsum(sizes).tolist()
    entries = {
        key: {"dtype": "F32", "shape": [size // 4], "data_offsets": [end - size, end]}
        for key, size, end in zip(keys, sizes, ends, strict=True)
    }
    header = json.dumps(entries, separators=(",", ":")).encode()
    with open(tmp_path / "m.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + ends[-1])
    index = tmp_path / "model.safetensors.index.json"
    places = dict.fromkeys(keys, "m.safetensors")
    index.write_text(json.dumps({"weight_map": places}, indent=2))
    if large:
        assert [t.name for t in list_tensors(index)] == keys
    else:
        assert "describes more" in refusal(index)


def test_one_shard_alone(sharded):
    (shard,) = sharded.parent.glob("*-00002-of-*")
    state, (note,) = read(shard)
    assert list(state) == list(STATE)[2:]
    assert "one of 2 shards" in note and sharded.name in note


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """A folder as torch.distributed.checkpoint writes it."""
    import torch.distributed.checkpoint as dcp

    folder = tmp_path_factory.mktemp("dcp") / "checkpoint"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(dict(STATE), checkpoint_id=folder)
    return folder


def test_distributed_checkpoints(distributed, tmp_path):
    with pytest.raises(IsADirectoryError, match="dcp_to_torch_save"):
        load_checkpoint(distributed)
    for name in (".metadata", "__0_0.distcp"):
        assert "dcp_to_torch_save" in refusal(distributed / name)
    # What the line says does help.
    with pytest.raises(IsADirectoryError) as caught:
        load_checkpoint(distributed)
    module = re.search(r"python -m (\S+) dcp_to_torch", str(caught.value))[1]
    target = tmp_path / "model.pth"
    subprocess.run([sys.executable, "-m", module, "dcp_to_torch", distributed, target], check=True)
    assert list(read(target)[0]) == list(STATE)


def test_a_name_like_that_of_a_part(tmp_path):
    for name in ("x.metadata", "x.pth"):
        torch.save(STATE, tmp_path / name)
    assert list(read(tmp_path / "x.metadata")[0]) == list(STATE)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.safetensors", "config.json"], "name the file inside it: 'model.safetensors'"),
        (["a.pth", "b.pth"], "name the file inside it: 'a.pth' or another"),
        (["saved_model.pb"], "SavedModel"),
        (["notes.txt"], "a folder; name the file inside it"),
    ],
)
def test_folders(tmp_path, names, words):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(IsADirectoryError, match=words):
        load_checkpoint(tmp_path)


def test_a_folder_in_the_command(distributed):
    code = "from converters.cli import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(distributed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "dcp_to_torch_save" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
