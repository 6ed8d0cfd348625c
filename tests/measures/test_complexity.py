import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures import conditional_block_entropy
from isentrope.measures.complexity import entropy_rate, lempel_ziv_complexity, markov_entropy_rate

words = st.text(alphabet="abc", min_size=2, max_size=40)


def binary_entropy(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def golden_mean(n, rng):
    """No two ones in a row: after a zero a fair coin."""
    coins, symbols = rng.random(n) < 0.5, np.zeros(n, np.int64)
    for i in range(1, n):
        symbols[i] = coins[i] and not symbols[i - 1]
    return symbols


def even_process(n, rng):
    """Blocks of ones have even length: a fair coin between 0 and 11."""
    return np.concatenate([[0] if coin else [1, 1] for coin in rng.random(n) < 0.5])[:n]


@pytest.mark.parametrize(
    ("sequence", "phrases"), [("0001101001000101", 6), ("0" * 20, 2), ("01" * 10, 3), ("010101010101", 3), ("0", 1)]
)
def test_known_numbers_of_phrases(sequence, phrases):
    assert lempel_ziv_complexity(sequence) == phrases


def test_normalised_complexity_on_which_antropy_agrees():
    assert lempel_ziv_complexity("010101010101", normalize=True) == pytest.approx(0.896241, abs=1e-6)


def slow_exhaustive_phrases(s):
    phrases = position = 0
    while position < len(s):
        size = 1
        while position + size <= len(s) and s.find(s[position : position + size], 0, position + size - 1) >= 0:
            size += 1
        phrases, position = phrases + 1, position + size
    return phrases


def slow_incremental_phrases(s):
    known, phrase, phrases = set(), "", 0
    for symbol in s:
        phrase += symbol
        if phrase not in known:
            known.add(phrase)
            phrase, phrases = "", phrases + 1
    return phrases + bool(phrase)


def slow_match(s, i):
    size = 0
    while i + size < len(s) and s[i : i + size + 1] in s[:i]:
        size += 1
    return size


@given(words, st.integers(1, 3))
def test_parsings_and_matches_are_their_definitions(word, copies):
    s = word * copies
    n, distinct = len(s), len(set(s))
    phrases = slow_exhaustive_phrases(s)
    assert lempel_ziv_complexity(s) == phrases
    assert entropy_rate(s, method="lz76") == pytest.approx(phrases * math.log(n) / n)
    phrases = slow_incremental_phrases(s)
    assert entropy_rate(s, method="lz78") == pytest.approx(phrases * (math.log(phrases) + math.log(distinct)) / n)
    mean = np.mean([(slow_match(s, i) + 1) / math.log(i + 1) for i in range(1, n)])
    assert entropy_rate(s, method="match_length") == pytest.approx(1 / mean)


def krichevsky_trofimov(counts):
    """Symbol by symbol, as a sequential coder would."""
    logarithm, seen = 0.0, [0] * len(counts)
    for symbol, count in enumerate(counts):
        for _ in range(count):
            logarithm += math.log((seen[symbol] + 0.5) / (sum(seen) + len(counts) / 2))
            seen[symbol] += 1
    return logarithm


def slow_context_tree(s, alphabet, context, depth, start):
    """Logarithm of the weighted probability of the symbols after a context, by recursion over all contexts."""
    after = [s[t] for t in range(start, len(s)) if s[t - len(context) : t] == context]
    own = krichevsky_trofimov([after.count(a) for a in alphabet])
    if depth == 0:
        return own
    children = sum(slow_context_tree(s, alphabet, a + context, depth - 1, start) for a in alphabet)
    return np.logaddexp(own, children) - math.log(2)


@given(words, st.integers(0, 3))
def test_context_tree_is_the_recursion_over_all_contexts(word, depth):
    s = word + "ab"
    expected = -slow_context_tree(s, sorted(set(s)), "", depth, depth) / (len(s) - depth)
    assert entropy_rate(s, depth=depth) == pytest.approx(expected)


@given(words)
def test_local_values_are_code_lengths_given_the_past(word):
    s, depth = word + "ab", 2
    local = entropy_rate(s, depth=depth, local=True, base=2).local
    alphabet = sorted(set(s))
    totals = [-slow_context_tree(s[:end], alphabet, "", depth, depth) for end in range(depth, len(s) + 1)]
    np.testing.assert_allclose(local * math.log(2), np.diff(totals), atol=1e-10)


@pytest.mark.parametrize("method", ["context_tree", "match_length", "lz76", "lz78"])
@given(word=words)
def test_names_of_symbols_do_not_matter(method, word):
    numbers = [{"a": -5, "b": 2, "c": 99}[symbol] for symbol in word]
    options = {"method": method, "depth": 1}
    assert entropy_rate(word, **options) == pytest.approx(entropy_rate(numbers, **options))
    assert entropy_rate(word, base=2, **options) * math.log(2) == pytest.approx(entropy_rate(word, **options))


def test_context_tree_finds_the_rate_of_processes_with_a_closed_form():
    rng = np.random.default_rng(0)
    # Redundancy of at most L log2(n)/2n with L contexts, plus 2 bits a node of the tree; and three standard errors.
    for sequence, rate in (
        (rng.integers(0, 2, size=20_000), 1.0),
        (golden_mean(20_000, rng), 2 / 3),
        (np.cumsum(rng.random(20_000) < 0.1) % 2, binary_entropy(0.1)),
    ):
        estimate = entropy_rate(sequence, base=2)
        assert estimate.value == pytest.approx(rate, abs=0.015)
    # The even process has no finite memory; contexts that are all ones, 2^-4 of them at depth 8, stay ambiguous.
    assert entropy_rate(even_process(50_000, rng), depth=14, base=2).value == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["fair coin", "golden mean", "flip chain"])
def test_rates_over_many_draws(source):
    """Bias and spread of every method for 40 sequences of 10,000 symbols, against the exact rate."""
    rng = np.random.default_rng(10)
    draw, rate, contexts = {
        "fair coin": (lambda: rng.integers(0, 2, size=10_000), 1.0, 1),
        "golden mean": (lambda: golden_mean(10_000, rng), 2 / 3, 2),
        "flip chain": (lambda: np.cumsum(rng.random(10_000) < 0.1) % 2, binary_entropy(0.1), 2),
    }[source]
    sequences = [draw() for _ in range(40)]

    def rates(estimate):
        values = np.array([float(estimate(s)) for s in sequences])
        return values.mean() - rate, values.std(ddof=1) / math.sqrt(40)

    # Blocks with a correction have no bias to speak of; the code of context trees has the known redundancy, half a
    # log2 n for each context, and a few bits for the tree.
    bias, error = rates(lambda s: conditional_block_entropy(s, 2, base=2))
    assert abs(bias) < 4 * error + 1e-4
    bias, error = rates(lambda s: entropy_rate(s, method="block", base=2))
    assert abs(bias) < 4 * error + 2e-3
    bias, error = rates(lambda s: entropy_rate(s, base=2))
    redundancy = contexts * math.log2(10_000) / 2 / 10_000
    assert abs(bias - redundancy) < 4 * error + 5 / 10_000
    assert abs(rates(lambda s: entropy_rate(s, method="match_length", base=2))[0]) < 0.12 * rate
    assert 0 < rates(lambda s: entropy_rate(s, method="lz76", base=2))[0] < 0.15 * rate
    # Its redundancy falls as 1/log n: at this length still a third to three fifths of the rate.
    assert 0.3 * rate < rates(lambda s: entropy_rate(s, method="lz78", base=2))[0] < 0.65 * rate


@pytest.mark.slow
@pytest.mark.parametrize("method", ["context_tree", "block", "match_length"])
def test_standard_errors_are_the_spread(method):
    # They leave out the bias, so the spread of the values is what they are to tell.
    rng = np.random.default_rng(11)
    found = [entropy_rate(golden_mean(5000, rng), method=method) for _ in range(200)]
    spread = np.std([e.value for e in found], ddof=1)
    assert np.mean([e.stderr for e in found]) == pytest.approx(spread, rel=0.25)


def test_memory_and_time_grow_with_the_length_alone():
    # A quadratic method would take minutes for these; both are the worst for careless parsers.
    assert lempel_ziv_complexity(np.zeros(200_000, np.int64)) == 2
    sequence = np.arange(200_000)  # every symbol is new
    assert lempel_ziv_complexity(sequence) == 200_000
    assert entropy_rate(sequence, method="lz78").value == pytest.approx(2 * math.log(200_000))
    # The longest match at i is as long as what lies before and what is left.
    position = np.arange(1, 200_000)
    expected = 1 / np.mean((np.minimum(position, 200_000 - position) + 1) / np.log(position + 1))
    assert entropy_rate(np.zeros(200_000, np.int64), method="match_length").value == pytest.approx(expected)


def grassberger(counts):
    """His estimator of 2003 by the recursion of G: -γ - ln 2 at 1, and 2/(2k + 1) more at each even number."""

    def g(m):
        return -np.euler_gamma - math.log(2) + sum(2 / (2 * k + 1) for k in range(m // 2))

    n = sum(counts)
    return math.log(n) - sum(m * g(m) for m in counts) / n if len(counts) > 1 else 0.0


@given(words)
def test_blocks_are_differences_of_block_entropies(word):
    s = (word + "ab") * 30
    for depth in (0, 1, 2):
        starts = range(len(s) - depth)
        blocks = Counter(s[t : t + depth + 1] for t in starts)
        contexts = Counter(s[t : t + depth] for t in starts)
        expected = grassberger([*blocks.values()]) - grassberger([*contexts.values()])
        found = entropy_rate(s, method="block", depth=depth)
        assert found.value == pytest.approx(max(0.0, expected), abs=1e-12)
        assert found.stderr == conditional_block_entropy(s, depth, method="grassberger").stderr


@pytest.mark.parametrize(("n", "distinct"), [(10_000, 2), (3000, 7)])
def test_the_history_is_the_longest_that_is_well_sampled(n, distinct):
    symbols = np.random.default_rng(5).integers(0, distinct, n)
    s = "".join(map(str, symbols))

    def coverage(length):
        counts = Counter(s[t : t + length] for t in range(n - length + 1))
        return 1 - sum(count == 1 for count in counts.values()) / counts.total()

    history = max(k for k in range(20) if coverage(k + 1) >= 0.99)
    found = entropy_rate(s, method="block")
    assert found.note == f"history of {history} symbols"
    assert found.value == entropy_rate(symbols, method="block", depth=history).value
    assert abs(found.value - math.log(distinct)) < 4 * found.stderr
    longest = max(k for k in range(20) if coverage(k + 1) >= 0.95)
    entropy_rate(s, method="block", depth=longest)
    message = f"{n} symbols are too few for blocks of {longest + 2}.*a depth of {longest} is the longest that fits"
    for depth in (longest + 1, n + 5):
        with pytest.raises(ValueError, match=message):
            entropy_rate(s, method="block", depth=depth)


def test_a_history_that_determines_the_next_symbol_is_long_enough():
    # Symbols two back decide, one back is not enough.
    found = entropy_rate("aabb" * 500, method="block")
    assert (found.value, found.note) == (0, "history of 2 symbols")
    assert entropy_rate("a" * 1000, method="block").value == 0
    with pytest.raises(ValueError, match=r"50 symbols are too few for blocks of 1.*most symbols occur once"):
        entropy_rate(range(50), method="block")


def test_other_methods_approach_the_rate():
    coin = np.random.default_rng(1).integers(0, 2, size=50_000)
    matched = entropy_rate(coin, method="match_length", base=2)
    assert matched.value == pytest.approx(1, abs=0.1)
    assert 0 < matched.stderr < 0.02
    assert 1 < entropy_rate(coin, method="lz76", base=2) < 1.1
    # A code of the coin cannot be shorter than a bit a symbol; this one's redundancy falls as 1/log n.
    lengths = [entropy_rate(coin[:n], method="lz78", base=2) for n in (500, 5000, 50_000)]
    assert lengths[0] > lengths[1] > lengths[2] > 1
    assert lengths[2] < 1.3
    for method in ("match_length", "lz76", "context_tree"):
        assert entropy_rate("ab" * 10_000, method=method) < 0.01
    # The phrases of 1978 grow by one symbol each here, two of every length: about 2 sqrt(n) of them.
    phrases = 2 * math.sqrt(20_000)
    expected = phrases * math.log(2 * phrases) / 20_000
    assert entropy_rate("ab" * 10_000, method="lz78").value == pytest.approx(expected, rel=0.02)


def test_markov_chains_are_exact():
    assert markov_entropy_rate([[0.5, 0.5], [1, 0]], base=2) == pytest.approx(2 / 3)
    for p in (0.1, 0.5, 0.9):
        assert markov_entropy_rate([[1 - p, p], [p, 1 - p]], base=2) == pytest.approx(binary_entropy(p))
    # A cycle has no entropy, independent draws that of their law; a state that is left for good does not count.
    assert markov_entropy_rate(np.roll(np.eye(5), 1, axis=1)) == pytest.approx(0, abs=1e-12)
    law = np.array([0.5, 0.25, 0.25])
    assert markov_entropy_rate(np.tile(law, (3, 1)), base=2) == pytest.approx(1.5)
    assert markov_entropy_rate([[0, 0.5, 0.5], [0, 0.5, 0.5], [0, 0.5, 0.5]]) == pytest.approx(math.log(2))
    assert markov_entropy_rate([[1.0]]) == 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="method must be one of context_tree, block, match_length, lz76, lz78"):
        entropy_rate("abab", method="zip")
    with pytest.raises(ValueError, match="only method 'context_tree' has local values"):
        entropy_rate("abab", method="lz78", local=True)
    with pytest.raises(ValueError, match="only method 'context_tree' has local values"):
        entropy_rate("abab" * 9, method="block", local=True)
    with pytest.raises(ValueError, match="at least 9 symbols are needed for these settings"):
        entropy_rate("abababab")
    with pytest.raises(ValueError, match="there are no samples"):
        lempel_ziv_complexity("")
    with pytest.raises(ValueError, match="more than one stationary law"):
        markov_entropy_rate(np.eye(2))
    with pytest.raises(ValueError, match=r"row 1 sums to 0.9"):
        markov_entropy_rate([[1, 0], [0.4, 0.5]])
    with pytest.raises(ValueError, match="square matrix"):
        markov_entropy_rate([[1, 0]])


def test_two_closed_classes_are_seen_through_rounding():
    p, q = np.array([[0.3, 0.7], [0.9, 0.1]]), np.array([[0.2, 0.8], [0.6, 0.4]])
    apart = np.block([[p, np.zeros((2, 2))], [np.zeros((2, 2)), q]])
    with pytest.raises(ValueError, match="more than one stationary law"):
        markov_entropy_rate(apart)
    with pytest.raises(ValueError, match=r"row 0 sums to 0\.999"):
        markov_entropy_rate([[0.499, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("rare", [1e-13, 1e-300])
def test_rare_transitions_join_what_is_not_apart(rare):
    # Two fair coins that pass to one another, one three times as often: the time is divided as 3 to 1.
    transition = [[0.5, 0.5, 0, 0], [0.5, 0.5, rare, 0], [0, 3 * rare, 0.5, 0.5], [0, 0, 0.5, 0.5]]
    assert markov_entropy_rate(transition) == pytest.approx(math.log(2))
    transition[3] = [0, 0, 1, 0]
    # The second is now a golden mean, from two thirds of whose time the way back starts, three times as often as from half
    # of the first's: the time is divided as 4 to 1.
    assert markov_entropy_rate(transition) == pytest.approx((4 + 2 / 3) / 5 * math.log(2))


def test_standard_errors_have_their_unit_and_certain_chains_no_minus():
    coin = np.random.default_rng(12).integers(0, 2, size=500)
    for method in ("context_tree", "match_length"):
        nats, bits = (entropy_rate(coin, method=method, base=base) for base in (None, 2))
        assert bits.stderr * math.log(2) == pytest.approx(nats.stderr)
    assert math.copysign(1, markov_entropy_rate([[1.0]])) == 1


def test_standard_error_of_match_lengths_is_about_the_spread():
    # Rare symbols have a low rate r, and the error of 1/mean is r^2 times that of the mean.
    rng = np.random.default_rng(13)
    found = [entropy_rate(rng.random(2000) < 0.05, method="match_length") for _ in range(60)]
    assert np.mean([e.stderr for e in found]) == pytest.approx(np.std([e.value for e in found], ddof=1), rel=0.4)


@pytest.mark.parametrize("transition", ["abc", [[1.0], [0.5, 0.5]]])
def test_what_is_no_matrix_of_numbers_is_no_chain(transition):
    with pytest.raises(TypeError, match="transition must be a matrix of numbers"):
        markov_entropy_rate(transition)
