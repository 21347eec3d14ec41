"""What pages point to is there, and code cites sections that the design has."""

import re
from itertools import chain

import pytest
from conftest import ROOT

PAGES = sorted(chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("web/docs/*.md")))
CODE = sorted(
    path
    for folder in ("benchmarks", "demo", "lab", "nodes", "relax_memory", "tests")
    for path in ROOT.glob(f"{folder}/**/*.py")
)


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    links = re.findall(r"\]\((<[^>]+>|[^)\s]+)\)", page.read_text("utf-8"))
    for link in (link.strip("<>") for link in links):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_the_sections_that_code_cites_are_in_the_design():
    headings = re.findall(r"^## (\d)\.", (ROOT / "docs/design.md").read_text("utf-8"), re.MULTILINE)
    cited = {
        section
        for path in CODE
        for section in re.findall(
            r"[Ss]ection (\d)(?:\.\d)? of\s+(?:the design|`docs/design)", path.read_text("utf-8")
        )
    }
    assert {"2", "3", "5"} <= cited <= set(headings)


def test_pictures_are_small_enough_for_git():
    assert (ROOT / "docs/demo.webp").stat().st_size < 1_000_000
    assert sum(path.stat().st_size for path in ROOT.glob("web/docs/*.webp")) < 100_000
