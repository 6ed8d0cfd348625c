import math
from collections import Counter

import numpy as np
import pytest
import torch
from chaotic_maps import henon, logistic
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures.symbolic import dispersion_entropy, fluctuation_dispersion_entropy, slope_entropy

MEASURES = (dispersion_entropy, fluctuation_dispersion_entropy, slope_entropy)
short_series = st.lists(st.integers(-3, 3), min_size=8, max_size=40)


def entropy_of(words):
    counts = Counter(words)
    total = sum(counts.values())
    return -sum(c / total * math.log(c / total) for c in counts.values())


def classes_of(series, number):
    mean, deviation = np.mean(series), np.std(series)
    shares = [0.5 * (1 + math.erf((x - mean) / deviation / math.sqrt(2))) for x in series]
    return [min(max(math.ceil(number * share), 1), number) for share in shares]


# EntropyHub's values with m = 2 and c = 3, in nats.
@pytest.mark.parametrize(
    ("series", "expected"),
    [(logistic(5000), 1.883948), (np.sin(0.1 * np.arange(2000)), 1.294594), (henon(4000), 1.873161)],
)
def test_dispersion_entropy_on_which_entropyhub_agrees(series, expected):
    assert dispersion_entropy(series) == pytest.approx(expected, abs=2e-6)


@given(short_series, st.integers(2, 3), st.integers(2, 5), st.integers(1, 2))
def test_words_are_counted_as_defined(series, order, classes, delay):
    series = [x + 0.01 * i for i, x in enumerate(series)]
    symbols = classes_of(series, classes)
    windows = range(len(series) - (order - 1) * delay)
    options = {"order": order, "classes": classes, "delay": delay}
    words = [tuple(symbols[t : t + (order - 1) * delay + 1 : delay]) for t in windows]
    assert dispersion_entropy(series, **options) == pytest.approx(entropy_of(words), abs=1e-12)
    steps = [tuple(np.diff(word)) for word in words]
    assert fluctuation_dispersion_entropy(series, **options) == pytest.approx(entropy_of(steps), abs=1e-12)


@given(short_series, st.integers(2, 4), st.integers(1, 2))
def test_slopes_are_counted_as_defined(series, order, delay):
    def symbol(step):
        angle = round(math.degrees(math.atan(step)), 9)
        return int(np.sign(angle)) * ((abs(angle) > 5) + (abs(angle) > 45))

    words = []
    for t in range(len(series) - (order - 1) * delay):
        words.append(tuple(symbol(s) for s in np.diff(series[t : t + (order - 1) * delay + 1 : delay])))
    assert slope_entropy(series, order=order, delay=delay) == pytest.approx(entropy_of(words), abs=1e-12)


def test_slope_entropy_is_that_of_a_law_and_not_as_entropyhubs_without_norm():
    # EntropyHub divides the counts by the number of different words unless Norm is set: -1093 for 1,000 values of noise.
    series = np.cumsum(np.tile([2.0, 2.0, 2.0, 0.5], 10))  # slopes 2, 2, 1 and 2, in turn
    expected = entropy_of("2" * 30 + "1" * 10)
    assert slope_entropy(np.concatenate([[0.0], series])) == pytest.approx(expected)


def test_a_step_at_45_degrees_is_not_steep():
    # Up 1, up 1, up 2: two words. Were a step of 1 beyond the threshold there would be one.
    assert slope_entropy([0, 1, 2, 4], order=2) == pytest.approx(entropy_of("aab"))
    assert slope_entropy([0.0, -1.0, -2.0, -4.0], order=2) == pytest.approx(entropy_of("aab"))


def test_white_noise_reaches_the_maximum_and_never_exceeds_it_as_neurokits_dispersion_entropy():
    # neurokit2 divides bits by the maximum in nats and gives 1.44 for white noise.
    noise = np.random.default_rng(0).normal(size=100_000)
    for order, classes in ((2, 3), (3, 4)):
        value = dispersion_entropy(noise, order=order, classes=classes, normalize=True)
        assert 0.999 < value <= 1
    # The difference of two independent classes out of c has probability (c - |d|) / c^2.
    law = np.array([1, 2, 3, 2, 1]) / 9
    assert fluctuation_dispersion_entropy(noise) == pytest.approx(-(law * np.log(law)).sum(), abs=0.005)
    assert fluctuation_dispersion_entropy(noise, normalize=True) == pytest.approx(
        -(law * np.log(law)).sum() / math.log(5), abs=0.005
    )


def test_units_of_the_series_do_not_matter_for_dispersion():
    series = np.random.default_rng(1).normal(size=300)
    for measure in (dispersion_entropy, fluctuation_dispersion_entropy):
        assert measure(1e-9 * series + 7e-9) == pytest.approx(measure(series), abs=1e-12)
        assert measure(series, base=2) * math.log(2) == pytest.approx(measure(series))


@pytest.mark.parametrize("measure", MEASURES)
def test_constants_have_no_entropy(measure):
    # 0.1 has a computed standard deviation of 1e-17, by which a constant must not be divided.
    assert measure(np.full(1000, 0.1)) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_batches_axes_and_tensors_agree_with_single_series(measure):
    batch = np.random.default_rng(2).normal(size=(2, 300, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure(batch[1, :, 2].tolist()), abs=1e-12)
    np.testing.assert_allclose(measure(torch.tensor(batch), axis=1).numpy(), values, rtol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        dispersion_entropy(np.arange(9), classes=1)
    with pytest.raises(ValueError, match="these settings make 1000000000 words"):
        dispersion_entropy(np.arange(9), classes=10, order=9)
    with pytest.raises(ValueError, match="angles must be two growing numbers"):
        slope_entropy(np.arange(9), angles=(45.0, 5.0))
    with pytest.raises(ValueError, match="order must be at least 2, got 1"):
        fluctuation_dispersion_entropy(np.arange(9), order=1)
    with pytest.raises(ValueError, match="at least 3 samples for these settings, got 2"):
        slope_entropy([1, 2], order=3)


def test_a_value_at_the_mean_belongs_to_the_lower_of_two_classes():
    # As the ceiling of c/2 is c/2.
    assert dispersion_entropy([-1, 0, 1], order=1, classes=2) == pytest.approx(entropy_of([1, 1, 2]))
    assert dispersion_entropy([-1, 0, -1, 0, 1, 1], order=2, classes=2) == pytest.approx(
        entropy_of([(1, 1), (1, 1), (1, 1), (1, 2), (2, 2)])
    )


def test_a_value_further_out_than_the_normal_law_reaches_is_in_the_last_class():
    # The outlier is 44 deviations below the mean, where the normal distribution function is 0 in floats; the rest are
    # just above the mean, in the second of two classes.
    series = np.zeros(2000)
    series[1000] = -1.0
    assert dispersion_entropy(series, order=1, classes=2) == pytest.approx(entropy_of([2] * 1999 + [1]))


@pytest.mark.parametrize("angles", [(45.0, 45.0), (-1.0, 45.0), (5.0, 90.0)])
def test_angles_grow_and_stay_below_the_vertical(angles):
    with pytest.raises(ValueError, match="angles must be two growing numbers"):
        slope_entropy(np.arange(9), angles=angles)


def test_slopes_at_zero_degrees_leave_only_the_level_out():
    # Level, up by little, up by much: with a first angle of 0 all three differ.
    assert slope_entropy([0, 0, 0.01, 3.0], angles=(0.0, 45.0)) == pytest.approx(math.log(3))
