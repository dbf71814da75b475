"""A comparison as one HTML file that opens from disk, needs no network and runs no script."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.comparison import Comparison
from reports.comparison_words import RULE, caution, sections, summary
from reports.wording import METRICS, clean, metric_help, metric_name

_TEMPLATES = Path(__file__).parent / "templates"


def comparison_html(comparison: Comparison, *, only_changed: bool = False) -> str:
    """Return the page; every text from the runs is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    used = {d.place.metric for d in comparison.differences}
    return environment.get_template("comparison.html.j2").render(
        # Our own style sheet is the only text that enters the page unescaped.
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        a=comparison.a.title,
        b=comparison.b.title,
        problems=[clean(problem, 500) for problem in comparison.problems],
        summary=summary(comparison),
        caution=caution(comparison),
        rule=RULE,
        sections=sections(comparison, only_changed=only_changed),
        metrics=[(metric_name(m), metric_help(m)) for m in METRICS if m in used],
    )
