"""One file: by which of the readers it is read.

The suffix decides; a file whose suffix says nothing is known by its first bytes, and what no reader knows is text or
bytes. A reader is imported when a file needs it, because what it stands on takes long to load.
"""

import sys
from pathlib import Path

from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.text import measure_bytes


def measure_file(file: str, asked: Asked) -> Found:
    """Measure a file, or standard input where it is a lone ``-``."""
    if file == "-":
        return measure_bytes(sys.stdin.buffer.read(), asked)
    path = Path(file)
    if path.is_dir():
        raise ValueError(f"is a directory; name the files in it, as in {path / '*'}")
    if path.exists() and not path.is_file():
        # A pipe gives its bytes once, so there is no looking at the first of them.
        return measure_bytes(path.read_bytes(), asked)
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError("is empty; there is nothing to measure")
    suffix = path.suffix.lower()
    match suffix if suffix in _SUFFIXES else _suffix_by_start(start):
        case ".csv" | ".tsv":
            from isentrope.cli._measuring.tables import measure_csv

            return measure_csv(path, asked)
        case ".parquet" | ".pq":
            from isentrope.cli._measuring.tables import measure_parquet

            return measure_parquet(path, asked)
        case ".npy" | ".npz":
            from isentrope.cli._measuring.arrays import measure_arrays

            return measure_arrays(path, asked)
        case ".safetensors":
            from isentrope.cli._measuring.tensors import measure_safetensors

            return measure_safetensors(path, asked)
        case _:
            return measure_bytes(path.read_bytes(), asked)


_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".npy", ".npz", ".safetensors")


def _suffix_by_start(start: bytes) -> str:
    if start.startswith(b"PAR1"):
        return ".parquet"
    if start.startswith(b"\x93NUMPY"):
        return ".npy"
    if len(start) > 9 and start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 100 << 20:
        return ".safetensors"
    return ""
