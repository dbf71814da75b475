"""``report.html``: one file that opens from disk, needs no network and runs no script.

The report is a function of the run folder: its table of results, the values per user, the
manifest and the resolved scenario. Everything but the table may be missing.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.results import (
    SCHEMA_VERSION,
    Row,
    read_rows,
    read_samples,
    write_atomic,
)
from harness.sealing import MANIFEST, verify_run
from reports.audits import HOW_TO_READ as AUDIT_HOW_TO_READ
from reports.audits import audit_words, budget_tables, budgets, refuted, without_audits
from reports.candidates import candidate_table, language_words
from reports.data_read import data_read
from reports.decomposition import decomposition_tables
from reports.drawing import Drawing, styled
from reports.evidence import Evidence
from reports.figures import heat_map
from reports.readoff import RULE as READ_OFF_RULE
from reports.readoff import read_off_tables
from reports.refined import refined_sweeps
from reports.robustness import robustness
from reports.strengths import strength_curves
from reports.summary import (
    attacks_of,
    price_tables,
    threat_words,
    verdict_tables,
    what_was_run,
)
from reports.sweeps import trade_offs
from reports.tables import attack_tables, cost_table, not_run, utility_tables
from reports.takeaways import takeaways
from reports.tradeoff import HOW_TO_READ, trade_off_figures
from reports.verdicts import RULE, judge
from reports.wording import METRICS, clean, duration, label, metric_help, metric_name

_TEMPLATES = Path(__file__).parent / "templates"
MAX_SCENARIO = 100_000


@dataclass(frozen=True)
class _Picture:
    """A figure as the page holds it."""

    name: str
    title: str
    caption: str
    alt: str
    source: str


def build_report(run_folder: Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a run folder.

    Args:
        run_folder: holds ``results.parquet``; ``samples.parquet``, ``manifest.json`` and
            ``scenario.yaml`` are used where they exist.

    Returns:
        The path of the report.

    Raises:
        DataError: the results are missing or unreadable, or the folder cannot be written to.
    """
    rows, samples = read_rows(run_folder), read_samples(run_folder)
    manifest, problems = _manifest(run_folder)
    page = _page(
        Evidence(without_audits(rows), samples), manifest, [*_doubts(run_folder, problems)]
    ) | _of_all_rows(rows, samples, manifest)
    _save(run_folder / "figures", page.pop("drawings"))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    # Our own style sheet is the only text that enters the page unescaped.
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    scenario = _scenario(run_folder)
    html = environment.get_template("report.html.j2").render(**page, style=style, scenario=scenario)
    path = run_folder / "report.html"
    write_atomic(path, html.encode("utf-8", "replace"))
    return path


def _page(
    evidence: Evidence, manifest: Mapping[str, Any], problems: Sequence[str]
) -> dict[str, Any]:
    """Everything the template prints."""
    verdicts = judge(evidence)
    trades = trade_offs(evidence, verdicts)
    with styled():
        trade_off = trade_off_figures(trades)
        others = {
            "strengths": strength_curves(trades),
            "robustness": robustness(evidence),
            "heat_map": heat_map(verdicts),
        }
    drawings = [*trade_off, *(d for d in others.values() if d is not None)]
    return {
        "drawings": drawings,
        "status": label(manifest.get("status") or "not recorded"),
        "problems": [clean(p, 500) for p in problems],
        "rule": RULE,
        "takeaways": takeaways(evidence, verdicts),
        "verdict_tables": verdict_tables(verdicts),
        "price_tables": [*price_tables(evidence, verdicts), *decomposition_tables(evidence)],
        "read_off": read_off_tables(trades),
        "read_off_rule": READ_OFF_RULE,
        "trade_off": [_picture(d) for d in trade_off],
        "how_to_read": HOW_TO_READ,
        "refined": refined_sweeps(evidence, manifest),
        "pictures": {name: d and _picture(d) for name, d in others.items()},
        "utility_tables": utility_tables(evidence),
        "candidates": candidate_table(evidence),
        "language_words": language_words(evidence),
        "attacks": [
            (label(a), clean(threat_words(evidence, manifest, a), 1000),
             attack_tables(evidence, verdicts, a))
            for a in attacks_of(evidence)
        ],
        "cost": cost_table(evidence),
        "systems": _systems(manifest),
        "timings": _timings(manifest),
    }  # fmt: skip


def _of_all_rows(
    rows: Sequence[Row], samples: pd.DataFrame, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """What is told of all trainings, those with canaries among them."""
    found = budgets(rows, samples)
    return {
        "title": label(manifest.get("name") or _run_name(rows)),
        "metrics": _glossary(rows),
        "provenance": _provenance(rows, manifest),
        "counts": dict(Counter(row.status for row in rows).most_common()),
        "data": data_read(manifest),
        "not_run": not_run(rows),
        "what": what_was_run(rows),
        "budgets": budget_tables(found),
        "audit_words": audit_words(found),
        "audit_rule": AUDIT_HOW_TO_READ,
        "refuted": refuted(found),
    }


def _save(folder: Path, drawings: Sequence[Drawing]) -> None:
    """Write every figure; those of an earlier report that are none of these go."""
    folder.mkdir(exist_ok=True)
    for drawing in drawings:
        drawing.save(folder)
    names = {d.name for d in drawings}
    for path in (*folder.glob("trade_off*"), *folder.glob("strengths.*")):
        if path.suffix in (".svg", ".png", ".csv") and path.stem not in names:
            path.unlink(missing_ok=True)


def _picture(drawing: Drawing) -> _Picture:
    source = "data:image/svg+xml;base64," + base64.b64encode(drawing.svg).decode()
    return _Picture(drawing.name, drawing.title, drawing.caption, drawing.alt, source)


def _doubts(folder: Path, of_manifest: Sequence[str]) -> list[str]:
    """What was edited, is lost, or cannot be checked; the manifest's own troubles once."""
    found = [text for text in verify_run(folder).words if not of_manifest or MANIFEST not in text]
    return [*found, *of_manifest]


def _manifest(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest, or an empty one and a sentence on what is wrong with it."""
    path = folder / "manifest.json"
    if not path.exists():
        return {}, ["manifest.json is missing: versions, hashes and timings are not known"]
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError:
        return {}, ["manifest.json is not valid JSON"]
    return (manifest, []) if isinstance(manifest, dict) else ({}, ["manifest.json is no object"])


def _scenario(folder: Path) -> str:
    path = folder / "scenario.yaml"
    if not path.exists():
        return ""
    return clean(path.read_text(encoding="utf-8", errors="replace"), MAX_SCENARIO)


def _run_name(rows: Sequence[Row]) -> str:
    return rows[0].run if rows else "Empty run"


def _glossary(rows: Sequence[Row]) -> list[tuple[str, str]]:
    used = {row.metric for row in rows}
    return [(metric_name(m), metric_help(m)) for m in METRICS if m in used]


def _systems(manifest: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """(label, description, deviations from the paper) of each system."""
    found = []
    for entry in _records(manifest.get("systems")):
        deviations = entry.get("deviations") or []
        listed = deviations if isinstance(deviations, list) else [deviations]
        described = clean(entry.get("description") or "", 1000)
        found.append((label(entry.get("label", "")), described, [clean(d, 1000) for d in listed]))
    return found


def _timings(manifest: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(stage, time, share of the longest), the longest first."""
    spent = [
        (label(e.get("stage", "")), float(e["seconds"]))
        for e in _records(manifest.get("timings"))
        if isinstance(e.get("seconds"), int | float) and math.isfinite(e["seconds"])
    ]
    longest = max((s for _, s in spent), default=0.0) or 1.0
    ordered = sorted(spent, key=lambda item: -item[1])
    return [(stage, duration(s), round(100 * max(s, 0.0) / longest, 1)) for stage, s in ordered]


def _records(value: object) -> list[dict[str, Any]]:
    return [e for e in value if isinstance(e, dict)] if isinstance(value, list) else []


def _provenance(rows: Sequence[Row], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts for whoever repeats the run; nested ones are flattened to ``outer: inner``."""
    shown = {"name", "status", "systems", "threat_models", "timings", "refinement", "remarks"}
    facts: list[tuple[str, str]] = []
    for key, value in manifest.items():
        if key not in shown:
            facts += _flat(str(key), value)
    hashes = {
        "scenario_hash": {row.scenario_hash for row in rows if row.scenario_hash},
        "data_hash": {row.data_hash for row in rows if row.data_hash},
    }
    for key, found in hashes.items():
        if key not in manifest:
            facts.append((key, ", ".join(sorted(found)) or "not recorded"))
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in rows}))
    facts += [("seeds", seeds), ("schema version of the rows", str(SCHEMA_VERSION))]
    return [(label(k.replace("_", " ")), clean(v, 300)) for k, v in facts]


def _flat(key: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _flat(f"{key}: {k}", v)]
    if isinstance(value, list):
        return [(key, ", ".join(str(v) for v in value))]
    if key == "seconds" and isinstance(value, int | float):
        return [("total time", duration(float(value)))]
    return [(key, "not recorded" if value is None else str(value))]
