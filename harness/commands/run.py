"""``run``: train, attack and score a scenario, and write its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.arguments import File, ForceUnlock, Jobs, KeepGoing, Overrides
from harness.commands.counting import MAX_CELLS, count
from harness.core.errors import ScenarioError

if TYPE_CHECKING:
    from harness.progress import Progress


def run(
    scenario: File,
    overrides: Overrides = None,
    jobs: Jobs = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/NAME")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="run at most so many cells")] = None,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="for local training; default: most of what is free"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="auto, cpu or cuda; default cpu")
    ] = None,
    keep_going: KeepGoing = True,
    force_unlock: ForceUnlock = False,
    yes: Annotated[bool, typer.Option(help=f"run more than {MAX_CELLS:,} cells")] = False,
) -> None:
    """Train, attack and score a scenario, and write its report."""
    from harness.plan import expand
    from harness.run_folder import claim, default_folder
    from harness.scenario import load

    given = {"memory": memory, "device": device}
    chosen = [f"compute.{key}={value}" for key, value in given.items() if value is not None]
    loaded = load(scenario, [*(overrides or ()), *chosen])
    size = count(loaded)
    if size.too_many and not yes:
        raise ScenarioError(f"{scenario}: {size.words}")
    plan = expand(loaded)
    from harness.commands.working import work
    from harness.launch import run_scenario
    from harness.plugins import broken_plugins

    folder, processes = out or default_folder(loaded), jobs or loaded.compute.jobs

    def train(progress: Progress) -> int:
        claim(folder, loaded, progress.line)
        return run_scenario(loaded, folder, processes, keep_going, limit, progress)

    work(
        folder,
        train,
        jobs=processes,
        force_unlock=force_unlock,
        warnings=[*broken_plugins(), *plan.warnings],
    )
