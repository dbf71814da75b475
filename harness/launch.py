"""From a scenario to a finished run folder: check, sweep, and the manifest around it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from harness.case import model_references
from harness.cells import canonical
from harness.core.errors import RunError
from harness.describe import describe, in_words
from harness.files import write_atomic
from harness.inputs import Expected, local_models, require_same
from harness.plan import Plan
from harness.prepared import Prepared, check_against_data
from harness.progress import Progress, duration
from harness.provenance import manifest, timestamp
from harness.refinement import Refinement
from harness.run_folder import MANIFEST, RESULTS, shown_name
from harness.scenario import Scenario, scenario_hash
from harness.sealing import require_unedited, sealed, verify_run
from harness.sweep import Sweep

_ELSEWHERE = {
    False: "give another folder with --out",
    True: "run the scenario into another folder with run … --out",
}
"""What else may be done where data changed; a retry has no other folder."""


def run_scenario(
    scenario: Scenario,
    folder: Path,
    jobs: int,
    keep_going: bool,
    limit: int | None,
    progress: Progress,
    failed_only: bool = False,
) -> int:
    """Run a scenario into ``folder``, which the caller holds; return the exit status.

    A run that is finished does nothing; one that was interrupted goes on where it stopped; with
    ``failed_only``, cells that have not been tried yet are left out.

    Raises:
        ScenarioError: the scenario does not fit its data; nothing is written.
        DataError: finished cells come from other data or models than those there are now.
        KeyboardInterrupt: the run was interrupted; finished cells are kept.
    """
    refinement = Refinement(scenario, folder, progress.line)
    plan, started, clock = refinement.plan(), timestamp(), time.monotonic()
    data = _announced(plan, progress)
    progress.keep_in(folder / "log.jsonl")
    sweep = Sweep(
        folder=folder,
        plan=plan,
        base={"run": shown_name(folder), "scenario_hash": scenario_hash(scenario)},
        progress=progress,
        jobs=jobs,
        threads=scenario.compute.threads,
        memory_bytes=scenario.compute.memory_bytes(),
        fail_fast=not keep_going,
        expected=_inputs_now(plan, data),
    )
    finished = [cell for cell in plan.cells if sweep.done(cell)]
    require_same(folder, finished, sweep.expected, _ELSEWHERE[failed_only])
    require_unedited(folder, [cell.id for cell in finished])
    edits = verify_run(folder).edits if (folder / RESULTS).is_file() else ()
    for edit in edits:
        progress.line(f"{folder}: {edit}; the tables are written again from the cells")
    # A retry still has to bring the tables up to date; so has a run after one that could not write
    # them (a full disk, a kill), and one whose tables were edited.
    settled = _settled(folder) and not edits
    if sweep.finished() and not refinement.open and not failed_only and settled:
        progress.line(f"{folder}: every cell is done already")
        return 0
    status = "interrupted"
    try:
        status = _swept(sweep, refinement, limit, failed_only, progress)
    finally:
        spent = ", ".join(f"{stage} {duration(s)}" for stage, s in sweep.timings.items())
        progress.line(f"time by stage, summed over processes: {spent or 'none'}")
        seconds = time.monotonic() - clock
        _write_manifest(scenario, sweep, refinement, data, status, started, seconds)
    return 4 if sweep.failed else 0


def _settled(folder: Path) -> bool:
    """Whether the tables and the manifest of a run that is done are there, written last."""
    try:
        status = json.loads((folder / MANIFEST).read_bytes())["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return status == "done" and (folder / RESULTS).is_file()


def _swept(
    sweep: Sweep,
    refinement: Refinement,
    limit: int | None,
    failed_only: bool,
    progress: Progress,
) -> str:
    """Run the cells, refine the ranges of strength on what they show, and return how it ended."""

    def grow() -> bool:
        added = refinement.advance(sweep.plan, sweep.done)
        sweep.plan = refinement.plan() if added else sweep.plan
        return added

    try:
        sweep.run(limit, failed_only, grow)
    except RunError as error:
        progress.line(str(error))
        return "failed"
    return "failed" if sweep.failed else "done" if sweep.finished() else "partial"


def _write_manifest(
    scenario: Scenario,
    sweep: Sweep,
    refinement: Refinement,
    data: dict[str, Prepared],
    status: str,
    started: str,
    seconds: float,
) -> None:
    record = manifest(
        scenario,
        sweep.plan,
        status,
        jobs=sweep.jobs,
        started=started,
        data_hashes=sweep.expected.data,
    )
    record |= describe(sweep.plan, sweep.timings)
    record |= {"name": scenario.name, "seconds": seconds, "refinement": refinement.summary()}
    record["remarks"] = {label: prepared.remarks_in_words() for label, prepared in data.items()}
    record["statistics"] = {label: prepared.figures for label, prepared in data.items()}
    planned = [cell.id for cell in sweep.plan.cells]
    write_atomic(sweep.folder / MANIFEST, sealed(sweep.folder, record, planned))


def _inputs_now(plan: Plan, data: dict[str, Prepared]) -> Expected:
    """What data sets and local models hold now; every cell that runs is held against it."""
    systems = {canonical([cell.system.model_dump(), cell.language]): cell for cell in plan.cells}
    references = set[str]().union(*(model_references(cell) for cell in systems.values()))
    hashes = {label: prepared.data_hash for label, prepared in data.items()}
    return Expected(hashes, local_models(references))


def _announced(plan: Plan, progress: Progress) -> dict[str, Prepared]:
    """Load every data set once, check that the cells fit it, and print its figures."""
    first = {(cell.dataset_label, cell.system.label): cell for cell in plan.cells}
    data = {label: check_against_data(cell) for (label, _), cell in first.items()}
    for label, prepared in data.items():
        for figures in prepared.figures:
            progress.line(f"data set {label}: {in_words(figures)}")
        for remark in prepared.remarks_in_words():
            progress.line(f"note on {remark}")
    return data
