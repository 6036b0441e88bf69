"""What the documents say that the code knows too."""

import re
import shutil
from pathlib import Path

from converters.tflite import RULES

ROOT = Path(__file__).parent.parent


def test_every_reason_code_is_in_the_docs():
    text = (ROOT / "docs" / "lint.md").read_text()
    for rule in RULES.values():
        told = (f"`{rule.code}`", rule.severity, rule.symptom, rule.meaning, rule.advice)
        row = f"| {' | '.join(told)} |"
        assert row in text, f"docs/lint.md lacks or misquotes {rule.code}"
    assert text.count("\n| `") == len(RULES)


def test_every_room_is_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in ("ulsam_keras", "converters"):
        for path in sorted((ROOT / package).iterdir()):
            if path.name.startswith("_") or path.name == "py.typed":
                continue
            room = f"`{package}/{path.name}{'/' if path.is_dir() else ''}`"
            assert room in text, f"ARCHITECTURE.md lacks {room}"


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "digits" / "digits_ulsam.pth", "model.pth")
    monkeypatch.syspath_prepend(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        if "port_weights" in block:  # "your network", of which the checkpoint is
            from examples.digits.model import build

            names["model"] = build()
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "model.tflite").stat().st_size > 0
    assert "ulsam1" in str(names["report"])
