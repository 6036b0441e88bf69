"""Calibration data: what the ranges of integer activations are taken from, and whether it can be.

Imports NumPy and the rest of `data`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converters.data.channels import (
    Channel,
    check_scaling,
    describe,
    implausible,
    implausible_scaling,
)
from converters.data.images import ENOUGH, Shape, evenly, image_shape, load_images
from converters.data.npz import source_name
from converters.data.samples import Sample, representative_samples

_WHITE = 255


@dataclass(frozen=True)
class Calibration:
    """Representative data.

    Attributes:
        samples: All samples, by input.
        description: What the data is, in words.
        channels: What each channel of it looks like.
        reference_channels: The same of a reference's inputs; empty without one.
        answers: What the float model answers to it, in words.
    """

    samples: Sample
    description: str
    channels: tuple[Channel, ...]
    reference_channels: tuple[Channel, ...] = ()
    answers: str = ""

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.samples.values())))


@dataclass(frozen=True)
class Source:
    """Where calibration data comes from, and how images are scaled.

    Attributes:
        path: A folder of images or an `.npz` file.
        mean: What is taken off images, scaled to 0 to 1, per channel or one; `None` for 0.
        std: What they are then divided by, likewise; `None` for 1.
        confirmed: Whether the user says that data which looks wrong is meant.
        count: The most samples to take, evenly over all of them; `None` for 500 images of a
            folder, and all of a file.

    Raises:
        ValueError: If a number is not finite, or a deviation not above 0.
    """

    path: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    confirmed: bool = False
    count: int | None = None

    def __post_init__(self) -> None:
        check_scaling(self.mean or (), self.std or ())


def load_calibration(
    source: Source,
    shapes: Mapping[str, Shape],
    dtypes: Sequence[str],
    reference: Mapping[str, np.ndarray] | None = None,
    scales_itself: bool = False,
) -> Calibration:
    """Reads calibration data in the layout of a model, and refuses what cannot be meant.

    Args:
        source: Where it comes from.
        shapes: The static shape of each input, by name.
        dtypes: The dtype of each.
        reference: A reference's inputs in the same layout.
        scales_itself: Whether the model begins with a layer that scales its inputs, for which
            pixels of 0 to 255 are never wrong.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it does not fit the model, or is scaled as no image is meant to be, or is
            not of the kind of the reference's inputs.
    """
    if os.path.isdir(source.path):
        mean, std = tuple(source.mean or (0.0,)), tuple(source.std or (1.0,))
        _refuse(implausible_scaling(mean, std), source, "`image_mean` and `image_std`")
        shape = image_shape(shapes)
        data = load_images(
            source.path,
            (shape[1], shape[2]),
            channels=shape[3],
            mean=mean,
            std=std,
            dtype=dtypes[0],
            count=source.count or ENOUGH,
        )
        scaled = f"(pixel / 255 - {_told(mean)}) / {_told(std)}"
        how = f"images, {'pixels' if 'int' in dtypes[0] else scaled}"
        samples = representative_samples(data, shapes, dtypes)
    elif source.mean is not None or source.std is not None:
        raise ValueError(
            "`image_mean` and `image_std` scale a folder of images; an .npz file holds its "
            f"numbers as the model takes them. Received: {source.path!r}"
        )
    else:
        how = "as stored"
        samples = representative_samples(source.path, shapes, dtypes)
        chosen = evenly(range(len(next(iter(samples.values())))), source.count)
        samples = {name: array[list(chosen)] for name, array in samples.items()}
    channels = describe(samples)
    theirs = describe(reference) if reference is not None else ()
    if reference is not None:
        doubted = [n for n, array in samples.items() if not (scales_itself and _pixels(array))]
        given, recorded = ({n: arrays[n] for n in doubted} for arrays in (samples, reference))
        count = min((len(array) for array in recorded.values()), default=0)
        why = implausible(describe(given), describe(recorded), count)
        _refuse(why, source, "`calibration` and `reference`")
    count = len(next(iter(samples.values())))
    name = source_name(os.path.normpath(source.path))
    return Calibration(samples, f"{count} samples of {name}, {how}", channels, theirs)


def own_calibration(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], dtypes: Sequence[str]
) -> Calibration:
    """Samples that came with what is converted; they are what it is meant for."""
    samples = representative_samples(dict(arrays), shapes, dtypes)
    count = len(next(iter(samples.values())))
    return Calibration(samples, f"{count} samples that came with it", describe(samples))


def describe_answers(outputs: Mapping[str, np.ndarray], classifiers: set[str]) -> str:
    """What a model answers to data, in words."""
    told = []
    for name, value in outputs.items():
        if name in classifiers:
            counts = np.bincount(value.argmax(axis=1))
            seen, most = int((counts > 0).sum()), counts.max() / len(value)
            told.append(
                f"{name}: one class, {counts.argmax()}, for everything"
                if seen == 1
                else f"{name}: {seen} classes, the commonest for {most:.0%}"
            )
        else:
            finite = value[np.isfinite(value).all(axis=tuple(range(1, value.ndim)))]
            spread = finite.std(axis=0, dtype="f8").max(initial=0.0) if len(finite) else 0.0
            told.append(
                f"{name}: {value.min():.3g} to {value.max():.3g}, "
                + (f"up to {spread:.2g} apart between samples" if spread else "the same for all")
            )
    return "; ".join(told)


def _pixels(array: np.ndarray) -> bool:
    """Whether an input is pixels of 0 to 255, of which some channels may be dark."""
    return bool(array.min() >= 0 and 1 < array.max() <= _WHITE)


def _refuse(why: str, source: Source, what: str) -> None:
    if why and not source.confirmed:
        raise ValueError(
            f"{why[0].upper()}{why[1:]}: {what} do not go together with what the model takes, and "
            "its ranges would be wrong. Scale the data as in training, or, if it is meant so, give "
            f"`confirm_calibration`. Received: {source.path!r}"
        )


def _told(values: Sequence[float]) -> str:
    told = ", ".join(f"{value:g}" for value in values)
    return f"({told})" if len(values) > 1 else told
