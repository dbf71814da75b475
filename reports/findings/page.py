"""`docs/findings.md` from the kept results of `scenarios/grid`.

python -m reports.findings.page docs/results docs/findings.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.results import read_rows, read_samples, verify_results
from reports.evidence import Evidence
from reports.findings.answer import Answer
from reports.findings.best_defense import best_defense
from reports.findings.counterfactuals import counterfactuals
from reports.findings.privacy_budget import privacy_budget
from reports.findings.replacement import replacement

_HEADER = """# Findings

Made by `make findings` from the results in [`results/`](results), which `scenarios/grid/*.yaml`
give; a test fails when this page is out of date. Square brackets are 95 % intervals over users and
seeds. A verdict is that of the strongest attack that the project has so far; its name stands beside
it. More attacks will come, and no verdict here can get better by that.
"""


def findings_page(results: Path) -> str:
    """Return the page.

    Args:
        results: folder with one run folder for each grid.

    Raises:
        DataError: results are missing or cannot be read.
        ValueError: results were changed by hand.
    """
    runs = {name: _evidence(results / name) for name in
            ("replacement", "replacement_language", "dp_inversion", "defenses")}  # fmt: skip
    answers = (
        replacement(runs["replacement"], runs["replacement_language"]),
        privacy_budget(runs["dp_inversion"]),
        counterfactuals(runs["defenses"]),
        best_defense(runs["defenses"]),
    )
    lines = [_HEADER, *(_contents(answers)), ""]
    for answer in answers:
        lines += _section(answer, results)
    return "\n".join(lines)


def _evidence(folder: Path) -> Evidence:
    problems = verify_results(folder)
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}")
    return Evidence(read_rows(folder), read_samples(folder))


def _contents(answers: Sequence[Answer]) -> list[str]:
    return [f"{place}. [{a.question}](#{place})" for place, a in enumerate(answers, 1)]


def _section(answer: Answer, results: Path) -> list[str]:
    lines = [f"## {answer.question}", ""]
    lines += [f"- {sentence}" for sentence in answer.sentences]
    lines += ["", _line(answer.head), _line(["---"] * len(answer.head))]
    lines += [_line(row) for row in answer.rows]
    lines += ["", *(f"- {note}" for note in answer.notes)]
    lines += [f"- {_origin(results / name)}" for name in answer.runs]
    return [*lines, ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _origin(folder: Path) -> str:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    seeds = ", ".join(str(seed) for seed in manifest["scenario"]["seeds"])
    return f"Run: `scenarios/grid/{folder.name}.yaml`, seeds {seeds}."


def main() -> None:
    """Write the page to the file that is named."""
    results, page = sys.argv[1:3]
    Path(page).write_text(findings_page(Path(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
