"""README.md and docs/: tables are those of results/, links lead somewhere."""

import re

import pytest
import readme_tables

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", readme_tables.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_their_results(page):
    text = page.read_text(encoding="utf-8")
    assert readme_tables.rewritten(text, readme_tables.bench.RESULTS) == text


@pytest.mark.parametrize("page", readme_tables.PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for path, heading in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert heading in [h.lower().replace(" ", "-") for h in headings]
