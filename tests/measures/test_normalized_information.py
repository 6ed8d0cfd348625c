"""Mutual information as a share: known laws, scikit-learn, the jackknife, bias, the shuffle test and errors."""

import math

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from isentrope.measures import (
    discrete_mutual_information,
    discrete_normalized_mutual_information,
    mutual_information_from_probabilities,
)

NORMALISERS = ("mean", "min", "max", "sqrt", "joint")


def dependent(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, n)
    return x, (x + rng.integers(0, 3, n)) // 2


@pytest.mark.parametrize("normalized_by", NORMALISERS)
def test_the_plug_in_is_that_of_the_observed_frequencies(normalized_by):
    x, y = dependent(300)
    table = np.zeros((4, 3))
    np.add.at(table, (x, y), 1)
    found = discrete_normalized_mutual_information(x, y, normalized_by=normalized_by, method="plugin")
    expected = mutual_information_from_probabilities(table, normalized_by=normalized_by, normalize=True)
    assert found == pytest.approx(float(expected), abs=1e-12)
    assert found.bias_correction == 0
    theirs = {"mean": "arithmetic", "min": "min", "max": "max", "sqrt": "geometric"}
    if normalized_by in theirs:
        score = normalized_mutual_info_score(x, y, average_method=theirs[normalized_by])
        assert found == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("normalized_by", NORMALISERS)
def test_a_copy_has_all_and_a_constant_nothing(normalized_by):
    x, _ = dependent(200)
    names = np.array(["a", "b", "c", "d"])[x]
    for method in ("auto", "plugin", "chao_wang_jost"):
        copy = discrete_normalized_mutual_information(x, names, normalized_by=normalized_by, method=method)
        assert copy == pytest.approx(1)
        assert copy.stderr == pytest.approx(0, abs=1e-9)
        for pair in ((np.zeros(200, int), names), (names, "a" * 200), ("a" * 200, "b" * 200)):
            found = discrete_normalized_mutual_information(*pair, normalized_by=normalized_by, method=method)
            assert (found.value, found.stderr) == (0, 0)
            assert found.test(9, rng=0).pvalue == 1


@pytest.mark.parametrize("normalized_by", NORMALISERS)
def test_the_standard_error_is_that_of_leaving_out_each_sample(normalized_by):
    # Entropies of 0.4 and 1.8 nat, so that the derivatives by them differ.
    rng = np.random.default_rng(2)
    x = (rng.random(3000) < 0.15).astype(int)
    y = 2 * x + rng.integers(0, 5, 3000)
    options = {"normalized_by": normalized_by, "method": "plugin"}
    # Samples that agree in both variables leave the same behind.
    _, first, number = np.unique(np.stack([x, y]), axis=1, return_index=True, return_counts=True)
    without = np.repeat(
        [discrete_normalized_mutual_information(np.delete(x, i), np.delete(y, i), **options).value for i in first],
        number,
    )
    expected = math.sqrt(2999 * np.var(without))
    assert discrete_normalized_mutual_information(x, y, **options).stderr == pytest.approx(expected, rel=0.01)


def test_the_correction_is_what_the_method_adds():
    x, y = dependent(60)
    found, plain = (discrete_normalized_mutual_information(x, y, method=m) for m in ("miller_madow", "plugin"))
    assert found - plain == pytest.approx(found.bias_correction, abs=1e-12)
    assert found.bias_correction < -0.01


def test_independent_variables_share_nothing_on_average():
    # 30 values each: scikit-learn's score is near 0.2 at 800 samples, though nothing is shared.
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, 30, (2, 800)) for _ in range(30)]
    found = [discrete_normalized_mutual_information(x, y) for x, y in draws]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(30) + 1e-3
    assert found[0].method == discrete_mutual_information(*draws[0]).method == "chao_wang_jost"
    assert np.mean([normalized_mutual_info_score(x, y) for x, y in draws]) > 0.1


def test_the_test_shuffles():
    x, y = dependent(150)
    assert discrete_normalized_mutual_information(x, y).test(39, rng=0).pvalue == 1 / 40
    noise = np.random.default_rng(3).permutation(y)
    result = discrete_normalized_mutual_information(x, noise).test(39, rng=0)
    assert result.pvalue > 0.05
    assert result.unit == "share"


def test_misuse_is_named():
    with pytest.raises(ValueError, match="normalized_by must be one of mean, min, max, sqrt, joint"):
        discrete_normalized_mutual_information("ab", "ab", normalized_by="size")
    with pytest.raises(ValueError, match="x has 2, y has 3"):
        discrete_normalized_mutual_information("ab", "abc")
    with pytest.raises(ValueError, match="method must be one of"):
        discrete_normalized_mutual_information("ab", "ab", method="nsb")
