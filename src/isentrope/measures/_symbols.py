"""Symbols: every value of a discrete sample becomes an integer from 0, so that counting is one pass of bincount."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from isentrope.measures._frames import without_mask


def encode(samples, where: str) -> np.ndarray:
    """Non-negative integer codes of the samples, in one dimension; equal samples have equal codes."""
    samples = without_mask(samples)
    if isinstance(samples, str):
        codes = np.frombuffer(samples.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    elif isinstance(samples, bytes | bytearray | memoryview):
        codes = np.frombuffer(samples, dtype=np.uint8)
    elif isinstance(samples, list | tuple) and not set(map(type, samples)) <= {int, float, bool}:
        codes = _encode_objects(samples, where)
    else:
        codes = _encode_array(np.asarray(samples), where)
    if len(codes) == 0:
        raise ValueError(f"{where}: there are no samples; at least one is needed")
    return codes


def _encode_array(samples: np.ndarray, where: str) -> np.ndarray:
    if samples.ndim != 1:
        raise ValueError(f"{where}: samples must have one dimension (got shape {samples.shape}); ravel them first")
    kind = samples.dtype.kind
    if kind == "O":
        return _encode_objects(samples.tolist(), where)
    if kind in "fcMm":
        _refuse_missing(np.isnat(samples) if kind in "Mm" else np.isnan(samples), where)
    if kind == "b":
        return samples.view(np.uint8)
    if kind in "iu" and len(samples):
        low, high = int(samples.min()), int(samples.max())
        if high - low < max(65536, 4 * len(samples)):
            # Subtracted modulo 2^64, so that the whole range of uint64 and int64 stays exact.
            return (samples.astype(np.uint64) - np.uint64(low % 2**64)).astype(np.int64)
    return np.unique(samples, return_inverse=True)[1].ravel()


def _encode_objects(samples: Sequence, where: str) -> np.ndarray:
    table: dict[Hashable, int] = {}
    try:
        codes = np.fromiter((table.setdefault(sample, len(table)) for sample in samples), np.int64, len(samples))
    except TypeError as error:
        raise TypeError(f"{where}: samples must be hashable values in one dimension ({error})") from None
    missing = [code for sample, code in table.items() if _is_missing(sample)]
    if missing:
        _refuse_missing(np.isin(codes, missing), where)
    return codes


def _is_missing(sample: Hashable) -> bool:
    # A NaN differs from itself; comparing pandas' NA gives NA, which has no truth value.
    return sample is None or type(sample).__name__ in ("NAType", "NaTType") or bool(sample != sample)


def _refuse_missing(missing: np.ndarray, where: str) -> None:
    number = int(np.count_nonzero(missing))
    if number:
        first = int(np.argmax(missing))
        raise ValueError(
            f"{where}: {number} of {len(missing)} samples are missing (the first at index {first}); drop them first"
        )


def count(codes: np.ndarray) -> np.ndarray:
    """Counts of the codes that occur."""
    if int(codes.max()) < max(1 << 22, 4 * len(codes)):
        counts = np.bincount(codes)
        return counts[counts > 0]
    return np.unique(codes, return_counts=True)[1]


def relabel(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes renumbered 0..K-1 without gaps, and their K counts."""
    if int(codes.max()) < max(1 << 22, 4 * len(codes)):
        counts = np.bincount(codes)
        occupied = counts > 0
        return (np.cumsum(occupied) - 1)[codes], counts[occupied]
    _, labels, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return labels.ravel(), counts


def join(codes: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the combinations of several variables' codes, and how often each occurs."""
    first, *others = codes
    labels, counts = relabel(first)
    for other in others:
        more, more_counts = relabel(other)
        labels, counts = relabel(labels * len(more_counts) + more)
    return labels, counts


def block_codes(codes: np.ndarray, longest: int):
    """For each block length 1..longest: the label of the block that starts at each position, and the counts.

    The label of a block is made from that of the block without its last symbol, so that numbers stay below
    (distinct blocks) x (distinct symbols) whatever the length.
    """
    symbols, counts = relabel(codes)
    distinct = len(counts)
    labels = symbols
    yield labels, counts
    for length in range(2, longest + 1):
        labels, counts = relabel(labels[:-1] * distinct + symbols[length - 1 :])
        yield labels, counts
