import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from isentrope.measures.multiscale import (
    coarse_grain,
    multiscale_entropy,
)
from isentrope.measures.ordinal import permutation_entropy, weighted_permutation_entropy
from isentrope.measures.regularity import approximate_entropy, fuzzy_entropy, sample_entropy
from isentrope.measures.symbolic import dispersion_entropy

COMPOSITIONS = ("plain", "composite", "refined")


def slow_pairs(series, order, radius):
    windows, counts = len(series) - order, []
    for length in (order, order + 1):
        embedded = np.stack([series[k : k + windows] for k in range(length)], axis=1)
        close = np.abs(embedded[:, None] - embedded[None]).max(axis=2) <= radius
        counts.append((int(close.sum()) - windows) // 2)
    return counts


def test_coarse_grain_averages_disjoint_windows():
    assert coarse_grain([1, 3, 5, 7, 9, 0], 2, offset=1).tolist() == [4, 8]
    batch = np.random.default_rng(0).normal(size=(2, 11, 3))
    assert coarse_grain(batch, 3, axis=1).shape == (2, 3, 3)
    np.testing.assert_allclose(coarse_grain(batch, 3, axis=1)[1, 2], batch[1, :9, 2].reshape(3, 3).mean(axis=1))
    assert coarse_grain(torch.ones(7), 3).tolist() == [1, 1]
    with pytest.raises(ValueError, match="at least 6 samples for these settings, got 5"):
        coarse_grain(np.arange(5), 4, offset=2)


@pytest.mark.parametrize(
    ("measure", "options"),
    [
        (sample_entropy, {"order": 3, "delay": 2, "tolerance": 0.4}),
        (fuzzy_entropy, {"radius": 0.5, "exponent": 1.0}),
        (permutation_entropy, {"order": 4, "normalize": True}),
        (dispersion_entropy, {"order": 3, "classes": 4}),
        (weighted_permutation_entropy, {"delay": 2, "base": 2}),
        (approximate_entropy, {"base": 2}),
    ],
)
def test_scale_one_is_the_measure_itself(measure, options):
    series = np.random.default_rng(1).normal(size=(2, 400))
    series[1] = 3.0
    for composition in COMPOSITIONS[: 2 if measure in (weighted_permutation_entropy, approximate_entropy) else 3]:
        values = multiscale_entropy(measure, series, scales=1, composition=composition, **options)
        np.testing.assert_allclose(values[:, 0], measure(series, **options), atol=1e-15)
        missing = np.where(np.arange(400) % 29 == 0, math.nan, series)
        values = multiscale_entropy(measure, missing, scales=1, composition=composition, nan_policy="omit", **options)
        np.testing.assert_allclose(values[:, 0], measure(missing, nan_policy="omit", **options), atol=1e-15)


def averages(series, scale, offset):
    return series[offset:][: (len(series) - offset) // scale * scale].reshape(-1, scale).mean(axis=1)


def shannon(law):
    return -sum(p * math.log(p) for p in law.values() if p > 0)


def test_other_measures_see_each_averaged_series():
    series = np.random.default_rng(2).normal(size=200)
    each = [weighted_permutation_entropy(averages(series, 3, offset), order=4) for offset in range(3)]
    for composition, value in (("plain", each[0]), ("composite", np.mean(each))):
        found = multiscale_entropy(weighted_permutation_entropy, series, scales=3, composition=composition, order=4)
        assert found[2] == pytest.approx(value)


def test_compositions_of_permutation_entropy_are_their_definitions():
    series = np.cumsum(np.random.default_rng(12).normal(size=150))
    for scale in (2, 5):
        laws = []
        for offset in range(scale):
            coarse = averages(series, scale, offset)
            patterns = Counter(tuple(np.argsort(coarse[t : t + 5 : 2])) for t in range(len(coarse) - 4))
            laws.append({pattern: number / patterns.total() for pattern, number in patterns.items()})
        mixed = {pattern: sum(law.get(pattern, 0) for law in laws) / scale for law in laws for pattern in law}
        expected = {"plain": shannon(laws[0]), "composite": np.mean([*map(shannon, laws)]), "refined": shannon(mixed)}
        for composition, value in expected.items():
            options = {"scales": scale, "composition": composition, "delay": 2}
            assert multiscale_entropy(permutation_entropy, series, **options)[-1] == pytest.approx(value)
            batch = torch.tensor(np.stack([series, -series]))
            assert float(multiscale_entropy(permutation_entropy, batch, **options)[0, -1]) == pytest.approx(value)


def slow_memberships(series, order, radius, exponent):
    windows, sums = len(series) - order, []
    for length in (order, order + 1):
        embedded = np.stack([series[k : k + windows] for k in range(length)], axis=1)
        embedded -= embedded.mean(axis=1, keepdims=True)
        apart = np.abs(embedded[:, None] - embedded[None]).max(axis=2)[np.triu_indices(windows, 1)]
        sums.append(np.exp(-((apart / radius) ** exponent)).sum())
    return sums


def test_compositions_of_fuzzy_entropy_are_their_definitions():
    series = np.random.default_rng(13).normal(size=240)
    radius = 0.3 * series.std()
    for scale in (2, 4):
        sums = [slow_memberships(averages(series, scale, offset), 2, radius, 1.5) for offset in range(scale)]
        expected = {
            "plain": -math.log(sums[0][1] / sums[0][0]),
            "composite": np.mean([-math.log(long / short) for short, long in sums]),
            "refined": -math.log(sum(long for _, long in sums) / sum(short for short, _ in sums)),
        }
        for composition, value in expected.items():
            options = {"scales": scale, "composition": composition, "tolerance": 0.3, "exponent": 1.5}
            assert multiscale_entropy(fuzzy_entropy, series, **options)[-1] == pytest.approx(value)


def test_white_noise_has_all_orders_at_every_scale():
    # The mean law of s series of n/s values is less low than the law of one: 23 free shares of n/s windows each.
    noise = np.random.default_rng(14).normal(size=20_000)
    plain, composite, refined = (
        multiscale_entropy(permutation_entropy, noise, scales=20, composition=composition, order=4)
        for composition in COMPOSITIONS
    )
    assert plain[-1] == pytest.approx(math.log(24), abs=3 * 23 / 2000)
    assert refined == pytest.approx([math.log(24)] * 20, abs=0.004)
    assert math.log(24) - composite[-1] > 3 * (math.log(24) - refined[-1])


def test_compositions_of_sample_entropy_are_their_definitions():
    series = np.random.default_rng(3).normal(size=300)
    radius = 0.3 * series.std()
    for scale in (2, 4):
        pairs = [slow_pairs(averages(series, scale, offset), 2, radius) for offset in range(scale)]
        expected = {
            "plain": -math.log(pairs[0][1] / pairs[0][0]),
            "composite": np.mean([-math.log(long / short) for short, long in pairs]),
            "refined": -math.log(sum(long for _, long in pairs) / sum(short for short, _ in pairs)),
        }
        for composition, value in expected.items():
            found = multiscale_entropy(sample_entropy, series, scales=scale, composition=composition, tolerance=0.3)
            assert found[scale - 1] == pytest.approx(value)


def test_white_noise_follows_its_closed_form():
    # Averages of s have deviation 1/sqrt(s), and the radius stays.
    noise = np.random.default_rng(4).normal(size=20_000)
    expected = [-math.log(math.erf(0.2 * math.sqrt(s) / 2)) for s in range(1, 6)]
    for composition in COMPOSITIONS:
        assert multiscale_entropy(sample_entropy, noise, scales=5, composition=composition) == pytest.approx(
            expected, abs=0.06
        )


def test_refined_composition_stays_finite_where_composite_does_not():
    noise = np.random.default_rng(0).normal(size=120)
    assert multiscale_entropy(sample_entropy, noise, scales=6, composition="composite")[-1] == math.inf
    assert np.isfinite(multiscale_entropy(sample_entropy, noise, scales=6)[-1])


def normal_distribution(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_compositions_of_dispersion_entropy_are_their_definitions():
    series = np.random.default_rng(6).gamma(2, size=200)
    mean, deviation = series.mean(), series.std()
    for scale in (2, 3):
        laws = []
        for offset in range(scale):
            coarse = averages(series, scale, offset)
            symbols = [min(max(math.ceil(4 * normal_distribution((x - mean) / deviation)), 1), 4) for x in coarse]
            law = Counter(pairwise(symbols))
            laws.append({word: number / (len(symbols) - 1) for word, number in law.items()})
        mixed = {word: sum(law.get(word, 0) for law in laws) / scale for law in laws for word in law}

        expected = {"plain": shannon(laws[0]), "composite": np.mean([*map(shannon, laws)]), "refined": shannon(mixed)}
        for composition, value in expected.items():
            options = {"scales": scale, "composition": composition, "classes": 4}
            assert multiscale_entropy(dispersion_entropy, series, **options)[-1] == pytest.approx(value)
            batch = torch.tensor(np.stack([series, -series]))
            assert float(multiscale_entropy(dispersion_entropy, batch, **options)[0, -1]) == pytest.approx(value)


def test_dispersion_entropy_of_white_noise_follows_its_closed_form():
    # The classes stay those of the original, whose thirds end at -0.43 and 0.43 deviations; averages crowd in the middle.
    noise = np.random.default_rng(7).normal(size=60_000)
    expected = []
    for scale in range(1, 7):
        low = normal_distribution(-0.4307273 * math.sqrt(scale))
        expected.append(-2 * sum(p * math.log(p) for p in (low, 1 - 2 * low, low)))
    for composition in COMPOSITIONS:
        found = multiscale_entropy(dispersion_entropy, noise, scales=6, composition=composition)
        # The standard error of the plain one at scale 6 is 2 sd(ln p)/sqrt(10,000) = 0.014.
        assert found == pytest.approx(expected, abs=0.045)
    found = multiscale_entropy(dispersion_entropy, noise, scales=6)
    np.testing.assert_allclose(
        multiscale_entropy(dispersion_entropy, noise, scales=6, normalize=True) * math.log(9), found
    )
    np.testing.assert_allclose(multiscale_entropy(dispersion_entropy, noise, scales=6, base=2) * math.log(2), found)


def test_missing_samples_take_their_words_out_at_every_scale():
    series = np.random.default_rng(8).normal(size=300)
    series[[40, 41, 120]] = math.nan
    z = (series - np.nanmean(series)) / np.nanstd(series)
    coarse = z[:300].reshape(-1, 3).mean(axis=1)
    words = Counter()
    for first, second in pairwise(coarse):
        if not math.isnan(first + second):
            words[tuple(math.ceil(3 * normal_distribution(x)) for x in (first, second))] += 1
    shares = np.array([*words.values()]) / words.total()
    found = multiscale_entropy(dispersion_entropy, series, scales=3, composition="plain", nan_policy="omit")
    assert found[2] == pytest.approx(-(shares * np.log(shares)).sum())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="composition must be one of plain, composite, refined"):
        multiscale_entropy(sample_entropy, np.arange(100), scales=2, composition="fine")
    with pytest.raises(
        ValueError, match="'refined' is known for sample_entropy, fuzzy_entropy, permutation_entropy, disp"
    ):
        multiscale_entropy(approximate_entropy, np.arange(100), scales=2)
    with pytest.raises(TypeError, match="sample_entropy has no setting 'classes'; it has order, delay, tolerance"):
        multiscale_entropy(sample_entropy, np.arange(100), scales=2, classes=3)
    with pytest.raises(ValueError, match="a normalised entropy has no unit"):
        multiscale_entropy(permutation_entropy, np.arange(100), scales=2, normalize=True, base=2)
    with pytest.raises(ValueError, match="tolerance and radius must be positive"):
        multiscale_entropy(fuzzy_entropy, np.arange(100), scales=2, radius=0)
    assert multiscale_entropy(permutation_entropy, np.arange(9), scales=3, composition="plain").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="at least 11 samples for these settings, got 9"):
        multiscale_entropy(permutation_entropy, np.arange(9), scales=3)
    with pytest.raises(ValueError, match="at least 8 samples for these settings, got 7"):
        multiscale_entropy(dispersion_entropy, np.arange(7), scales=3)
    with pytest.raises(ValueError, match="at least 99 samples for these settings, got 98"):
        multiscale_entropy(sample_entropy, np.arange(98))
    with pytest.raises(ValueError, match="tolerance must be a finite number"):
        multiscale_entropy(sample_entropy, np.arange(200), tolerance=-1)


def test_a_series_in_the_place_of_the_measure_is_explained():
    with pytest.raises(TypeError, match="measure"):
        multiscale_entropy(np.arange(50.0), sample_entropy)
