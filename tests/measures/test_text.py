import bz2
import lzma
import math
import zlib

import numpy as np
import pytest

from isentrope.measures import block_entropy, compressed_size, conditional_block_entropy, text_entropies


def english_like(words, seed=0):
    """Words drawn from a small vocabulary with Zipf's law."""
    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(list("etaoinshrdlu"), size=rng.integers(1, 8))) for _ in range(300)]
    weights = 1 / np.arange(1, 301)
    return " ".join(rng.choice(vocabulary, size=words, p=weights / weights.sum()))


def test_agrees_with_the_functions_on_sequences():
    text = english_like(5000)
    found = text_entropies(text, base=2)
    assert len(found.block) >= 3
    for k, (block, conditional) in enumerate(zip(found.block, found.conditional, strict=True)):
        assert block.value == block_entropy(text, k + 1, method="grassberger", base=2).value
        assert conditional.value == conditional_block_entropy(text, k, method="grassberger", base=2).value
        assert conditional.stderr == conditional_block_entropy(text, k, method="grassberger", base=2).stderr
    assert found.n == len(text)
    assert found.distinct == len(set(text))


def test_conditional_entropies_fall_and_block_entropies_rise():
    found = text_entropies(english_like(20_000))
    assert all(later < earlier for earlier, later in zip(found.conditional, found.conditional[1:], strict=False))
    assert all(later > earlier for earlier, later in zip(found.block, found.block[1:], strict=False))


def test_stops_where_blocks_are_too_rare():
    rng = np.random.default_rng(1)
    # 20 symbols: pairs are 400 and well covered by 20,000 symbols, triples are 8,000 and are not.
    text = "".join(rng.choice(list("abcdefghijklmnopqrst"), size=20_000))
    found = text_entropies(text)
    assert len(found.block) == 2
    assert found.coverage[1] > 0.99
    forced = text_entropies(text, max_order=3)
    assert len(forced.block) == 3
    assert forced.coverage[2] < 0.95
    assert "coverage" in forced.conditional[2].note
    assert found.conditional[1].note == ""


def test_bias_that_remains_is_small_where_coverage_is_high():
    # The same source at 40 times the length gives the truth. What is reported on the short text must be near it.
    short, long = text_entropies(english_like(8_000), base=2), text_entropies(english_like(320_000, seed=0), base=2)
    assert len(short.conditional) >= 3
    for estimate, coverage, truth in zip(short.conditional, short.coverage, long.conditional, strict=False):
        assert abs(estimate - truth) < (0.02 if coverage > 0.99 else 0.08) + 4 * estimate.stderr


def test_independent_symbols_tell_nothing_of_the_next():
    rng = np.random.default_rng(2)
    found = text_entropies(rng.integers(0, 4, size=50_000, dtype=np.uint8).tobytes(), base=2)
    assert len(found.conditional) >= 4
    for estimate in found.conditional[:4]:
        assert abs(estimate - 2.0) < 4 * estimate.stderr + 1e-4


def test_a_text_that_repeats_is_determined():
    found = text_entropies("abcd" * 1000, base=2)
    assert found.conditional[0].value == pytest.approx(2.0, abs=1e-3)
    assert found.conditional[1].value == pytest.approx(0.0, abs=1e-3)
    assert len(found.conditional) == 2


def test_characters_and_bytes_differ_beyond_ascii():
    text = "é∞a" * 500
    characters, data = text_entropies(text, base=2), text_entropies(text.encode(), base=2)
    assert (characters.symbol, data.symbol) == ("character", "byte")
    assert (characters.n, data.n) == (1500, 3000)
    assert characters.conditional[0].value == pytest.approx(math.log2(3), abs=1e-3)
    assert data.conditional[0].value == pytest.approx(math.log2(6), abs=2e-3)


def test_characters_outside_the_basic_plane_are_one_symbol():
    assert text_entropies("😀a" * 100).n == 200
    assert text_entropies("😀a" * 100).distinct == 2


@pytest.mark.parametrize("empty", ["", b""])
def test_empty_text_is_refused(empty):
    with pytest.raises(ValueError, match="no samples"):
        text_entropies(empty)


def test_max_order_must_be_positive():
    with pytest.raises(ValueError, match=r"max_order must be at least 1 \(got 0\)"):
        text_entropies("abc", max_order=0)


def test_compressed_sizes_can_be_had():
    data = english_like(3000).encode()
    size = compressed_size(data)
    assert set(size.sizes) == {"stored", "zlib", "bz2", "lzma"}
    assert size.sizes["bz2"] == len(bz2.compress(data))
    # The raw streams are the same codes without headers and checksums: shorter, but by less than those.
    assert 0 < len(zlib.compress(data, 9)) - size.sizes["zlib"] <= 6
    assert 0 < len(lzma.compress(data)) - size.sizes["lzma"] < 100
    assert size.sizes[size.best] == min(size.sizes.values())
    assert size.per_byte(base=2) == 8 * min(size.sizes.values()) / len(data)
    assert size.per_byte() == pytest.approx(size.per_byte(base=2) * math.log(2))


def test_a_source_cannot_be_compressed_below_its_entropy():
    # 100,000 independent symbols of a known law: a compressor comes near its entropy, never below by more than luck.
    rng = np.random.default_rng(3)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    data = rng.choice(4, size=100_000, p=p).astype(np.uint8).tobytes()
    entropy = float(-(p * np.log2(p)).sum())
    measured = text_entropies(data, base=2).conditional[0]
    assert abs(measured - entropy) < 4 * measured.stderr
    assert entropy < compressed_size(data).per_byte(base=2) < 1.25 * entropy


def test_noise_is_stored():
    size = compressed_size(np.random.default_rng(4).bytes(5000))
    assert size.best == "stored"
    assert size.per_byte(base=2) == 8.0


def test_nothing_cannot_be_compressed():
    with pytest.raises(ValueError, match="no bytes"):
        compressed_size(b"")
