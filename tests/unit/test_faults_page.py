"""docs/faults.md: every row of the table has its line, and every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = 76
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions(file: Path) -> set[str]:
    """Return the names of a module's tests, for nothing has to be imported to know them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists() -> None:
    named = set(NAMED.findall(PAGE))
    assert len(named) > 100
    known = {file: functions(ROOT / file) for file, _ in named}
    assert sorted(f"{f}::{name}" for f, name in named if name not in known[f]) == []


def test_every_row_has_one_line_with_a_test_or_the_reason_why_there_is_none() -> None:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    numbers = [int(n) for line in lines for n in line.split("|")[1].split(",")]
    assert numbers == list(range(1, ROWS + 1))
    bare = [line for line in lines if not NAMED.search(line) and "not tested:" not in line]
    assert bare == []


def test_nothing_in_backquotes_looks_like_a_test_and_is_not_read_as_one() -> None:
    assert PAGE.count("::test_") == len(NAMED.findall(PAGE))
