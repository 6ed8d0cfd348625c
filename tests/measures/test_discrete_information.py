import math
from collections import Counter
from itertools import combinations

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures.counts import FREE
from isentrope.measures.discrete import discrete_entropy
from isentrope.measures.discrete_information import (
    _possible_responses,
    discrete_conditional_entropy,
    discrete_conditional_mutual_information,
    discrete_dual_total_correlation,
    discrete_interaction_information,
    discrete_joint_entropy,
    discrete_mutual_information,
    discrete_o_information,
    discrete_s_information,
    discrete_total_correlation,
    discrete_transfer_entropy,
    discrete_tse_complexity,
)

MANY = {
    "total": discrete_total_correlation,
    "dual": discrete_dual_total_correlation,
    "o": discrete_o_information,
    "s": discrete_s_information,
    "interaction": discrete_interaction_information,
    "tse": discrete_tse_complexity,
}
tables = st.integers(2, 4).flatmap(
    lambda d: st.lists(st.tuples(*[st.integers(0, 2)] * d), min_size=2, max_size=40).map(np.array)
)


def bits(function, variables, **options):
    return function(variables, method="plugin", base=2, **options).value


def parity(d):
    """All values of d - 1 bits and their parity, each once."""
    free = np.array(np.meshgrid(*[[0, 1]] * (d - 1))).reshape(d - 1, -1)
    return [*free, free.sum(axis=0) % 2]


COPIES = {d: [np.array([0, 1])] * d for d in (3, 5)}


@pytest.mark.parametrize(
    ("variables", "name", "expected"),
    [
        (parity(3), "total", 1),
        (parity(3), "dual", 2),
        (parity(3), "o", -1),
        (parity(3), "s", 3),
        (parity(3), "interaction", -1),
        (parity(3), "tse", 1),
        (parity(4), "tse", 1.5),
        (COPIES[3], "tse", 1),
        (parity(4), "total", 1),
        (parity(4), "dual", 3),
        (parity(4), "o", -2),
        (parity(5), "o", -3),
        (COPIES[3], "total", 2),
        (COPIES[3], "dual", 1),
        (COPIES[3], "o", 1),
        (COPIES[3], "interaction", 1),
        (COPIES[5], "o", 3),
    ],
)
def test_parity_and_copies(variables, name, expected):
    assert bits(MANY[name], variables) == pytest.approx(expected, abs=1e-12)


def test_shannon_measures_cannot_tell_dyadic_from_triadic():
    # James and Crutchfield (arXiv 1609.01233): pairs of bits, shared by two each, or one by all and a parity beside it.
    shared = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1)
    a, b, c = shared
    dyadic = [np.stack(pair, axis=1) for pair in ((a, b), (b, c), (c, a))]
    triadic = [np.stack(pair, axis=1) for pair in ((a, b), (a, c), (a, b ^ c))]
    for variables in (dyadic, triadic):
        assert bits(discrete_total_correlation, variables) == pytest.approx(3)
        assert bits(discrete_dual_total_correlation, variables) == pytest.approx(3)
        assert bits(discrete_o_information, variables) == pytest.approx(0, abs=1e-12)
        assert bits(discrete_tse_complexity, variables) == pytest.approx(2)


def slow_entropy(rows, columns):
    counts = Counter(tuple(row[list(columns)]) for row in rows)
    n = sum(counts.values())
    return -sum(c / n * math.log(c / n) for c in counts.values())


@settings(max_examples=30)
@given(tables)
def test_sums_of_entropies(rows):
    d = rows.shape[1]
    everything = tuple(range(d))

    def h(*columns):
        return slow_entropy(rows, columns)

    single = sum(h(i) for i in everything)
    others = sum(h(*(j for j in everything if j != i)) for i in everything)
    whole = h(*everything)
    expected = {
        "total": single - whole,
        "dual": others - (d - 1) * whole,
        "o": (d - 2) * whole + single - others,
        "s": single + others - d * whole,
        "interaction": sum(
            (-1) ** (size + 1) * h(*subset) for size in range(1, d + 1) for subset in combinations(everything, size)
        ),
        # Half the mean information between a part and the rest, of parts of each size.
        "tse": sum(
            np.mean([h(*part) + h(*(set(everything) - set(part))) - whole for part in combinations(everything, size)])
            for size in range(1, d)
        )
        / 2,
    }
    for name, function in MANY.items():
        assert function(rows, method="plugin").value == pytest.approx(expected[name], abs=1e-12)
    assert discrete_joint_entropy(rows, method="plugin").value == pytest.approx(whole, abs=1e-12)
    assert discrete_conditional_entropy(rows[:, 0], rows[:, 1:], method="plugin").value == pytest.approx(
        whole - h(*everything[1:]), abs=1e-12
    )


@settings(max_examples=30)
@given(tables, st.sampled_from(sorted(FREE)))
def test_chain_rule_holds_for_every_method(rows, method):
    # I(X; Y,Z) = I(X;Z) + I(X;Y|Z): the bias corrections are of entropies over the same samples.
    x, y, z = rows[:, 0], rows[:, 1], rows[:, -1]
    joint = discrete_mutual_information(x, (y, z), method=method).value
    parts = (
        discrete_mutual_information(x, z, method=method).value
        + discrete_conditional_mutual_information(x, y, z, method=method).value
    )
    assert joint == pytest.approx(parts, abs=1e-9)
    assert discrete_mutual_information(y, x, method=method).value == pytest.approx(
        discrete_mutual_information(x, y, method=method).value, abs=1e-12
    )


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=3, max_size=40), st.sampled_from(sorted(FREE))
)
def test_standard_error_is_the_jackknife(pairs, method):
    x, y = np.array(pairs).T
    if method == "quadratic_extrapolation" or method.startswith("grassberger"):
        return  # They take the jackknife of the plug-in and of Zhang's.
    without = [
        discrete_mutual_information(np.delete(x, i), np.delete(y, i), method=method).value for i in range(len(x))
    ]
    expected = math.sqrt((len(x) - 1) * np.var(without))
    assert discrete_mutual_information(x, y, method=method).stderr == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("method", [*FREE, "panzeri_treves"])
def test_a_constant_informs_of_nothing(method):
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 7, 300), rng.integers(0, 3, 300)
    estimate = discrete_mutual_information(np.zeros(300, int), y, method=method)
    assert (estimate.value, estimate.stderr) == (0, 0)
    assert estimate.test(19, rng=0).pvalue == 1
    if method in FREE:
        assert discrete_conditional_mutual_information("a" * 300, y, z, method=method).value == 0
        assert discrete_transfer_entropy("a" * 300, y, method=method).value == 0


def test_kinds_of_variables_agree():
    rng = np.random.default_rng(1)
    a, b, y = rng.integers(0, 3, (3, 200))
    expected = discrete_mutual_information(a * 3 + b, y)
    columns = np.stack([a, b], axis=1)
    frame = pandas.DataFrame({"a": a.astype(str), "b": b})
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    for x in (columns, (a, b), (a.tolist(), b.tolist()), frame, pairs, columns.tolist()):
        estimate = discrete_mutual_information(x, pandas.Series(y))
        assert (estimate.value, estimate.stderr) == (expected.value, expected.stderr)
    for variables in (np.stack([a, b, y], axis=1), [a, b, y], (a, b, y), frame.assign(y=y)):
        assert discrete_o_information(variables).value == pytest.approx(discrete_o_information([a, b, y]).value)
    joint = discrete_joint_entropy([a, b])
    assert joint.value == discrete_entropy(pairs).value


def test_local_values_average_to_the_estimate():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 3, 500)
    y = (x + rng.integers(0, 2, 500)) % 3
    for method in ("plugin", "miller_madow", "chao_wang_jost", "panzeri_treves"):
        estimate = discrete_mutual_information(x, y, method=method, base=2, local=True)
        assert estimate.local is not None
        assert float(np.mean(estimate.local)) == pytest.approx(estimate.value)
    plain = discrete_mutual_information(x, y, method="plugin", local=True)
    i = 17
    p_x, p_y, p_xy = np.mean(x == x[i]), np.mean(y == y[i]), np.mean((x == x[i]) & (y == y[i]))
    assert plain.local is not None
    assert plain.local[i] == pytest.approx(math.log(p_xy / (p_x * p_y)))
    assert discrete_mutual_information(x, y).local is None


def test_miller_madow_and_panzeri_treves_take_away_the_bias():
    # Independent variables of 5 and 8 values, 200 samples: the plug-in gives (5-1)(8-1)/(2 n) = 0.07 nat of nothing.
    rng = np.random.default_rng(3)
    draws = [(rng.integers(0, 5, 200), rng.integers(0, 8, 200)) for _ in range(150)]
    mean = {
        m: float(np.mean([discrete_mutual_information(x, y, method=m).value for x, y in draws]))
        for m in ("plugin", "miller_madow", "panzeri_treves")
    }
    assert mean["plugin"] == pytest.approx(0.07, abs=0.01)
    assert abs(mean["miller_madow"]) < 0.006
    assert abs(mean["panzeri_treves"]) < 0.006


def test_possible_responses():
    # Many samples of each value: nothing is hidden. Few: more values, but never more than there are.
    assert _possible_responses(np.array([50, 60, 70]), 10) == 3
    few = _possible_responses(np.array([2, 1, 1, 1]), 30)
    assert 4 < few < 30
    assert _possible_responses(np.array([2, 1, 1, 1]), 5) == 5


def slow_possible_responses(counts, most):
    """Panzeri and Treves' count by its description: add values one by one while the expected number seen comes nearer."""
    n, seen = sum(counts), len(counts)
    best = None
    for extra in range(most - seen + 1):
        share = 1 - (n / (n + seen)) ** (1 / n)
        p = [c / n for c in counts]
        if extra:
            p = [(1 - extra * share) * (c + 1) / (n + seen) for c in counts] + [share] * extra
        distance = abs(seen - sum(1 - (1 - q) ** n for q in p))
        if best is not None and distance >= best:
            return seen + extra - 1
        best = distance
    return most


def test_panzeri_and_treves_correction_is_the_count_of_possible_responses():
    rng = np.random.default_rng(11)
    for n, responses in ((40, 12), (300, 9), (25, 20)):
        x = rng.integers(0, 3, n)
        y = (rng.geometric(0.2 + 0.2 * x) - 1) % responses
        rows = [np.bincount(y[x == value]) for value in range(3)]
        rows = [row[row > 0].tolist() for row in rows]
        occurring = len(set(y.tolist()))
        possible = [slow_possible_responses(row, occurring) for row in rows]
        bias = (sum(r - 1 for r in possible) - (occurring - 1)) / (2 * n)
        expected = discrete_mutual_information(x, y, method="plugin") - bias
        assert discrete_mutual_information(x, y, method="panzeri_treves") == pytest.approx(expected, abs=1e-12)
    assert any(len(row) < r for row, r in zip(rows, possible, strict=True))


def test_binary_channel_transfers_what_it_should():
    # y_t is x_{t-2} flipped with probability 0.1: ln 2 - h(0.1), and nothing the other way round.
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2, 20_000)
    flipped = rng.random(20_000) < 0.1
    y = np.concatenate([[0, 0], x[:-2]]) ^ flipped
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    for options in ({"lag": 2}, {"source_history": 2}, {"lag": 2, "target_history": 2}):
        estimate = discrete_transfer_entropy(x, y, **options)
        assert abs(estimate - truth) < 4 * estimate.stderr
        assert estimate.stderr < 0.01
    assert abs(discrete_transfer_entropy(x, y)) < 1e-3
    assert abs(discrete_transfer_entropy(y, x, lag=2)) < 1e-3
    assert estimate.n == 20_000 - 2


def test_transfer_entropy_is_a_conditional_information_of_lagged_values():
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 2, (2, 60))
    expected = discrete_conditional_mutual_information(
        (x[1:-2], x[:-3]), y[3:], (y[2:-1], y[1:-2], y[:-3]), method="plugin"
    )
    estimate = discrete_transfer_entropy(x, y, lag=2, source_history=2, target_history=3, method="plugin")
    assert estimate.value == pytest.approx(expected.value, abs=1e-12)


def test_histories_too_long_for_the_samples_are_told():
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 2, (2, 300))
    assert "too few samples" in discrete_transfer_entropy(x, y, source_history=5, target_history=5).note
    assert discrete_transfer_entropy(x, y).note == ""


def test_tests_tell_dependence_from_none():
    rng = np.random.default_rng(7)
    x, y, z = rng.integers(0, 3, (3, 200))
    related = np.where(rng.random(200) < 0.3, x, y)
    assert discrete_mutual_information(x, related).test(99, rng=0).pvalue == 0.01
    assert discrete_mutual_information(x, y).test(99, rng=0).pvalue > 0.05
    assert discrete_total_correlation([x, y, related]).test(99, rng=0).pvalue == 0.01
    # x and y are both read from z: dependent, but not where z is known.
    noisy = [np.where(rng.random(200) < 0.6, z, rng.integers(0, 3, 200)) for _ in range(2)]
    assert discrete_mutual_information(*noisy).test(99, rng=0).pvalue == 0.01
    assert discrete_conditional_mutual_information(*noisy, z).test(99, rng=0).pvalue > 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discrete_mutual_information([1, 2], [1, 2, 3]), "x has 2, y has 3"),
        (lambda: discrete_mutual_information([], []), "x: there are no samples"),
        (lambda: discrete_mutual_information([1.0, math.nan], [1, 2]), "x: 1 of 2 samples are missing"),
        (lambda: discrete_mutual_information([1, 2], [1, 2], method="nsb"), "method must be one of plugin"),
        (lambda: discrete_mutual_information([1, 2], [1, 2], base=1), "base must be positive"),
        (lambda: discrete_total_correlation([[1, 2]]), "at least 2 variables"),
        (lambda: discrete_total_correlation(np.zeros(3)), r"got shape \(3,\)"),
        (lambda: discrete_interaction_information(np.zeros((4, 13), int)), "at most 12 variables"),
        (lambda: discrete_transfer_entropy("ab", "ab", lag=2), "more than 2 are needed"),
        (lambda: discrete_transfer_entropy("ab", "ab", target_history=0), "target_history must be an integer"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_intervals_cover():
    rng = np.random.default_rng(8)
    p = np.array([[0.2, 0.05, 0.05], [0.05, 0.25, 0.05], [0.02, 0.03, 0.3]])
    truth = float(np.sum(p * np.log(p / p.sum(0) / p.sum(1, keepdims=True))))
    covered = []
    for _ in range(400):
        cells = rng.choice(9, p=p.ravel(), size=300)
        low, high = discrete_mutual_information(cells // 3, cells % 3).interval()
        covered.append(low < truth < high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize(("n", "method"), [(800, "chao_wang_jost"), (40_000, "miller_madow")])
def test_by_default_independent_variables_share_nothing_however_few_samples_there_are(n, method):
    """Thirty values each: Miller and Madow's correction leaves 0.31 nat at 800 samples."""
    rng = np.random.default_rng(1)
    found = [discrete_mutual_information(*rng.integers(0, 30, (2, n))) for _ in range(20)]
    assert {estimate.method for estimate in found} == {method}
    assert abs(np.mean(found)) < 4 * np.std(found, ddof=1) / np.sqrt(20) + 1e-3


def test_what_is_known_already_informs_of_exactly_nothing():
    # I(X;Y|X) = H(X) + H(X,Y) - H(X) - H(X,Y), which floats added in this order do not make 0.
    for seed in range(20):
        x, y = np.random.default_rng(seed).integers(0, 7, (2, 90))
        for method in ("plugin", "miller_madow", "grassberger"):
            assert discrete_conditional_mutual_information(x, y, x, method=method).value == 0


def test_shuffled_data_are_corrected_as_the_estimate_is():
    rng = np.random.default_rng(9)
    x, y = rng.integers(0, 5, 200), rng.integers(0, 8, 200)
    # The plug-in would give (5-1)(8-1)/(2 n) = 0.07 nat of nothing.
    nats = discrete_mutual_information(x, y, method="panzeri_treves").test(99, rng=0)
    assert abs(nats.null_mean) < 0.01
    bits = discrete_mutual_information(x, y, method="panzeri_treves", base=2).test(99, rng=0)
    assert bits.null_mean * math.log(2) == pytest.approx(nats.null_mean)
    assert bits.pvalue == nats.pvalue


def test_every_number_is_in_its_unit():
    rng = np.random.default_rng(10)
    x, y = rng.integers(0, 5, (2, 60))
    nats, bits = (discrete_mutual_information(x, y, base=base, local=True) for base in (None, 2))
    for field in ("value", "stderr", "bias_correction"):
        assert getattr(nats, field) == pytest.approx(getattr(bits, field) * math.log(2), rel=1e-12)
    np.testing.assert_allclose(nats.local, bits.local * math.log(2), rtol=1e-12)


def test_twelve_variables_may_interact():
    assert discrete_interaction_information(np.zeros((4, 12), int)) == 0


@pytest.mark.parametrize("counts", [(2, 1, 1, 1), (5, 1), (3, 3, 2, 1, 1), (1, 1, 1), (9, 4, 1, 1), (2, 8), (2, 5, 13)])
def test_possible_responses_make_the_expected_number_seen_the_observed(counts):
    counts = np.array(counts)
    n, seen = counts.sum(), len(counts)
    each = 1 - (n / (n + seen)) ** (1 / n)  # of a value that was not seen
    missed = []
    for extra in range(40):
        p = (1 - extra * each) * (counts + 1) / (n + seen) if extra else counts / n
        missed.append(abs(seen - np.sum(1 - (1 - p) ** n) - extra * (1 - (1 - each) ** n)))
    assert _possible_responses(counts, seen + 39) == seen + int(np.argmin(missed))


@pytest.mark.parametrize(("shape", "freedom"), [((2, 2), 1), ((2, 3), 2), ((4, 5), 12)])
def test_a_table_without_any_dependence_still_has_an_error(shape, freedom):
    """Its jackknife is 0; 2n times the plug-in has the variance of a chi-squared, two times its degrees of freedom."""
    x, y = np.meshgrid(*map(np.arange, shape))
    x, y = (np.tile(values.ravel(), 30) for values in (x, y))
    found = discrete_mutual_information(x, y, method="plugin")
    assert found == pytest.approx(0, abs=1e-12)
    assert found.stderr == pytest.approx((2 * freedom) ** 0.5 / (2 * len(x)))
