"""report.json is what docs/report.md says."""

import json

import keras
import numpy as np

import gpu_drivers
from example_files import ROOT, imported


def fields():
    return imported(ROOT / "scripts", "report_fields")[0]


def test_the_page_is_what_the_code_says():
    assert fields().PAGE.read_text(encoding="utf-8") == fields().page()


def test_every_field_of_a_report_is_explained(command, tmp_path, monkeypatch):
    from ulsam_keras import ULSAM

    gpu_drivers.hide(monkeypatch)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4), name="x")
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    y = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(ULSAM(2)(x)))
    model = keras.Model(inputs, y)
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(100, 8, 8, 4)).astype("float32")
    y = model.predict(x, verbose=0)
    np.savez(tmp_path / "r.npz", inputs=x, outputs=y, labels=y.argmax(1))
    status, text, _ = command(
        *("convert", tmp_path / "m.keras", "-o", tmp_path / "out", "--precision", "int8"),
        *("--calibration", tmp_path / "r.npz", "--reference", tmp_path / "r.npz", "--json"),
    )
    assert status == 0
    printed = json.loads(text)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert printed == written
    assert written["reference"]["correct"] == 100
    tables = fields().tables()
    own = set(tables["Every report"]) | set(tables["A conversion"])
    assert set(written) == own
    [file] = written["files"]
    parts = {
        "`files`": file,
        "`files`: `inputs` and `outputs`": file["inputs"]["x"],
        "`reference`": written["reference"],
        "`calibration`": written["calibration"],
        "`calibration`: `channels`": written["calibration"]["channels"][0],
        "`comparisons`": written["comparisons"][0],
        "`comparisons`: `outputs`": written["comparisons"][0]["outputs"][0],
        "`attention`": written["attention"][0],
    }
    for title, part in parts.items():
        assert set(part) == set(tables[title]), title
    status, text, _ = command(
        "verify", tmp_path / "out" / "m_int8.tflite", tmp_path / "r.npz", "--json"
    )
    compared = json.loads(text)
    assert set(compared) == set(tables["Every report"]) | set(tables["A comparison"])
    assert status == 0 and compared["kind"] == "comparison"
