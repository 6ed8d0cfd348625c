"""The page of all recipes is made by the command that lists them."""

from pathlib import Path

from isentrope.cli.recipes import page

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page_lists_the_recipes_as_they_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "make it anew: isentrope recipes --markdown > docs/recipes.md"
