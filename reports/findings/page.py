"""`docs/findings.md` and its figure from the kept results of `scenarios/grid`.

`python -m reports.findings.page docs` reads `docs/results/` and writes `docs/findings.md` and
`docs/figures/privacy_price.*`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.results import read_rows, read_samples
from harness.verifying import verify_results
from reports.drawing import Drawing
from reports.evidence import Evidence
from reports.findings.answer import Answer
from reports.findings.best_defense import best_defense
from reports.findings.counterfactuals import counterfactuals
from reports.findings.figure import privacy_price
from reports.findings.privacy_budget import privacy_budget
from reports.findings.replacement import replacement

_HEADER = """# Findings

Made by `make findings` from the results in [`results/`](results), which `scenarios/grid/*.yaml`
give; a test fails when this page is out of date. Square brackets are 95 % intervals over users and
seeds. A verdict is that of the strongest attack that the project has so far; its name stands beside
it. More attacks will come, and no verdict here can get better by that. Under each answer stands
of which version its runs are; the [changelog](../CHANGELOG.md) marks what changed numbers since.
"""


def findings(results: Path) -> tuple[str, Drawing]:
    """Return the page and the figure that stands at the top of the README.

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
    lines = [_HEADER, "![What privacy costs](figures/privacy_price.png)", ""]
    lines += [*_contents(answers), ""]
    for place, answer in enumerate(answers, 1):
        lines += [f'<a id="question-{place}"></a>', "", *_section(answer, results)]
    figure = privacy_price(((runs["replacement"], "sf-ubm"), (runs["dp_inversion"], "lumos")))
    return "\n".join(lines), figure


def _evidence(folder: Path) -> Evidence:
    problems = verify_results(folder)
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}")
    return Evidence(read_rows(folder), read_samples(folder))


def _contents(answers: Sequence[Answer]) -> list[str]:
    return [f"{place}. [{a.question}](#question-{place})" for place, a in enumerate(answers, 1)]


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
    commit = (manifest["git"]["commit"] or "unknown")[:7]
    when = f"{manifest['started'][:10]} at commit {commit}"
    return f"Run: `scenarios/grid/{folder.name}.yaml`, seeds {seeds}, {when}."


def main() -> None:
    """Write both into the folder that is named."""
    docs = Path(sys.argv[1])
    page, figure = findings(docs / "results")
    (docs / "findings.md").write_text(page, encoding="utf-8")
    (docs / "figures").mkdir(exist_ok=True)
    figure.save(docs / "figures")


if __name__ == "__main__":
    main()
