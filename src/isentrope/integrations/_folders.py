"""A run's folder as bytes: taken up on one machine, laid down on another."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from isentrope._files import write_atomically
from isentrope.lab.checkpoint import checkpoints

_CONCLUSIONS = ("diagnosis.json", "summary.json")


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their names from there, without those that are half-written."""
    return {name: (folder / name).read_bytes() for name in stamps(folder)}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file below a folder is written anew: its time and size."""
    files = {path.relative_to(folder): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): (stat.st_mtime_ns, stat.st_size)
        for name, stat in files.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def lay_down(files: Mapping[str, bytes], folder: Path, names: Collection[str] = ()) -> None:
    """Write files of a run so that its folder is, after every single one, one from which the run can go on.

    Metrics come before the checkpoint that they lead to; a checkpoint appears whole; the summary, which says that the
    run is complete, comes last.

    Args:
        files: those that are new, by their names in the folder; all of a checkpoint or none.
        folder: made where missing.
        names: all that there should be: checkpoints and conclusions that are not among them are deleted. Nothing is
            if there are none.
    """
    steps = {name: name.split("/")[1] for name in files if name.startswith("checkpoints/")}
    for name in files.keys() - steps.keys() - set(_CONCLUSIONS):
        _write(folder / name, files[name])
    for step in sorted(set(steps.values())):
        final, partial = folder / "checkpoints" / step, folder / "checkpoints" / f".{step}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for name in [name for name in steps if steps[name] == step]:
            _write(partial / Path(name).relative_to(f"checkpoints/{step}"), files[name])
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    for name in [name for name in _CONCLUSIONS if name in files]:
        _write(folder / name, files[name])
    if names:
        kept = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
        for path in checkpoints(folder / "checkpoints"):
            if path.name not in kept:
                shutil.rmtree(path)
        for name in set(_CONCLUSIONS).difference(names):
            (folder / name).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
