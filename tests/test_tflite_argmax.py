"""Where the largest is: one operator of the file, also of floats."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from converters import to_tflite
from converters.runtime import run
from converters.tflite.flatbuffer import read_graphs

CASES = {
    "of channels": (lambda x: ops.argmax(x, axis=-1), ["ARG_MAX"]),
    "of rows": (lambda x: ops.argmax(x, axis=1, keepdims=True), ["ARG_MAX"]),
    "least": (lambda x: ops.argmin(x, axis=2), ["ARG_MIN"]),
    "of all": (lambda x: ops.reshape(ops.argmax(x, keepdims=True), (-1, 1)), ["ARG_MAX"]),
    "of whole numbers": (
        lambda x: ops.argmin(ops.argmax(x, axis=-1), axis=1),
        ["ARG_MAX", "ARG_MIN"],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("nested", [False, True])
def test_it_is_what_keras_finds(case: str, nested: bool) -> None:
    graph, operators = CASES[case]
    x = keras.Input((6, 5, 8), batch_size=1)
    model = keras.Model(x, graph(L.Conv2D(5, 1)(x)))
    if nested:
        model = keras.Model(x, model(x))
    image = np.random.default_rng(0).normal(size=(1, 6, 5, 8)).astype("float32")
    expected = np.asarray(model(image))
    content = to_tflite(model)
    kinds = [operator.name for operator in read_graphs(content)[0].operators]
    assert [kind for kind in kinds if kind.startswith("ARG")] == operators
    (found,) = run(content, image, repeats=0).outputs.values()
    assert found.dtype == "int32" and np.array_equal(found, expected)
    # The model is as it was.
    assert np.array_equal(np.asarray(model(image)), expected)
