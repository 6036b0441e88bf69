"""Digits in clutter: the data of the scripts in this folder, made from what scikit-learn ships.

A handwritten digit lies anywhere in a picture among fragments of other digits, so that a network
has to find it before it can read it: a task for spatial attention whose answer to "where" is known.
Imports NumPy, SciPy and scikit-learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIZE, DIGIT, FRAGMENT, FRAGMENTS = 32, 16, 6, 5


class Pictures(NamedTuple):
    """Pictures of one digit each, in clutter.

    Attributes:
        images: Float32 `(N, 32, 32, 1)` in [0, 1].
        labels: The digits, `(N,)`.
        on_digit: Boolean `(N, 32, 32)`: the square of 16 x 16 that the digit lies in.
    """

    images: np.ndarray
    labels: np.ndarray
    on_digit: np.ndarray


def load(
    training: int = 6000,
    held_out: int = 1000,
    *,
    fragments: int = FRAGMENTS,
    least_contrast: float = 1.0,
    seed: int = 0,
) -> tuple[Pictures, Pictures]:
    """Makes pictures to train on and held-out ones, of other drawings.

    Args:
        training: How many to train on. Defaults to 6000.
        held_out: How many to hold out, of drawings that none of the others shows. Defaults to 1000.
        fragments: Of other digits, in each picture. Defaults to 5.
        least_contrast: The least contrast of a picture, whose logarithm is uniform, on a ground of
            any grey; 1 is white on black always. Defaults to 1.
        seed: The same pictures for the same seed. Defaults to 0.

    Returns:
        Both, as `Pictures`.
    """
    digits = load_digits()
    drawings = zoom(digits.images / 16, (1, 2, 2), order=1)
    one, other, labels_of_one, labels_of_other = train_test_split(
        drawings, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    rng = np.random.default_rng(seed)
    return (
        _draw(one, labels_of_one, training, fragments, least_contrast, rng),
        _draw(other, labels_of_other, held_out, fragments, least_contrast, rng),
    )


def _draw(
    drawings: np.ndarray,
    labels: np.ndarray,
    count: int,
    fragments: int,
    least_contrast: float,
    rng: np.random.Generator,
) -> Pictures:
    images = np.zeros((count, SIZE, SIZE))
    on_digit = np.zeros(images.shape, bool)
    which = rng.integers(len(drawings), size=count)
    for image, square, number in zip(images, on_digit, which, strict=True):
        for _ in range(fragments):
            there = _anywhere(SIZE, FRAGMENT, rng)
            image[there] = drawings[rng.integers(len(drawings))][_anywhere(DIGIT, FRAGMENT, rng)]
        there = _anywhere(SIZE, DIGIT, rng)
        image[there] = drawings[number]
        square[there] = True
    contrast = np.exp(rng.uniform(np.log(least_contrast), 0, (count, 1, 1)))
    images = contrast * images + (1 - contrast) * rng.uniform(size=contrast.shape)
    images = np.round(images * 255) / 255  # as an image file holds them
    return Pictures(images[..., None].astype("float32"), labels[which], on_digit)


def _anywhere(size: int, part: int, rng: np.random.Generator) -> tuple[slice, slice]:
    top, left = rng.integers(size - part + 1, size=2)
    return slice(top, top + part), slice(left, left + part)
