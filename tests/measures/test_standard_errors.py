"""The standard error that an estimate gives against the spread of that estimate over samples, for every estimator.

`docs/measures.md` has the table. A ratio below 0.7 or above 1.5 is a fault, or stands in the docstring.
"""

from functools import partial
from math import sqrt

import numpy as np
import pytest
from scipy.signal import lfilter

from isentrope.measures import (
    block_entropy,
    conditional_block_entropy,
    conditional_mutual_information,
    differential_entropy,
    discrete_conditional_entropy,
    discrete_conditional_mutual_information,
    discrete_dual_total_correlation,
    discrete_entropy,
    discrete_interaction_information,
    discrete_joint_entropy,
    discrete_mutual_information,
    discrete_normalized_mutual_information,
    discrete_o_information,
    discrete_partial_information,
    discrete_s_information,
    discrete_total_correlation,
    discrete_transfer_entropy,
    discrete_tse_complexity,
    dual_total_correlation,
    entropy_rate,
    excess_entropy,
    kl_divergence_from_samples,
    mutual_information,
    o_information,
    s_information,
    total_correlation,
    transfer_entropy,
)
from isentrope.measures.counts import FREE, WITH_ALPHABET

N = 500
ZIPF = 1 / np.arange(1, 31) / np.sum(1 / np.arange(1, 31))


def zipf(rng):
    return (rng.choice(30, N, p=ZIPF),)


def symbols(rng, variables=2):
    """Variables of four symbols that agree with a common one in half of the samples."""
    common = rng.choice(4, N, p=[0.4, 0.3, 0.2, 0.1])
    return tuple(np.where(rng.random(N) < 0.5, common, rng.integers(0, 4, N)) for _ in range(variables))


def several(rng):
    return (list(symbols(rng, 3)),)


def chain(rng):
    """A chain of two symbols that flips with probability 0.2, and one that follows it in 4 of 5 steps."""
    first = np.cumsum(rng.random(4 * N) < 0.2) % 2
    return (first,)


def driven(rng):
    (first,) = chain(rng)
    return first, np.roll(first, 1) ^ (rng.random(len(first)) < 0.2)


def gaussian(rng, d=1):
    return (rng.normal(size=(N, d)),)


def exponential(rng):
    return (rng.exponential(size=N),)


def pair(rng):
    x, noise = rng.normal(size=(2, N))
    return x, 0.6 * x + 0.8 * noise


def exponentials(rng):
    x, noise = rng.exponential(size=(2, N))
    return x, x + noise


def labelled(rng):
    y = rng.integers(0, 3, N)
    return rng.normal(y, 1.0), y


def triple(rng):
    x, y, z = rng.normal(size=(3, N))
    return x + z, x + y + z, z


def together(rng):
    return (rng.normal(size=(N, 3)) + rng.normal(size=(N, 1)),)


def series(rng):
    noise = rng.normal(size=(2 * N, 2))
    noise[:, 1] = 0.6 * noise[:, 0] + 0.8 * noise[:, 1]
    return tuple(lfilter([1.0], [1.0, -0.8], noise, axis=0).T)


def coupled(rng):
    x, noise = rng.normal(size=(2, 2 * N))
    x = lfilter([1.0], [1.0, -0.5], x)
    return x, lfilter([1.0], [1.0, -0.5], noise + 0.5 * np.roll(x, 1))


def two_sets(rng):
    return rng.normal(size=N), rng.normal(0.7, 1, size=N)


CASES = {
    **{f"discrete_entropy {m}, Zipf": (zipf, partial(discrete_entropy, method=m)) for m in FREE},
    **{
        f"discrete_entropy {m}, Zipf": (zipf, partial(discrete_entropy, method=m, alphabet_size=30))
        for m in WITH_ALPHABET
    },
    "discrete_joint_entropy, symbols": (several, discrete_joint_entropy),
    "discrete_conditional_entropy, symbols": (symbols, discrete_conditional_entropy),
    "discrete_mutual_information, symbols": (symbols, discrete_mutual_information),
    "discrete_mutual_information panzeri_treves, symbols": (
        symbols,
        partial(discrete_mutual_information, method="panzeri_treves"),
    ),
    "discrete_normalized_mutual_information, symbols": (symbols, discrete_normalized_mutual_information),
    "discrete_conditional_mutual_information, symbols": (
        partial(symbols, variables=3),
        discrete_conditional_mutual_information,
    ),
    "discrete_interaction_information, symbols": (several, discrete_interaction_information),
    "discrete_total_correlation, symbols": (several, discrete_total_correlation),
    "discrete_dual_total_correlation, symbols": (several, discrete_dual_total_correlation),
    "discrete_o_information, symbols": (several, discrete_o_information),
    "discrete_s_information, symbols": (several, discrete_s_information),
    "discrete_tse_complexity, symbols": (several, discrete_tse_complexity),
    "discrete_partial_information, symbols": (
        partial(symbols, variables=3),
        lambda *data: discrete_partial_information(*data, method="mmi", n_resamples=50, rng=0).synergy,
    ),
    "discrete_transfer_entropy, chain": (driven, discrete_transfer_entropy),
    "block_entropy, chain": (chain, partial(block_entropy, order=3)),
    "conditional_block_entropy, chain": (chain, partial(conditional_block_entropy, order=2)),
    "excess_entropy, chain": (chain, partial(excess_entropy, order=3)),
    "entropy_rate context_tree, chain": (chain, entropy_rate),
    "entropy_rate block, chain": (chain, partial(entropy_rate, method="block")),
    "entropy_rate match_length, chain": (chain, partial(entropy_rate, method="match_length")),
    **{
        f"differential_entropy {m}, {draw.__name__}": (draw, partial(differential_entropy, method=m))
        for m in ("ebrahimi", "vasicek", "van_es", "correa", "knn", "kde", "gaussian")
        for draw in (gaussian, exponential)
    },
    "differential_entropy knn, 3 gaussian columns": (
        partial(gaussian, d=3),
        partial(differential_entropy, method="knn"),
    ),
    "differential_entropy gaussian_copula, 3 gaussian columns": (
        partial(gaussian, d=3),
        partial(differential_entropy, method="gaussian_copula"),
    ),
    **{
        f"mutual_information {m}, {draw.__name__}": (draw, partial(mutual_information, method=m, n_jobs=1))
        for m in ("ksg", "ksg2", "mixture", "gaussian", "gaussian_copula")
        for draw in (pair, exponentials)
    },
    "mutual_information ross, labelled": (labelled, partial(mutual_information, n_jobs=1)),
    "mutual_information ksg, autoregressive": (series, partial(mutual_information, window=20, n_jobs=1)),
    "mutual_information gaussian, autoregressive": (series, partial(mutual_information, window=20, method="gaussian")),
    **{
        f"conditional_mutual_information {m}, triple": (
            triple,
            partial(conditional_mutual_information, method=m, n_jobs=1),
        )
        for m in ("frenzel_pompe", "mesner_shalizi", "gaussian", "gaussian_copula")
    },
    "transfer_entropy, coupled": (coupled, partial(transfer_entropy, n_jobs=1)),
    "transfer_entropy gaussian, coupled": (coupled, partial(transfer_entropy, method="gaussian")),
    **{
        f"{measure.__name__}, 3 columns": (together, partial(measure, n_jobs=1))
        for measure in (total_correlation, dual_total_correlation, o_information, s_information)
    },
    "kl_divergence_from_samples, gaussian": (two_sets, partial(kl_divergence_from_samples, n_jobs=1)),
}


def ratio(name, repetitions):
    """Root mean square of the standard errors over the standard deviation of the values."""
    draw, measure = CASES[name]
    rng = np.random.default_rng(0)
    found = [measure(*draw(rng)) for _ in range(repetitions)]
    return sqrt(np.mean([estimate.stderr**2 for estimate in found])) / float(np.std(found, ddof=1))


# What the docstrings say of these.
STATED: dict[str, tuple[float, float]] = {}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_standard_error_is_about_the_spread(name):
    low, high = STATED.get(name, (0.7, 1.5))
    assert low < ratio(name, 200) < high
