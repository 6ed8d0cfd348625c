"""The examples of the README and of the guides run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("index", range(len(blocks("README.md"))))
def test_readme(index):
    exec(blocks("README.md")[index], {})


def test_guide_to_objectives():
    names = {}
    for block in blocks("docs/objectives.md"):
        # The host's loop stands for whatever fills the ellipses.
        if "..." not in block:
            exec(block, names)
    assert names["objective"].needs == {"entropy_grad"}
