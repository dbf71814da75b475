"""A pytest fixture for a project of your own: a test fails when a defence got weaker.

In the project's ``conftest.py``::

    pytest_plugins = ["harness.testing"]

and in a test::

    def test_defences_hold(defense_regression):
        defense_regression("runs/poison_20pct", "limits.yaml")

The run folder is what ``python -m harness run`` writes, the limits file what
``python -m harness gate --learn RUN`` proposes. The rule is the gate's: only a limit that the whole
interval satisfies passes; NaN, one seed or a missing metric never do.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from reports.gates.judging import Outcome


class DefenseRegression:
    """Holds run folders against limits files inside a test.

    Relative paths start at ``root``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self,
        run: str | PathLike[str],
        limits: str | PathLike[str],
        *,
        inconclusive: Literal["fail", "skip"] = "fail",
        accept_edited: bool = False,
    ) -> Outcome:
        """Fail the test with the gate's table unless every limit holds.

        Args:
            run: run folder.
            limits: limits file.
            inconclusive: what becomes of the test if an interval straddles its limit, or a number
                has one seed: ``fail`` or ``skip``. It never passes.
            accept_edited: judge results that were edited after they were written.

        Returns:
            The outcome, if all limits hold.

        Raises:
            ValueError: ``inconclusive`` is neither ``fail`` nor ``skip``.
        """
        if inconclusive not in ("fail", "skip"):
            raise ValueError(f"inconclusive must be 'fail' or 'skip', got {inconclusive!r}")
        from harness.core.errors import HarnessError
        from harness.core.own_packages import pin
        from harness.gate import judge_run

        # Only this one: the user's tests may have packages of the other names.
        pin("reports")
        from reports.gates.table import plain_text

        try:
            outcome = judge_run(self.root / run, self.root / limits, accept_edited=accept_edited)
        except HarnessError as error:
            pytest.fail(f"the gate could not judge: {error}", pytrace=False)
        if outcome.verdict == "inconclusive" and inconclusive == "skip":
            pytest.skip(plain_text(outcome))
        if outcome.verdict != "pass":
            pytest.fail(plain_text(outcome), pytrace=False)
        return outcome


@pytest.fixture
def defense_regression(pytestconfig: pytest.Config) -> DefenseRegression:
    """Fail the test unless a run folder passes a limits file; paths start at pytest's rootdir."""
    return DefenseRegression(pytestconfig.rootpath)
