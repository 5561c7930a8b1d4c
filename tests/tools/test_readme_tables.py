"""The tables in README.md and docs/ are those of the files in results/."""

import readme_tables


def test_every_table_is_that_of_its_results():
    for page in readme_tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert readme_tables.rewritten(text, readme_tables.bench.RESULTS) == text
