"""Rule 7: each planted bug turns checks red that are green without it.

A bug is planted in the source of the real function, so that it sits where a slip of the hand would
put it; a bug whose text is no longer in the source is an error, not a pass.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import replace
from typing import Any

import pytest

from defenses import local_dp
from defenses.dp_fedavg import DPFedAvg
from defenses.replacement import Replacement
from defenses.trimmed_mean import TrimmedMean
from harness.strength import TooWeak, require_chance, require_monotone
from tests.strength.bench import Bench
from tests.strength.bugs import BUGS, Bug, Check
from tests.strength.checks import CHECKS, green
from tests.strength.pairs import PAIRS


def plant(monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    """Put the bug into the source of its function, wherever the function has been imported."""
    real = getattr(bug.owner, bug.function)
    source = textwrap.dedent(inspect.getsource(real))
    assert source.count(bug.old) == 1, f"{bug.function} no longer holds {bug.old!r} once"
    module = sys.modules[real.__module__]
    scope: dict[str, Any] = {}
    code = compile(
        source.replace(bug.old, bug.new), f"<{bug.name}>", "exec", flags=annotations.compiler_flag
    )
    exec(code, module.__dict__, scope)
    mutant = scope[bug.function]
    monkeypatch.setattr(bug.owner, bug.function, mutant)
    for other in list(sys.modules.values()):
        if getattr(other, "__dict__", {}).get(bug.function) is real:
            monkeypatch.setattr(other, bug.function, mutant)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_without_a_bug_every_check_is_green(check: Check) -> None:
    green(check)


@pytest.mark.parametrize("bug", BUGS, ids=lambda b: f"{b.name}-{b.owner.__name__}.{b.function}")
def test_a_planted_bug_turns_its_checks_red(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, bug)
    assert bug.red
    for check in bug.red:
        with pytest.raises(TooWeak):
            check()


@pytest.mark.parametrize(
    ("name", "owner", "pair"),
    [
        ("noise off", local_dp, ("row_norm", "local_dp")),
        ("noise off", local_dp, ("span_check", "local_dp")),
        ("noise off", Replacement, ("inverse_codebook", "replacement")),
        ("trim 0", TrimmedMean, ("sign_flip", "trimmed_mean")),
    ],
)
def test_measured_success_turns_red_as_well(
    name: str,
    owner: object,
    pair: tuple[str, str],
    smoke: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 3 by running the attack: without its effect a ladder of strengths lowers nothing."""
    plant(monkeypatch, next(b for b in BUGS if (b.name, b.owner) == (name, owner)))
    chosen = next(p for p in PAIRS if p.names == pair)
    with pytest.raises(TooWeak):
        success, chance = replace(smoke, done={}, seeds=(0,), poison_seeds=(0,)).ladder(chosen)
        require_monotone(success, chance)
        require_chance(success[-1], chance, chosen.margin)


def test_the_whole_list_of_mutations_is_planted() -> None:
    planted = {bug.name.split(":")[0] for bug in BUGS}
    assert planted >= {
        "noise off",
        "variance for std",
        "clip after noise",
        "noise only on touched rows",
        "reused noise seed",
        "trim 0",
        "wrong malicious ids",
        "self included",
        "replaced vector not of unit length",
        "evaluated on everybody",
    }


def test_every_check_can_turn_red() -> None:
    seen = {check.__name__ for bug in BUGS for check in bug.red}
    assert {check.__name__ for check in CHECKS} == seen


def test_a_bug_that_is_not_in_the_source_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Bug("noise off", DPFedAvg, "on_server", "no such text", "0", ())
    with pytest.raises(AssertionError, match="no longer holds"):
        plant(monkeypatch, gone)
