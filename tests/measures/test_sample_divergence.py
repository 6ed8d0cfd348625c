"""The divergence of two samples: tables of distances, closed forms, laws and errors."""

from functools import partial
from math import log, nan, sqrt

import numpy as np
import pytest

from isentrope.measures.continuous import differential_entropy
from isentrope.measures.sample_divergence import kl_divergence_from_samples


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 4)])
def test_it_is_the_table_of_distances(d, k, euclidean):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, d)), rng.normal(0.5, 1.5, size=(110, d))

    def table(a, b):
        offset = np.abs(a[:, None] - b[None])
        return np.sqrt((offset**2).sum(-1)) if euclidean else offset.max(-1)

    rho, nu = np.sort(table(x, x), axis=1)[:, k], np.sort(table(x, y), axis=1)[:, k - 1]
    expected = d * np.log(nu / rho) + log(110 / 69)
    found = kl_divergence_from_samples(
        x, y, k=k, metric="euclidean" if euclidean else "max", standardize=False, local=True
    )
    np.testing.assert_allclose(found.local, expected, rtol=1e-11)
    assert found == pytest.approx(expected.mean(), rel=1e-11)


def test_closed_forms_of_gaussians():
    rng = np.random.default_rng(1)
    found = kl_divergence_from_samples(rng.normal(size=3000), rng.normal(1, 1, 3000))
    assert abs(found - 0.5) < 4 * found.stderr
    assert found.stderr < 0.05
    # Unlike widths, one way and the other.
    narrow, wide = rng.normal(size=4000), rng.normal(0, 1.5, 4000)
    forth, back = kl_divergence_from_samples(narrow, wide), kl_divergence_from_samples(wide, narrow)
    assert abs(forth - (log(1.5) + 1 / 4.5 - 0.5)) < 4 * forth.stderr
    assert abs(back - (1.125 - 0.5 - log(1.5))) < 4 * back.stderr
    plane = kl_divergence_from_samples(rng.normal(size=(3000, 2)), rng.normal([0.6, 0.8], 1, (3000, 2)))
    assert abs(plane - 0.5) < 4 * plane.stderr


def test_alike_samples_do_not_diverge():
    rng = np.random.default_rng(2)
    found = [kl_divergence_from_samples(*rng.normal(size=(2, 200, 2))) for _ in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / sqrt(40)
    assert found[0].test(39, rng=0).pvalue > 0.05


def test_the_test_is_of_two_samples():
    rng = np.random.default_rng(3)
    found = kl_divergence_from_samples(rng.normal(size=150), rng.normal(1, 1, 100))
    result = found.test(39, rng=0)
    assert result.pvalue == 1 / 40
    assert abs(result.null_mean) < 0.15


def test_a_common_map_of_the_columns_changes_nothing():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(300, 2)), rng.normal(0.5, 1, size=(300, 2))
    plain = kl_divergence_from_samples(x, y)
    mapped = kl_divergence_from_samples(x * [1e-9, 40.0] + 3, y * [1e-9, 40.0] + 3)
    assert mapped == pytest.approx(plain, abs=1e-5)
    assert kl_divergence_from_samples(x, y, base=2) == pytest.approx(plain / log(2))
    for standardize in (False, True):
        plain = kl_divergence_from_samples(x, y, standardize=standardize)
        for factor in (1e-300, 1e-20, 1e200):
            scaled = kl_divergence_from_samples(x * factor, y * factor, standardize=standardize)
            assert scaled == pytest.approx(plain, abs=1e-10)
            assert scaled.stderr == pytest.approx(plain.stderr, rel=1e-6)


def test_samples_of_both_sets_are_refused():
    # Each would take 1/(k - 1) off its local value: -0.32 for two equal sets of 1000, without a word.
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 300, 2))
    with pytest.raises(ValueError, match=r"300 of 300 samples of x are samples of y too; .* drawn apart"):
        kl_divergence_from_samples(x, x)
    with pytest.raises(ValueError, match="30 of 300"):
        kl_divergence_from_samples(x, np.concatenate([y, x[:30]]))
    with pytest.raises(ValueError, match="6 of 6"):
        kl_divergence_from_samples(x[:6], x[:6])
    # One column may agree.
    assert np.isfinite(kl_divergence_from_samples(x, np.stack([x[:, 0], y[:, 1]], axis=1)))


def test_rounded_values_are_no_common_samples():
    # A quarter of x agrees with some y, as often as with other x; the bias is below a hundredth.
    found = []
    for seed in range(20):
        x, y = np.round(np.random.default_rng(seed).normal(size=(2, 300)), 3)
        assert np.isin(x, y).sum() > 10
        found.append(kl_divergence_from_samples(x, y, n_jobs=1))
    assert abs(np.mean(found)) < 4 * np.std(found) / sqrt(20)


def test_wrong_input_is_explained():
    x = np.random.default_rng(5).normal(size=(40, 2))
    with pytest.raises(ValueError, match="the same columns"):
        kl_divergence_from_samples(x, x[:, 0])
    with pytest.raises(ValueError, match="share their place with k=4 others"):
        kl_divergence_from_samples(np.repeat(x, 5, axis=0), x)
    with pytest.raises(ValueError, match=r"at least 5 samples of x and 4 of y \(got 4 and 40\)"):
        kl_divergence_from_samples(x[:4], x)
    with pytest.raises(ValueError, match="1 of 40 samples of y are NaN"):
        kl_divergence_from_samples(x[:, 0], np.where(x[:, 0] == x[3, 0], nan, x[:, 0]))
    with pytest.raises(TypeError, match=r"kl_divergence_from_samples: x must be real numbers \(got dtype <U1\)"):
        kl_divergence_from_samples(["a"] * 10, ["b"] * 10)
    with pytest.raises(ValueError, match="k must be"):
        kl_divergence_from_samples(x, x, k=0)
    assert "lower bound" in kl_divergence_from_samples(x, x + 1).note


@pytest.mark.slow
@pytest.mark.parametrize("m", [300, 1500])
def test_the_standard_error_is_the_spread(m):
    rng = np.random.default_rng(6)
    found = [kl_divergence_from_samples(rng.normal(size=600), rng.normal(0.7, 1, m), n_jobs=1) for _ in range(200)]
    told = sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.8 < told / np.std(found, ddof=1) < 1.3


def test_the_value_alone_is_the_value():
    x, y = np.random.default_rng(3).normal(size=(2, 400, 2))
    for estimate in (partial(differential_entropy, x, method="knn"), partial(kl_divergence_from_samples, x, y)):
        alone, whole = estimate(stderr=False), estimate()
        assert alone == whole
        assert np.isnan(alone.stderr)
        assert whole.stderr > 0
