"""Which estimates of a run a limit holds for, and what is wrong with one that finds none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.limits import Limit, Limits, Selector
from harness.reading.explain import Finding
from harness.reading.problems import suggest
from reports.evidence import Estimate, Evidence
from reports.gates.gaps import FailedCells, Gaps

Value = str | float
_Known = tuple[Estimate, dict[str, Value]]
PAIRED = frozenset({"ratio", "difference"})
# What a failed cell's row can't tell.
_MEASURED = frozenset({"metric", "k", "protocol", "attack", "strength", "malicious", "noisy"})


@dataclass(frozen=True)
class Chosen:
    """A limit with what it holds for.

    Attributes:
        limit: the limit.
        line: where it stands in its file.
        estimates: what it selects.
        failed: failed cells among those it covers.
        unmeasured: why something it names was measured nowhere; empty if all was.
    """

    limit: Limit
    line: int
    estimates: tuple[Estimate, ...]
    failed: tuple[FailedCells, ...]
    unmeasured: str


def facts(estimate: Estimate) -> dict[str, Value]:
    """What a selector can ask of an estimate."""
    arm, condition = estimate.arm, estimate.condition
    return {
        "system": arm.system,
        "dataset": arm.dataset,
        "defense": arm.defense,
        "strength": math.nan if arm.strength is None else arm.strength,
        "poisoning": condition.poisoning,
        "malicious": condition.malicious,
        "noisy": condition.noisy,
        "attack": estimate.attack,
        "metric": estimate.metric,
        "k": estimate.k,
        "protocol": estimate.protocol,
    }


def choose(limits: Limits, evidence: Evidence, gaps: Gaps) -> list[Chosen]:
    """Return every limit with its estimates.

    Raises:
        InvalidScenario: a limit that selects nothing, at its position, with the nearest values.
    """
    found, findings = list[Chosen](), list[Finding]()
    known = [(e, facts(e)) for e in evidence.estimates]
    for index, limit in enumerate(limits.content.limits):
        search = _Search(limit, known, gaps)
        wrong = search.findings()
        findings += [f._replace(path=("limits", index, "select", *f.path)) for f in wrong]
        estimates = tuple(search.selected)
        failed = () if wrong else search.failed_beside(estimates)
        unmeasured = "" if wrong else search.unmeasured()
        found.append(Chosen(limit, limits.line(index), estimates, failed, unmeasured))
    if findings:
        raise limits.invalid(findings)
    return found


class _Search:
    """One limit's way through the estimates of a run."""

    def __init__(self, limit: Limit, known: list[_Known], gaps: Gaps) -> None:
        self.given = limit.select.given()
        self.selector: Selector = limit.select
        self.paired = limit.quantity in PAIRED
        self.gaps = gaps
        self.failed = gaps.failed_under(limit.select)
        self.all = known
        everything = [e for e, asked in known if _covers(self.given, asked)]
        self.selected = [e for e in everything if not self._is_reference(e)]
        self.only_references = bool(everything) and not self.selected

    def _is_reference(self, estimate: Estimate) -> bool:
        """Whether it is what others are compared with, and nothing to compare itself."""
        return self.paired and (estimate.arm.undefended or estimate.arm.kind == "anchor")

    def _unmatched(self) -> list[tuple[str, Value]]:
        """The keys and values that no selected estimate has."""
        have = [facts(e) for e in self.selected]
        return [
            (key, value)
            for key, values in self.given.items()
            for value in values
            if not any(_same(value, known[key]) for known in have)
        ]

    def findings(self) -> list[Finding]:
        """What is wrong with the selector; paths start at it."""
        if self.only_references:
            message = "compares with the undefended arm, and selects nothing but undefended arms"
            return [Finding((), f"a ratio or difference {message}; name a defense")]
        unmatched = self._unmatched()
        unknown = [(k, v) for k, v in unmatched if not self._occurs(k, v)]
        misspelt = [(k, v) for k, v in unknown if not self._explained(k, v)]
        if misspelt or not unmatched:
            return [Finding((key,), self._no_such(key, value)) for key, value in misspelt]
        if self.failed or self.gaps.declined_under(self.selector):
            return []
        return self._no_such_combination(unmatched)

    def unmeasured(self) -> str:
        """Why something that the selector names has no estimate; empty if all has."""
        unmatched = self._unmatched()
        if not unmatched:
            return ""
        names = ", ".join(f"{key} {show(value)}" for key, value in unmatched)
        why = self.failed[0].reason if self.failed else self.gaps.declined_under(self.selector)
        return f"nothing measured for {names}: {why}"

    def failed_beside(self, estimates: Sequence[Estimate]) -> tuple[FailedCells, ...]:
        """Failed cells of the systems that were selected; of any, if nothing was."""
        systems = {(e.arm.system, e.arm.dataset) for e in estimates}
        return tuple(f for f in self.failed if not systems or (f.system, f.dataset) in systems)

    def _occurs(self, key: str, value: Value) -> bool:
        return any(_same(value, known) for known in self._values(key, self.all))

    def _explained(self, key: str, value: Value) -> bool:
        """Whether something that failed may be why no row has a value; else it is misspelt."""
        alone = self.selector.model_copy(update={key: (value,)})
        lost = bool(self.gaps.failed_under(alone) or self.gaps.declined_under(alone))
        near = suggest(value, map(str, self._values(key, self.all)))
        return lost and (key not in _MEASURED or "did you mean" not in near)

    def _no_such(self, key: str, value: Value) -> str:
        near = _nearest(value, self._values(key, self.all))
        return f"no estimate of the run has {key} {show(value)}{near}"

    def _no_such_combination(self, unmatched: Sequence[tuple[str, Value]]) -> list[Finding]:
        """Say which values would do, for the keys that are alone in the way."""
        findings = []
        for key, value in unmatched:
            others = {k: v for k, v in self.given.items() if k != key}
            left = [(e, k) for e, k in self.all if _covers(others, k) and not self._is_reference(e)]
            if left:
                near = _nearest(value, self._values(key, left))
                message = f"no estimate has {key} {show(value)} beside the other keys{near}"
                findings.append(Finding((key,), message))
        return findings or [Finding((), "no estimate of the run has all of these together")]

    @staticmethod
    def _values(key: str, among: Iterable[_Known]) -> set[Value]:
        return {known[key] for _, known in among if known[key] == known[key]}


def show(value: Value) -> str:
    """A value as a limits file writes it."""
    return repr(value) if isinstance(value, str) else f"{value:g}"


def _covers(given: dict[str, tuple[Value, ...]], known: dict[str, Value]) -> bool:
    return all(any(_same(v, known[key]) for v in values) for key, values in given.items())


def _same(wanted: Value, known: Value) -> bool:
    if isinstance(wanted, str) or isinstance(known, str):
        return wanted == known
    return math.isclose(wanted, known, rel_tol=1e-9, abs_tol=1e-12)


def _nearest(value: Value, known: set[Value]) -> str:
    """The nearest value there is, and all of them."""
    if isinstance(value, str):
        return suggest(value, map(str, known))
    numbers = sorted(v for v in known if not isinstance(v, str))
    if not numbers:
        return "; there is none"
    near = min(numbers, key=lambda v: abs(v - value))
    return f"; the nearest is {near:g} (there are: {', '.join(f'{v:g}' for v in numbers)})"
