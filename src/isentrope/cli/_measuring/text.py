"""Text and bytes: the entropy of each symbol, alone and given the symbols before it, beside real compressors.

Bytes that decode as UTF-8 and hold no zero byte are text. A text is measured by characters and, where a character may
take more than one byte, by bytes as well; anything else by bytes alone.
"""

from typing import Any

from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.measures import compressed_size, text_entropies


def measure_bytes(data: bytes, asked: Asked) -> Found:
    """Measure bytes, as text where they are text."""
    asked.refuse(
        "text or bytes (tables, arrays and tensors are known by their suffix: .csv, .tsv, .parquet, .npy, .npz, "
        ".safetensors)",
        "--column",
        "--discrete",
        "--numeric",
        "--missing",
        "--axis",
        "--probabilities",
        "--samples",
        "--pairs",
        "--series",
    )
    if not data:
        raise ValueError("is empty; there is nothing to measure")
    notes: list[str] = []
    text = None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        notes.append(f"not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start}): read as bytes")
    if text is not None and "\0" in text:
        notes.append(f"holds zero bytes (the first at offset {data.index(0)}): read as bytes")
        text = None
    if text == "":
        raise ValueError("holds nothing but a byte order mark; there is nothing to measure")
    one_byte_each = text is not None and len(text) == len(data)
    symbols: list[str | bytes] = [data] if text is None else [text] if one_byte_each else [text, data]
    compressed = compressed_size(data)
    rows: list[dict[str, Any]] = []
    for symbol in symbols:
        found = text_entropies(symbol, base=asked.base)
        for known, (entropy, block) in enumerate(zip(found.conditional, found.block, strict=True)):
            rows.append(
                {
                    "per": found.symbol,
                    "given": f"{known} before" if known else "nothing",
                    "entropy*": entropy,
                    "block*": block,
                    "coverage": round(found.coverage[known], 4),
                }
            )
        longest = len(found.block)
        if longest > 1 and found.conditional[-1] == 0:
            notes.append(f"{longest - 1} {found.symbol}s determine the next in all of the text")
        elif longest < min(found.n, 8):
            notes.append(
                f"blocks of {longest + 1} {found.symbol}s are too rare here (coverage below 0.95), "
                f"so no {found.symbol} is measured given {longest} before"
            )
        if min(found.coverage) < 0.99:
            notes.append(
                f"{found.symbol}s: where the coverage is below 0.99, entropies tend to be low by some hundredths of a bit "
                "that the standard error does not hold"
            )
        if found.block[0].note:
            notes.append(f"{found.symbol}s: {found.block[0].note}")
    for symbol in symbols:
        rows.append(
            {
                "per": "character" if isinstance(symbol, str) else "byte",
                "given": f"{compressed.best} compressed",
                "entropy*": compressed.per_byte(base=asked.base) * len(data) / len(symbol),
            }
        )
    if text is None:
        holds = f"{len(data):,} bytes"
    else:
        holds = f"UTF-8 text, {len(text):,} characters ({len(set(text)):,} distinct), "
        holds += "one byte each" if one_byte_each else f"{len(data):,} bytes"
    return Found(holds, rows, notes)
