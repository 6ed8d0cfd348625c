"""The commands `papers` and `cite`: what the library implements, and the BibTeX of what you use."""

import json as json_format
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from isentrope.catalog import Paper, find, used_by
from isentrope.catalog import papers as all_papers

__all__ = ["cite", "papers"]


def papers(query: str | None = None, *, all: bool = False, json: bool = False) -> None:
    """List the papers the library implements, and by which objects.

    On a terminal a table; in a pipe one tab-separated line a paper: key, arXiv id, room, title, objects.

    Examples:

    ```
    isentrope papers                     # everything implemented
    isentrope papers entropy             # every word must occur in some field
    isentrope papers --all decoding      # planned papers too
    isentrope papers --json | jq .       # for scripts
    ```

    Parameters
    ----------
    query
        Words to search for in keys, titles, authors, rooms, arXiv ids and object names.
    all
        Show the papers that are planned but not yet implemented, too.
    json
        Print a JSON list instead.
    """
    matching = list(all_papers()) if query is None else find(query)
    shown = [paper for paper in matching if all or paper.implemented]
    if json:
        print(json_format.dumps([asdict(paper) for paper in shown], indent=2, ensure_ascii=False))
        return
    if not matching:
        raise ValueError(f"papers: no entry matches {query!r}; `isentrope papers --all` lists everything")
    console = Console()
    if console.is_terminal:
        console.print(_table(shown))
    else:
        for paper in shown:
            print(*(paper.key, paper.arxiv or "", paper.room, paper.title, " ".join(paper.objects)), sep="\t")
    implemented = sum(paper.implemented for paper in matching)
    hint = "" if all or implemented == len(matching) else " (--all shows them)"
    Console(stderr=True).print(f"{implemented} implemented, {len(matching) - implemented} planned{hint}", style="dim")


def cite(*objects: str, json: bool = False) -> None:
    """Print BibTeX for what you use: recipes, functions, papers or whole runs.

    Examples:

    ```
    isentrope cite dapo clip_cov                  # recipes by name
    isentrope cite isentrope.policy.recipes.gspo  # a dotted path
    isentrope cite entropic 2505.22617            # keys, arXiv ids
    isentrope cite runs/20261122-004512-grpo-s0   # all a run used
    isentrope cite dapo >> references.bib
    ```

    Parameters
    ----------
    objects
        Names of recipes or other objects, dotted paths, paper keys, arXiv ids or run folders.
    json
        Print a JSON list of the entries with their BibTeX instead.
    """
    if not objects:
        raise ValueError("cite: name at least one recipe, object, paper or run folder, such as `isentrope cite dapo`")
    cited = used_by(*(_run_or_name(name) for name in objects))
    if json:
        entries = [asdict(paper) | {"bibtex": paper.bibtex()} for paper in cited]
        print(json_format.dumps(entries, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(paper.bibtex() for paper in cited))


def _run_or_name(name: str) -> object:
    if not Path(name).is_dir():
        return name
    from isentrope.report import RunStore

    return RunStore.open(name)


def _table(shown: list[Paper]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("title", ratio=3)
    table.add_column("arXiv", no_wrap=True)
    table.add_column("room", no_wrap=True)
    table.add_column("objects", ratio=3, overflow="fold")
    for paper in shown:
        objects = "\n".join(path.removeprefix("isentrope.") for path in paper.objects) or "[dim]planned[/dim]"
        arxiv = f"[link={paper.url}]{paper.arxiv}[/link]" if paper.arxiv else ""
        table.add_row(paper.key, paper.title.replace("[", r"\["), arxiv, paper.room, objects)
    return table
