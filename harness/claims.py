"""Claims of inference attacks against the truth."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from harness.core.attack import (
    Claims,
    InferenceAttack,
    ItemAtPosition,
    ItemIdentity,
    ItemMembership,
)
from harness.core.scores import row_blocks
from harness.metrics import ranking, recovery, reidentification
from harness.sheet import NAN, Sheet
from harness.truth import Truth


def score_claims(
    sheet: Sheet,
    attack: InferenceAttack,
    label: str,
    claims: Claims,
    truth: Truth,
    protocol: dict[str, Any],
) -> None:
    """Enter the success of one inference attack."""
    shared = {"side": "privacy", "attack": label, "threat_model": attack.threat_model.words}
    _score(claims, sheet, truth, protocol, shared)


@singledispatch
def _score(
    claims: Claims, sheet: Sheet, truth: Truth, protocol: dict[str, Any], shared: dict[str, Any]
) -> None:
    raise TypeError(f"no scorer for {type(claims).__name__}")


def _history(truth: Truth, client: int, protocol: dict[str, Any]) -> np.ndarray:
    """Return the items the client trained on, oldest first."""
    return truth.domain.histories[client][-window(protocol) :]


def window(protocol: dict[str, Any]) -> int:
    """Return how many of a history's last items a client trains on, by the public protocol."""
    return protocol.get("window", protocol["max_length"])


@_score.register
def _membership(
    claims: ItemMembership,
    sheet: Sheet,
    truth: Truth,
    protocol: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    clients = claims.clients.numpy()
    rows = np.flatnonzero(truth.victims[clients])
    chosen, num_items = torch.from_numpy(rows), claims.scores.shape[1]
    auc, auc_sent, auc_history, precision, size = (np.zeros(len(rows)) for _ in range(5))
    sent = None if claims.sent is None else row_blocks(claims.sent, chosen)
    for part, block in row_blocks(claims.scores, chosen):
        kept = np.ones(block.shape, bool) if sent is None else next(sent)[1].numpy() > 0
        for place, (scores, there) in enumerate(zip(block.numpy(), kept, strict=True), part.start):
            client = int(clients[rows[place]])
            member = _members(_history(truth, client, protocol), num_items)
            auc[place] = recovery.roc_auc(scores, member)
            auc_sent[place] = recovery.roc_auc(scores[there], member[there])
            whole = _members(truth.domain.histories[client], num_items)
            auc_history[place] = recovery.roc_auc(scores, whole)
            precision[place] = recovery.precision_at_size(scores, member)
            size[place] = member.mean()
    victims = clients[rows]
    sheet.measure("auc", victims, auc, better="lower", chance=0.5, **shared)
    sheet.measure("auc_history", victims, auc_history, better="lower", chance=0.5, **shared)
    if sent is not None:
        _score_sent(sheet, victims, auc_sent, shared)
    base = float(size.mean()) if len(size) else NAN
    sheet.measure("precision_at_size", victims, precision, better="lower", chance=base, **shared)


def _score_sent(
    sheet: Sheet,
    victims: Int[np.ndarray, " victim"],
    auc_sent: Float[np.ndarray, " victim"],
    shared: dict[str, Any],
) -> None:
    """Enter the AUC among the rows sent, over the victims who have one.

    Who sends the rows of members alone has told all of them and has no such number. Where that
    is everybody there is no row: one that is not applicable would speak of the whole attack.
    """
    there = ~np.isnan(auc_sent)
    if there.any():
        kept = auc_sent[there]
        sheet.measure("auc_sent", victims[there], kept, better="lower", chance=0.5, **shared)


def _members(items: np.ndarray, num_items: int) -> Bool[np.ndarray, " item"]:
    """Return which items of the catalogue occur."""
    found = np.zeros(num_items, dtype=bool)
    found[items] = True
    return found


@_score.register
def _at_position(
    claims: ItemAtPosition,
    sheet: Sheet,
    truth: Truth,
    protocol: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    clients = claims.clients.numpy()
    rows = np.flatnonzero(truth.victims[clients])
    exact, answered = np.zeros(len(rows)), np.zeros(len(rows))
    for place, row in enumerate(rows):
        history = _history(truth, int(clients[row]), protocol)
        claimed = claims.items[row, : len(history)].numpy()
        exact[place] = recovery.exact_position(claimed, history)
        answered[place] = float((claimed >= 0).mean())
    victims, chance = clients[rows], 1 / truth.domain.num_items
    sheet.measure("exact_position", victims, exact, better="lower", chance=chance, **shared)
    sheet.measure("answered", victims, answered, better="lower", chance=NAN, **shared)
    ranks = claims.observed_rank[torch.from_numpy(rows)].double().numpy()
    sheet.measure("observed_rank", victims, ranks, better="higher", chance=NAN, **shared)


@_score.register
def _identity(
    claims: ItemIdentity,
    sheet: Sheet,
    truth: Truth,
    protocol: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    del protocol
    domain = claims.domain.numpy()
    rows, honest = _honest_uploads(truth, domain)
    ranks, claimed = np.zeros(len(honest)), np.zeros(len(honest), dtype=np.int64)
    for part, block in row_blocks(claims.scores, torch.from_numpy(rows)):
        scores = block.numpy()
        ranks[part] = ranking.target_rank(scores, honest[part], tie="average")
        claimed[part] = ranking.best(scores)
    # Whose upload it is and whose item it is are both known, so a guesser without the vector picks
    # among the sender's own items.
    choices, domain = np.bincount(domain)[domain[rows]], domain[rows]
    for k in (1, 5):
        sheet.measure(
            f"top{k}",
            honest,
            reidentification.top_k(ranks, k),
            better="lower",
            chance=float(np.minimum(1, k / choices).mean()) if len(honest) else NAN,
            **shared,
        )
    sheet.figure(
        "median_rank",
        reidentification.median_rank(ranks),
        n=len(honest),
        better="higher",
        chance=reidentification.median_rank_chance(choices),
        **shared,
    )
    _score_categories(sheet, claimed, honest, domain, truth, shared)
    # No chance level: whoever names every public item at random discloses all of them too.
    sheet.figure(
        "catalogue_disclosed",
        reidentification.catalogue_disclosed(claimed, honest),
        n=len(honest),
        better="lower",
        **shared,
    )


def _honest_uploads(
    truth: Truth, domain: Int[np.ndarray, " upload"]
) -> tuple[Int[np.ndarray, " honest"], Int[np.ndarray, " honest"]]:
    """Return the place of each upload that no adversary crafted, and its item.

    In the order of the items, whatever order they were sent in, so that units pair across cells
    and seeds.

    Args:
        truth: behind the cell.
        domain: sender of each upload that arrived; what a domain sent is refused as a whole.
    """
    assert truth.upload_items is not None
    sent = np.ones(len(truth.upload_items), dtype=bool)
    if truth.upload_domain is not None:
        sent = np.isin(truth.upload_domain, domain)
    items, rows = truth.upload_items[sent], np.flatnonzero(truth.honest_uploads[sent])
    rows = rows[np.argsort(items[rows], kind="stable")]
    return rows, items[rows]


def _score_categories(
    sheet: Sheet,
    claimed: Int[np.ndarray, " upload"],
    honest: Int[np.ndarray, " upload"],
    domain: Int[np.ndarray, " upload"],
    truth: Truth,
    shared: dict[str, Any],
) -> None:
    """Enter how well the claimed item's categories match the true one's, if the data has them."""
    names = sorted({name for kinds in truth.categories for name in kinds})
    if not names:
        return
    table = np.array([[name in kinds for name in names] for kinds in truth.categories])
    sheet.measure(
        "category_overlap",
        honest,
        reidentification.category_overlap(claimed, honest, table),
        better="lower",
        chance=reidentification.category_overlap_chance(honest, domain, table),
        **shared,
    )
