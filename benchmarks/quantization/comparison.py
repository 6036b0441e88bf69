"""One trained network, three int8 files of it, and what each has left: what both examples do.

Imports converters, ulsam_keras, Keras, NumPy and the other files of this folder.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import int8_models
import measure
from converters import to_tflite
from converters.verify.outputs import relative_difference
from pictures import side_by_side
from ulsam_keras import attention_maps, quantization

# Names of the models: rows of the table, columns of the picture.
FLOAT = "float32"
DEFAULT = "int8, TFLite's defaults"
OURS = "int8, this project"
RESTORED = "float32 after QAT"
QAT = "int8 after QAT"
LONGER = "float32, trained on"
LONGER_INT8 = "int8 of that"


@dataclass(frozen=True)
class Settings:
    """How the int8 files are made.

    Attributes:
        calibration_images: Training images that ranges are taken from, in every file.
        epochs: Epochs of quantisation-aware training.
        learning_rate: Its learning rate at the start.
    """

    calibration_images: int
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Models:
    """What an example makes.

    Attributes:
        settings: How.
        network: The float network.
        default: TFLite's default int8 file of it.
        ours: This project's int8 file of it.
        q: The quantised tf_keras model, trained.
        restored: Its float weights in the Keras 3 network.
        qat: Its int8 file.
    """

    settings: Settings
    network: keras.Model
    default: bytes
    ours: bytes
    q: Any
    restored: keras.Model
    qat: bytes


def make(
    network: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    settings: Settings,
    *,
    seed: int = 0,
) -> Models:
    """Makes the three int8 files of a trained network.

    Args:
        network: The network; it is left as it is.
        images: Training images; the first ones calibrate.
        labels: Their classes.
        settings: How.
        seed: Of the quantisation-aware training. Defaults to 0.
    """
    samples = images[: settings.calibration_images]
    step(f"{DEFAULT}: {len(samples)} representative images")
    default = int8_models.tflite_default(network, samples)
    step(f"{OURS}: the same images")
    ours = to_tflite(network, precision="int8", representative_data=samples)
    step(f"quantisation-aware training: {settings.epochs} epochs on {len(images)} images")
    q = int8_models.quantization_aware(
        network,
        images,
        labels,
        calibration=samples,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        seed=seed,
    )
    step(f"{QAT}, and back to Keras 3")
    qat = to_tflite(q, precision="int8")
    restored = quantization.restore(q, keras.models.clone_model(network))
    return Models(settings, network, default, ours, q, restored, qat)


def rows(
    models: Models, held_out: measure.HeldOut, longer: tuple[keras.Model, bytes] | None = None
) -> list[measure.Row]:
    """What each model has left, on the held-out images.

    Args:
        models: The network and its files.
        held_out: The images.
        longer: The network trained on in float, and its int8 file, to tell training for int8 from
            training longer. Defaults to `None`.
    """
    before, after = (FLOAT, models.network), (RESTORED, models.restored)
    table = [
        held_out.float_row(*before),
        held_out.file_row(DEFAULT, models.default, before),
        held_out.file_row(OURS, models.ours, before),
        held_out.float_row(*after, before),
        held_out.file_row(QAT, models.qat, after),
    ]
    if longer is not None:
        table.append(held_out.float_row(LONGER, longer[0], before))
        table.append(held_out.file_row(LONGER_INT8, longer[1], (LONGER, longer[0])))
    return table


def file_against_training(q: Any, content: bytes, images: np.ndarray) -> tuple[float, int]:
    """How near the file computes to the model that was trained.

    Args:
        q: The quantised tf_keras model.
        content: Its int8 file.
        images: Images to compare on.

    Returns:
        The largest difference of a logit, as a share of the largest logit, and the number of
        images that the two answer differently.
    """
    wanted = q.predict(images, batch_size=100, verbose=0)
    found = measure.file_logits(content, images)
    changed = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    return relative_difference(found, wanted), changed


def picture(models: Models, image: np.ndarray, path: Path) -> None:
    """Draws the attention of all five models on one image, `(H, W, C)`."""
    batch = image[None]
    before = {site: maps[0] for site, maps in attention_maps(models.network, batch).items()}
    after = {site: maps[0] for site, maps in attention_maps(models.restored, batch).items()}

    def of_file(content: bytes) -> dict[str, np.ndarray]:
        maps = measure.file_attention(content, batch)
        return {site: values[0] for site, values in zip(before, maps, strict=True)}

    side_by_side(
        path,
        image,
        {
            FLOAT: before,
            DEFAULT: of_file(models.default),
            OURS: of_file(models.ours),
            RESTORED: after,
            QAT: of_file(models.qat),
        },
        # The flattest map of each site: the one that 8 bits endanger most.
        {site: int(maps.max(axis=(0, 1)).argmin()) for site, maps in before.items()},
        "Attention on the first held-out image, the flattest map of each site",
    )


def write(
    folder: Path,
    models: Models,
    held_out: measure.HeldOut,
    *,
    seed: int,
    longer: tuple[keras.Model, bytes] | None = None,
) -> None:
    """Measures the models, and writes and prints what came out; `longer` as in `rows`."""
    step(f"measuring on {len(held_out.labels)} held-out images")
    table = rows(models, held_out, longer)
    difference, changed = file_against_training(models.q, models.qat, held_out.images)
    folder.mkdir(parents=True, exist_ok=True)
    picture(models, held_out.images[0], folder / "attention.png")
    (folder / "int8_default.tflite").write_bytes(models.default)
    (folder / "int8.tflite").write_bytes(models.ours)
    (folder / "int8_qat.tflite").write_bytes(models.qat)
    models.network.save(folder / "float.keras")
    models.restored.save(folder / "restored.keras")
    measure.write(
        folder,
        table,
        **asdict(models.settings),
        seed=seed,
        qat_file_against_q={"largest_difference": difference, "other_answers": changed},
    )
    step(f"written to {folder}\n")
    print(measure.markdown(table))
    for name in (DEFAULT, OURS):
        lost, error = held_out.lost(FLOAT, name)
        print(f"{name}: {lost:.2f} points of accuracy lost (standard error {error:.2f}).")
    won, error = held_out.lost(QAT, OURS)
    print(f"{QAT}: {won:.2f} points above {OURS} (standard error {error:.2f}).")
    print(
        f"The file after QAT and the model in training: logits differ by at most {difference:.2%} "
        f"of the largest, {changed} of {len(held_out.labels)} answers differ."
    )


_START = time.perf_counter()


def step(text: str) -> None:
    """Says what begins, and when."""
    print(f"[{time.perf_counter() - _START:4.0f} s] {text}", flush=True)
