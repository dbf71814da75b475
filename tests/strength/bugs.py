"""Planted bugs: slips of the hand in the source of real functions, and the checks that see them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import harness.case
import harness.fed.arriving
import tests.strength.checks as checks
from defenses import clipping, local_dp
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from defenses.replacement import Replacement
from defenses.trimmed_mean import TrimmedMean

Check = Callable[[], None]


@dataclass(frozen=True)
class Bug:
    """A slip in the source of one function, and the checks that must see it.

    Attributes:
        name: of the mutation list.
        owner: class or module that holds the function.
        function: its name.
        old: text in its source, found once.
        new: what stands there instead.
        red: checks that must fail.
    """

    name: str
    owner: Any
    function: str
    old: str
    new: str
    red: tuple[Check, ...]


CENTRAL = (checks.check_central_noise, checks.check_central_audit, checks.check_accountants)
ACCOUNT = (checks.check_central_noise, checks.check_accountants)
LOCAL = (checks.check_local_noise, checks.check_accountants)
TEXT = (checks.check_text_noise,)
SWAP = (checks.check_two_items_law,)
HULL = (checks.check_trimmed_hull, checks.check_poisoning_hull)

BUGS = (
    Bug("noise off", DPFedAvg, "on_server", "values + std *", "values + 0 *", CENTRAL),
    Bug(
        "noise off",
        local_dp,
        "add_noise",
        "alpha=std",
        "alpha=0",
        (
            *LOCAL,
            checks.check_local_audit,
            checks.check_row_norm_bound,
            checks.check_span_bound,
        ),
    ),
    Bug("noise off", Replacement, "_perturbed", "config.sigma * noise", "0 * noise", TEXT + SWAP),
    Bug("variance for std", DPFedAvg, "on_server", "+ std *", "+ std**2 *", ACCOUNT),
    Bug("variance for std", DPFedAvg, "on_server", "+ std *", "+ std**0.5 *", ACCOUNT),
    Bug("variance for std", local_dp, "add_noise", "alpha=std", "alpha=std**2", LOCAL),
    Bug("variance for std", local_dp, "add_noise", "alpha=std", "alpha=std**0.5", LOCAL),
    Bug(
        "variance for std",
        Replacement,
        "_perturbed",
        "config.sigma * noise",
        "config.sigma**0.5 * noise",
        TEXT + SWAP,
    ),
    Bug(
        "variance for std",
        Replacement,
        "_perturbed",
        "config.sigma * noise",
        "config.sigma**2 * noise",
        TEXT + SWAP,
    ),
    Bug(
        "clip after noise",
        LocalDP,
        "on_client",
        'return cast("M", whole)',
        'return cast("M", clip_update(whole, self.config.clip_norm))',
        LOCAL,
    ),
    Bug(
        "clip after noise",
        DPFedAvg,
        "on_server",
        "values + std * torch.randn(values.shape, generator=stream, dtype=values.dtype)",
        "(v := values + std * torch.randn(values.shape, generator=stream, dtype=values.dtype))"
        " * (std / z / v.norm()).clamp_max(1.0)",
        ACCOUNT,
    ),
    Bug(
        "no clip at the server",
        DPFedAvg,
        "aggregate",
        "clip_update(message, self.config.clip_norm)",
        "message",
        (checks.check_poisoning_influence, checks.check_central_audit),
    ),
    Bug(
        "clip by tensor",
        clipping,
        "clip_update",
        "bound / update.norms()",
        "bound / update.rows.double().flatten(1).norm(dim=1)",
        (checks.check_client_norms, checks.check_poisoning_influence, checks.check_local_noise),
    ),
    Bug(
        "noise only on touched rows",
        LocalDP,
        "on_client",
        "whole_table(clipped, federation.num_items)",
        "ModelUpdate(clipped.clients, {n: d.clone() for n, d in clipped.dense.items()},"
        " clipped.row_ids, clipped.rows.clone(), clipped.num_examples)",
        (checks.check_local_noise, checks.check_row_norm_bound),
    ),
    Bug(
        "noise only on touched rows",
        DPFedAvg,
        "on_server",
        'noisy(aggregate.rows, ("rows",))',
        'noisy(aggregate.rows, ("rows",)) * (aggregate.rows != 0).any(1, keepdim=True)',
        ACCOUNT,
    ),
    Bug(
        "reused noise seed",
        DPFedAvg,
        "on_server",
        'seeds.child("dp_fedavg", federation.round_index)',
        'Seeds(0).child("dp_fedavg")',
        (checks.check_central_noise, checks.check_central_audit),
    ),
    Bug(
        "reused noise seed: tensors",
        DPFedAvg,
        "on_server",
        "place.torch(*purpose)",
        "place.torch()",
        (checks.check_tensors_have_their_own_noise,),
    ),
    Bug(
        "reused noise seed: tensors",
        LocalDP,
        "on_client",
        "place.torch(client, name)",
        "place.torch(client)",
        (checks.check_tensors_have_their_own_noise,),
    ),
    Bug(
        "reused noise seed: clients",
        LocalDP,
        "on_client",
        "place.torch(client, name)",
        "place.torch(name)",
        (checks.check_local_noise, checks.check_local_audit),
    ),
    Bug(
        "reused noise seed: rounds",
        LocalDP,
        "on_client",
        'seeds.child("local_dp", federation.round_index)',
        'Seeds(0).child("local_dp")',
        (checks.check_local_noise,),
    ),
    Bug(
        "reused noise seed: domains",
        Replacement,
        "on_client",
        'seeds.torch("replacement", federation.round_index, domain)',
        'seeds.torch("replacement")',
        TEXT + SWAP,
    ),
    Bug(
        "reused noise seed: runs",
        Replacement,
        "on_client",
        'seeds.torch("replacement", federation.round_index, domain)',
        'Seeds(0).torch("replacement", domain)',
        TEXT,
    ),
    Bug("trim 0", TrimmedMean, "aggregate", "self.config.trim,", "0.0,", HULL),
    Bug(
        "trim at one end",
        sys.modules["defenses.trimmed_mean"],
        "trimmed_mean",
        "cut : total - cut",
        "cut : total",
        HULL,
    ),
    Bug(
        "wrong malicious ids",
        harness.fed.arriving,
        "_malicious_rows",
        "malicious[message.sent_by]",
        "malicious[: len(message.sent_by)]",
        (checks.check_roles,),
    ),
    Bug(
        "wrong malicious ids",
        harness.fed.arriving,
        "_malicious_rows",
        "malicious[message.sent_by]",
        "~malicious[message.sent_by]",
        (checks.check_roles,),
    ),
    Bug(
        "evaluated on everybody",
        harness.case,
        "build_case",
        "~excluded.malicious & ~excluded.noisy & ",
        "",
        (checks.check_who_is_judged,),
    ),
    Bug(
        "self included",
        Replacement,
        "_perturbed",
        'config.self_neighbor == "exclude"',
        'config.self_neighbor != "exclude"',
        (checks.check_self_is_excluded,),
    ),
    Bug(
        "replaced vector not of unit length",
        Replacement,
        "_perturbed",
        "else clean[chosen]",
        "else vectors[chosen]",
        (checks.check_replacements_are_items,),
    ),
)
