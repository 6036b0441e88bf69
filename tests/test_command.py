"""The `ulsam-keras` command, as a person at a terminal meets it."""

import json
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest

import gpu_drivers
import litert_models
from conftest import PROGRESS
from converters.cli import types

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
CHECKPOINT = DIGITS / "digits_ulsam.pth"
RECORDING = DIGITS / "reference.npz"
MODEL = f"{DIGITS / 'model.py'}:build"
FLOAT32 = 1e-5  # relative to the largest value: rounding of sums in another order


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from converters.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def earlier_conversion(folder):
    (folder / "model.keras").write_text("precious")
    (folder / "report.json").write_text('{"tool": "ulsam-keras", "files": []}')
    return tree(folder)


def tree(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def test_digits_from_checkpoint_to_verified_files(command, tmp_path):
    import torch

    out = tmp_path / "out"
    arguments = ("--model", MODEL, "--reference", RECORDING, "--output-dir", out)
    status, text, err = command("convert", CHECKPOINT, *arguments)
    assert (status, err) == (0, "")
    assert sorted(p.name for p in out.iterdir()) == [
        "digits_ulsam_float16.tflite",
        "digits_ulsam_float32.tflite",
        "model.keras",
        "model_card.md",
        "report.html",
        "report.json",
    ]
    recorded = np.load(RECORDING)
    correct = int((recorded["outputs"].argmax(1) == recorded["labels"]).sum())
    total = len(recorded["labels"])
    assert correct / total >= 0.97
    for name in ("PyTorch (recorded)", "Keras", "float32", "float16"):
        assert any(name in line and f"{correct} of {total}" in line for line in text.splitlines())

    report = json.loads((out / "report.json").read_text())
    assert report["passed"]
    runs = [(c["subject"], c["reference"], c["runtime"]) for c in report["comparisons"]]
    for precision in ("float32", "float16"):
        for kernels in ("XNNPACK", "built-in", "reference"):
            assert (precision, "keras", kernels) in runs
        assert (precision, "pytorch", "XNNPACK") in runs
    sites = {(a["subject"], a["site"], a["runtime"]) for a in report["attention"]}
    for site in ("ulsam1", "ulsam2", "ulsam3"):
        assert ("float16", site, "XNNPACK") in sites
    keys = torch.load(CHECKPOINT, weights_only=True)["state_dict"].keys()
    assert [s["key"] for s in report["port_report"]["sources"]] == list(keys)

    model = keras.saving.load_model(out / "model.keras")
    logits = model.predict(recorded["inputs"].transpose(0, 2, 3, 1), verbose=0)
    difference = np.abs(logits - recorded["outputs"]).max() / np.abs(recorded["outputs"]).max()
    assert difference <= FLOAT32


def test_lone_module_needs_no_options(command, module_checkpoint, tmp_path):
    options = ("--reference", module_checkpoint / "recorded.npz", "--precision", "float32")
    checkpoint = module_checkpoint / "ulsam.pth"
    status, text, err = command("convert", checkpoint, "-o", tmp_path / "out", *options)
    assert (status, err) == (0, "")
    assert "one ULSAM, 32 channels, 4 splits" in text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["files"][0]["operators"] == 10
    assert report["files"][0]["name"] == "ulsam_float32.tflite"


def test_a_tar_suffix_is_no_part_of_the_name():
    from converters.convert import stem_of as stem

    assert stem("some/wrap.pth.tar") == stem("wrap.pt.TAR") == stem("wrap.pth") == "wrap"
    assert stem("mobilenet_v1.0.tar") == "mobilenet_v1.0"


def test_keys_beside_a_module_at_the_root(command, module_checkpoint, tmp_path):
    """There is no prefix that could leave them out."""
    import torch

    state = torch.load(module_checkpoint / "ulsam.pth", weights_only=True)["state_dict"]
    torch.save(state | {"module.extra": torch.ones(3)}, tmp_path / "more.pth")
    status, _, err = command("convert", tmp_path / "more.pth", "-o", tmp_path / "out")
    assert_one_line(status, err)
    assert "'extra'" in err and "--model" in err and "--prefix" not in err


def test_precisions_in_several_options_are_all_made(tmp_path):
    from converters.cli.convert import convert

    options = ("--precision", "int8", "--precision", "float32,int8")
    context = convert.make_context("convert", ["m.pth", "-o", str(tmp_path), *options])
    assert context.params["precision"] == ("int8", "float32")


def test_warnings_are_told_though_the_conversion_fails(command, module_checkpoint, tmp_path):
    import torch

    state = torch.load(module_checkpoint / "ulsam.pth", weights_only=True)["state_dict"]
    further = state | {"module.extra": torch.ones(3)}
    torch.save({"model": further, "ema": further}, tmp_path / "two.pth")
    status, _, err = command("convert", tmp_path / "two.pth", "-o", tmp_path / "out")
    told, error = err.splitlines()
    assert status == 2 and told.startswith("warning: ") and "--entry" in told and "ema" in told
    assert error.startswith("ulsam-keras: error: ") and "'extra'" in error


def test_a_flatbuffer_is_parsed_once(command, module_checkpoint, tmp_path, monkeypatch):
    from ai_edge_litert import schema_py_generated as schema

    original, parsed = schema.ModelT.InitFromPackedBuf, Counter()

    def counted(content, place):
        parsed[bytes(content)] += 1
        return original(content, place)

    monkeypatch.setattr(schema.ModelT, "InitFromPackedBuf", staticmethod(counted))
    out = tmp_path / "out"
    assert command("convert", module_checkpoint / "ulsam.pth", "-o", out, "--no-gpu")[0] == 0
    assert parsed[(out / "ulsam_float32.tflite").read_bytes()] == 1
    assert set(parsed.values()) == {1}


def test_failed_comparison_is_status_1_and_writes_the_files(command, module_checkpoint, tmp_path):
    status, text, _ = command(
        "convert",
        module_checkpoint / "ulsam.pth",
        "-o",
        tmp_path,
        "--tolerance",
        "float16=1e-9",
        "--name",
        "other",
    )
    assert status == 1
    assert "FAILED" in text
    assert not json.loads((tmp_path / "report.json").read_text())["passed"]
    assert (tmp_path / "other_float16.tflite").exists()


def test_failed_attention_is_status_1(command, module_checkpoint, tmp_path):
    options = ("--tolerance", "attention_float32=0", "--precision", "float32")
    status, text, _ = command("convert", module_checkpoint / "ulsam.pth", "-o", tmp_path, *options)
    assert status == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert all(c["passed"] for c in report["comparisons"])
    assert not all(a["passed"] for a in report["attention"])


def test_attention_as_further_outputs(command, module_checkpoint, tmp_path):
    import torch

    import torch_reference
    from converters.runtime import run

    checkpoint = module_checkpoint / "ulsam.pth"
    recording = module_checkpoint / "recorded.npz"
    options = ("--with-attention", "--precision", "float32", "--reference", recording)
    assert command("convert", checkpoint, "-o", tmp_path, *options)[0] == 0
    x = np.load(module_checkpoint / "recorded.npz")["inputs"].transpose(0, 2, 3, 1)
    outputs = run(tmp_path / "ulsam_float32.tflite", np.ascontiguousarray(x)).outputs
    module = torch_reference.ULSAM(32, 4).eval()
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    module.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    expected = module.attention(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
    difference = np.abs(outputs["ulsam_attention"].transpose(0, 3, 1, 2) - expected).max()
    assert difference <= FLOAT32 * expected.max()


def test_the_command_knows_every_form_of_the_attention():
    from ulsam_keras.spatial_softmax import ATTENTION_FORMS

    assert set(types.ATTENTION_FORMS) == set(ATTENTION_FORMS)


@pytest.fixture
def no_driver(monkeypatch):
    gpu_drivers.hide(monkeypatch)


def test_without_a_gpu(command, no_driver, module_checkpoint, tmp_path):
    checkpoint = module_checkpoint / "ulsam.pth"
    status, text, _ = command("convert", checkpoint, "-o", tmp_path / "a")
    assert status == 0
    assert "not run, without a Vulkan driver" in text
    assert json.loads((tmp_path / "a" / "report.json").read_text())["gpu"] is None
    status, text, err = command("convert", checkpoint, "-o", tmp_path / "b", "--require-gpu")
    assert_one_line(status, err)
    assert "Vulkan" in err
    assert not (tmp_path / "b").exists()
    file = tmp_path / "a" / "ulsam_float32.tflite"
    assert "not run" in command("verify", file, file)[1]
    assert_one_line(*command("verify", file, file, "--require-gpu")[::2])
    status, text, _ = command("doctor")
    assert status == 0
    assert "scripts/vulkan_drivers.sh" in text


@pytest.mark.parametrize(("driver", "halves"), [("swiftshader", False), ("lavapipe", True)])
def test_gpu_beside_the_cpu(command, monkeypatch, driver, halves, module_checkpoint, tmp_path):
    for name, value in gpu_drivers.environment(driver).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    checkpoint = module_checkpoint / "ulsam.pth"
    status, text, err = command("convert", checkpoint, "-o", tmp_path, "--require-gpu")
    assert (status, err) == (0, ""), text
    report = json.loads((tmp_path / "report.json").read_text())
    assert gpu_drivers.ADAPTER[driver].lower() in report["gpu"].lower()
    rows = [c for c in report["comparisons"] if c["fully_accelerated"] is not None]
    precisions = {"float32", "float16"} if halves else {"float32"}
    assert {(c["subject"], c["gpu_precision"]) for c in rows} == {
        (precision, gpu_precision)
        for precision in ("float32", "float16")
        for gpu_precision in precisions
    }
    assert all(c["fully_accelerated"] for c in rows)
    assert {a["runtime"] for a in report["attention"]} >= {f"GPU {p}" for p in precisions}
    file = tmp_path / "ulsam_float32.tflite"
    status, text, _ = command("verify", file, tmp_path / "model.keras")
    assert status == 0
    assert "GPU float32" in text


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["swiftshader", "lavapipe"])
def test_digits_on_the_gpu(command, monkeypatch, driver, tmp_path):
    for name, value in gpu_drivers.environment(driver).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    options = ("--model", MODEL, "--reference", RECORDING, "--require-gpu", "-o", tmp_path)
    status, text, err = command("convert", CHECKPOINT, *options)
    assert (status, err) == (0, ""), text
    report = json.loads((tmp_path / "report.json").read_text())
    rows = [c for c in report["comparisons"] if c["runtime"].startswith("GPU")]
    assert {c["gpu_precision"] for c in rows} >= {"float16" if driver == "lavapipe" else "float32"}
    assert all(c["fully_accelerated"] and c["top1"] == 1.0 for c in rows)
    sites = [a for a in report["attention"] if a["runtime"].startswith("GPU")]
    assert {a["site"] for a in sites} == {"ulsam1", "ulsam2", "ulsam3"}
    assert min(a["cosine"] for a in sites) > 0.99


def test_doctor(command):
    import torch

    document = json.loads(command("doctor", "--json")[1])
    found = {part["name"]: part["found"] for part in document}
    assert found["torch"] == torch.__version__
    assert found["keras"] == keras.__version__


def test_lint(command, module_checkpoint, tmp_path):
    options = ("--precision", "float32", "--output-dir", tmp_path)
    command("convert", module_checkpoint / "ulsam.pth", *options)
    good = command("lint", tmp_path / "ulsam_float32.tflite")
    assert good[:2] == (0, "nothing found\n")
    (tmp_path / "bad.tflite").write_bytes(litert_models.broadcast_to())
    status, text, _ = command("lint", tmp_path / "bad.tflite", "--fail-on", "warning")
    assert status == 1
    assert "BROADCAST_TO" in text
    findings = json.loads(command("lint", "--json", tmp_path / "bad.tflite")[1])
    assert "BROADCAST_TO" in {f["code"] for f in findings}
    (tmp_path / "text.tflite").write_text("this is a text file and no model")
    assert_one_line(*command("lint", tmp_path / "text.tflite")[::2])
    assert_one_line(*command("lint", tmp_path / "nothing.tflite")[::2])


def test_wrong_recording_fails(command, module_checkpoint, tmp_path):
    data = dict(np.load(module_checkpoint / "recorded.npz"))
    data["outputs"] = data["inputs"]  # as if the attention were dead
    np.savez(tmp_path / "dead.npz", **data)
    options = ("--reference", tmp_path / "dead.npz", "--precision", "float32")
    status, *_ = command("convert", module_checkpoint / "ulsam.pth", "-o", tmp_path / "o", *options)
    assert status == 1


def test_prefix_chooses_a_module(command, tmp_path):
    options = ("--prefix", "ulsam2.", "--input-size", "8x6", "--precision", "dynamic_range")
    status, text, err = command("convert", CHECKPOINT, "-o", tmp_path, *options)
    assert (status, err) == (0, "")
    assert "one ULSAM, 32 channels, 4 splits" in text
    assert "features 1x8x6x32" in text


def test_keras_file_as_architecture_and_verify(command, module_checkpoint, tmp_path):
    from ulsam_keras import ULSAM

    inputs = keras.Input((None, None, 32))
    keras.Model(inputs, ULSAM(4)(inputs)).save(tmp_path / "architecture.keras")
    out = tmp_path / "out"
    options = ("--model", tmp_path / "architecture.keras", "--input-size", 14)
    status, _, err = command("convert", module_checkpoint / "ulsam.pth", "-o", out, *options)
    assert (status, err) == (0, "")
    recording = module_checkpoint / "recorded.npz"
    for sides, expected in [
        ((out / "model.keras", recording), 0),
        ((out / "ulsam_float32.tflite", recording), 0),
        ((recording, out / "ulsam_float32.tflite"), 0),
        ((out / "ulsam_float32.tflite", out / "model.keras"), 0),
        ((out / "ulsam_float32.tflite", out / "ulsam_float16.tflite"), 0),
        (
            (
                out / "ulsam_float32.tflite",
                out / "ulsam_float16.tflite",
                "--tolerance",
                "float16=1e-6",
            ),
            1,
        ),
        ((tmp_path / "architecture.keras", recording), 1),
    ]:
        status, text, err = command("verify", *sides)
        assert (status, err) == (expected, ""), (sides, text)


def test_inspect(command):
    import torch

    status, text, err = command("inspect", CHECKPOINT)
    assert (status, err) == (0, "")
    state = torch.load(CHECKPOINT, weights_only=True)["state_dict"]
    values = sum(t.numel() for t in state.values())
    assert f"{len(state)} tensors, {values:,} values" in text
    assert "ULSAM at 'ulsam3': 48 channels, 4 splits" in text
    document = json.loads(command("inspect", CHECKPOINT, "--json")[1])
    shapes = {t["name"]: tuple(t["shape"]) for t in document["tensors"]}
    assert shapes == {k: tuple(v.shape) for k, v in state.items()}


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["inspect", CHECKPOINT]])
def test_answers_without_heavy_imports(arguments):
    script = """
        import sys
        from converters.cli import main
        try:
            main()
        finally:
            heavy = {"tensorflow", "keras", "torch", "rich", "ai_edge_litert"} & set(sys.modules)
            print("heavy:", sorted(heavy))
    """
    lines = "\n".join(line[8:] for line in script.splitlines())
    result = subprocess.run(
        [sys.executable, "-c", lines, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("name", ["convert", "inspect", "verify"])
def test_help_shows_an_example(command, name):
    status, text, _ = command(name, "--help")
    assert status == 0
    assert f"Example: ulsam-keras {name}" in text


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def save(folder, name, state):
    import torch

    torch.save(state, folder / name)
    return folder / name


def digits_state():
    import torch

    return torch.load(CHECKPOINT, weights_only=True)["state_dict"]


def broken_digits(**changes):
    state = digits_state()
    for key, change in changes.items():
        key = key.replace("__", ".")
        value = change(state.pop(key))
        if value is not None:
            state[key] = value
    return state


def make_bad_files(folder):
    """{name: (path, words of the error)}"""
    import torch

    content = CHECKPOINT.read_bytes()
    files = {
        "empty": (b"", "empty"),
        "truncated": (content[: len(content) // 2], "truncated"),
        "text": (b"layers: 3\nchannels: 64\n", "text"),
        "malicious": (pickle.dumps(Malicious(folder / "executed")), "Received: "),
    }
    bad = {}
    for name, (data, words) in files.items():
        (folder / f"{name}.pth").write_bytes(data)
        bad[name] = (folder / f"{name}.pth", words)
    nan = broken_digits(ulsam2__subspaces__1__conv_point__weight=lambda t: t * float("nan"))
    bad["NaN"] = (save(folder, "nan.pth", nan), "ulsam2.subspaces.1.conv_point.weight")
    other = {f"layer{i}.weight": torch.zeros(3, 3) for i in range(5)}
    bad["another network"] = (save(folder, "other.pth", other), "layer0.weight")
    missing = broken_digits(stem__conv__weight=lambda t: None)
    bad["missing key"] = (save(folder, "missing.pth", missing), "stem_conv.weight")
    shape = broken_digits(classifier__weight=lambda t: t[:7])
    bad["wrong shape"] = (save(folder, "shape.pth", shape), "classifier.weight")
    bad["no such file"] = (folder / "nothing.pth", "nothing.pth")
    bad["a directory"] = (folder, "")
    bad["no tensors"] = (save(folder, "none.pth", {"epoch": 3}), "Received: ")
    return bad


def assert_one_line(status, err):
    assert status == 2, err
    assert err.startswith("ulsam-keras: error: ")
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    assert err.count("Received: ") <= 1, err


def test_bad_checkpoints(command, tmp_path):
    bad = make_bad_files(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    before = earlier_conversion(out)
    for name, (path, words) in bad.items():
        status, text, err = command("convert", path, "--model", MODEL, "-o", out)
        assert_one_line(status, err)
        assert words in err, (name, err)
        assert text == ""
        assert tree(out) == before, name
    assert not (tmp_path / "executed").exists()


def test_bad_checkpoints_make_no_folder(command, tmp_path):
    out = tmp_path / "deep" / "out"
    status, _, err = command("convert", tmp_path / "nothing.pth", "-o", out)
    assert_one_line(status, err)
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("name", ["empty", "truncated", "text", "malicious", "no such file"])
def test_inspect_bad_files(command, tmp_path, name):
    path, words = make_bad_files(tmp_path)[name]
    status, text, err = command("inspect", path)
    assert_one_line(status, err)
    assert words in err
    assert text == ""


BAD_OPTIONS = {
    "missing output": ([], "--output-dir"),
    "unknown option": (["-o", "OUT", "--frobnicate"], "--frobnicate"),
    "precision": (["-o", "OUT", "--precision", "float64"], "float64"),
    "size zero": (["-o", "OUT", "--input-size", "0"], "Received: 0"),
    "size word": (["-o", "OUT", "--input-size", "big"], "Received: big"),
    "size of another model": (["-o", "OUT", "--model", MODEL, "--input-size", "64"], "64x64"),
    "several modules": (["-o", "OUT"], "--model"),
    "prefix": (["-o", "OUT", "--prefix", "d0_ulsam"], "d0_ulsam"),
    "entry": (["-o", "OUT", "--model", MODEL, "--entry", "ema"], "ema"),
    "no model file": (["-o", "OUT", "--model", "nothing.keras"], "nothing.keras"),
    "text as model": (["-o", "OUT", "--model", "TEXT.keras"], "not a .keras file"),
    "no module": (["-o", "OUT", "--model", "no_such_module:build"], "no_such_module"),
    "no function": (["-o", "OUT", "--model", f"{DIGITS / 'model.py'}:nothing"], "nothing"),
    "no model": (["-o", "OUT", "--model", "builtins:dict"], "keras.Model"),
    "raises": (["-o", "OUT", "--model", "math:sqrt"], "TypeError"),
    "no recording": (["-o", "OUT", "--model", MODEL, "--reference", "no.npz"], "no.npz"),
    "other recording": (["-o", "OUT", "--model", MODEL, "--reference", "BAD.npz"], "inputs"),
    "text as recording": (["-o", "OUT", "--model", MODEL, "--reference", "TEXT.keras"], "npz"),
    "output is a file": (["-o", "TEXT.keras", "--model", MODEL], "folder"),
    "output under a file": (["-o", "TEXT.keras/out", "--model", MODEL], "TEXT.keras"),
    "no permission": (["-o", "/proc/out", "--model", MODEL], "/proc/out"),
    "name with a folder": (["-o", "OUT", "--name", "../x"], "../x"),
    "negative tolerance": (["-o", "OUT", "--tolerance", "float32=-1"], "float32=-1"),
    "unknown tolerance": (["-o", "OUT", "--tolerance", "float64=1"], "dynamic_range"),
    "tolerance without value": (["-o", "OUT", "--tolerance", "float32"], "NAME=VALUE"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(command, tmp_path, name):
    options, words = BAD_OPTIONS[name]
    (tmp_path / "TEXT.keras").write_text("not a model")
    shape = (5, 3, 16, 16)
    np.savez(tmp_path / "BAD.npz", inputs=np.zeros(shape), outputs=np.zeros((5, 10)))
    before = tree(tmp_path)

    def place(option):
        known = option.startswith(("OUT", "TEXT", "BAD"))
        return str(tmp_path / option) if known else option

    status, text, err = command("convert", CHECKPOINT, *map(place, options))
    assert_one_line(status, err)
    assert words in err, err
    assert text == ""
    assert tree(tmp_path) == before


def test_full_output_folder(tmp_path):
    """A limit on the size of a file stands in for a full disk: a write fails half way."""
    resource = pytest.importorskip("resource", reason="POSIX only")
    before = earlier_conversion(tmp_path)
    result = process(
        "convert",
        CHECKPOINT,
        "--model",
        MODEL,
        "-o",
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert_one_line(result.returncode, PROGRESS.sub("", result.stderr))
    assert tree(tmp_path) == before


def test_an_output_folder_with_other_files(command, tmp_path, module_checkpoint):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, err = command("convert", module_checkpoint / "ulsam.pth", "-o", tmp_path)
    assert_one_line(status, err)
    assert "mine.txt" in err
    assert tree(tmp_path) == {Path("mine.txt"): b"mine"}


OWN_MODELS = """
import keras
from ulsam_keras import ULSAM

def open_sizes():
    inputs = keras.Input((None, None, 16))
    return keras.Model(inputs, ULSAM(4)(inputs))

def mixed():
    inputs = keras.Input((8, 8, 16))
    return keras.Model(inputs, ULSAM(4, dtype="mixed_float16")(inputs))

def batch_of_three():
    inputs = keras.Input(batch_shape=(3, 8, 8, 16))
    return keras.Model(inputs, ULSAM(4)(inputs))

def nested():
    inputs = keras.Input((8, 8, 16))
    inner = keras.Sequential([keras.Input((8, 8, 16)), ULSAM(4)], name="body")
    return keras.Model(inputs, keras.layers.ReLU()(inner(inputs)))

def leaves():
    raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("function", "options"),
    [("open_sizes", ("--input-size", "9")), ("mixed", ()), ("batch_of_three", ()), ("nested", ())],
)
def test_own_architectures(command, tmp_path, function, options):
    import torch

    import torch_reference

    (tmp_path / "own.py").write_text(OWN_MODELS)
    torch.manual_seed(0)
    torch.save(torch_reference.ULSAM(16, 4).state_dict(), tmp_path / "m[best].pth")
    arguments = ("--model", f"{tmp_path / 'own.py'}:{function}", "--precision", "float32", *options)
    out = tmp_path / "out[/v1]"
    status, text, err = command("convert", tmp_path / "m[best].pth", "-o", out, *arguments)
    assert (status, err) == (0, ""), text
    assert "m[best]_float32.tflite" in text
    assert (out / "m[best]_float32.tflite").exists()
    sides = (out / "m[best]_float32.tflite", out / "model.keras")
    status, text, err = command("verify", *sides, *options)
    assert (status, err) == (0, ""), text
    assert "Attention of every site" in text


def test_own_architecture_that_exits(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN_MODELS)
    model = f"{tmp_path / 'own.py'}:leaves"
    status, _, err = command("convert", CHECKPOINT, "-o", tmp_path / "out", "--model", model)
    assert_one_line(status, err)
    assert "SystemExit" in err


def test_nameless_output_folder(command):
    assert_one_line(*command("convert", CHECKPOINT, "-o", "", "--model", MODEL)[::2])


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_leave_nothing(tmp_path, number):
    out = tmp_path / "deep" / "out"
    # What runs in the background may have been started with these ignored.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "from converters.cli import main; main()"
    )
    arguments = ["convert", CHECKPOINT, "--model", MODEL, "-o", out]
    running = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(".ulsam-new-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert out.exists()
    time.sleep(0.5)
    running.send_signal(getattr(signal, number))
    _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + getattr(signal, number)
    assert b"Traceback" not in err
    assert not (tmp_path / "deep").exists()


def test_a_reader_that_leaves_does_not_change_the_status(module_checkpoint, tmp_path):
    script = "from converters.cli import main; main()"
    arguments = ["convert", module_checkpoint / "ulsam.pth", "-o", tmp_path / "out"]
    running = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    assert PROGRESS.sub("", running.stderr.read().decode()) == ""
    assert running.wait(timeout=120) == 0
    assert (tmp_path / "out" / "report.json").exists()
