"""The packages of the `qat` extra, imported without a trace in the process.

Imports nothing at the top: TensorFlow, tf_keras and tensorflow-model-optimization are loaded by the
functions here, which every other file of this folder goes through.
"""

import os
from typing import Any

# tensorflow-model-optimization sets it when imported, which would turn `tf.keras` into tf_keras
# for whatever the process, or a child of it, imports later.
_VARIABLE = "TF_USE_LEGACY_KERAS"


def tensorflow() -> Any:
    """The module `tensorflow`.

    Raises:
        ImportError: If the extra is not installed.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise _missing(error) from error
    return tensorflow


def tf_keras() -> Any:
    """The module `tf_keras`.

    Raises:
        ImportError: If the extra is not installed.
    """
    try:
        import tf_keras
    except ImportError as error:
        raise _missing(error) from error
    return tf_keras


def tfmot() -> Any:
    """The module `tensorflow_model_optimization.quantization.keras`.

    Raises:
        ImportError: If the extra is not installed.
    """
    # TensorFlow settles which Keras `tf.keras` is when it is first looked at, for good: let that
    # happen before the variable is touched.
    _ = tensorflow().keras.layers
    before = os.environ.get(_VARIABLE)
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise _missing(error) from error
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
    return tensorflow_model_optimization.quantization.keras


def _missing(error: ImportError) -> ImportError:
    return ImportError(
        "Quantisation-aware training needs TensorFlow, tf_keras and tensorflow-model-optimization; "
        f'install them with pip install "ulsam-keras[qat]". Received: {error}',
        name=error.name,
    )
