"""What an adapter stands on in somebody else's package, and the check that it is still there."""

import inspect
from collections.abc import Iterable
from importlib.metadata import version
from operator import attrgetter


def refuse_another(
    package: str,
    tested: str,
    install: str,
    surface: Iterable[tuple[object, str, tuple[str, ...]]],
    also_changed: Iterable[str] = (),
) -> None:
    """Refuse a package of another version than was tested, or whose functions have other parameters.

    Args:
        package: the name it is installed by.
        tested: its version, or the beginning of it.
        install: what to install instead.
        surface: owner, dotted name in it, and parameters by name, in any order, ``self`` left out.
        also_changed: what the caller found to be different.

    Raises:
        ImportError: naming the version found, and what differs.
    """
    found = version(package)
    changed = [name for owner, name, wanted in surface if _parameters(owner, name) != sorted(wanted)]
    changed += also_changed
    if changed or not f"{found}.".startswith(f"{tested}."):
        differs = f"; changed in it: {', '.join(changed)}" if changed else ""
        raise ImportError(
            f"isentrope.integrations.{package} is made for {package} {tested}, found {found}{differs}: "
            f"pip install '{install}'"
        )


def _parameters(owner: object, name: str) -> list[str] | None:
    try:
        parameters = inspect.signature(attrgetter(name)(owner)).parameters
    except AttributeError:
        return None
    return sorted(parameters.keys() - {"self"})
