"""What differences, ratios, classes and verdicts of outputs are, on arrays worked out by hand."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

from converters.verify.limits import PRECISIONS, Limits, rejected
from converters.verify.outputs import (
    OutputComparison,
    OutputDifference,
    compare_outputs,
    count_correct,
    decibels,
    find_classifiers,
    relative_difference,
)

INF, NAN = np.inf, np.nan
RNG = np.random.default_rng(0)


def one(value, reference, classifies=False):
    """The comparison of one output."""
    [row] = compare_outputs({"y": value}, {"y": reference}, {"y"} if classifies else frozenset())
    return row


def verdict(row, limits=None, precision="int8", **fields):
    """The comparison of a file of a precision whose one output was found so."""
    limits = limits or Limits()
    return OutputComparison(
        precision,
        "keras",
        "XNNPACK",
        limit=limits.output(precision),
        snr_limit=limits.output_snr(precision),
        top1_limit=limits.agreement(precision),
        outputs=(row,),
        **{"samples": 360, **fields},
    )


# ------------------------------------------------------------------------ differences


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ([1, -4, 3, 0], [1, -4, 2, 0], 1 / 4),  # of the reference's largest, whatever its sign
        ([127], [-128], 255 / 128),
        ([0, 0], [0, 0], 0),
        ([0, 1e-9], [0, 0], INF),
        ([1, INF], [1, INF], 0),
        ([2, -INF], [4, -INF], 1 / 2),  # the infinity is no scale
        ([NAN, 1], [NAN, 1], 0),
        ([NAN, NAN], [NAN, NAN], 0),
        ([1, INF], [1, -INF], INF),
        ([1, NAN], [1, INF], INF),
        ([1, 2], [1, -INF], INF),
        ([1, -INF], [1, 2], INF),
        ([1, NAN], [1, 2], INF),
    ],
)
def test_differences_are_relative_to_the_largest_of_the_reference(value, reference, expected):
    assert relative_difference(np.array([value]), np.array([reference])) == expected


def test_integers_do_not_wrap_around():
    given, wanted = np.array([127], "int8"), np.array([-128], "int8")
    assert relative_difference(given, wanted) == 255 / 128


def test_a_mask_on_both_sides_is_equal_and_another_mask_has_its_own_words():
    logits = RNG.normal(size=(50, 4)).astype("float32")
    logits[:, 2] = -INF
    same = one(logits, logits)
    assert (same.difference, same.masks_differ, same.snr) == (0, False, INF)
    near = one(logits + np.float32(1e-3), logits)
    wanted = logits[:, [0, 1, 3]].astype("float64")
    assert near.difference == pytest.approx(1e-3 / np.abs(wanted).max(), rel=1e-3)
    ratio = np.square(wanted - wanted.mean(axis=0)).sum() / (1e-6 * wanted.size)
    assert near.snr == pytest.approx(10 * np.log10(ratio), abs=0.01)
    assert verdict(near).passed
    for mask in (NAN, 0, INF):
        other = logits.copy()
        other[7, 2] = mask
        row = verdict(one(other, logits))
        assert row.difference == INF and not row.passed
        assert row.failures == ["y: NaN or infinite values at other places"]


def test_a_difference_without_a_scale_is_no_mask():
    row = verdict(one(np.full((3, 2), 1e-9), np.zeros((3, 2))))
    assert row.difference == INF and row.failures == ["y: difference inf"]


def test_what_cannot_be_compared():
    y = np.ones((1, 2))
    with pytest.raises(ValueError, match=r"same shape.*\(1, 2\) and \(2, 1\)"):
        relative_difference(y, y.T)


# ----------------------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("signal", "error", "expected"),
    [
        ([3, 4], [0.5, 0], 20),
        ([1, 0], [1, 0], 0),
        ([0, 0], [0, 0], INF),
        ([1, 2], [0, 0], INF),
        ([0, 0], [1, 0], -INF),
    ],
)
def test_decibels(signal, error, expected):
    assert decibels(np.array(signal), np.array(error)) == expected


def test_the_energy_of_float16_numbers_does_not_overflow():
    assert decibels(np.full(4, 6e4, "float16"), np.full(4, 6e2, "float16")) == pytest.approx(40)


def test_what_all_samples_share_is_no_signal():
    """A classifier with a bias of 300: an error as large as all it says is 58 dB below the bias."""
    logits = 0.34 * RNG.normal(size=(500, 10))
    error = 0.378 * RNG.normal(size=(500, 10))
    wanted = logits + 300
    row = one(wanted + error, wanted, classifies=True)
    assert decibels(wanted, error) == pytest.approx(58, abs=0.1)
    assert row.difference < 0.02  # of the limit of 0.2
    assert row.snr == pytest.approx(-1, abs=0.2)
    assert row.equal < 250
    found = verdict(row, samples=500)
    assert not found.passed and len(found.failures) == 2
    assert found.failures[0].startswith("y: SNR -") and "top-1 equal on" in found.failures[1]


def test_what_all_classes_share_does_not_hide_what_tells_them_apart():
    """Logits that go up and down together by far more than they differ."""
    logits = RNG.normal(size=(500, 10))
    error = 1.1 * RNG.normal(size=(500, 10))
    wanted = logits + 100 * RNG.normal(size=(500, 1))
    row = one(wanted + error, wanted, classifies=True)
    assert row.snr > 35 and row.sample_snr == pytest.approx(-0.8, abs=0.3)
    assert row.least_snr == row.sample_snr and not verdict(row, samples=500).passed
    # And an error that they share changes no class.
    shifted = one(wanted + 100 * RNG.normal(size=(500, 1)), wanted, classifies=True)
    assert shifted.sample_snr > 200 and shifted.equal == 500


def test_two_regressed_values_that_nearly_coincide_pass():
    """Float16 changes which of the two is larger; nobody asks for that."""
    value = np.linspace(-1.73, 1.73, 500)[:, None] * np.ones((1, 2))  # of the deviation 1
    wanted = value + 1e-5 * RNG.normal(size=(500, 2))
    given = wanted + 1e-4 * RNG.normal(size=(500, 2))
    assert (given.argmax(1) != wanted.argmax(1)).mean() > 0.4
    outputs, classes = {"y": wanted}, find_classifiers({"y": wanted}, None, None)
    [row] = compare_outputs({"y": given}, outputs, classes)
    assert (row.equal, row.sample_snr) == (None, None) and row.snr == pytest.approx(80, abs=0.5)
    for precision in PRECISIONS[1:]:
        assert verdict(row, precision=precision, samples=500).passed


@pytest.mark.parametrize("samples", [1, 4])
def test_a_constant_output_has_no_ratio(samples):
    constant = np.tile(np.array([[0.3, 0.7]], "float32"), (samples, 1))
    row = one(constant + np.float32(1e-3), constant, classifies=True)
    assert (row.snr, row.sample_snr, row.least_snr) == (None, None, None)
    assert row.equal == samples
    found = verdict(row, samples=samples)
    assert found.passed and found.snr is None
    # Differences of float32's own rounding are no signal either.
    assert one(constant, constant * (1 + 1e-7 * np.arange(samples)[:, None])).snr is None


def test_an_output_of_zeros():
    zeros = np.zeros((5, 3))
    row = one(zeros, zeros)
    assert (row.difference, row.snr) == (0, None) and verdict(row).passed


# ---------------------------------------------------------------------------- classes


def shares(*shape):
    exponentials = np.exp(RNG.normal(size=shape))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


OUTPUTS = {
    "shares": shares(20, 5),
    "float16": shares(20, 5).astype("float16"),
    "logits": RNG.normal(size=(20, 5)),
    "one": shares(20, 1),
    "maps": shares(20, 4, 4, 5),
    "single": RNG.normal(size=20),
}


@pytest.mark.parametrize(
    ("labels", "asked", "expected"),
    [
        (None, None, {"shares", "float16"}),
        (np.zeros(20, int), None, {"shares", "float16", "logits"}),
        (None, True, {"shares", "float16", "logits"}),
        (None, False, set()),
        (np.zeros(20, int), False, set()),
    ],
)
def test_what_counts_as_a_classifier(labels, asked, expected):
    assert find_classifiers(OUTPUTS, labels, asked) == expected


def test_labels():
    logits = np.eye(4)[[0, 1, 2, 3]]
    labels = np.array([0, 1, 0, 3, 2, 2])  # of the samples that were not run too
    outputs = {"a": np.ones((4, 2, 2)), "y": logits}
    assert count_correct(outputs, outputs, labels) == 3
    assert count_correct(outputs, outputs, None) is None
    assert count_correct({"a": np.ones((4, 2, 2))}, {"a": np.ones((4, 2, 2))}, labels) is None


def below_one_in_a_hundred(samples, share):
    """For each number of equal classes whether chance gives as few: binomial sums, in integers."""
    equal, whole = Fraction(share).as_integer_ratio()  # of the very float that the limit is
    ways = (
        math.comb(samples, k) * equal**k * (whole - equal) ** (samples - k)
        for k in range(samples + 1)
    )
    return [Fraction(total, whole**samples) < Fraction(1, 100) for total in accumulate(ways)]


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("samples", [1, 2, 4, 16, 64, 360])
def test_top_1_fails_where_a_binomial_test_rejects_the_limit(samples, share):
    wanted = below_one_in_a_hundred(samples, share)
    assert [rejected(equal, samples, share) for equal in range(samples + 1)] == wanted
    assert not wanted[samples] and any(wanted) == (samples > (1 if share > 0.9 else 4))


@pytest.mark.parametrize(
    ("equal", "samples", "share", "expected"),
    [
        (49_400, 50_000, 0.99, True),  # 100 fewer than 99 %, 22 of which are a deviation
        (49_460, 50_000, 0.99, False),
        (0, 3, 0.0, False),
        (3, 3, 1.0, False),
        (2, 3, 1.0, True),
    ],
)
def test_top_1_of_many_and_the_ends_of_the_limit(equal, samples, share, expected):
    assert rejected(equal, samples, share) is expected


def test_one_other_class_of_four_is_chance():
    difference = OutputDifference("y", 1e-3, 30.0, 30.0, equal=3)
    assert verdict(difference, precision="float16", limits=Limits(float16=1), samples=4).passed
    half = OutputDifference("y", 1e-3, 30.0, 30.0, equal=2)
    row = verdict(half, precision="float16", limits=Limits(float16=1), samples=4)
    assert row.failures == ["y: top-1 equal on 2 of 4"]


# ---------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("row", "fields", "words"),
    [
        (OutputDifference("y", NAN, 30.0), {}, "difference nan"),
        (OutputDifference("y", 0.21, 30.0), {}, "difference 2.1e-01"),
        (OutputDifference("y", 0.1, 9.9), {}, "SNR 9.9 dB"),
        (OutputDifference("y", 0.1, NAN), {}, "SNR nan dB"),
        (OutputDifference("y", 0.1, 30.0, 9.9), {}, "SNR 9.9 dB"),
        (OutputDifference("y", 0.1, 30.0, channel_snr=-0.1), {}, "half of its channels"),
        (OutputDifference("y", 0.1, 30.0), {"fully_accelerated": False}, "not every operator"),
        (OutputDifference("y", 0.1, 30.0), {"problem": "crashed: SIGABRT"}, "crashed: SIGABRT"),
    ],
)
def test_every_verdict_can_say_no(row, fields, words):
    found = verdict(row, **fields)
    assert not found.passed
    [failure] = found.failures
    assert words in failure
    assert verdict(OutputDifference("y", 0.1, 30.0)).passed


def test_nothing_compared_does_not_pass():
    assert not OutputComparison("int8", "keras", "XNNPACK", samples=4, limit=1.0).passed


def test_the_worst_output_counts():
    rows = (OutputDifference("a", 0.1, 30.0, 20.0, equal=4), OutputDifference("b", 0.2, 25.0))
    found = OutputComparison("int8", "keras", "XNNPACK", samples=4, limit=0.3, outputs=rows)
    assert (found.difference, found.snr, found.top1) == (0.2, 20.0, 1.0)


# ------------------------------------------------------------------------------ limits


def test_limits_by_precision():
    limits = Limits()
    for precision in PRECISIONS:
        floats = precision in ("float32", "float16")
        integers = precision in ("int8", "int16x8")
        assert limits.output(precision) == getattr(limits, precision)
        half = limits.output(precision, "float16")
        assert half == pytest.approx(limits.output(precision) + limits.gpu_float16)
        assert (limits.output_snr(precision) is None) == floats
        assert (limits.attention(precision) is None) == integers
        assert (limits.least_attention_snr(precision) is None) != integers
        assert limits.agreement(precision) == (0.95 if integers else 0.99)
    assert limits.attention("float16", "float16") == pytest.approx(0.15)


@pytest.mark.parametrize("name", vars(Limits()))
@pytest.mark.parametrize("value", [-0.1, NAN, INF])
def test_limits_are_finite(name, value):
    with pytest.raises(ValueError, match=f"at least 0.*Received: {name}="):
        Limits(**{name: value})
