"""The figure at the top of the README: what each system's privacy costs, in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from reports.drawing import Drawing, finish, new_figure, styled
from reports.evidence import Evidence
from reports.sweeps import TradeOff, trade_offs
from reports.tradeoff import draw_trade_off, finding, looks_of, trade_off_data
from reports.verdicts import judge

TITLE = "What privacy costs"


def privacy_price(shown: Sequence[tuple[Evidence, str]]) -> Drawing:
    """Draw one panel for each pair of results and system: utility kept against the worst attack."""
    trades = [_worst_case(evidence, system) for evidence, system in shown]
    with styled():
        figure, panels = new_figure(5.2 * len(trades), [5.4], columns=len(trades))
        for panel, trade in zip(panels, trades, strict=True):
            draw_trade_off(panel, trade, looks_of([trade]))
        caption = "Left is safe, up is useful; bars are 95 % intervals over users and seeds."
        data = [line for place, trade in enumerate(trades)
                for line in trade_off_data(trade)[min(place, 1):]]  # fmt: skip
        alt = " ".join(finding(trade) for trade in trades)
        return finish(figure, "privacy_price", TITLE, caption, alt, data)


def _worst_case(evidence: Evidence, system: str) -> TradeOff:
    """The trade-off of a system against the worst of its privacy attacks, which comes first."""
    found = trade_offs(evidence, judge(evidence))
    return next(trade for trade in found if trade.base and trade.base.arm.system == system)
