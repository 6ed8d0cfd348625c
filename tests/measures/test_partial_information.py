import numpy as np
import pytest
from scipy.optimize import minimize

from isentrope.measures.partial_information import discrete_partial_information, partial_information


def law(*outcomes):
    """The law in which each (first, second, target) has the same probability."""
    values = [sorted({outcome[i] for outcome in outcomes}) for i in range(3)]
    p = np.zeros([len(values[i]) for i in (2, 0, 1)])
    for first, second, target in outcomes:
        p[values[2].index(target), values[0].index(first), values[1].index(second)] += 1 / len(outcomes)
    return p


def gate(function):
    return law(*((x, y, function(x, y)) for x in (0, 1) for y in (0, 1)))


def atoms(p, method):
    found = partial_information(p, method=method, base=2)
    return found.redundancy, found.unique_first, found.unique_second, found.synergy


# Published values (arXiv 1004.2515, 1311.2852, and the tests of the package dit), in bits.
@pytest.mark.parametrize(
    ("p", "method", "expected"),
    [
        (gate(lambda x, y: x ^ y), "i_min", (0, 0, 0, 1)),
        (gate(lambda x, y: x ^ y), "mmi", (0, 0, 0, 1)),
        (gate(lambda x, y: x ^ y), "broja", (0, 0, 0, 1)),
        (gate(lambda x, y: x & y), "i_min", (0.311278, 0, 0, 0.5)),
        (gate(lambda x, y: x & y), "mmi", (0.311278, 0, 0, 0.5)),
        (gate(lambda x, y: x & y), "broja", (0.311278, 0, 0, 0.5)),
        (gate(lambda x, y: x + y), "broja", (0.5, 0, 0, 1)),
        (gate(lambda x, y: (x, y)), "i_min", (1, 0, 0, 1)),
        (gate(lambda x, y: (x, y)), "mmi", (1, 0, 0, 1)),
        (gate(lambda x, y: (x, y)), "broja", (0, 1, 1, 0)),
        (gate(lambda x, y: x), "i_min", (0, 1, 0, 0)),
        (gate(lambda x, y: x), "broja", (0, 1, 0, 0)),
        (law((0, 0, 0), (1, 1, 1)), "broja", (1, 0, 0, 0)),
        (law((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)), "broja", (0.122556, 0.188722, 0.188722, 0)),
        (law((0, 1, 1), (1, 0, 1), (0, 2, 2), (2, 0, 2)), "broja", (0.5, 0, 0, 0.5)),
        # A bit that both sources hold beside the halves of a parity.
        (law(*((2 * s + a, 2 * s + b, 2 * s + (a ^ b)) for s, a, b in np.ndindex(2, 2, 2))), "broja", (1, 0, 0, 1)),
        (law(*((2 * s + a, 2 * s + b, 2 * s + (a ^ b)) for s, a, b in np.ndindex(2, 2, 2))), "i_min", (1, 0, 0, 1)),
        (
            law((0, 0, 1), (0, 0, 2), (0, 2, 0), (1, 2, 1), (2, 0, 2), (2, 1, 2)),
            "broja",
            (1 / 3, 1 / 3, 1 / 3, 0.125815),
        ),
        # The examples of Williams and Beer.
        (law((0, 0, 0), (0, 1, 1), (1, 0, 2)), "broja", (0.251629, 2 / 3, 2 / 3, 0)),
        (law((0, 0, 0), (0, 1, 1), (1, 0, 2)), "i_min", (0.584963, 1 / 3, 1 / 3, 1 / 3)),
        (law((0, 0, 0), (0, 1, 1), (1, 1, 1), (1, 0, 2)), "i_min", (0.5, 0, 0.5, 0.5)),
    ],
)
def test_published_values(p, method, expected):
    assert atoms(p, method) == pytest.approx(expected, abs=1e-6)


def test_broja_of_erased_copies_is_the_same_in_every_run_unlike_dits_default():
    # A fair bit seen three times, each time erased with probability 1/2: I(T;X) = 1/4 and I(T;XY) = 3/8 bit. The default of
    # dit gives a synergy of -0.0128 or 0.1248.
    p = np.zeros((3, 3, 3))
    for bit, t, x, y in np.ndindex(2, 2, 2, 2):
        p[2 if t else bit, 2 if x else bit, 2 if y else bit] += 1 / 16
    assert atoms(p, "broja") == pytest.approx((0.25, 0, 0, 0.125), abs=1e-6)
    assert atoms(p, "broja") == atoms(p, "broja")


def union_information(q):
    """I(T; XY) of a law, in bits."""
    product = q.sum(axis=(1, 2), keepdims=True) * q.sum(axis=0)
    some = q > 1e-15
    return float(np.sum(q[some] * np.log2(q[some] / product[some])))


@pytest.mark.parametrize("seed", range(3))
def test_broja_is_the_least_of_all_laws_with_the_same_pairs(seed):
    # Two binary sources: for each t the laws with its pair laws are one line, q(t) + z(t) (+ - - +).
    p = np.random.default_rng(seed).dirichlet(np.ones(12)).reshape(3, 2, 2)
    cycle = np.array([[1, -1], [-1, 1]])
    bounds = [(-min(q[0, 0], q[1, 1]), min(q[0, 1], q[1, 0])) for q in p]

    def information(z):
        return union_information(p + np.array(z)[:, None, None] * cycle)

    least = minimize(information, np.zeros(3), bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14}).fun
    redundancy, first, second, synergy = atoms(p, "broja")
    assert redundancy + first + second == pytest.approx(least, abs=2e-6)
    assert redundancy + first + second <= least + 1e-9
    assert synergy == pytest.approx(union_information(p) - least, abs=2e-6)
    assert min(redundancy, first, second, synergy) >= 0


@pytest.mark.parametrize("method", ["broja", "i_min", "mmi"])
def test_parts_add_up_and_sources_may_be_exchanged(method):
    p = np.random.default_rng(3).dirichlet(0.3 * np.ones(24)).reshape(2, 4, 3)
    redundancy, first, second, synergy = atoms(p, method)
    assert redundancy + first == pytest.approx(union_information(p.sum(axis=2, keepdims=True)))
    assert redundancy + second == pytest.approx(union_information(p.sum(axis=1, keepdims=True)))
    assert redundancy + first + second + synergy == pytest.approx(union_information(p))
    exchanged = atoms(p.transpose(0, 2, 1), method)
    assert exchanged == pytest.approx((redundancy, second, first, synergy), abs=1e-8)


def test_samples_have_standard_errors():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 2, (2, 2000))
    found = discrete_partial_information(x & y, x, y, base=2, n_resamples=20, rng=0)
    assert abs(found.redundancy - 0.3113) < 4 * found.redundancy.stderr
    assert abs(found.synergy - 0.5) < 4 * found.synergy.stderr
    assert 0 < found.redundancy.stderr < 0.03
    named = discrete_partial_information((x & y).astype(str), x, y, base=2, n_resamples=0)
    assert named.synergy == pytest.approx(float(found.synergy))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": np.full((2, 2), 0.25)}, r"axes target, first, second \(got shape \(2, 2\)\)"),
        ({"p": np.full((2, 2, 2), 0.25)}, r"must sum to 1 \(got 2\)"),
        ({"p": np.full((2, 2, 2), np.nan)}, "finite and not negative"),
        ({"p": gate(max), "method": "best"}, "method must be one of broja, i_min, mmi"),
        ({"p": gate(max), "base": 0}, "base must be positive"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        partial_information(**arguments)


def test_standard_errors_from_two_samples_are_as_wide_as_from_many():
    # In the mean square, that is: the divisor is one less than the number of samples.
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 2, (2, 60))
    options = {"target": x | y, "first": x, "second": y, "method": "mmi"}
    many = discrete_partial_information(**options, n_resamples=2000, rng=0).redundancy.stderr
    squares = [
        discrete_partial_information(**options, n_resamples=2, rng=seed).redundancy.stderr ** 2 for seed in range(400)
    ]
    assert np.mean(squares) == pytest.approx(many**2, abs=4 * np.std(squares) / 20)
    assert np.mean(squares) > 0.7 * many**2


def test_broja_is_exact_to_nine_digits():
    # Of the conjunction of two fair bits all that one source tells is redundant: 3/4 log2(4/3), and half a bit is synergy.
    expected = (0.75 * np.log2(4 / 3), 0, 0, 0.5)
    assert atoms(gate(lambda x, y: x & y), "broja") == pytest.approx(expected, abs=1e-9)
    assert atoms(gate(lambda x, y: x + y), "broja") == pytest.approx((0.5, 0, 0, 1), abs=1e-9)
    # What the solver leaves is rounded into what the equations allow.
    for function in (lambda x, y: x ^ y, lambda x, y: x & y, lambda x, y: x, lambda x, y: (x, y)):
        assert min(atoms(gate(function), "broja")[:3]) >= 0


def test_the_standard_errors_are_the_spread_of_exact_parts():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, (2, 400))
    target = first + second * (rng.random(400) < 0.7)
    found = discrete_partial_information(target, first, second, n_resamples=20, rng=5)
    counts = np.zeros((3, 2, 2))
    np.add.at(counts, (target, first, second), 1)
    generator = np.random.default_rng(5)
    drawn = [
        partial_information(generator.multinomial(400, counts.ravel() / 400).reshape(3, 2, 2) / 400) for _ in range(20)
    ]
    for part in ("redundancy", "unique_first", "unique_second", "synergy"):
        spread = np.std([getattr(law, part) for law in drawn], ddof=1)
        assert getattr(found, part).stderr == pytest.approx(spread, rel=1e-3)
