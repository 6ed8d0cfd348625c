import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from isentrope.measures.multiscale import (
    coarse_grain,
    multiscale_dispersion_entropy,
    multiscale_entropy,
    multiscale_sample_entropy,
)
from isentrope.measures.ordinal import permutation_entropy
from isentrope.measures.regularity import sample_entropy
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


def test_scale_one_is_the_measure_itself():
    series = np.random.default_rng(1).normal(size=(2, 400))
    np.testing.assert_allclose(
        multiscale_entropy(permutation_entropy, series, scales=1)[:, 0], permutation_entropy(series)
    )
    for composition in COMPOSITIONS:
        values = multiscale_sample_entropy(series, scales=1, composition=composition)
        np.testing.assert_allclose(values[:, 0], sample_entropy(series))
        values = multiscale_dispersion_entropy(series, scales=1, composition=composition, order=3)
        np.testing.assert_allclose(values[:, 0], dispersion_entropy(series, order=3))


def test_composite_permutation_entropy_averages_all_offsets():
    series = np.random.default_rng(2).normal(size=200)
    expected = np.mean([permutation_entropy(coarse_grain(series, 3, offset=o), order=4) for o in range(3)])
    values = multiscale_entropy(permutation_entropy, series, scales=3, composite=True, order=4)
    assert values[2] == pytest.approx(expected)
    assert multiscale_entropy(permutation_entropy, series, scales=3, order=4)[2] == pytest.approx(
        permutation_entropy(coarse_grain(series, 3), order=4)
    )


def test_compositions_of_sample_entropy_are_their_definitions():
    series = np.random.default_rng(3).normal(size=300)
    radius = 0.3 * series.std()
    for scale in (2, 4):
        pairs = [
            slow_pairs(series[o:][: (300 - o) // scale * scale].reshape(-1, scale).mean(axis=1), 2, radius)
            for o in range(scale)
        ]
        expected = {
            "plain": -math.log(pairs[0][1] / pairs[0][0]),
            "composite": np.mean([-math.log(long / short) for short, long in pairs]),
            "refined": -math.log(sum(long for _, long in pairs) / sum(short for short, _ in pairs)),
        }
        for composition, value in expected.items():
            found = multiscale_sample_entropy(series, scales=scale, composition=composition, tolerance=0.3)
            assert found[scale - 1] == pytest.approx(value)


def test_white_noise_follows_its_closed_form():
    # Averages of s have deviation 1/sqrt(s), and the radius stays.
    noise = np.random.default_rng(4).normal(size=20_000)
    expected = [-math.log(math.erf(0.2 * math.sqrt(s) / 2)) for s in range(1, 6)]
    for composition in COMPOSITIONS:
        assert multiscale_sample_entropy(noise, scales=5, composition=composition) == pytest.approx(expected, abs=0.06)


def test_refined_composition_stays_finite_where_composite_does_not():
    noise = np.random.default_rng(0).normal(size=120)
    assert multiscale_sample_entropy(noise, scales=6, composition="composite")[-1] == math.inf
    assert np.isfinite(multiscale_sample_entropy(noise, scales=6)[-1])


def normal_distribution(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_compositions_of_dispersion_entropy_are_their_definitions():
    series = np.random.default_rng(6).gamma(2, size=200)
    mean, deviation = series.mean(), series.std()
    for scale in (2, 3):
        laws = []
        for offset in range(scale):
            averages = series[offset:][: (200 - offset) // scale * scale].reshape(-1, scale).mean(axis=1)
            symbols = [min(max(math.ceil(4 * normal_distribution((x - mean) / deviation)), 1), 4) for x in averages]
            law = Counter(pairwise(symbols))
            laws.append({word: number / (len(symbols) - 1) for word, number in law.items()})
        mixed = {word: sum(law.get(word, 0) for law in laws) / scale for law in laws for word in law}

        def shannon(law):
            return -sum(p * math.log(p) for p in law.values())

        expected = {"plain": shannon(laws[0]), "composite": np.mean([*map(shannon, laws)]), "refined": shannon(mixed)}
        for composition, value in expected.items():
            options = {"scales": scale, "composition": composition, "classes": 4}
            assert multiscale_dispersion_entropy(series, **options)[-1] == pytest.approx(value)
            batch = torch.tensor(np.stack([series, -series]))
            assert float(multiscale_dispersion_entropy(batch, **options)[0, -1]) == pytest.approx(value)


def test_dispersion_entropy_of_white_noise_follows_its_closed_form():
    # The classes stay those of the original, whose thirds end at -0.43 and 0.43 deviations; averages crowd in the middle.
    noise = np.random.default_rng(7).normal(size=60_000)
    expected = []
    for scale in range(1, 7):
        low = normal_distribution(-0.4307273 * math.sqrt(scale))
        expected.append(-2 * sum(p * math.log(p) for p in (low, 1 - 2 * low, low)))
    for composition in COMPOSITIONS:
        found = multiscale_dispersion_entropy(noise, scales=6, composition=composition)
        # The standard error of the plain one at scale 6 is 2 sd(ln p)/sqrt(10,000) = 0.014.
        assert found == pytest.approx(expected, abs=0.045)
    found = multiscale_dispersion_entropy(noise, scales=6)
    np.testing.assert_allclose(multiscale_dispersion_entropy(noise, scales=6, normalize=True) * math.log(9), found)
    np.testing.assert_allclose(multiscale_dispersion_entropy(noise, scales=6, base=2) * math.log(2), found)


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
    found = multiscale_dispersion_entropy(series, scales=3, composition="plain", nan_policy="omit")
    assert found[2] == pytest.approx(-(shares * np.log(shares)).sum())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="composition must be one of plain, composite, refined"):
        multiscale_sample_entropy(np.arange(100), scales=2, composition="fine")
    with pytest.raises(ValueError, match="composition must be one of plain, composite, refined"):
        multiscale_dispersion_entropy(np.arange(100), scales=2, composition="fine")
    with pytest.raises(ValueError, match="at least 8 samples for these settings, got 7"):
        multiscale_dispersion_entropy(np.arange(7), scales=3)
    with pytest.raises(ValueError, match="at least 99 samples for these settings, got 98"):
        multiscale_sample_entropy(np.arange(98))
    with pytest.raises(ValueError, match="tolerance must be a finite number"):
        multiscale_sample_entropy(np.arange(200), tolerance=-1)
