"""The command `recipes`: which objectives there are, where each acts, and what it computes."""

import inspect
import json as json_format
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from isentrope.catalog import Paper, used_by
from isentrope.policy import NEEDS, Objective
from isentrope.policy import recipes as known

_SLOTS = [f.name for f in fields(Objective) if f.name not in ("name", "papers")]
_PLACEHOLDER = 0.5
"""What stands for an argument that a recipe needs, so that its parts can be shown."""


def recipes(name: str | None = None, *, json: bool = False, markdown: bool = False) -> None:
    """List the recipes, or explain one: what it computes, where it acts, its settings and its papers.

    Every recipe is an objective made of parts in slots. The list says in which slots a recipe differs from GRPO. A recipe
    is given its settings in parentheses, here and in `isentrope train` and `isentrope compare`. Recipes joined by `+` are
    combined: the first as it is, with what each of the others changes against the plain recipe that it is made from.

    Examples:

    ```
    isentrope recipes
    isentrope recipes clip_cov
    isentrope recipes "clip_cov(fraction=0.02)"
    isentrope recipes "dapo + qae + entropic(target=0.6)"
    isentrope recipes --json | jq '.[].name'
    isentrope recipes --markdown > docs/recipes.md
    ```

    Parameters
    ----------
    name
        The recipe to explain, with settings in parentheses if wanted, or several joined by `+`.
    json
        Print JSON instead.
    markdown
        Print the list as a page of documentation.
    """
    if markdown and (name or json):
        raise ValueError("--markdown prints the whole list; it goes with no name and no --json")
    if markdown:
        print(page(), end="")
        return
    if name is None:
        if json:
            print(json_format.dumps(listed(), indent=2, ensure_ascii=False))
        else:
            _print_list(listed())
        return
    objective = _example(name)
    makers = [known.names()[each] for each, _ in known.parsed(name)]
    if json:
        parts = [{"slot": slot, "part": _shown(part), "description": _text(part)} for slot, part in _parts(objective)]
        if len(makers) == 1:
            described = _description(makers[0].__name__, makers[0]) | {"documentation": inspect.getdoc(makers[0])}
        else:
            described = {"name": objective.name, "slots": _slots(objective), "needs": sorted(objective.needs)}
            described |= {"papers": [paper.arxiv for paper in _papers(objective)]}
        print(json_format.dumps(described | {"parts": parts}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if len(makers) == 1:
        _print_heading(console, makers[0])
    else:
        _print_combination(console, name)
    _print_parts(console, objective)


def listed() -> list[dict[str, Any]]:
    """All recipes as `isentrope recipes --json` prints them."""
    return [_description(name, make) for name, make in known.names().items()]


def page() -> str:
    """The list of recipes as Markdown: the page of the documentation."""
    lines = [
        "# All recipes",
        "",
        "A recipe is a named [objective](objectives.md), made from a plain one (`grpo`, `dr_grpo`, `dapo`, `rloo`) by other "
        "parts in some of its slots. `isentrope recipes NAME` explains one with its settings; recipes joined by `+`, such as "
        "`dapo + qae + entropic`, are combined: the first as it is, with what each other changes. How they fare side by side "
        "in a small laboratory is in the [comparison](comparison.md).",
        "",
        "| recipe | in one line | made from | other parts in | paper |",
        "|---|---|---|---|---|",
    ]
    for row in listed():
        plain, changes = known.difference(_example(row["name"]))
        slots = ", ".join(changes).replace("_", " ") or "–"
        papers = ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in row["papers"] if paper)
        summary = row["summary"].replace("``", "`").replace("|", "\\|")
        made_from = f"`{plain.name}`" if changes else "–"
        lines.append(f"| `{row['name']}` | {summary} | {made_from} | {slots} | {papers} |")
    return "\n".join(lines) + "\n"


def _example(text: str) -> Objective:
    """The recipe that a text names, with a placeholder for what it needs and the text leaves open."""
    needed = {
        parameter.name
        for name, _ in known.parsed(text)
        for parameter in inspect.signature(known.names()[name]).parameters.values()
        if parameter.default is parameter.empty
    }
    return known.named(text, **dict.fromkeys(needed, _PLACEHOLDER))


def _slots(objective: Objective) -> list[str]:
    """Where an objective differs from GRPO."""
    baseline = known.grpo()
    return [slot for slot in _SLOTS if getattr(objective, slot) != getattr(baseline, slot)]


def _description(name: str, make: Callable[..., Objective]) -> dict[str, Any]:
    objective = _example(name)
    return {
        "name": name,
        "slots": _slots(objective),
        "summary": (inspect.getdoc(make) or "").partition("\n")[0],
        "papers": [paper.arxiv for paper in _papers(objective)],
        "settings": {p.name: _default(p) for p in inspect.signature(make).parameters.values()},
        "needs": sorted(objective.needs),
    }


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return "required"
    plain = isinstance(parameter.default, (int, float, str, bool, type(None)))
    return parameter.default if plain else repr(parameter.default)


def _papers(objective: Objective) -> list[Paper]:
    return used_by(*objective.papers) if objective.papers else []


def _parts(objective: Objective) -> Iterator[tuple[str, Any]]:
    for slot in _SLOTS:
        value = getattr(objective, slot)
        yield from ((slot, part) for part in (value if isinstance(value, tuple) else (value,)) if part is not None)


def _shown(part: Any) -> str:
    return part.__name__ if inspect.isfunction(part) else repr(part)


def _text(part: Any) -> str:
    """What a part's documentation says before its arguments."""
    text = inspect.getdoc(part if inspect.isfunction(part) else type(part)) or ""
    for heading in ("Args:", "References:", "Examples:"):
        text = text.partition(f"\n{heading}")[0]
    return " ".join(text.split())


def _print_list(rows: list[dict[str, Any]]) -> None:
    console = Console()
    if not console.is_terminal:
        for recipe in rows:
            print(recipe["name"], ",".join(recipe["slots"]), recipe["summary"], ",".join(recipe["papers"]), sep="\t")
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("differs from GRPO in", overflow="fold", ratio=2)
    table.add_column("", ratio=5)
    for recipe in rows:
        slots = ", ".join(slot.replace("_", " ") for slot in recipe["slots"]) or "[dim]is GRPO[/dim]"
        table.add_row(recipe["name"], slots, escape(recipe["summary"]))
    console.print(table)
    console.print("isentrope recipes NAME explains one", style="dim")


def _print_heading(console: Console, make: Callable[..., Objective]) -> None:
    signature = inspect.signature(make)
    settings = ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in signature.parameters.values()
    )
    console.print(f"[bold]{make.__name__}[/bold]({escape(settings)})")
    paragraphs = (inspect.getdoc(make) or "").split("\n\n")
    # Prose is broken where the terminal ends; lists keep their lines.
    flowing = [p if "\n    " in p else " ".join(p.split()) for p in paragraphs]
    console.print(Padding(escape("\n\n".join(flowing)), (1, 0, 1, 2)))


def _print_combination(console: Console, text: str) -> None:
    """What each of several recipes brings in."""
    calls = known.parsed(text)
    first, *others = (_example(f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})") for name, given in calls)
    console.print(f"[bold]{escape(text)}[/bold]")
    console.print(Padding(f"{first.name}, and from the others what each changes:", (1, 0, 0, 2)))
    for other in others:
        baseline, changes = known.difference(other)
        console.print(
            f"  {other.name} differs from {baseline.name} in {', '.join(changes).replace('_', ' ')}", highlight=False
        )


def _print_parts(console: Console, objective: Objective) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("slot", no_wrap=True)
    table.add_column("part")
    for slot, part in _parts(objective):
        table.add_row(slot.replace("_", " "), f"[bold]{escape(_shown(part))}[/bold]\n{escape(_text(part))}")
        table.add_section()
    console.print(table)
    if objective.needs:
        console.print("Needs: " + "; ".join(NEEDS[need] for need in sorted(objective.needs)))
    for paper in _papers(objective):
        console.print(f"{escape(paper.title)} [dim]{paper.url or ''}[/dim]")
