"""What the documents say that the code knows too."""

import re
import shutil
from pathlib import Path

import numpy as np

from converters.tflite import RULES
from converters.tflite.rewrites import REWRITES

ROOT = Path(__file__).parent.parent


def test_every_reason_code_is_in_the_docs():
    text = (ROOT / "docs" / "lint.md").read_text()
    for rule in RULES.values():
        told = (f"`{rule.code}`", rule.severity, rule.symptom, rule.meaning, rule.advice, rule.seen)
        row = f"| {' | '.join(told)} |"
        assert row in text, f"docs/lint.md lacks or misquotes {rule.code}"
    assert text.count("\n| `") == len(RULES)


def test_every_rewrite_is_in_the_docs():
    text = (ROOT / "docs" / "gpu.md").read_text()
    for row in REWRITES.values():
        line = f"| {row.name} | {row.pattern} | {row.replacement} | {row.reason} |"
        assert line in text, f"docs/gpu.md lacks or misquotes {row.name}"


def test_every_room_is_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in ("ulsam_keras", "converters"):
        for path in sorted((ROOT / package).iterdir()):
            if path.name.startswith("_") or path.name == "py.typed":
                continue
            room = f"`{package}/{path.name}{'/' if path.is_dir() else ''}`"
            assert room in text, f"ARCHITECTURE.md lacks {room}"


def a_network():
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    return {"net": net, "images": torch.rand(4, 3, 8, 8), "labels": torch.arange(4)}


def python_of(page):
    """The blocks of Python in a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def run(blocks, **names):
    """What the blocks, one after the other, leave."""
    for block in blocks:
        exec(compile(block, "page", "exec"), names)
    return names


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer, network, phone = python_of("README.md")
    names = run([layer, phone])
    assert (tmp_path / "model.tflite").stat().st_size > 0
    run([network], **a_network())
    assert (tmp_path / "net.pt2").stat().st_size > 0
    images = {"images": names["images"], "batches": [names["images"]], "labels": np.array([1, 2])}
    trained = run(python_of("docs/qat.md")[:1], model=names["model"], **images)
    assert len(trained["tflite"]) > 10_000


def test_the_readme_is_a_page():
    assert (ROOT / "README.md").read_text().count("\n") < 140


def test_the_code_of_the_page_on_porting_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from examples.digits.model import build

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "digits" / "digits_ulsam.pth", "model.pth")
    names = run(python_of("docs/porting.md")[:1], model=build())
    assert "ulsam1" in str(names["report"])


def test_the_code_of_the_page_on_keras_runs():
    blocks = python_of("docs/keras.md")
    assert len(blocks) == 3
    names = run(blocks)
    assert names["a"].shape == (1, 8, 8, 2) and len(names["maps"]) == 1


def test_every_public_name_has_a_page():
    import converters
    import ulsam_keras

    text = (ROOT / "docs" / "api.md").read_text()
    for package in (ulsam_keras, converters):
        for name in set(package.__all__) - {"networks"}:
            assert re.search(rf"::: \S+\.{name}$", text, re.M), f"docs/api.md lacks {name}"


def test_the_page_of_operators_is_what_the_code_says(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import operators

    assert operators.PAGE.read_text(encoding="utf-8") == operators.page()
    assert operators.page().count("\n## ") >= 10


def test_the_page_of_ports_has_every_case_and_every_warning(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import porting_sweep

    from converters.pytorch.doubts import TESTS

    text = porting_sweep.PAGE.read_text(encoding="utf-8")
    assert text == porting_sweep.page()
    assert text.count("| equal |") > 50
    starts = re.findall(r"^\| `([^`…]+)` \| .* \| .* \|$", text, re.M)
    for _, warning in TESTS:
        assert any(warning.startswith(start) for start in starts), warning
