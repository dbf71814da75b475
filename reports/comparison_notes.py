"""What a reader must know before trusting a comparison: edits, versions, data, scenarios, seeds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.sealing import verify_run
from reports.comparison_run import Run
from reports.wording import join_words, label


def find_problems(a: Run, b: Run, users_differ: bool, lost: Sequence[str] = ()) -> tuple[str, ...]:
    """Everything that makes a difference between two runs doubtful, in words.

    Args:
        a: the reference.
        b: the run that is judged.
        users_differ: some users are in one run only.
        lost: what one run has no value for and the other has.
    """
    found = (
        *_own_problems("A", a),
        *_own_problems("B", b),
        *_scenarios(a, b),
        *_data(a, b),
        *_seeds(a, b),
        *lost,
        *(["some users are in one run only; users of both are compared"] if users_differ else ()),
    )
    # A name from a run may hold a line break, which would pass for a line of ours.
    return tuple(" ".join(problem.split()) for problem in found)


def scenarios_differ(a: Run, b: Run) -> bool:
    """The two runs are known to come from different scenarios."""
    return bool(a.scenario_hashes and b.scenario_hashes) and a.scenario_hashes != b.scenario_hashes


def _own_problems(name: str, run: Run) -> list[str]:
    seals = verify_run(run.folder)
    problems = [f"{name} was edited: {problem}" for problem in seals.edits]
    problems += [f"{name} lost part of its sample: {problem}" for problem in seals.lost]
    if run.manifest:
        problems += [f"{name} is not checked for edits: {problem}" for problem in seals.unchecked]
    if not run.manifest:
        problems.append(f"{name} has no readable manifest.json")
    status = run.manifest.get("status", "done")
    if status != "done":
        problems.append(f"{name} is not a finished run (status {label(status)})")
    if len(run.scenario_hashes) > 1:
        problems.append(f"{name} mixes results of {len(run.scenario_hashes)} scenarios")
    return problems


def _scenarios(a: Run, b: Run) -> list[str]:
    if scenarios_differ(a, b):
        return ["the scenarios differ: a difference may come from there"]
    unknown = [n for n, run in (("A", a), ("B", b)) if not run.scenario_hashes]
    return [f"the scenario of {join_words(unknown)} is not recorded"] if unknown else []


def _data(a: Run, b: Run) -> list[str]:
    shared = a.data_hashes.keys() & b.data_hashes.keys()
    changed = sorted(name for name in shared if a.data_hashes[name] != b.data_hashes[name])
    if changed:
        named = join_words([label(name) for name in changed])
        return [f"the data differ in {named}: its users may not be the same ones"]
    used = {row.place.dataset for run in (a, b) for row in run.rows if row.place.dataset}
    unknown = sorted(used - a.data_hashes.keys() | used - b.data_hashes.keys())
    common = {r.place.dataset for r in a.rows} & {r.place.dataset for r in b.rows}
    unknown = [name for name in unknown if name in common]
    named = join_words([label(name) for name in unknown])
    return [f"the hash of {named} is not recorded in both runs"] if unknown else []


def _seeds(a: Run, b: Run) -> list[str]:
    shared = sorted({*a.seeds} & {*b.seeds})
    problems = []
    if a.seeds != b.seeds:
        problems.append(
            f"the seeds differ (A: {_listed(a.seeds)}; B: {_listed(b.seeds)}): "
            f"{'shared ones are compared' if shared else 'none is shared'}"
        )
    if len(shared) == 1:
        problems.append(
            f"one seed in common ({shared[0]}): intervals cover users only, not what another "
            "seed would change"
        )
    return problems


def _listed(values: Sequence[int]) -> str:
    return join_words([str(v) for v in values]) or "none"
