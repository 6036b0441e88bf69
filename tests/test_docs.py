"""What the documents say that the code knows too."""

from pathlib import Path

from converters.tflite import RULES

ROOT = Path(__file__).parent.parent


def test_every_reason_code_is_in_the_docs():
    text = (ROOT / "docs" / "lint.md").read_text()
    for rule in RULES.values():
        row = f"| `{rule.code}` | {rule.severity} | {rule.symptom} | {rule.advice} |"
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
