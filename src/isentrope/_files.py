"""Files that are either whole or absent: written beside their destination and renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; rename it to `path` if the block succeeds, remove it if not.

    Raises:
        OSError: if the file could not be written, naming `path`; an earlier file of that name is then still whole.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk is reported without a name; the user needs to know which file was not saved.
            raise OSError(error.errno, f"cannot write ({error.strerror or error})", str(path)) from error
        raise


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the earlier file or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
