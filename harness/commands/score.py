"""``score``: a run's numbers computed again from what it stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.arguments import AsJson, Folder
from harness.core.errors import DataError, ScenarioError
from harness.terminal import Terminal, emit

if TYPE_CHECKING:
    from harness.rescore import Rescored
    from harness.rows import SampleBlock

SHOWN = 20
"""Disagreements printed in words; JSON holds them all."""


def score(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the tables as computed again here")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=100, help="bootstrap resamples of the tables in --out")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute a run's numbers again from its stored values per user, without training.

    Means over users, items and releases and their intervals are computed again, and every one
    that differs from what the run wrote is named (exit code 3). Single figures (time, traffic,
    medians) have no stored values and are kept.
    """
    if draws is not None and out is None:
        raise ScenarioError("--draws changes the intervals of the tables in --out DIR: give both")
    from harness.rescore import rescore
    from harness.results import read_rows, read_samples, sample_blocks
    from harness.run_folder import SCENARIO
    from harness.scenario import load
    from harness.sealing import verify_run

    if not (folder / SCENARIO).is_file():
        raise DataError(f"{folder}: no run there ({SCENARIO} is missing)")
    written_with = load(folder / SCENARIO).evaluation.bootstrap
    samples = sample_blocks(read_samples(folder))
    found = rescore(read_rows(folder), samples, written_with, draws)
    seals = verify_run(folder)
    changed = (*seals.edits, *seals.lost)
    if out is not None:
        _write(out, folder, found, samples, draws or written_with)
    _show(folder, found, changed, seals.unchecked, out, as_json)
    raise typer.Exit(DataError.exit_code if found.disagreements or changed else 0)


def _write(
    out: Path, folder: Path, found: Rescored, samples: Sequence[SampleBlock], draws: int
) -> None:
    """Write the new tables as a run folder that ``report`` and ``score`` can read."""
    from harness.files import write_atomic
    from harness.results import write_results
    from harness.run_folder import MANIFEST, SCENARIO
    from harness.scenario import load
    from harness.sealing import read_manifest, sealed

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ScenarioError(f"{out}: already there and not an empty folder; nothing is overwritten")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: {error.strerror or error}") from error
    scenario = load(folder / SCENARIO, [f"evaluation.bootstrap={draws}"])
    write_atomic(out / SCENARIO, scenario.resolved_yaml(out).encode())
    write_results(out, found.rows, samples)
    manifest = read_manifest(folder)
    if manifest is not None:
        seal = manifest.pop("sealed", None)
        manifest.pop("sha256", None)
        planned = list(seal.get("cells") or ()) if isinstance(seal, dict) else []
        planned = planned or sorted({row.cell for row in found.rows if row.cell})
        manifest["scored_again"] = {"from": folder.name, "bootstrap": draws}
        write_atomic(out / MANIFEST, sealed(out, manifest, planned))


def _show(
    folder: Path,
    found: Rescored,
    changed: tuple[str, ...],
    unchecked: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    if as_json:
        emit(_document(folder, found, changed, unchecked, out))
        return
    terminal = Terminal()
    agree = found.recomputed - len({d[:5] for d in found.disagreements})
    terminal.say(f"{found.recomputed} rows computed again from their samples: {agree} agree")
    names = ", ".join(sorted(found.figures))
    terminal.say(f"{found.figures.total()} single figures kept, with nothing to check: {names}")
    terminal.say(f"{found.without_number} rows say why there is no number; kept")
    for problem in changed:
        terminal.say(f"CHANGED {problem}", style="red")
    for problem in unchecked:
        terminal.say(f"note: not checked: {problem}", style="yellow")
    for disagreement in found.disagreements[:SHOWN]:
        terminal.say(f"DIFFERS {disagreement}", style="red")
    if len(found.disagreements) > SHOWN:
        terminal.say(f"… and {len(found.disagreements) - SHOWN} more; --json shows all")
    if out is not None:
        terminal.say(f"tables: {out}; report: python -m harness report {out}")


def _document(
    folder: Path,
    found: Rescored,
    changed: tuple[str, ...],
    unchecked: tuple[str, ...],
    out: Path | None,
) -> dict[str, Any]:
    return {
        "ok": not found.disagreements and not changed,
        "run": str(folder),
        "recomputed": found.recomputed,
        "kept": {"figures": dict(sorted(found.figures.items())), "no_number": found.without_number},
        "changed_by_hand": changed,
        "not_checked": unchecked,
        "disagreements": [d._asdict() for d in found.disagreements],
        "out": None if out is None else str(out),
    }
