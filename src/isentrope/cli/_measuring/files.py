"""x"""

import x


def _measure_file(file: str, asked: _Asked) -> _Found:
    if file == "-":
        return _measure_bytes("-", sys.stdin.buffer.read(), asked)
    path = Path(file)
    if path.is_dir():
        raise ValueError(f"is a directory; name the files in it, as in {path / '*'}")
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError("is empty; there is nothing to measure")
    reader = _BY_SUFFIX.get(path.suffix.lower()) or _by_start(start)
    if reader is not None:
        return reader(path, asked)
    return _measure_bytes(file, path.read_bytes(), asked)


def _by_start(start: bytes) -> "Callable[[Path, _Asked], _Found] | None":
    if start.startswith(b"PAR1"):
        return _measure_parquet
    if start.startswith(b"\x93NUMPY"):
        return _measure_array
    if len(start) > 9 and start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 100 << 20:
        return _measure_safetensors
    return None


_BY_SUFFIX: "dict[str, Callable[[Path, _Asked], _Found]]" = {
    ".csv": _measure_csv,
    ".tsv": _measure_csv,
    ".parquet": _measure_parquet,
    ".pq": _measure_parquet,
    ".npy": _measure_array,
    ".npz": _measure_array,
    ".safetensors": _measure_safetensors,
}
