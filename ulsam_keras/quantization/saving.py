"""`save` and `load`: a quantised model in a file.

Imports tf_keras inside functions only.
"""

import os
import warnings
from pathlib import Path
from typing import Any

from ulsam_keras.quantization.extra import tf_keras
from ulsam_keras.quantization.quantize import check_quantized, scope


def save(q: Any, path: str | os.PathLike[str]) -> None:
    """Saves a quantised model: layers, weights and ranges.

    Training goes on from there after `load`. A `.h5` file holds the state of the optimizer too, a
    SavedModel does not. For weights alone, `q.save_weights`, `tf_keras.callbacks.ModelCheckpoint`
    and `tf.train.Checkpoint` work as with any tf_keras model.

    Args:
        q: A model from `quantize_model`.
        path: A file ending in `.h5`, or the name of a folder, which becomes a SavedModel.

    Raises:
        ValueError: If `q` is not such a model, or `path` ends in `.keras`: that format does not
            find the weights of a quantising wrapper again.
    """
    check_quantized(q)
    path = Path(path)
    if path.suffix == ".keras":
        raise ValueError(
            "A quantised model saved as .keras cannot be loaded again; give a path that ends in "
            f".h5, or a folder for a SavedModel. Received: {str(path)!r}"
        )
    with scope(), warnings.catch_warnings():
        # tf_keras recommends .keras in place of .h5.
        warnings.filterwarnings("ignore", message=".*HDF5 file", category=UserWarning)
        q.save(path, save_format="h5" if path.suffix in (".h5", ".hdf5") else "tf")


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a model that `save` saved.

    Args:
        path: The `.h5` file or SavedModel folder.

    Returns:
        The `tf_keras.Model`, compiled if it was.

    Raises:
        OSError: If there is no such file.
        ValueError: If the file holds no quantised model, or is a `.keras` file.
    """
    path = Path(path)
    if path.suffix == ".keras":
        raise ValueError(
            "A quantised model cannot be loaded from .keras; save it as .h5 or as a SavedModel. "
            f"Received: {str(path)!r}"
        )
    if not path.exists():
        raise FileNotFoundError(f"There is no model at this path. Received: {str(path)!r}")
    with scope():
        q = tf_keras().models.load_model(path)
    check_quantized(q)
    return q
