import copy
import json
import math
import pickle
import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from isentrope.measures import Estimate
from isentrope.measures.estimate import generator_of, unit_of


def test_behaves_as_its_value():
    estimate = Estimate(1.5, 0.25, unit="bit", method="plugin", n=10)
    assert float(estimate) == 1.5
    assert estimate == 1.5
    assert 1.4 < estimate < 1.6
    assert estimate + estimate == 3.0
    assert 1 / estimate == pytest.approx(2 / 3)
    assert math.exp(estimate) == pytest.approx(4.481689)
    assert f"{estimate:.3f}" == "1.500"
    assert hash(estimate) == hash(1.5)
    assert sorted([Estimate(2.0), Estimate(-1.0), Estimate(0.5)]) == [-1.0, 0.5, 2.0]
    assert json.dumps([estimate]) == "[1.5]"


def test_an_estimate_can_be_sent_to_another_process_without_its_data():
    data = np.arange(10.0)
    estimate = Estimate(4.0, 0.5, local=data, shuffled=lambda generator: generator.permutation(data)[0])
    sent = pickle.loads(pickle.dumps(estimate))
    assert (sent, sent.stderr, sent.local.tolist()) == (4.0, 0.5, data.tolist())
    with pytest.raises(ValueError, match="or was sent here by another process"):
        sent.test(9)
    assert copy.deepcopy([estimate])[0].test(9, rng=0).n_resamples == 9


def test_arithmetic_forgets_the_standard_error():
    assert type(Estimate(1.0, 0.1) + Estimate(1.0, 0.1)) is float


def test_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Estimate(1.0, 0.1).value = 2.0  # pyright: ignore[reportAttributeAccessIssue]


def test_copies_keep_every_field():
    estimate = Estimate(1.0, 0.1, "bit", "plugin", 7, 0.02, "a note")
    copied = copy.deepcopy(estimate)
    assert copied == 1.0
    assert copied.to_dict() == estimate.to_dict()


def test_interval_has_the_quantiles_of_a_normal_law():
    low, high = Estimate(1.0, 2.0).interval(0.6826894921370859)
    assert (low, high) == pytest.approx((-1.0, 3.0))
    low, high = Estimate(1.0, 2.0).interval()
    assert (high - 1.0) / 2 == pytest.approx(1.959963984540054)
    assert (1.0 - low) / 2 == pytest.approx(1.959963984540054)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_interval_refuses_other_levels(level):
    with pytest.raises(ValueError, match="confidence_level"):
        Estimate(1.0, 0.1).interval(level)


@pytest.mark.parametrize(
    ("value", "stderr", "written"),
    [
        (1.23449, 0.01249, "1.234 ± 0.012"),
        (1.2345, 0.0996, "1.23 ± 0.10"),
        (1234.5, 12.3, "1234 ± 12"),
        (1234.5, 1234.0, "1234 ± 1234"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, math.nan, "0.5"),
        (-math.inf, math.nan, "-inf"),
        (1.23456789e-3, 1.2e-8, "0.001234568 ± 0.000000012"),
        (3.67123e-17, 9.14e-18, "3.67e-17 ± 9.1e-18"),
        (math.log(2), 1.5e-16, "0.6931471806 ± 1.5e-16"),
        (0.0, 1.5e-16, "0 ± 1.5e-16"),
        (1e-20, 1.5e-16, "1e-20 ± 1.5e-16"),
    ],
)
def test_is_written_to_two_figures_of_its_error(value, stderr, written):
    assert str(Estimate(value, stderr)) == f"{written} nat"


def test_repr_tells_method_samples_and_note():
    assert repr(Estimate(1.23449, 0.01249, "bit", "plugin", 1000, note="careful")) == (
        "Estimate(1.234 ± 0.012 bit, plugin, n=1000; careful)"
    )


def test_json_has_no_numbers_that_json_lacks():
    plain = Estimate(-math.inf, math.nan, n=3).to_dict()
    assert plain["value"] is None
    assert plain["stderr"] is None
    assert json.loads(json.dumps(plain, allow_nan=False))["n"] == 3


def test_negative_standard_error_is_refused():
    with pytest.raises(ValueError, match=r"stderr must not be negative \(got -0\.1\)"):
        Estimate(1.0, -0.1)


def test_units():
    assert unit_of(None, "f") == (1.0, "nat")
    assert unit_of(math.e, "f") == (1.0, "nat")
    assert unit_of(2, "f") == (math.log(2), "bit")
    assert unit_of(10, "f") == (math.log(10), "hartley")
    assert unit_of(3, "f") == (math.log(3), "log 3")


@pytest.mark.parametrize("base", [0, 1, -2, math.inf, math.nan, True])
def test_bases_that_are_none(base):
    with pytest.raises(ValueError, match="f: base must be positive and different from 1"):
        unit_of(base, "f")


def test_the_p_value_counts_the_observed_value_too():
    # The shuffled values are 0, 1, 2, ... in the order of the shuffles: 96..99 reach 96.
    numbers = iter(range(100))
    result = Estimate(96.0, shuffled=lambda generator: float(next(numbers))).test(100)
    assert result.pvalue == pytest.approx((1 + 4) / (1 + 100))
    assert result.null_mean == pytest.approx(49.5)
    assert result.null_std == pytest.approx(math.sqrt(100 * 101 / 12))
    assert result.excess == pytest.approx(96 - 49.5)


def test_the_p_value_of_a_constant_is_one():
    assert Estimate(0.0, shuffled=lambda generator: 0.0).test(99).pvalue == 1.0


def test_the_same_sum_in_another_order_reaches_the_estimate():
    assert Estimate(0.6, shuffled=lambda generator: 0.3 + 0.2 + 0.1 - 1e-16).test(9).pvalue == 1.0


def test_the_p_value_is_uniform_where_nothing_depends():
    rng = np.random.default_rng(0)
    pvalues = [
        Estimate(rng.normal(), shuffled=lambda generator: generator.normal()).test(19, rng=rng).pvalue
        for _ in range(400)
    ]
    levels = np.arange(1, 20) / 20
    reached = np.mean(np.array(pvalues)[:, None] <= levels + 1e-9, axis=0)
    assert np.abs(reached - levels).max() < 1.63 * math.sqrt(1 / 400)  # Kolmogorov's bound at one per cent


def test_an_early_end_keeps_the_p_value():
    def shuffled(generator):
        return generator.normal()

    # Half of the shuffles reach zero, so five of them are found after about ten.
    early = Estimate(0.0, shuffled=shuffled).test(999, rng=1, stop_after=5)
    assert early.n_resamples < 30
    assert early.pvalue == 5 / early.n_resamples
    # A value that is never reached takes them all, and the same p-value as without an early end.
    late = Estimate(9.0, shuffled=shuffled).test(199, rng=1, stop_after=5)
    assert late == Estimate(9.0, shuffled=shuffled).test(199, rng=1)


def test_the_test_gives_the_same_answer_in_parallel():
    estimate = Estimate(0.5, shuffled=lambda generator: generator.normal())
    assert estimate.test(50, rng=3) == estimate.test(50, rng=3, n_jobs=3)
    assert estimate.test(50, rng=3, stop_after=4) == estimate.test(50, rng=3, n_jobs=3, stop_after=4)


def test_what_cannot_be_tested_says_so():
    with pytest.raises(ValueError, match="an estimate by plugin has no shuffled null hypothesis"):
        Estimate(1.0, method="plugin").test()
    with pytest.raises(ValueError, match=r"n_resamples must be an integer of at least 1 \(got 0\)"):
        Estimate(1.0, shuffled=lambda generator: 0.0).test(0)


def test_the_value_is_a_float_of_python():
    assert type(Estimate(np.float64(0.5), 0.1).value) is float


@pytest.mark.parametrize("number", [0, True])
def test_numbers_of_shuffles_are_checked(number):
    estimate = Estimate(1.0, shuffled=lambda generator: 0.0)
    with pytest.raises(ValueError, match="test: n_resamples must be an integer of at least 1"):
        estimate.test(number)
    with pytest.raises(ValueError, match="test: stop_after must be an integer of at least 1"):
        estimate.test(9, stop_after=number)


@pytest.mark.parametrize("rng", ["a", 1.5, -1, True, np.random.RandomState(0)])
def test_seeds_that_are_none(rng):
    with pytest.raises(TypeError, match=r"f: rng must be a non-negative integer, a numpy\.random\.Generator or None"):
        generator_of("f", rng)


def test_a_generator_goes_on_and_a_seed_starts_anew():
    generator = np.random.default_rng(3)
    assert generator_of("f", generator) is generator
    assert generator_of("f", np.int64(3)).random() == generator_of("f", 3).random() == generator.random()


def test_one_shuffle_has_no_spread():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Estimate(1.0, shuffled=lambda generator: 0.0).test(1)
    assert math.isnan(result.null_std)
    assert result.pvalue == 0.5
