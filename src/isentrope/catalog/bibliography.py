"""Which paper is implemented by which object, and how to cite it.

The entries are in ``papers.toml`` beside this module. One with ``objects`` is implemented; one without is planned.
"""

import dataclasses
import difflib
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module, resources
from types import ModuleType
from typing import Any

__all__ = ["Paper", "cite", "find", "papers", "used_by"]

_STOP_WORDS = {
    "a",
    "an",
    "the",
    "on",
    "in",
    "of",
    "for",
    "to",
    "is",
    "are",
    "and",
    "with",
    "when",
    "why",
    "how",
    "refined",
}


@dataclasses.dataclass(frozen=True)
class Paper:
    """One entry of the catalog.

    Attributes:
        key: the name the library has for the paper, such as ``"clip-cov-kl-cov"``.
        title: its title.
        room: the room of the library it belongs to.
        authors: full names in order; the last may be ``"others"``. Empty while the paper is only planned.
        year: of the first arXiv version; None while the paper is only planned.
        arxiv: its arXiv id, such as ``"2505.22617"`` or, before April 2007, ``"cond-mat/0305641"``; None where there is
            none or the paper is only planned.
        objects: the dotted paths of what implements it; empty while it is planned.

    Examples:
        >>> print(find("2507.18071")[0].bibtex())
        @misc{zheng2025group,
          title = {{Group Sequence Policy Optimization}},
          author = {Chujie Zheng and Shixuan Liu and Mingze Li and ... and Junyang Lin},
          year = {2025},
          eprint = {2507.18071},
          archivePrefix = {arXiv},
          url = {https://arxiv.org/abs/2507.18071},
        }
    """

    key: str
    title: str
    room: str
    authors: tuple[str, ...] = ()
    year: int | None = None
    arxiv: str | None = None
    objects: tuple[str, ...] = ()

    @property
    def implemented(self) -> bool:
        """Whether the library holds an object that implements it."""
        return bool(self.objects)

    @property
    def url(self) -> str | None:
        """Its page on arXiv, or None."""
        return None if self.arxiv is None else f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def citation_key(self) -> str:
        """First author's last name, year and first telling word of the title, as bibliographies have it.

        Raises:
            ValueError: the authors or the year are not recorded yet.
        """
        if not self.authors or self.year is None:
            raise ValueError(f"cite: {self.key!r} is only planned; the catalog does not hold its authors and year yet")
        words = re.findall(r"[a-z0-9]+", _ascii(self.title))
        word = next((word for word in words if word not in _STOP_WORDS), self.key)
        return f"{_ascii(self.authors[0].split()[-1])}{self.year}{word}"

    def bibtex(self) -> str:
        """The BibTeX entry.

        Raises:
            ValueError: the authors or the year are not recorded yet.
        """
        fields = {
            "title": f"{{{_latex(self.title)}}}",
            "author": _latex(" and ".join(self.authors)),
            "year": str(self.year),
        }
        if self.arxiv is not None and self.url is not None:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv", "url": self.url}
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
        return "\n".join([f"@misc{{{self.citation_key},", *lines, "}"])


@cache
def papers() -> tuple[Paper, ...]:
    """Every entry of the catalog, implemented ones first.

    Examples:
        >>> [paper.key for paper in papers() if "isentrope.policy.recipes.gspo" in paper.objects]
        ['gspo']
    """
    text = resources.files("isentrope.catalog").joinpath("papers.toml").read_text(encoding="utf-8")
    entries = [
        Paper(**entry | {"authors": tuple(entry.get("authors", ())), "objects": tuple(entry.get("objects", ()))})
        for entry in tomllib.loads(text)["paper"]
    ]
    return tuple(sorted(entries, key=lambda paper: not paper.implemented))


def find(query: str) -> list[Paper]:
    """The entries in which every word of `query` occurs, in any of their fields, whatever the case.

    Args:
        query: words, such as ``"entropy control"``, an author's name, a room or an arXiv id.

    Returns:
        The entries, implemented ones first.

    Examples:
        >>> [paper.key for paper in find("proportional-integral")]
        ['entropic']
    """
    words = query.casefold().split()
    return [paper for paper in papers() if all(word in _searchable(paper) for word in words)]


def used_by(*things: object) -> list[Paper]:
    """The papers that `things` use, each once, in the order they are met.

    Args:
        things: each a paper's key or arXiv id, the dotted path or bare name of an object (``"clip_cov"``), a function,
            class, instance or module, or a composition: an object with an attribute ``papers`` (a tuple of keys) or a
            dataclass, whose parts are asked in turn.

    Returns:
        The papers.

    Raises:
        ValueError: one of `things` uses no paper the catalog knows; near names are suggested.
    """
    found: dict[str, Paper] = {}
    for thing in things:
        own = list(_named(thing) if isinstance(thing, str) else _of_object(thing))
        if not own:
            raise ValueError(_unknown(thing))
        found |= {paper.key: paper for paper in own if paper.key not in found}
    return list(found.values())


def cite(*things: object) -> str:
    """BibTeX for the papers that `things` use, each once.

    Args:
        things: what `used_by` takes: a key, an arXiv id, a dotted path, a function, class, instance or composition.

    Returns:
        BibTeX entries with an empty line between.

    Raises:
        ValueError: one of `things` uses no paper the catalog knows (near names are suggested), or a paper is only
            planned.

    Examples:
        >>> print(cite("ppo"))
        @misc{schulman2017proximal,
          title = {{Proximal Policy Optimization Algorithms}},
          ...
        }
    """
    return "\n\n".join(paper.bibtex() for paper in used_by(*things))


@cache
def _searchable(paper: Paper) -> str:
    fields = (paper.key, paper.title, paper.room, *paper.authors, str(paper.year), paper.arxiv or "", *paper.objects)
    return " ".join(fields).casefold()


def _named(name: str) -> Iterator[Paper]:
    exact = [paper for paper in papers() if name in (paper.key, paper.arxiv)]
    yield from exact or (
        paper for paper in papers() if any(_within(name, path) or path.endswith(f".{name}") for path in paper.objects)
    )
    if not exact and name.startswith("isentrope."):
        yield from _of_object(_resolve(name))


def _of_object(thing: Any, seen: frozenset[int] = frozenset()) -> Iterator[Paper]:
    if thing is None or isinstance(thing, str | int | float) or id(thing) in seen:
        return
    seen |= {id(thing)}
    if isinstance(thing, tuple | list):
        for part in thing:
            yield from _of_object(part, seen)
        return
    if isinstance(thing, partial):
        yield from _of_object(thing.func, seen)
        return
    if isinstance(thing, ModuleType):
        inside = thing.__name__
        yield from (
            paper
            for paper in papers()
            if any(_within(known, inside) or _within(inside, known) for known in paper.objects)
        )
        return
    keys = getattr(thing, "papers", ())
    if isinstance(keys, tuple):
        for key in keys:
            yield from _with_key(key)
    path = _path(thing)
    yield from (paper for paper in papers() if any(_within(path, known) for known in paper.objects))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from _of_object(getattr(thing, field.name), seen)


def _with_key(key: str) -> list[Paper]:
    found = [paper for paper in papers() if paper.key == key]
    if not found:
        raise ValueError(_unknown(key))
    return found


def _path(thing: Any) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    # What a factory returns counts as the factory.
    return f"{named.__module__}.{named.__qualname__}".split(".<locals>")[0]


def _within(path: str, known: str) -> bool:
    return path == known or path.startswith(f"{known}.")


def _resolve(path: str) -> object:
    """The object at a dotted path, or None: importing as much of the path as is a module, then taking attributes."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if error.name is None or not path.startswith(error.name):
                raise
            continue
        for part in parts[count:]:
            value = getattr(value, part, None)
        return value
    return None


def _unknown(thing: object) -> str:
    name = thing if isinstance(thing, str) else thing.__name__ if isinstance(thing, ModuleType) else _path(thing)
    names = {paper.key for paper in papers()} | {
        path.rpartition(".")[2] for paper in papers() for path in paper.objects
    }
    near = difflib.get_close_matches(name.rpartition(".")[2], names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; see `isentrope papers --all`"
    return f"cite: the catalog knows no paper for {name!r}{hint}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()


def _latex(text: str) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", text)
