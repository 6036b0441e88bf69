"""How differences between two runs are measured."""

import numpy as np
import pytest

from converters.runtime import RunResult, compare, compare_attention


def test_differences_are_relative_to_the_largest_reference():
    reference = np.array([[1.0, -4.0, 2.0, 0.0]], "float32")
    value = reference + np.array([[0.0, 0.0, 1.0, 0.0]], "float32")
    difference = compare({"y": value}, {"y": reference})["y"]
    assert (difference.largest, difference.mean) == (0.25, 0.0625)


def test_a_bare_array_takes_the_name_of_the_other_side():
    y = np.ones((1, 2), "float32")
    run = RunResult("ok", outputs={"probabilities": y})
    assert list(compare(run, y)) == ["probabilities"]
    assert list(compare(y, run)) == ["probabilities"]
    assert list(compare(y, y)) == ["output"]


def test_integers_do_not_wrap_around():
    a, b = np.array([[127]], "int8"), np.array([[-128]], "int8")
    assert compare(a, b)["output"].largest == pytest.approx(255 / 128)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(bad):
    y = np.ones((1, 2))
    wrong = np.array([[1.0, bad]])
    assert compare(wrong, y)["output"].largest == np.inf
    assert compare(y, wrong)["output"].largest == np.inf


def test_a_reference_of_zeros():
    zeros = np.zeros((1, 2))
    assert compare(zeros, zeros)["output"].largest == 0
    assert compare(zeros + 1e-9, zeros)["output"].largest == np.inf


def test_what_cannot_be_compared():
    y = np.ones((1, 2))
    with pytest.raises(ValueError, match=r"\['a'\] and \['b'\]"):
        compare({"a": y}, {"b": y})
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(2, 1\)"):
        compare(y, y.T)
    with pytest.raises(ValueError, match="outcome='refused', BROADCAST_TO"):
        compare(RunResult("refused", message="BROADCAST_TO"), y)


def softmax_maps(seed):
    scores = np.exp(np.random.default_rng(seed).normal(size=(2, 5, 7, 3)))
    return scores / scores.sum(axis=(1, 2), keepdims=True)


def test_attention_of_itself():
    a = softmax_maps(0)
    difference = compare_attention(a, a)
    assert difference.correlation == pytest.approx(1)
    assert difference.relative_error == 0
    assert difference.row_sum_error < 1e-12


def test_one_wrong_map_of_many_shows():
    a = softmax_maps(0)
    wrong = a.copy()
    wrong[1, :, :, 2] = softmax_maps(1)[1, :, :, 2]
    expected = np.corrcoef(wrong[1, :, :, 2].ravel(), a[1, :, :, 2].ravel())[0, 1]
    difference = compare_attention(wrong, a)
    assert difference.correlation == pytest.approx(expected)
    assert difference.relative_error == pytest.approx(np.abs(wrong - a).max() / a.max())


@pytest.mark.parametrize("dead", [0.0, 1 / 35])
def test_dead_attention_does_not_correlate(dead):
    a = softmax_maps(0)
    difference = compare_attention(np.full_like(a, dead), a)
    assert difference.correlation == 0
    assert difference.row_sum_error == pytest.approx(0 if dead else 1)


def test_flat_attention_that_should_be_flat():
    a = np.ones((1, 1, 1, 4))
    assert compare_attention(a, a).correlation == 1


def test_attention_that_is_not_finite():
    a = softmax_maps(0)
    wrong = a.copy()
    wrong[0, 0, 0, 0] = np.nan
    difference = compare_attention(wrong, a)
    assert (difference.correlation, difference.row_sum_error) == (0, np.inf)
    assert difference.relative_error == np.inf


def test_attention_shapes():
    with pytest.raises(ValueError, match="rank 4"):
        compare_attention(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="same shape"):
        compare_attention(softmax_maps(0), softmax_maps(0)[:1])
