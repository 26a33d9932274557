"""Means with intervals, paired differences and rank correlations, against numbers worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from samlib.measures.statistics import (
    Estimate,
    detectable_at,
    estimate,
    joint_effect,
    number,
    paired_difference,
    rank_correlations,
    with_interval,
)

NAN = float("nan")


def test_the_interval_of_three_values_is_the_one_from_the_t_table():
    # mean 2, standard deviation 1, t(0.975, 2 degrees of freedom) = 4.302653: half-width 4.302653 / sqrt(3).
    found = estimate([1.0, NAN, 2.0, 3.0])  # what is no number is left out, and n says so
    assert (found.mean, found.n) == (2.0, 3)
    assert found.high - 2 == pytest.approx(2.484138, abs=1e-5) == 2 - found.low


def test_one_value_has_an_infinite_interval_equal_ones_none_and_no_value_no_mean():
    assert estimate([3.0]) == Estimate(3.0, -math.inf, math.inf, 1)
    assert estimate([0.25, 0.25]) == Estimate(0.25, 0.25, 0.25, 2)
    for values in ([], [NAN, NAN]):
        with pytest.raises(ValueError, match=r"values: expected at least one number, got .*; run more seeds"):
            estimate(values)


@pytest.mark.parametrize(("values", "told"), [([[1.0], [2.0]], r"shape \(2, 1\)"), ([1.0, math.inf], "infinite")])
def test_what_would_give_no_interval_or_several_is_refused(values, told):
    with pytest.raises(ValueError, match=f"values: expected one finite number a seed, got .*{told}"):
        estimate(values)


def test_differences_are_treated_minus_control_and_paired():
    # Unpaired, the spread between seeds (100) would drown the constant difference; half a pair is left out.
    found = paired_difference([1.0, 101.0, NAN, 201.0], [2.0, 102.0, 5.0, 202.0])
    assert found == Estimate(-1.0, -1.0, -1.0, 3)
    with pytest.raises(ValueError, match=r"one number a seed of both, got shapes \(2,\) and \(1,\); use equal seeds"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([1.0, 2.0, 30.0, 40.0], 1.0),
        ([4.0, 3.0, 2.0, 1.0], -1.0),
        ([7.0, 7.0, 7.0, 7.0], 0.0),
        ([10.0, 30.0, 20.0, 40.0], 0.8),  # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 * 15)
        # Ranks 1 2 3 4 against 1.5 1.5 3 4: covariance 4.5, variances 5 and 4.5.
        ([0.0, 0.0, 1.0, 2.0], 4.5 / math.sqrt(5 * 4.5)),
        ([0.1 + 0.2, 0.3, 1.0, 2.0], 4.5 / math.sqrt(5 * 4.5)),  # what differs in the last bits is tied
        ([0.1 + 0.2, 0.3, 0.3, 0.3], 0.0),
    ],
)
def test_rank_correlations_of_hand_worked_curves(curve, expected):
    assert rank_correlations([0.0, 0.1, 5.0, 6.0], np.array([curve] * 2)).tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("value", "digits", "signed", "expected"),
    [
        (-0.25, 3, False, "−0.250"),
        (1.25, 1, True, "+1.2"),
        (-1.25, 2, True, "−1.25"),
        (-0.004, 2, True, "0.00"),
        (0.004, 2, True, "0.00"),
        (-0.0, 1, False, "0.0"),
        (math.inf, 2, True, "∞"),
        (-math.inf, 2, True, "−∞"),
    ],
)
def test_a_number_has_a_true_minus_and_zero_no_sign(value, digits, signed, expected):
    assert number(value, digits, signed=signed) == expected


def test_a_mean_is_written_with_its_interval_in_the_unit_asked_for():
    value, single = Estimate(-0.0067, -0.02, 0.00001, 4), estimate([0.125])
    assert with_interval(value) == "−0.007 [−0.020, 0.000]" and str(value) == "-0.007 [-0.020, 0.000]"
    assert with_interval(value, 2, scale=100, signed=True) == "−0.67 [−2.00, 0.00]"
    assert with_interval(single, 1, scale=100, signed=True) == "+12.5"
    assert with_interval(single, alone=", one seed") == "0.125, one seed"


def test_the_joint_effect_of_two_equal_strata_is_welchs():
    # Welch's test of a against -b has the mean a + b, twice ours, the same standard error and degrees of freedom.
    a, b = np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.0, 5.0, 1.0])
    found = joint_effect([a, b])
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert found.mean == pytest.approx((a.mean() + b.mean()) / 2)
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))
    assert found.n == 7 and found.df == found.degrees == pytest.approx(stats.ttest_ind(a, -b, equal_var=False).df)


def test_a_joint_effect_weighs_strata_alike_whatever_their_size_without_what_is_no_number():
    assert joint_effect([[0.0] * 50, [2.0, NAN, 2.0]]) == Estimate(1.0, -math.inf, math.inf, 52)  # no spread, no bounds
    assert joint_effect([[2.0] * 3, [2.0, 2.0]]) == Estimate(2.0, 2.0, 2.0, 5)
    with pytest.raises(ValueError, match=r"two or more numbers in every stratum, got \[1, 2\]"):
        joint_effect([[1.0, NAN], [2.0, 4.0]])


def test_what_is_called_detectable_is_found_that_often():
    generator = np.random.default_rng(1)
    values = generator.normal(size=8)
    delta = detectable_at(estimate(values))
    samples = generator.normal(delta, values.std(ddof=1), size=(20_000, 8))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)  # three standard errors are 0.0085
    assert detectable_at(estimate(2 * values + 5)) == pytest.approx(2 * delta)
    assert detectable_at(estimate([1.0])) == math.inf


def test_what_is_detectable_follows_from_the_interval_and_its_degrees_of_freedom():
    values = [0.1, 0.3, 0.2, 0.6]
    joint = joint_effect([values, [0.0, 0.5, 0.1]])
    delta, error = detectable_at(joint), (joint.high - joint.mean) / stats.t.ppf(0.975, joint.degrees)
    assert stats.nct.sf(stats.t.ppf(0.975, joint.df), joint.df, delta / error) == pytest.approx(0.8)
    cut = dataclasses.replace(joint, high=joint.mean)  # at a bound: the longer side is the interval's
    assert detectable_at(cut) == pytest.approx(delta)
    assert detectable_at(joint, power=0.5) < delta and detectable_at(estimate([1.0, 1.0])) == 0


@pytest.mark.parametrize("bits", range(-3, 4))
def test_a_tie_is_written_alike_however_its_last_bits_fall(bits):
    tie = -0.0285 + bits * math.ulp(0.0285)
    assert number(tie) == number(-0.0285) and number(100 * tie, 1) == number(-2.85, 1)
    assert str(Estimate(tie, tie, tie, 4)) == str(Estimate(-0.0285, -0.0285, -0.0285, 4))
