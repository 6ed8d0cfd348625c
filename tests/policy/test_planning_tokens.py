import math

import pytest
import torch
from batches import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.policy.planning_tokens import PlanningCredit, covered_by_grams, gram_matches, strategic_entropy


def ids(*rows):
    return torch.tensor(rows)


def everything(tokens):
    return torch.ones_like(tokens, dtype=torch.bool)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=7, max_size=7), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6),
    st.integers(0, 7),
)
def test_matches_are_those_of_a_search_by_eye(rows, grams, length):
    tokens = torch.tensor(rows)
    mask = torch.arange(7).expand_as(tokens) < length
    covered = torch.zeros_like(mask)
    starts = {}
    for gram in set(grams):
        for i, row in enumerate(rows):
            for t in range(length - len(gram) + 1):
                if tuple(row[t : t + len(gram)]) == gram:
                    covered[i, t : t + len(gram)] = True
                    starts.setdefault(gram, set()).add((i, t))
    assert torch.equal(covered_by_grams(tokens, mask, grams), covered)
    found = gram_matches(tokens, mask, grams)
    assert {gram: set(map(tuple, where.nonzero().tolist())) for gram, where in found.items()} == starts


def test_large_token_ids_and_tool_output_are_told_apart():
    big = 2**31 - 2
    tokens = ids([big, big - 1, big, big - 1])
    mask = torch.tensor([[True, True, True, False]])
    found = gram_matches(tokens, mask, [(big, big - 1), (big - 1, big)])
    assert {gram: where.nonzero().tolist() for gram, where in found.items()} == {
        (big, big - 1): [[0, 0]],
        (big - 1, big): [[0, 1]],
    }


def credited(advantages, **fields):
    batch, _ = make_batch(rows=len(advantages), width=4)
    batch = batch.with_(mask=everything(batch.mask), token_ids=ids([1, 2, 3, 9]).expand(len(advantages), 4))
    values = torch.tensor(advantages).double()[:, None].expand(-1, 4)
    extras = fields.pop("extras", {})
    return PlanningCredit(**fields)(batch.with_(advantages=values, extras=extras)).tolist()


def test_hand_cases():
    grams = frozenset({(1, 2), (2, 3)})
    assert credited([1.0, -1.0, 0.0], grams=grams) == [[1.2, 1.2, 1.2, 1.0], [-0.8, -0.8, -0.8, -1.0], [0.0] * 4]
    assert credited([1.0], grams=frozenset()) == [[1.0] * 4]
    assert credited([1.0], strength=0.0, grams=grams) == [[1.0] * 4]
    marked = {"strategic": torch.tensor([[True, False, False, True]])}
    assert credited([-2.0], extras=marked, strength=0.5) == [[-1.0, -2.0, -2.0, -1.0]]


def test_entropy_of_strategies():
    tokens = ids([1, 2, 3, 4, 5, 6, 1, 2])
    one_each = {(1, 2): 0, (3, 4): 1, (5, 6): 2}
    shares = [2 / 4, 1 / 4, 1 / 4]
    expected = -sum(f * math.log(f) for f in shares)
    assert strategic_entropy(tokens, everything(tokens), one_each) == pytest.approx(expected)
    # Grams of one meaning share a cluster.
    assert strategic_entropy(tokens, everything(tokens), dict.fromkeys(one_each, 4)) == 0
    equal = {(t,): t for t in range(2, 7)}
    tokens = ids([2, 3, 4, 5, 6])
    assert strategic_entropy(tokens, everything(tokens), equal) == pytest.approx(math.log(5))
    assert math.isnan(strategic_entropy(tokens, everything(tokens), {(9, 9): 0}))


def test_token_entropy_can_fall_while_the_entropy_of_strategies_rises():
    # Before: one strategy in four wordings; after: two strategies in one wording each.
    clusters = {(1, word): 0 for word in range(10, 14)} | {(2, 10): 1}
    before = ids([1, 10], [1, 11], [1, 12], [1, 13])
    after = ids([1, 10], [2, 10], [1, 10], [2, 10])

    def token_entropy(tokens):
        counts = tokens.flatten().unique(return_counts=True)[1].double()
        shares = counts / counts.sum()
        return float(-(shares * shares.log()).sum())

    first, second = (strategic_entropy(tokens, everything(tokens), clusters) for tokens in (before, after))
    assert (first, second) == (0, pytest.approx(math.log(2)))
    assert token_entropy(after) < token_entropy(before)


@pytest.mark.parametrize("gram", [(), (1.5,), (-1, 2)])
def test_grams_that_are_no_tokens_are_refused(gram):
    with pytest.raises(ValueError, match="PlanningCredit: a gram must be"):
        PlanningCredit(grams=(gram,))


def test_what_is_missing_is_named():
    batch, _ = make_batch()
    batch = batch.with_(advantages=batch.old_log_probs)
    with pytest.raises(ValueError, match=r"extras\['strategic'\]"):
        PlanningCredit()(batch.with_(extras={}))
    with pytest.raises(ValueError, match="needs the batch's token_ids"):
        PlanningCredit(grams=((1,),))(batch.with_(token_ids=None))
    with pytest.raises(ValueError, match="strength must lie"):
        PlanningCredit(strength=2.0)
