"""Transfer entropy against conditional information of columns that are lagged by hand."""

import numpy as np
import pytest

from isentrope.measures.mutual_information import conditional_mutual_information
from isentrope.measures.transfer import transfer_entropy

X, Y, Z = np.random.default_rng(0).normal(size=(3, 80))


def test_the_past_of_the_third_series_is_as_long_and_as_far_back_as_the_source_is():
    sent, third = (np.stack([series[1:-2], series[:-3]], axis=1) for series in (X, Z))  # at t-2 and t-3
    expected = conditional_mutual_information(sent, Y[3:], np.column_stack([Y[2:-1], third]), method="gaussian")
    found = transfer_entropy(X, Y, condition=Z, lag=2, source_history=2, method="gaussian")
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.n == 77


def test_no_sample_more_is_lost_than_the_longest_history_takes():
    for options, lost in (({"lag": 3}, 3), ({"target_history": 4}, 4), ({"lag": 2, "source_history": 3}, 4)):
        assert transfer_entropy(X, Y, **options, method="gaussian").n == 80 - lost
    # Four neighbours in a history of one step: five samples are left of six, and each has four others.
    with pytest.raises(ValueError, match="6 samples are too few for histories that reach 1 steps back and k=4"):
        transfer_entropy(X[:6], Y[:6])
    assert transfer_entropy(X[:7], Y[:7]).n == 6


def test_a_constant_target_receives_nothing():
    for method in ("auto", "gaussian"):
        for source, target in ((X, np.ones(80)), (np.ones(80), Y)):
            found = transfer_entropy(source, target, method=method)
            assert (found.value, found.stderr) == (0, 0)
            assert found.test(9, rng=0).pvalue == 1
