import dataclasses
import importlib
import inspect
import re
from functools import partial
from types import ModuleType

import pytest

import isentrope
from isentrope.catalog import Paper, cite, find, papers, used_by

ROOMS = {
    "measures", "estimators", "policy", "lab", "decoding", "inspection", "uncertainty", "adaptation", "training", "physics",
    "coding",
}  # fmt: skip

# Since April 2007 year, month and number; before, an archive, year, month and a number of three figures.
ARXIV = r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}"

IMPLEMENTED = [(path, paper) for paper in papers() for path in paper.objects]


def resolve(path: str) -> object:
    """Independent of the catalog's own resolution: the longest importable prefix, then attributes."""
    module, rest = path, []
    while True:
        try:
            value = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if error.name is None or not path.startswith(error.name) or "." not in module:
                raise
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for name in rest:
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("path", "paper"), IMPLEMENTED, ids=[f"{paper.key}-{path}" for path, paper in IMPLEMENTED])
def test_every_object_exists_and_its_docstring_cites_the_paper(path, paper):
    thing = resolve(path)
    assert not isinstance(thing, str | int | float | None), f"{path} is a value, not an object"
    document = inspect.getdoc(thing) or ""
    assert paper.arxiv in document, f"the docstring of {path} must cite arXiv {paper.arxiv} ({paper.title})"
    if not isinstance(thing, ModuleType):
        assert f"{thing.__module__}.{thing.__qualname__}" == path, "the catalog names an object where it is defined"


def year_of(arxiv: str) -> int:
    year = int(arxiv.rpartition("/")[2][:2])
    return 1900 + year if year > 90 else 2000 + year


def test_entries_are_complete_and_unambiguous():
    entries = papers()
    keys = [paper.key for paper in entries]
    assert len(keys) == len(set(keys))
    ids = [paper.arxiv for paper in entries if paper.arxiv]
    assert len(ids) == len(set(ids))
    for paper in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", paper.key), paper.key
        assert paper.title == paper.title.strip() != ""
        assert paper.room in ROOMS, paper
        if paper.implemented:
            assert paper.authors, paper.key
            assert re.fullmatch(ARXIV, paper.arxiv), paper.key
            assert year_of(paper.arxiv) == paper.year, f"{paper.key}: the year must be that of the arXiv id"
    citation_keys = [paper.citation_key for paper in entries if paper.implemented]
    assert len(citation_keys) == len(set(citation_keys))


def test_every_system_of_the_library_is_listed():
    groundwork = {
        "ppo", "grpo", "dr-grpo", "dapo", "rloo", "reinforce-plus-plus", "gspo", "skywork-or1", "cut-cross-entropy",
        "reasoning-gym", "pass-at-k",
    }  # fmt: skip
    keys = {paper.key for paper in papers()}
    assert groundwork < keys
    assert len(keys - groundwork) >= 196
    assert {"clip-cov-kl-cov", "entropic", "beyond-80-20", "jaynes-maxent", "continual-statmech"} < keys


def test_implemented_entries_come_first():
    flags = [paper.implemented for paper in papers()]
    assert flags == sorted(flags, reverse=True)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("grpo", "shao2024deepseekmath"),
        ("clip-cov-kl-cov", "cui2025entropy"),
        ("dapo", "yu2025dapo"),
        ("gspo", "zheng2025group"),
        ("ppo", "schulman2017proximal"),
        ("rloo", "ahmadian2024back"),
        ("dr-grpo", "liu2025understanding"),
    ],
)
def test_citation_keys_are_those_bibliographies_already_have(key, expected):
    assert cite(key).startswith(f"@misc{{{expected},\n")


def test_ids_of_before_2007_are_cited_and_linked():
    assert year_of("cond-mat/9603127") == 1996
    text = cite("cond-mat/0305641")
    assert text.startswith("@misc{kraskov2003estimating,\n")
    assert "  eprint = {cond-mat/0305641},\n" in text
    assert "  url = {https://arxiv.org/abs/cond-mat/0305641},\n" in text
    assert [paper.key for paper in find("nlin/0001042")] == ["transfer-entropy"]
    assert "kraskov-mutual-information" in [paper.key for paper in used_by("mutual_information")]


def test_bibtex_escapes_what_latex_would_take_for_commands():
    paper = Paper(
        "x", "50% of A & B_c #1", "policy", ("Ann O'Neil", "Émile Zürn"), 2024, "2401.00001", ("isentrope.x",)
    )
    text = paper.bibtex()
    assert r"title = {{50\% of A \& B\_c \#1}}" in text
    assert "author = {Ann O'Neil and Émile Zürn}" in text
    assert text.count("{") == text.count("}")
    assert dataclasses.replace(paper, authors=("Émile Zürn",)).citation_key == "zurn202450"


def test_find_needs_every_word_in_any_field_and_any_case():
    assert find("CUI covariance clip-cov") == []
    assert [paper.key for paper in find("ganqu MECHANISM")] == ["clip-cov-kl-cov"]
    assert [paper.key for paper in find("2511.15248")] == ["entropic"]
    assert "beyond-80-20" in [paper.key for paper in find("TopEntropy")]
    assert find("there is no such paper") == []
    assert len(find("")) == len(papers())


def test_cite_takes_keys_ids_paths_and_names():
    for name in ("clip-cov-kl-cov", "2505.22617", "isentrope.policy.recipes.clip_cov", "recipes.clip_cov", "kl_cov"):
        assert [paper.key for paper in used_by(name)] == ["clip-cov-kl-cov"], name
    assert [paper.key for paper in used_by("dapo", "clip_cov", "dapo")] == ["dapo", "clip-cov-kl-cov"]
    assert isentrope.cite is cite


def test_cite_suggests_near_names():
    with pytest.raises(ValueError, match="knows no paper for 'dr_gpo'; did you mean 'dr_grpo'"):
        cite("dr_gpo")
    with pytest.raises(ValueError, match="isentrope papers --all"):
        cite("qqqq")
    with pytest.raises(ValueError, match=r"no paper for 'isentrope.catalog.bibliography.find'"):
        cite(find)
    planned = next(paper for paper in papers() if not paper.implemented)
    with pytest.raises(ValueError, match=f"'{planned.key}' is only planned"):
        cite(planned.key)


def gspo():
    """Stands for `isentrope.policy.recipes.gspo`, and the function it returns."""

    def loss():
        return 0

    loss.__qualname__ = "gspo.<locals>.loss"
    loss.__module__ = "isentrope.policy.recipes"
    return loss


gspo.__module__ = "isentrope.policy.recipes"


@dataclasses.dataclass(frozen=True)
class TopEntropy:
    fraction: float = 0.2


TopEntropy.__module__ = "isentrope.policy.selection"


@dataclasses.dataclass(frozen=True)
class Part:
    papers: tuple[str, ...] = ()
    inner: object = None


def test_cite_takes_functions_classes_instances_and_what_factories_return():
    assert [paper.key for paper in used_by(gspo)] == ["gspo"]
    assert [paper.key for paper in used_by(gspo())] == ["gspo"]
    assert [paper.key for paper in used_by(partial(gspo, 1))] == ["gspo"]
    assert [paper.key for paper in used_by(TopEntropy)] == ["beyond-80-20"]
    assert [paper.key for paper in used_by(TopEntropy(0.5))] == ["beyond-80-20"]


def test_cite_collects_the_papers_of_every_part_once():
    objective = Part(
        papers=("dapo", "clip-cov-kl-cov"), inner=(TopEntropy(), [Part(("dapo",), gspo), None, 0.2, "text"])
    )
    assert [paper.key for paper in used_by(objective)] == ["dapo", "clip-cov-kl-cov", "beyond-80-20", "gspo"]
    assert cite(objective).count("@misc{") == 4


def test_cite_ends_on_parts_that_hold_each_other():
    inner = [TopEntropy()]
    inner.append(inner)
    assert [paper.key for paper in used_by(Part(inner=inner))] == ["beyond-80-20"]


def test_a_part_that_names_an_unknown_key_is_an_error():
    with pytest.raises(ValueError, match="no paper for 'dapoo'; did you mean 'dapo'"):
        cite(Part(papers=("dapoo",)))
