"""Writes the tables of README.md and of the pages in docs/ from results/*.csv.

A table stands between the lines `<!-- table:NAME -->` and `<!-- end -->` and is made
from results/NAME.csv, as tables.py says. Of repeated measurements the newest counts,
and only rows from the machine of the last one; a caption gives hardware, versions, date
and commit. A table without a CSV file stays as it is.

Example:
    python tools/readme_tables.py
    python tools/readme_tables.py --check    # exits with 1 if a page is out of date
"""

import argparse
import re
import sys
from pathlib import Path

import bench
from tables import TABLES

PAGES = [bench.ROOT / "README.md", *sorted((bench.ROOT / "docs").glob("*.md"))]
MARKERS = re.compile(r"(<!-- table:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--pages", nargs="+", type=Path, default=PAGES)
    parser.add_argument("--results", type=Path, default=bench.RESULTS)
    arguments = parser.parse_args()
    for page in arguments.pages:
        old = page.read_text(encoding="utf-8")
        new = rewritten(old, arguments.results)
        if arguments.check and new != old:
            sys.exit(f"{page.name} is out of date. Type: python {sys.argv[0]}")
        if new != old:
            with bench.atomic_path(page) as temporary:
                temporary.write_text(new, encoding="utf-8")


def rewritten(text: str, results: Path) -> str:
    """The text of a page with the tables made anew."""

    def table(match: re.Match) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            sys.exit(f"Expected a table of {list(TABLES)} in a page, got {name!r}")
        rows = bench.read_csv(results / f"{name}.csv")
        if not rows:
            print(f"{name}: no rows in {results / name}.csv; left as it is")
            return match[0]
        return f"{start}\n{TABLES[name](rows)}\n\n{end}"

    return MARKERS.sub(table, text)


if __name__ == "__main__":
    main()
