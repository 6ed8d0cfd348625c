import json

import numpy as np
import pytest
import torch
from batches import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.policy.window_entropy import UncertainWindows, WindowsAbove, peak_level, top_k_entropy, window_entropy


def test_windows_against_a_loop_with_holes_in_the_mask():
    generator = torch.Generator().manual_seed(0)
    entropy = torch.rand(5, 9, generator=generator).double()
    mask = torch.rand(5, 9, generator=generator) < 0.8
    for window in (1, 3, 8, 9, 12):
        values, defined = window_entropy(torch.where(mask, entropy, torch.nan), mask, window)
        for i in range(5):
            for t in range(9):
                whole = t + window < 9 and bool(mask[i, t : t + window + 1].all())
                assert bool(defined[i, t]) == whole
                expected = float(entropy[i, t + 1 : t + 1 + window].mean()) if whole else 0.0
                assert float(values[i, t]) == pytest.approx(expected)


def test_level_of_the_peaks_is_numpys():
    generator = torch.Generator().manual_seed(1)
    entropy, lengths = torch.rand(7, 12, generator=generator).double(), torch.tensor([12, 3, 5, 2, 9, 12, 1])
    mask = torch.arange(12) < lengths[:, None]
    windows = window_entropy(entropy, mask, 2)
    own = [np.percentile(windows.entropy[i][windows.defined[i]], 95) for i in range(7) if windows.defined[i].any()]
    assert len(own) == 5
    assert peak_level(windows) == pytest.approx(np.median(own))
    assert peak_level(window_entropy(entropy, mask, 20)) is None


def batch_of(entropy, **fields):
    batch, _ = make_batch(rows=len(entropy), width=len(entropy[0]))
    entropy = torch.tensor(entropy).double()
    return batch.with_(mask=torch.ones_like(entropy, dtype=torch.bool), old_entropy=entropy, **fields)


def test_counts_on_a_sequence_by_hand():
    batch = batch_of([[0.0, 2.0, 4.0, 0.0, 1.0, 5.0], [0.0] * 6])  # windows of two: 3, 2, .5, 3
    number, excess = WindowsAbove(2.0, window=2)(batch)
    assert number.tolist() == [3, 0]
    assert excess.tolist() == [2.0, 0.0]
    tokens = batch.token_ids.index_put((torch.tensor([0]), torch.tensor([3])), torch.tensor(77))
    marked = WindowsAbove(2.0, window=2, tokens=frozenset({77}))
    assert marked.needs == {"old_entropy", "token_ids"}
    number, excess = marked(batch.with_(token_ids=tokens))
    assert (number.tolist(), excess.tolist()) == ([1, 0], [1.0, 0.0])


def test_responses_without_a_window_count_nothing():
    batch = batch_of([[3.0, 3.0], [5.0, 5.0]])
    assert WindowsAbove(0.0, window=4)(batch).number.tolist() == [0, 0]
    assert WindowsAbove(None, window=4)(batch).number.tolist() == [0, 0]
    # Everything is at the level that a batch of equal entropies has of its own.
    assert WindowsAbove(None, window=1)(batch_of([[3.0, 3.0], [3.0, 3.0]])).number.tolist() == [1, 1]


def test_threshold_is_the_first_level_and_then_follows_slowly():
    part = UncertainWindows(window=1)
    memory, expected = part.start(), None
    assert part.at(memory, 0).threshold is None
    for step, level in enumerate([2.0, 4.0, 0.0]):
        metrics = part.observe(batch_of([[0.0, level], [0.0, level]])).means()
        memory = json.loads(json.dumps(part.update(memory, metrics, step)))
        expected = level if expected is None else 0.99 * expected + 0.01 * level
        assert part.at(memory, step).threshold == pytest.approx(expected)
    assert part.update(memory, part.observe(batch_of([[1.0], [1.0]])).means(), 3) == memory


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_entropy_of_the_top_k_is_a_lower_bound_that_grows_to_the_whole(seed, vocabulary):
    generator = torch.Generator().manual_seed(seed)
    log_probs = (3 * torch.randn(vocabulary, generator=generator).double()).log_softmax(-1).sort(descending=True).values
    full = float(-(log_probs.exp() * log_probs).sum())
    bounds = [float(top_k_entropy(log_probs[:k])) for k in range(vocabulary + 1)]
    assert bounds == pytest.approx(sorted(bounds), abs=1e-9)
    # With one token left out, what is left is that token.
    assert bounds[-1] == pytest.approx(full, abs=1e-9)
    assert bounds[-2] == pytest.approx(full, abs=1e-9)
    assert bounds[0] == 0


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="probabilities must sum to at most 1"):
        top_k_entropy(torch.tensor([0.8, 0.7]).log())
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        UncertainWindows(window=0)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        window_entropy(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match=r"quantile must lie in \[0, 1\]"):
        UncertainWindows(quantile=95)
    batch = batch_of([[1.0, 1.0]]).with_(token_ids=None)
    with pytest.raises(ValueError, match="needs the batch's token_ids"):
        WindowsAbove(0.5, 1, frozenset({1}))(batch)
