"""``retry``: the failed cells of a run, once more."""

from __future__ import annotations

from harness.commands.arguments import Folder, ForceUnlock, Jobs, KeepGoing
from harness.core.errors import DataError
from harness.terminal import Terminal


def retry(
    folder: Folder,
    jobs: Jobs = None,
    keep_going: KeepGoing = True,
    force_unlock: ForceUnlock = False,
) -> None:
    """Run the failed cells of a run again; each keeps its old error until it succeeds."""
    from harness.commands.working import work
    from harness.launch import run_scenario
    from harness.run_folder import RESULTS, SCENARIO
    from harness.scenario import load
    from harness.sealing import verify_run
    from harness.sweep import failed_cells

    for name in (SCENARIO, RESULTS):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: no run to retry there ({name} is missing)")
    # The table only says what failed; the scenario decides what is trained.
    changed = [edit for edit in verify_run(folder).edits if edit.startswith(SCENARIO)]
    if changed:
        raise DataError(
            f"{folder}: {changed[0]}, so a retry would train other cells; restore it, or run the "
            "new scenario into another folder with run … --out"
        )
    failed = failed_cells(folder)
    if not failed:
        Terminal().say(f"{folder}: no failed cells")
        return
    scenario = load(folder / SCENARIO)
    processes = jobs or scenario.compute.jobs
    work(
        folder,
        lambda progress: run_scenario(
            scenario, folder, processes, keep_going, None, progress, failed_only=True
        ),
        jobs=processes,
        force_unlock=force_unlock,
        warnings=[f"{cell} had failed: {reason}" for cell, reason in failed.items()],
    )
