"""Excess entropy: processes with a closed form, the sum that defines it, its standard error and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures import block_entropy, conditional_block_entropy, discrete_mutual_information, excess_entropy


def binary_entropy(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def golden_mean(n, rng):
    coins, symbols = rng.random(n) < 0.5, np.zeros(n, np.int64)
    for i in range(1, n):
        symbols[i] = coins[i] and not symbols[i - 1]
    return symbols


def test_processes_with_a_closed_form():
    rng = np.random.default_rng(0)
    coin = rng.integers(0, 2, 20_000)
    golden = golden_mean(20_000, rng)
    flips = np.cumsum(rng.random(20_000) < 0.1) % 2
    for order in (1, 2, 4):
        for sequence, truth in (
            (coin, 0.0),
            (golden, binary_entropy(1 / 3) - 2 / 3),
            (flips, 1 - binary_entropy(0.1)),
        ):
            found = excess_entropy(sequence, order, base=2)
            assert abs(found - truth) < 4 * found.stderr
            assert found.stderr < 0.02 * order


def test_a_process_that_is_hidden_behind_its_symbols():
    # The even process remembers without end. Its block entropies are sums over words of products of its two matrices, and
    # its excess entropy, in the limit, that of its states.
    steps = np.array([[[0.5, 0], [0, 0]], [[0, 0.5], [1, 0]]])

    def entropy_of_blocks(length):
        words = [np.array([2 / 3, 1 / 3])]
        for _ in range(length):
            words = [word @ step for word in words for step in steps]
        p = np.array([word.sum() for word in words])
        return -float(np.sum(p[p > 0] * np.log2(p[p > 0])))

    rng = np.random.default_rng(0)
    even = np.concatenate([[0] if fair else [1, 1] for fair in rng.random(200_000) < 0.5])
    exact = []
    for order in (2, 5, 8):
        exact.append(entropy_of_blocks(order) * (order + 1) - entropy_of_blocks(order + 1) * order)
        found = excess_entropy(even, order, base=2)
        assert abs(found - exact[-1]) < 4 * found.stderr + 1e-4
    assert exact[0] < exact[1] < exact[2] < binary_entropy(1 / 3)


@pytest.mark.parametrize("period", ["ab", "aab", "abcde"])
def test_a_period_is_its_logarithm(period):
    n = 60 * len(period)
    # As many of each block as of any other.
    sequence = (period * 61)[: n + len(period)]
    found = excess_entropy(sequence, len(period), method="plugin")
    assert found == pytest.approx(math.log(len(period)), abs=1e-12)


@given(st.lists(st.integers(0, 2), min_size=6, max_size=60), st.integers(1, 3))
def test_it_is_the_sum_over_the_falling_conditional_entropies(sequence, order):
    # A ring, of which every block occurs as often in all lengths.
    ring = sequence + sequence[:order]
    ends = [sequence + sequence[:k] for k in range(order + 1)]
    falling = [conditional_block_entropy(ends[k], k, method="plugin").value for k in range(order + 1)]
    expected = sum(h - falling[-1] for h in falling[:-1])
    assert excess_entropy(ring, order, method="plugin").value == pytest.approx(expected, abs=1e-10)
    # At order 1 it is the information of neighbours.
    pair = discrete_mutual_information(sequence, sequence[1:] + sequence[:1], method="plugin")
    assert excess_entropy(sequence + sequence[:1], 1, method="plugin").value == pytest.approx(pair.value, abs=1e-10)


def test_the_correction_is_that_of_both_entropies():
    sequence = golden_mean(400, np.random.default_rng(1))
    found, plain = (excess_entropy(sequence, 2, method=method) for method in ("miller_madow", "plugin"))
    # 5 of the blocks of three and 3 of those of two occur: (3 * 2 - 2 * 4) / 2n.
    assert found - plain == pytest.approx(found.bias_correction) == pytest.approx((3 * 2 - 2 * 4) / (2 * 398))
    assert found.n == 398


@pytest.mark.parametrize("source", ["coin", "golden mean"])
def test_the_standard_error_is_the_spread(source):
    rng = np.random.default_rng(2)
    draw = (lambda: rng.integers(0, 2, 1500)) if source == "coin" else lambda: golden_mean(1500, rng)
    found = [excess_entropy(draw(), 2) for _ in range(150)]
    told = math.sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.8 < told / np.std(found, ddof=1) < (1.6 if source == "coin" else 1.2)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="order must be an integer of at least 1"):
        excess_entropy("abab", 0)
    with pytest.raises(ValueError, match="a block of 5 symbols is longer than the sequence of 4"):
        excess_entropy("abab", 4)
    with pytest.raises(ValueError, match="method must be one of plugin"):
        excess_entropy("abab", 1, method="nsb")
    assert "coverage" in excess_entropy("abcdefgh", 2).note
    assert excess_entropy("ab" * 50, 1, base=2).unit == "bit"
    assert block_entropy("ab" * 50, 1, method="plugin", base=2) == 1
