"""A conversion's files appear together, and an earlier conversion is replaced whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from converters import output_folder
from converters.output_folder import OutputFolder


def conversion(folder, *names, text="new"):
    """Writes the files of a conversion as `convert` does."""
    with OutputFolder(folder) as output:
        fill(output, *names, text=text)
        return output.commit()


def fill(output, *names, text="new"):
    for name in ("model.keras", *names):
        output.path(name).write_text(text)
    report = {"tool": "ulsam-keras", "files": [{"name": name} for name in names]}
    output.path("report.json").write_text(json.dumps(report))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_earlier_conversion_is_replaced_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    conversion(out, "m_float32.tflite", "m_int8.tflite", text="old")
    (out / "report.html").write_text("of the old one")
    (out / "notes.txt").write_text("mine")
    paths = conversion(out, "n_float32.tflite")
    assert names(out) == ["model.keras", "n_float32.tflite", "notes.txt", "report.json"]
    assert sorted(p.name for p in paths) == ["model.keras", "n_float32.tflite", "report.json"]
    assert (out / "model.keras").read_text() == "new"
    assert (out / "notes.txt").read_text() == "mine"


FOREIGN = {
    "a file": ("notes.txt", "mine"),
    "a model that is none of ours": ("model.keras", "precious"),
    "another tool's report": ("report.json", '{"tool": "other", "files": []}'),
    "half a report": ("report.json", '{"tool": "ulsam-keras", "fi'),
    "a report without its files": ("report.json", '{"tool": "ulsam-keras"}'),
    "a folder": ("report.json/x", "in a folder"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_other_files_is_refused(tmp_path, name):
    file, text = FOREIGN[name]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=rf"choose another.*Received: .*{file[:6]}") as error:
        conversion(tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / file).read_text() == text
    assert len(names(tmp_path)) == 1


def test_hidden_files_are_no_reason_to_refuse(tmp_path):
    (tmp_path / ".gitkeep").write_text("")
    conversion(tmp_path)
    assert ".gitkeep" in names(tmp_path)


def test_a_file_beside_a_conversion_is_never_overwritten(tmp_path):
    conversion(tmp_path, text="old")
    (tmp_path / "m_int8.tflite").write_text("mine")
    with pytest.raises(FileExistsError, match="m_int8.tflite"):
        conversion(tmp_path, "m_int8.tflite")
    assert (tmp_path / "m_int8.tflite").read_text() == "mine"
    assert (tmp_path / "model.keras").read_text() == "old"
    assert names(tmp_path) == ["m_int8.tflite", "model.keras", "report.json"]


def test_a_report_reaches_no_file_elsewhere(tmp_path):
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / "out"
    conversion(out, "m.tflite")
    report = {
        "tool": "ulsam-keras",
        "files": [{"name": "../mine"}, {"name": 3}, {"name": "m.tflite"}],
    }
    (out / "report.json").write_text(json.dumps(report))
    conversion(out)
    assert (tmp_path / "mine").exists() and not (out / "m.tflite").exists()


def test_the_current_folder_and_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    conversion(".", "a.tflite", text="old")
    conversion(tmp_path / "link", "b.tflite")
    assert names(tmp_path / "real") == ["b.tflite", "model.keras", "report.json"]
    assert (tmp_path / "link").is_symlink()


def test_two_at_once_are_one_result_and_one_error(tmp_path):
    out = tmp_path / "a" / "b"
    with OutputFolder(out) as first:
        with pytest.raises(OSError, match="Another conversion .* Received: ") as error:
            conversion(out)
        assert "\n" not in str(error.value)
        fill(first, "m.tflite", text="first")
        first.commit()
    assert names(out) == ["m.tflite", "model.keras", "report.json"]
    conversion(out)  # the lock is free again


# A process that is killed at one of the file operations of a commit: `os.unlink`, `os.rename`, ...
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_output_folder import conversion
count = int(sys.argv[3])
def counted(original):
    def call(*arguments, **options):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call
for name in ("unlink", "rename", "replace", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
conversion(sys.argv[2], "new.tflite", text="new")
"""


@pytest.mark.skipif(os.name != "posix", reason="the signal is POSIX's")
def test_killed_anywhere_leaves_one_whole_result_after_the_next_run(tmp_path):
    seen = set()
    for count in range(20):
        out = tmp_path / str(count)
        conversion(out, "old.tflite", text="old")
        arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), out, str(count)]
        ended = subprocess.run(arguments).returncode
        with pytest.raises(RuntimeError), OutputFolder(out):
            raise RuntimeError("the next run, which repairs and then fails")
        found = tuple(names(out))
        text = (out / "model.keras").read_text()
        assert found == (
            ("model.keras", f"{text}.tflite", "report.json")
            if text == "new"
            else ("model.keras", "old.tflite", "report.json")
        )
        seen.add(text)
        if ended == 0:
            break
    assert ended == 0 and count > 4 and seen == {"old", "new"}


def test_what_killed_runs_left_is_swept(tmp_path):
    (tmp_path / ".ulsam-new-abc").mkdir()
    (tmp_path / ".ulsam-new-abc" / "model.keras").write_text("half")
    (tmp_path / ".ulsam-lock").write_text("")
    conversion(tmp_path)
    assert names(tmp_path) == ["model.keras", "report.json"]


def test_a_destination_that_vanishes_is_one_line(tmp_path):
    import shutil

    with (
        pytest.raises(OSError, match="cannot be written to .* Received: "),
        OutputFolder(tmp_path / "out") as output,
    ):
        shutil.rmtree(tmp_path / "out")
        output.commit()
    assert names(tmp_path) == []


def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output_folder.os, "open", refuse)
    with pytest.raises(PermissionError, match="Permission denied.*Received: "):
        OutputFolder(tmp_path / "new" / "out").__enter__()
    assert names(tmp_path) == []
