import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import digamma, gammaln, polygamma

from isentrope.measures import discrete_entropy
from isentrope.measures.counts import METHODS, _tail, dirichlet_moments, estimate_entropy, profile_of

counts_lists = st.lists(st.integers(1, 30), min_size=1, max_size=12)
# The counts in the README of ndd, an independent NSB program.
NDD = [12, 4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2]
BAYES = ("jeffreys", "laplace", "perks", "minimax", "nsb")


# Values worked out from the formulas by independent programs, in nats.
@pytest.mark.parametrize(
    ("counts", "method", "alphabet_size", "expected"),
    [
        ((10, 5, 3, 1, 1), "grassberger_1988", None, 1.478918),
        ((10, 5, 3, 1, 1), "zhang", None, 1.387422),
        ((10, 5, 3, 1, 1), "chao_wang_jost", None, 1.422411),
        ((2, 2, 1, 1, 1), "chao_wang_jost", None, 2.069907),
        ((4, 2, 3, 2, 4, 2, 1, 1), "chao_wang_jost", None, 2.197116),
        ((10, 5, 3, 1, 1), "james_stein", 5, 1.425752),
        ((10, 5, 3, 1, 1), "james_stein", 10, 1.609933),
        ((10, 5, 3, 1, 1), "nsb", 5, 1.346327),
        ((10, 5, 3, 1, 1), "nsb", 10, 1.445171),
        ((4, 2, 3, 2, 4, 2, 1, 1), "nsb", 8, 2.002844),
        ((10, 5, 3, 1, 1), "jeffreys", 5, 1.350554),
    ],
)
def test_known_values(counts, method, alphabet_size, expected):
    estimate = discrete_entropy(counts=counts, method=method, alphabet_size=alphabet_size)
    assert estimate.value == pytest.approx(expected, abs=1e-6)


# A thousand samples of Zipf's law on a thousand values, at which several programs were compared, in nats. Where they name
# an alphabet, pyitlib and infomeasure take the values seen for it.
ZIPF = 1 / np.arange(1, 1001) / np.sum(1 / np.arange(1, 1001))
FEW = np.random.default_rng(2).choice(1000, size=1000, p=ZIPF)
SEEN = len(np.unique(FEW))


@pytest.mark.parametrize(
    ("method", "alphabet_size", "expected"),
    [
        ("plugin", None, 4.782851),
        ("miller_madow", None, 4.952351),
        ("zhang", None, 4.972815),
        ("grassberger_1988", None, 5.072792),
        ("grassberger", None, 5.106244),
        ("chao_shen", None, 5.149251),
        ("chao_wang_jost", None, 5.195953),
        ("james_stein", SEEN, 4.844098),
        ("perks", SEEN, 4.784522),
        ("minimax", SEEN, 4.833570),
        ("jeffreys", 1000, 5.865484),
        ("nsb", 1000, 5.179825),
    ],
)
def test_values_on_which_other_packages_agree(method, alphabet_size, expected):
    estimate = discrete_entropy(FEW, method=method, alphabet_size=alphabet_size)
    assert estimate.value == pytest.approx(expected, abs=1e-6)


def test_an_alphabet_is_not_what_was_seen_as_for_infomeasures_shrinkage():
    assert discrete_entropy(FEW, method="james_stein", alphabet_size=1000) > 4.95
    with pytest.raises(ValueError, match="needs alphabet_size"):
        discrete_entropy(FEW, method="james_stein")


@pytest.mark.parametrize(
    ("law", "truth", "biases"),
    [
        (
            np.ones(100),
            4.6052,
            {"plugin": -0.563, "miller_madow": -0.25, "zhang": -0.211, "grassberger_1988": -0.07, "grassberger": -0.035}
            | {"chao_wang_jost": 0.017, "chao_shen": 0.076, "james_stein": -0.003},
        ),
        (
            1 / np.arange(1, 101),
            3.6808,
            {"plugin": -0.452, "miller_madow": -0.249, "grassberger": -0.083, "chao_shen": -0.048}
            | {"chao_wang_jost": -0.011, "james_stein": 0.0},
        ),
    ],
    ids=["uniform", "Zipf"],
)
def test_biases_of_a_hundred_samples_of_a_hundred_values(law, truth, biases):
    # Each known from 200 draws, as here: the errors of both means count.
    p = law / law.sum()
    assert -float(p @ np.log(p)) == pytest.approx(truth, abs=5e-5)
    rng = np.random.default_rng(0)
    draws = [rng.multinomial(100, p) for _ in range(200)]
    for method, bias in biases.items():
        found = np.array([discrete_entropy(counts=draw, method=method, alphabet_size=100).value for draw in draws])
        assert abs(found.mean() - truth - bias) < 3 * found.std() * math.sqrt(2 / 200) + 5e-4, method


@pytest.mark.parametrize(
    ("method", "pseudocount"), [("jeffreys", 0.5), ("laplace", 1), ("perks", 1 / 7), ("minimax", math.sqrt(20) / 7)]
)
def test_pseudocounts_are_added_to_every_possible_value(method, pseudocount):
    p = (np.array([10, 5, 3, 1, 1, 0, 0]) + pseudocount) / (20 + 7 * pseudocount)
    estimate = discrete_entropy(counts=[10, 5, 3, 1, 1], method=method, alphabet_size=7)
    assert estimate.value == pytest.approx(-float(p @ np.log(p)), abs=1e-12)


@pytest.mark.parametrize(("counts", "alphabet_size"), [([1], 4), ([3, 3, 3], 3), ([1, 1], 2)])
def test_shrinkage_goes_all_the_way_where_nothing_is_known_or_nothing_is_to_do(counts, alphabet_size):
    estimate = discrete_entropy(counts=counts, method="james_stein", alphabet_size=alphabet_size)
    assert estimate.value == pytest.approx(math.log(alphabet_size), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_coverage_where_every_value_was_seen_once(n):
    # As if one of them had been seen twice: C = 1/n, and n values of the probability 1/n^2.
    expected = n * -(math.log(1 / n**2) / n**2) / (1 - (1 - 1 / n**2) ** n)
    assert discrete_entropy(counts=[1] * n, method="chao_shen").value == pytest.approx(expected, rel=1e-12)
    # Without doubletons A = 2 / ((n - 1)^2 + 2), and Zhang's term is psi(n) - psi(1).
    rare = 2 / ((n - 1) ** 2 + 2)
    series = -math.log(rare) - sum((1 - rare) ** r / r for r in range(1, n))
    expected = digamma(n) + np.euler_gamma + (1 - rare) ** (1 - n) * series
    assert discrete_entropy(counts=[1] * n, method="chao_wang_jost").value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("counts", [[5, 3, 1], [2 * 10**6, 1]])
def test_one_value_seen_once_and_none_twice_are_no_sign_of_others(counts):
    # A = 1, so that nothing is added to Zhang's.
    found = [discrete_entropy(counts=counts, method=method).value for method in ("chao_wang_jost", "zhang")]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_nsb_agrees_with_ndd():
    assert discrete_entropy(counts=NDD, method="nsb", alphabet_size=100).value == pytest.approx(
        2.840012048914245, abs=1e-9
    )
    # Without the first of them; ndd prints 2.806092, five millionths below the integral by adaptive quadrature.
    assert discrete_entropy(counts=NDD[1:], method="nsb", alphabet_size=100).value == pytest.approx(2.8060969, abs=1e-7)


def test_nsb_is_not_infomeasures():
    # That package gives 0.7915 bit and 1.452646 nat: it weighs each likelihood by its count, integrates the pseudocount over
    # the range of the entropy, and leaves empty values out.
    assert discrete_entropy(counts=[2, 1], method="nsb", alphabet_size=2, base=2).value == pytest.approx(
        0.8497, abs=5e-5
    )
    assert discrete_entropy([1, 2, 3, 4, 5, 1, 2], method="nsb", alphabet_size=5).value == pytest.approx(
        1.505043, abs=1e-6
    )


def test_dirichlet_counts_values_never_seen_unlike_infomeasures():
    # Counts 2, 2, 0 under Laplace's prior: 3/7, 3/7, 1/7. That package leaves the empty value out and gives 1.04776 bit.
    expected = -(6 / 7 * math.log2(3 / 7) + 1 / 7 * math.log2(1 / 7))
    estimate = discrete_entropy(counts=[2, 2, 0], method="laplace", alphabet_size=3, base=2)
    assert estimate.value == pytest.approx(expected) == pytest.approx(1.44882, abs=1e-5)


def test_grassberger_1988_corrects_each_sample_not_each_value():
    # For a Poisson count of mean z, n phi(n) must average z ln z: with (-1)^n/(n(n+1)) for each sample it does up to
    # 0.0051 at z = 3; with the often copied (-1)^n/(n+1) it misses by 0.0258.
    z = 3.0
    n = np.arange(1, 80)
    poisson = np.exp(n * math.log(z) - z - gammaln(n + 1))
    with_two_values = [discrete_entropy(counts=[m, m], method="grassberger_1988").value for m in n]
    phi = np.log(2 * n) - np.array(with_two_values)
    assert float(poisson @ (n * phi)) - z * math.log(z) == pytest.approx(0.0051, abs=1e-4)


@pytest.mark.parametrize("n", [3, 5, 8, 40])
@pytest.mark.parametrize("rare", [0.01, 0.3, 0.9])
def test_chao_wang_jost_sums_its_series(n, rare):
    # -ln A is the whole series, so that the rest of it remains.
    rest = math.fsum((1 - rare) ** (r + 1 - n) / r for r in range(n, n + 5000))
    assert _tail(rare, n) == pytest.approx(rest, rel=1e-12)


def test_chao_wang_jost_does_not_overflow():
    # A million samples, half of them of values seen once: (1-A)^(1-n) is beyond floats where A is not tiny.
    counts = np.concatenate([np.ones(500_000, int), np.full(100_000, 5)])
    value = discrete_entropy(counts=counts, method="chao_wang_jost").value
    assert math.log(600_000) < value < 20


@given(counts_lists.filter(lambda counts: sum(counts) >= 8))
def test_quadratic_extrapolation_averages_all_subsamples(counts):
    counts = counts[:3]
    counts = [min(c, 4) for c in counts]
    n = sum(counts)
    if n < 4 or len(counts) == 1:
        return
    samples = [value for value, c in enumerate(counts) for _ in range(c)]

    def plugin(chosen):
        frequencies = np.bincount(chosen) / len(chosen)
        frequencies = frequencies[frequencies > 0]
        return -float(frequencies @ np.log(frequencies))

    lengths = [n, n // 2, n // 4]
    means = [np.mean([plugin(chosen) for chosen in combinations(samples, length)]) for length in lengths]
    expected = np.polyfit(1 / np.array(lengths), means, 2)[-1]
    value = discrete_entropy(counts=counts, method="quadratic_extrapolation").value
    assert value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("counts", "alphabet_size"), [((3, 1), 4), ((7, 2, 1), 3)])
@pytest.mark.parametrize("pseudocount", [0.2, 1.0, 5.0])
def test_dirichlet_moments_by_drawing_from_the_posterior(counts, alphabet_size, pseudocount):
    alpha = np.array([*counts, *[0] * (alphabet_size - len(counts))]) + pseudocount
    p = np.random.default_rng(0).dirichlet(alpha, size=200_000)
    entropies = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
    mean, variance = dirichlet_moments(profile_of(np.array(counts)), alphabet_size, np.array([pseudocount]))
    assert mean[0] == pytest.approx(entropies.mean(), abs=5 * entropies.std() / math.sqrt(200_000))
    assert variance[0] == pytest.approx(entropies.var(), rel=0.02)


def slow_nsb(counts, alphabet_size):
    """By adaptive quadrature over the logarithm of the pseudocount, from the definition."""
    n = np.array([*counts, *[0] * (alphabet_size - len(counts))])

    def moments(t):
        a = math.exp(t)
        total = n.sum() + alphabet_size * a
        weight = (alphabet_size * polygamma(1, alphabet_size * a + 1) - polygamma(1, a + 1)) * a
        weight *= math.exp(
            gammaln(alphabet_size * a) - gammaln(total) + np.sum(gammaln(n + a) - gammaln(a)) - reference
        )
        return weight, weight * (digamma(total + 1) - np.sum((n + a) / total * digamma(n + a + 1)))

    reference = gammaln(alphabet_size) - gammaln(n.sum() + alphabet_size) + np.sum(gammaln(n + 1))
    points = np.linspace(-25, 20, 3001)
    weights, values = np.array([moments(t) for t in points]).T
    return float(integrate.simpson(values, x=points) / integrate.simpson(weights, x=points))


@pytest.mark.parametrize(
    ("counts", "alphabet_size"), [((10, 5, 3, 1, 1), 12), ((1, 1, 1), 20), ((40, 1), 2), ((3,), 4)]
)
def test_nsb_is_the_integral_of_its_definition(counts, alphabet_size):
    value = discrete_entropy(counts=counts, method="nsb", alphabet_size=alphabet_size).value
    assert value == pytest.approx(slow_nsb(counts, alphabet_size), abs=1e-6)


def test_the_error_of_nsb_is_its_posterior_deviation():
    # Where samples abound, that of the plug-in; where they are few, that of the mixture of Dirichlet laws, here summed over
    # its pseudocounts by the law of total variance.
    p = np.array([0.4, 0.3, 0.2, 0.1])
    found = discrete_entropy(counts=4000 * p, method="nsb", alphabet_size=4)
    assert found.stderr == pytest.approx(math.sqrt((p @ np.log(p) ** 2 - (p @ np.log(p)) ** 2) / 4000), rel=0.01)
    counts, size = np.array([3, 1]), 6
    a = np.exp(np.linspace(-20, 15, 1500))
    weight = size * polygamma(1, size * a + 1) - polygamma(1, a + 1)
    weight *= a * np.exp(gammaln(size * a) - gammaln(4 + size * a) + gammaln(3 + a) + gammaln(1 + a) - 2 * gammaln(a))
    means, variances = dirichlet_moments(profile_of(counts), size, a)
    mean = weight @ means / weight.sum()
    expected = math.sqrt(weight @ (variances + means**2) / weight.sum() - mean**2)
    assert discrete_entropy(counts=counts, method="nsb", alphabet_size=size).stderr == pytest.approx(expected, rel=1e-6)


def test_nsb_says_when_the_prior_alone_decides():
    for counts in ([1, 1, 1], [1]):
        assert "prior alone" in discrete_entropy(counts=counts, method="nsb", alphabet_size=50).note
    assert "prior alone" not in discrete_entropy(counts=[2, 1, 1], method="nsb", alphabet_size=50).note


@given(counts_lists, st.integers(0, 20), st.sampled_from(("james_stein", *BAYES)))
def test_estimates_with_an_alphabet_stay_below_its_logarithm(counts, unseen, method):
    size = len(counts) + unseen
    estimate = discrete_entropy(counts=counts, method=method, alphabet_size=size)
    assert -1e-12 <= estimate.value <= math.log(size) + 1e-9
    assert estimate.stderr >= 0 or sum(counts) == 1


@given(counts_lists.filter(lambda counts: max(counts) > 1), st.sampled_from(("chao_shen", "chao_wang_jost")))
def test_jackknife_leaves_out_each_sample(counts, method):
    counts = np.array(counts)
    n, profile = counts.sum(), profile_of(counts)
    without = []
    for value, c in enumerate(counts):
        fewer = counts.copy()
        fewer[value] -= 1
        without += [discrete_entropy(counts=fewer, method=method).value] * int(c)
    expected = math.sqrt((n - 1) * np.var(without))
    assert estimate_entropy(profile, method)[1] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "alphabet_size", "expected"),
    [
        ([500, 250, 125, 125], None, "miller_madow"),
        ([500, 250, 125, 125], 4, "miller_madow"),
        ([5, 3, 1, 1, 1], None, "chao_wang_jost"),
        ([5, 3, 1, 1, 1], 8, "chao_wang_jost"),
        ([5, 3, 1, 1, 1], 11, "chao_wang_jost"),
        ([50, 49, 1], None, "miller_madow"),
        ([49, 49, 1, 1], None, "chao_wang_jost"),
        ([5, 3, 1, 1, 1], 12, "nsb"),
    ],
)
def test_auto_chooses_by_coverage_and_alphabet(counts, alphabet_size, expected):
    chosen = discrete_entropy(counts=counts, alphabet_size=alphabet_size)
    assert chosen.method == expected
    assert chosen == discrete_entropy(counts=counts, method=expected, alphabet_size=alphabet_size)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "nsb"}, ValueError, "method 'nsb' needs alphabet_size"),
        ({"method": "james_stein"}, ValueError, "needs alphabet_size"),
        ({"alphabet_size": 2}, ValueError, r"at least the 3 values seen \(got 2\)"),
        ({"alphabet_size": True}, TypeError, "alphabet_size must be an integer"),
    ],
)
def test_alphabets_that_do_not_fit_are_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        discrete_entropy(counts=[3, 2, 1], **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["uniform", "zipf", "geometric"])
def test_least_biased_estimators_at_one_sample_a_value(law):
    weights = {"uniform": np.ones(200), "zipf": 1 / np.arange(1, 201), "geometric": 0.9 ** np.arange(200)}[law]
    p = weights / weights.sum()
    truth = -float(p @ np.log(p))
    rng = np.random.default_rng(0)
    draws = [rng.multinomial(200, p) for _ in range(200)]
    for method, narrow in (("chao_wang_jost", 0.9), ("nsb", 0.75)):
        estimates = [discrete_entropy(counts=draw, method=method, alphabet_size=200) for draw in draws]
        errors = np.array([e.value - truth for e in estimates])
        stderr = math.sqrt(np.mean([e.stderr**2 for e in estimates]))
        assert abs(errors.mean()) < 0.06
        # On Zipf's law, which its prior finds unlikely, the posterior of NSB is about a seventh too narrow.
        assert narrow * errors.std() < stderr < 2 * errors.std()
    plugin = np.mean([discrete_entropy(counts=draw, method="plugin").value for draw in draws]) - truth
    assert plugin < -0.1


def test_pseudocounts_meet_where_they_are_equal():
    # Four samples of two possible values: minimax takes sqrt(4)/2 = 1, as Laplace does, and Perks 1/2, as Jeffreys does.
    for name, other in (("minimax", "laplace"), ("perks", "jeffreys")):
        one, two = (discrete_entropy(counts=[3, 1], method=method, alphabet_size=2) for method in (name, other))
        assert (one.value, one.stderr) == (two.value, two.stderr)


def test_quadratic_extrapolation_of_large_counts_averages_over_all_hypergeometric_counts():
    counts = np.array([6000, 900, 70, 1])
    n = counts.sum()

    def mean_plugin(m):
        total = 0.0
        for count in counts:
            k = np.arange(1, min(count, m) + 1)
            total += float(stats.hypergeom(n, count, m).pmf(k) @ (k / m * np.log(m / k)))
        return total

    lengths = np.array([n, n // 2, n // 4])
    expected = np.polyfit(1 / lengths, [mean_plugin(m) for m in lengths], 2)[-1]
    value = discrete_entropy(counts=counts, method="quadratic_extrapolation").value
    assert value == pytest.approx(expected, abs=1e-8)


def test_counts_may_be_larger_than_any_table():
    estimate = discrete_entropy(counts=[10**12, 10**12, 2 * 10**12], base=2)
    assert estimate.value == pytest.approx(1.5, abs=1e-9)
    assert estimate.n == 4 * 10**12


@pytest.mark.parametrize("method", METHODS)
def test_a_single_value_has_no_entropy_where_no_other_is_possible(method):
    for count in (1, 2, 7):
        value = discrete_entropy(counts=[count], method=method, alphabet_size=1).value
        assert (value, math.copysign(1, value)) == (0, 1)
