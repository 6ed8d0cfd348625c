"""The rules of the house: which room may know which, what an import may cost, and what may never be loaded."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import isentrope

SOURCE = Path(isentrope.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# What each room may import of ours. The laboratory keeps its runs in the run store of `report`.
MAY_IMPORT = {
    "measures": set(),
    "estimators": {"measures"},
    "policy": {"measures"},
    "lab": {"policy", "measures", "decoding", "report"},
    "decoding": {"measures"},
    "inspection": {"measures"},
    "uncertainty": {"measures", "decoding"},
    "adaptation": {"measures", "uncertainty"},
    "training": {"measures"},
    "physics": {"measures"},
    "coding": {"measures", "decoding"},
    "catalog": set(),
    "report": {"measures", "catalog"},
}
ROOMS = {*MAY_IMPORT, "integrations", "cli"}
MAY_IMPORT["integrations"] = ROOMS - {"integrations", "cli"}
MAY_IMPORT["cli"] = ROOMS - {"cli"}

HEAVY = ("torch", "transformers", "jax", "matplotlib", "plotly", "pyarrow")


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def module_of(path: Path) -> list[str]:
    """The package that relative imports in a file start from, as a list of names."""
    return ["isentrope", *path.relative_to(SOURCE).parts[:-1]]


def imports_of_ours(path: Path, tree: ast.AST):
    """Every dotted name below isentrope that a file imports, with its line; names imported from a module included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "isentrope":
                    yield alias.name.split("."), node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = module_of(path)[: len(module_of(path)) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            if base and base[0] == "isentrope":
                for alias in node.names:
                    yield [*base, alias.name], node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            constant = node.args[0] if node.args else None
            if isinstance(constant, ast.Constant) and str(constant.value).split(".")[0] == "isentrope":
                yield str(constant.value).split("."), node.lineno


def breaches(path: Path, tree: ast.AST) -> list[str]:
    """The imports of a file that cross rooms against the arrows."""
    room, found = room_of(path), []
    for names, line in imports_of_ours(path, tree):
        target = names[1] if len(names) > 1 else ""
        if target not in ROOMS or room == "" or target == room:
            continue
        where = f"{name_of(path)}:{line} imports {'.'.join(names)}"
        if target not in MAY_IMPORT[room]:
            found.append(f"{where}, but {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'nothing of ours'}")
        elif any(name.startswith("_") and not name.startswith("__") for name in names[2:]):
            found.append(f"{where}, which is private to {target}")
    return found


def test_there_is_something_to_check():
    assert {"measures", "cli"} <= {room_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_arrows(path):
    assert not breaches(path, ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("file", "source", "caught"),
    [
        ("measures/x.py", "import isentrope.policy", True),
        ("measures/x.py", "from isentrope import policy", True),
        ("measures/x.py", "from ..policy import recipes", True),
        ("measures/x.py", "from importlib import import_module\nimport_module('isentrope.lab')", True),
        ("measures/x.py", "def f():\n    from isentrope.lab import trainer", True),
        ("measures/x.py", "from . import entropies\nfrom isentrope.measures._array import namespace", False),
        ("measures/x.py", "from isentrope._threads import settle_threads", False),
        ("policy/x.py", "from isentrope.measures import entropy", False),
        ("policy/x.py", "from isentrope.measures._array import namespace", True),
        ("policy/x.py", "from isentrope.measures import _array", True),
        ("lab/tasks/x.py", "from ...policy import recipes", False),
        ("lab/tasks/x.py", "from ...cli import main", True),
        ("lab/x.py", "from isentrope.report import RunStore", False),
        ("cli/x.py", "from isentrope.integrations import trl", False),
        ("catalog/x.py", "from isentrope.measures import entropy", True),
    ],
)
def test_the_arrows_are_seen_in_every_kind_of_import(file, source, caught):
    assert bool(breaches(SOURCE / file, ast.parse(source))) == caught


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_is_light():
    assert not loaded_by("import isentrope").intersection([*HEAVY, "numpy", "scipy", "numba"])


@pytest.mark.parametrize(
    "statement",
    [
        "import isentrope.measures",
        "from isentrope.measures import entropy, discrete_entropy",
        "import isentrope.catalog",
        "import isentrope.training",
    ],
)
def test_rooms_that_do_without_torch_do_not_import_it(statement):
    assert not loaded_by(statement).intersection(HEAVY)


def test_the_command_line_starts_without_torch():
    assert not loaded_by("import isentrope.cli").intersection(HEAVY)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_pickle_is_ever_loaded(path):
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {m.split(".")[0] for m in modules} & {
                "pickle",
                "cPickle",
                "dill",
                "cloudpickle",
                "joblib",
                "shelve",
                "marshal",
            }, where
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            assert (owner, node.func.attr) not in {
                ("torch", "load"),
                ("pandas", "read_pickle"),
                ("pd", "read_pickle"),
            }, where
            for keyword in node.keywords:
                allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                assert keyword.arg != "allow_pickle" or allowed, where


def public_objects():
    for room in sorted({room_of(path) for path in FILES if room_of(path)}):
        for info in [None, *pkgutil.walk_packages([str(SOURCE / room)], f"isentrope.{room}.")]:
            name = info.name if info else f"isentrope.{room}"
            if any(part.startswith("_") for part in name.split(".")):
                continue
            module = importlib.import_module(name)
            yield pytest.param(module, id=name)
            for public in getattr(module, "__all__", []):
                thing = getattr(module, public)
                if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
                    yield pytest.param(thing, id=f"{name}.{public}")


def test_every_public_object_has_a_docstring():
    bare = [parameter.id for parameter in public_objects() if not has_docstring(parameter.values[0])]
    assert not bare


def has_docstring(thing) -> bool:
    text = inspect.getdoc(thing) or ""
    # A dataclass without a docstring is given its signature for one.
    generated = inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")
    return bool(text.strip()) and not generated


def test_every_name_in_all_exists():
    for path in FILES:
        if path.name == "__init__.py" and room_of(path):
            module = importlib.import_module(".".join(module_of(path)))
            missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
            assert not missing, f"{name_of(path)} lists {missing}"


def test_no_file_is_named_utils():
    assert not [name_of(path) for path in FILES if path.stem in ("utils", "helpers", "misc", "common")]
