import math
from collections import Counter

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures import block_entropy, conditional_block_entropy, differential_entropy, discrete_entropy
from isentrope.measures.discrete import _batch_variance

METHODS = (
    "plugin",
    "miller_madow",
    "grassberger",
    "grassberger_1988",
    "zhang",
    "chao_shen",
    "chao_wang_jost",
    "quadratic_extrapolation",
)
counts_lists = st.lists(st.integers(1, 50), min_size=1, max_size=30)


# Values worked out from the formulas by independent programs, in nats.
@pytest.mark.parametrize(
    ("counts", "method", "expected"),
    [
        ((10, 5, 3, 1, 1), "plugin", 1.277288),
        ((10, 5, 3, 1, 1), "miller_madow", 1.377288),
        ((10, 5, 3, 1, 1), "grassberger", 1.512127),
        ((10, 5, 3, 1, 1), "chao_shen", 1.446832),
        ((2, 2, 1, 1, 1), "plugin", 1.549826),
        ((2, 2, 1, 1, 1), "miller_madow", 1.835540),
        ((4, 2, 3, 2, 4, 2, 1, 1), "grassberger", 2.144626),
        ((4, 2, 3, 2, 4, 2, 1, 1), "chao_shen", 2.201137),
    ],
)
def test_known_values(counts, method, expected):
    assert discrete_entropy(counts=counts, method=method).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["auto", "chao_shen", "chao_wang_jost"])
def test_no_standard_error_where_no_value_recurs(method):
    assert math.isnan(discrete_entropy(counts=[1] * 30, method=method).stderr)
    assert discrete_entropy(counts=[1] * 30 + [2], method=method).stderr > 0


def test_grassberger_function_follows_its_recursion():
    # With two values that occur n times each the estimate is ln 2n - G(n); G(1) = -gamma - ln 2, and
    # G(2n+2) = G(2n) + 2/(2n+1).
    expected = -np.euler_gamma - math.log(2)
    for n in range(1, 40):
        if n > 1 and n % 2 == 0:
            expected += 2 / (n - 1)
        estimate = discrete_entropy(counts=[n, n], method="grassberger")
        assert estimate.value == pytest.approx(math.log(2 * n) - expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_value_has_exactly_no_entropy(method):
    # Of these counts, ln n - G(n) is -0.04, 0.37 and -2e-12 nat, and ln n - (n ln n)/n is not always 0 in floats.
    for n in (2, 3, 295_904, *range(4, 200)):
        estimate = discrete_entropy(counts=[n], method=method)
        assert (estimate.value, estimate.stderr, estimate.bias_correction) == (0, 0, 0)
    assert conditional_block_entropy("a" * 3001, 2, method=method).value == 0


@given(counts_lists)
def test_plugin_is_the_definition(counts):
    n = sum(counts)
    slow = -sum(c / n * math.log(c / n) for c in counts)
    assert discrete_entropy(counts=counts, method="plugin").value == pytest.approx(slow, abs=1e-12)


@given(counts_lists, st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_order_of_samples_and_names_of_values_do_not_matter(counts, method, random):
    samples = [index for index, count in enumerate(counts) for _ in range(count)]
    random.shuffle(samples)
    names = [f"value {sample}" for sample in samples]
    estimates = [
        discrete_entropy(samples, method=method),
        discrete_entropy(np.array(samples) * 10**9 - 7, method=method),
        discrete_entropy(names, method=method),
        discrete_entropy(np.array(names), method=method),
        discrete_entropy([(sample, "pair") for sample in samples], method=method),
        discrete_entropy(counts=[0, *counts, 0], method=method),
    ]
    for estimate in estimates:
        assert estimate.value == pytest.approx(estimates[0].value, abs=1e-12)
        assert estimate.stderr == pytest.approx(estimates[0].stderr, abs=1e-12, nan_ok=True)
        assert estimate.n == len(samples)


@given(counts_lists, st.sampled_from(METHODS))
def test_bits_are_nats_over_ln_2(counts, method):
    nats, bits = (discrete_entropy(counts=counts, method=method, base=base) for base in (None, 2))
    assert bits.unit == "bit"
    assert bits.value * math.log(2) == pytest.approx(nats.value)
    assert bits.stderr * math.log(2) == pytest.approx(nats.stderr, nan_ok=True)
    assert bits.bias_correction * math.log(2) == pytest.approx(nats.bias_correction)


@given(counts_lists, st.sampled_from(METHODS))
def test_bias_correction_is_the_difference_from_the_plugin(counts, method):
    estimate = discrete_entropy(counts=counts, method=method)
    plugin = discrete_entropy(counts=counts, method="plugin")
    assert estimate.value - estimate.bias_correction == pytest.approx(plugin.value)


def test_methods_reduce_the_bias_where_samples_are_few():
    # Means over 400 draws of 100 samples from the uniform law on 100 values, whose entropy is ln 100. Published orders
    # of the bias at this size: plug-in -0.56, Miller-Madow -0.25, Grassberger -0.04, Chao-Shen +0.08.
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 100, size=100) for _ in range(400)]
    bias = {m: np.mean([discrete_entropy(d, method=m).value for d in draws]) - math.log(100) for m in METHODS}
    assert bias["plugin"] == pytest.approx(-0.563, abs=0.015)
    assert bias["miller_madow"] == pytest.approx(-0.250, abs=0.015)
    assert bias["grassberger"] == pytest.approx(-0.035, abs=0.02)
    assert bias["grassberger_1988"] == pytest.approx(-0.070, abs=0.02)
    assert bias["zhang"] == pytest.approx(-0.211, abs=0.015)
    assert bias["chao_shen"] == pytest.approx(0.076, abs=0.03)
    assert bias["chao_wang_jost"] == pytest.approx(0.017, abs=0.03)


def spread_and_standard_error(p, n):
    rng = np.random.default_rng(1)
    estimates = [discrete_entropy(counts=rng.multinomial(n, p), method="miller_madow") for _ in range(2000)]
    return np.std(estimates), np.sqrt(np.mean([e.stderr**2 for e in estimates]))


@pytest.mark.parametrize("p", [(0.5, 0.25, 0.125, 0.125), (0.9, 0.05, 0.05)])
def test_standard_error_is_the_spread_of_the_estimates(p):
    spread, stated = spread_and_standard_error(p, 400)
    assert stated == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize(("distinct", "n"), [(4, 400), (100, 400), (100, 100)])
def test_standard_error_of_a_uniform_law_is_on_the_safe_side(distinct, n):
    # It has no first-order variance, so all of the spread is of second order.
    spread, stated = spread_and_standard_error(np.full(distinct, 1 / distinct), n)
    assert spread < stated < 2 * spread


def test_confidence_interval_covers():
    rng = np.random.default_rng(2)
    p = np.array([0.4, 0.3, 0.2, 0.1])
    true = float(-(p * np.log(p)).sum())
    intervals = [discrete_entropy(counts=rng.multinomial(300, p)).interval() for _ in range(1000)]
    covered = np.mean([low < true < high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=0.025)


def test_note_tells_coverage():
    assert "coverage 0.00" in discrete_entropy("abcdefg").note
    assert discrete_entropy("ab" * 100).note == ""


def test_kinds_of_samples_agree():
    expected = discrete_entropy([0, 1, 1, 0, 1]).value
    assert discrete_entropy([False, True, True, False, True]).value == expected
    assert discrete_entropy(np.array([False, True, True, False, True])).value == expected
    assert discrete_entropy("abbab").value == expected
    assert discrete_entropy(b"abbab").value == expected
    assert discrete_entropy([0.5, -1.5, -1.5, 0.5, -1.5]).value == expected
    assert discrete_entropy(pandas.Series(["x", "y", "y", "x", "y"])).value == expected
    assert discrete_entropy(np.array(["2020-01-01", "2021-01-01"] * 2 + ["2021-01-01"], "datetime64[D]")).n == 5
    extremes = np.array([2**64 - 1, 0, 0, 2**64 - 1, 0], dtype=np.uint64)
    assert discrete_entropy(extremes).value == expected
    lowest = np.array([-(2**63), -(2**63) + 1, -(2**63) + 1, -(2**63), -(2**63) + 1])
    assert discrete_entropy(lowest).value == expected
    top = np.array([2**63 - 1, 2**63 - 2, 2**63 - 2, 2**63 - 1, 2**63 - 2])
    assert discrete_entropy(top).value == expected


def test_mixed_types_are_not_merged():
    # As text, 1 and "1" would be one value.
    assert discrete_entropy([1, "1"], method="plugin").value == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "samples",
    [
        [1.0, math.nan, 2.0, math.nan],
        ["a", None, "b", None],
        ["a", math.nan, "b", math.nan],
        np.array([1.0, np.nan, 2.0, np.nan]),
        np.array(["a", None, "b", None], dtype=object),
        pandas.Series(["a", pandas.NA, "b", pandas.NA], dtype=object),
        np.array(["2020-01-01", "NaT", "2020-01-02", "NaT"], dtype="datetime64[D]"),
    ],
    ids=["floats", "none", "nan in text", "array", "object array", "pandas NA", "NaT"],
)
def test_missing_values_are_counted(samples):
    with pytest.raises(ValueError, match=r"2 of 4 samples are missing \(the first at index 1\)"):
        discrete_entropy(samples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either samples or counts"),
        ({"samples": [1], "counts": [1]}, "either samples or counts"),
        ({"samples": []}, "no samples"),
        ({"samples": ""}, "no samples"),
        ({"samples": np.zeros((2, 3))}, r"one dimension \(got shape \(2, 3\)\)"),
        ({"counts": [3, -1]}, "got -1 at index 1"),
        ({"counts": [3, 0.5]}, "got 0.5 at index 1"),
        ({"counts": [3, math.nan]}, "got nan at index 1"),
        ({"counts": [0, 0]}, "sum to zero"),
        ({"counts": [[1, 2]]}, r"one dimension \(got shape \(1, 2\)\)"),
        ({"counts": [1, 2], "method": "best"}, "method must be one of auto, plugin, miller_madow"),
        ({"counts": [1, 2], "base": 1}, "base must be positive and different from 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        discrete_entropy(**arguments)


def test_unhashable_samples_are_explained():
    with pytest.raises(TypeError, match="hashable"):
        discrete_entropy([{"a": 1}, {"b": 2}])


# Blocks


def slow_block_entropy(sequence, order):
    counts = Counter(tuple(sequence[i : i + order]) for i in range(len(sequence) - order + 1))
    n = sum(counts.values())
    return -sum(c / n * math.log(c / n) for c in counts.values())


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(1, 6))
def test_block_entropy_counts_overlapping_blocks(sequence, order):
    if len(sequence) < order:
        with pytest.raises(ValueError, match="longer than the sequence"):
            block_entropy(sequence, order)
        return
    fast = block_entropy(sequence, order, method="plugin")
    assert fast.value == pytest.approx(slow_block_entropy(sequence, order), abs=1e-12)
    assert fast.n == len(sequence) - order + 1


def test_long_blocks_of_large_alphabets_do_not_overflow():
    rng = np.random.default_rng(3)
    sequence = np.tile(rng.integers(0, 2**62, size=50), 4)
    assert block_entropy(sequence, 20, method="plugin").value == pytest.approx(slow_block_entropy(sequence, 20))


@given(st.lists(st.integers(0, 2), min_size=4, max_size=60), st.integers(0, 3))
def test_conditional_entropy_is_that_of_the_next_symbol(sequence, order):
    if len(sequence) <= order:
        return
    # Independent of block entropies: the weighted mean of the entropies of the successors of each context.
    successors: dict[tuple, Counter] = {}
    for i in range(order, len(sequence)):
        successors.setdefault(tuple(sequence[i - order : i]), Counter())[sequence[i]] += 1
    n = len(sequence) - order
    slow = sum(-c / n * math.log(c / sum(s.values())) for s in successors.values() for c in s.values())
    fast = conditional_block_entropy(sequence, order, method="plugin")
    assert fast.value == pytest.approx(slow, abs=1e-12)
    assert fast.value >= 0


def markov_chain(transitions, n, seed):
    rng = np.random.default_rng(seed)
    uniform, cumulative = rng.random(n), np.cumsum(transitions, axis=1)
    states = np.zeros(n, dtype=int)
    for i in range(1, n):
        states[i] = np.searchsorted(cumulative[states[i - 1]], uniform[i])
    return states


def test_entropy_rate_of_a_markov_chain():
    transitions = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.25, 0.25, 0.5]])
    stationary = np.linalg.matrix_power(transitions, 200)[0]
    rate = float(-(stationary[:, None] * transitions * np.log(transitions)).sum())
    single = float(-(stationary * np.log(stationary)).sum())
    chain = markov_chain(transitions, 40_000, seed=4)
    for order, expected in [(0, single), (1, rate), (2, rate), (3, rate)]:
        estimate = conditional_block_entropy(chain, order)
        assert abs(estimate - expected) < 4 * estimate.stderr
        assert estimate.stderr < 0.01
    assert single - rate > 0.05


def test_standard_error_of_a_sequence_knows_its_correlation():
    # A sticky chain keeps its state for about 20 steps: far fewer independent samples than symbols.
    sticky = np.array([[0.97, 0.03], [0.07, 0.93]])
    chains = [markov_chain(sticky, 4000, seed) for seed in range(60)]
    estimates = [block_entropy(chain, 1) for chain in chains]
    spread = np.std(estimates)
    stated = np.sqrt(np.mean([e.stderr**2 for e in estimates]))
    independent = np.sqrt(np.mean([discrete_entropy(chain).stderr ** 2 for chain in chains]))
    assert stated == pytest.approx(spread, rel=0.35)
    assert independent < spread / 3


def test_fair_coin_and_golden_mean():
    rng = np.random.default_rng(5)
    coin = rng.integers(0, 2, size=50_000)
    assert conditional_block_entropy(coin, 5, base=2).value == pytest.approx(1.0, abs=0.003)
    # The golden-mean shift that follows a 0 by either symbol equally, and a 1 by 0: 2/3 bit per symbol.
    golden = markov_chain(np.array([[0.5, 0.5], [1.0, 0.0]]), 50_000, seed=6)
    estimate = conditional_block_entropy(golden, 3, base=2)
    assert abs(estimate - 2 / 3) < 4 * estimate.stderr
    assert estimate.stderr < 0.01


@pytest.mark.parametrize("order", [-1, 0.5, True, "2"])
def test_orders_that_are_none(order):
    with pytest.raises((ValueError, TypeError)):
        conditional_block_entropy("abc", order)


# Differential entropy


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda rng, n: rng.normal(3, 2, n), 0.5 * math.log(2 * math.pi * math.e * 4)),
        (lambda rng, n: rng.exponential(0.1, n), 1 + math.log(0.1)),
        (lambda rng, n: rng.laplace(0, 5, n), 1 + math.log(10)),
        (lambda rng, n: rng.logistic(0, 1, n), 2.0),
    ],
    ids=["normal", "exponential", "laplace", "logistic"],
)
def test_differential_entropy_of_known_laws(draw, expected):
    samples = draw(np.random.default_rng(7), 20_000)
    estimate = differential_entropy(samples)
    assert abs(estimate - expected) < 3 * estimate.stderr + 0.01
    assert estimate.stderr < 0.01


def test_differential_standard_error_is_the_spread():
    rng = np.random.default_rng(8)
    estimates = [differential_entropy(rng.normal(size=1000)) for _ in range(300)]
    # Var[ln f] of a Gaussian is 1/2.
    assert np.sqrt(np.mean([e.stderr**2 for e in estimates])) == pytest.approx(math.sqrt(0.5 / 1000), rel=0.05)
    assert np.std(estimates) == pytest.approx(math.sqrt(0.5 / 1000), rel=0.16)


@pytest.mark.parametrize("n", [8, 500])
def test_scaling_adds_a_logarithm_and_shifting_nothing(n):
    samples = np.random.default_rng(9).normal(size=n)
    plain, scaled = differential_entropy(samples), differential_entropy(5 - 3 * samples, base=2)
    assert scaled.value * math.log(2) == pytest.approx(plain.value + math.log(3), abs=1e-9)
    assert scaled.stderr * math.log(2) == pytest.approx(plain.stderr)


def test_a_constant_has_no_density():
    with pytest.raises(ValueError, match="all 50 samples are 2, so the differential entropy is minus infinity"):
        differential_entropy(np.full(50, 2.0))


def test_recurring_values():
    rng = np.random.default_rng(10)
    with pytest.raises(ValueError, match="take only 3 values"):
        differential_entropy(rng.integers(0, 3, size=100).astype(float))
    assert "discrete reading" in differential_entropy(np.round(rng.normal(size=2000), 2)).note
    assert differential_entropy(rng.normal(size=2000)).note == ""


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([1.0, 2.0, 3.0], ValueError, r"at least 5 samples are needed \(got 3\)"),
        ([1.0, math.nan, 3.0, math.inf, 5.0], ValueError, "2 of 5 samples are NaN or infinite"),
        (np.zeros((3, 3, 3)), ValueError, r"one or two dimensions, \[n\] or \[n, d\] \(got shape \(3, 3, 3\)\)"),
        (np.array(["1", "2", "3", "4"]), TypeError, "real numbers"),
    ],
)
def test_wrong_samples_are_explained(samples, error, message):
    with pytest.raises(error, match=message):
        differential_entropy(samples)


def test_a_coverage_of_just_the_threshold_needs_no_remark():
    assert discrete_entropy(counts=[19, 1]).note == ""
    assert "coverage 0.94" in discrete_entropy(counts=[16, 1]).note


def test_standard_error_of_a_balanced_sequence_is_of_second_order_alone():
    # Each of the two contexts is followed by either symbol 100 times, so that no local value differs from ln 2; of the four
    # blocks and two contexts (4 - 2)/(2 n^2) is left.
    estimate = conditional_block_entropy("aabb" * 100 + "a", 1)
    assert estimate.n == 400
    assert estimate.stderr == pytest.approx(1 / 400)
    assert estimate.value == pytest.approx(math.log(2) + 2 / 800)


def test_variance_of_a_mean_from_few_batches_is_unbiased():
    # Nine independent values make three batches: the mean's variance is 1/9.
    draws = np.random.default_rng(11).normal(size=(6000, 9))
    found = [_batch_variance(row) for row in draws]
    assert np.mean(found) == pytest.approx(1 / 9, abs=4 * np.std(found) / math.sqrt(6000))
    assert math.isnan(_batch_variance(np.arange(3.0)))


@pytest.mark.parametrize("measure", [block_entropy, conditional_block_entropy])
def test_every_number_of_a_block_entropy_is_in_its_unit(measure):
    sequence = np.random.default_rng(12).integers(0, 3, size=200)
    nats, bits = measure(sequence, 2), measure(sequence, 2, base=2)
    for field in ("value", "stderr", "bias_correction"):
        assert getattr(nats, field) == pytest.approx(getattr(bits, field) * math.log(2), rel=1e-12)
