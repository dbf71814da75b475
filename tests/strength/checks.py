"""Every check of rule 5 by name, and which of them bound a pair.

A check takes nothing, calls the real code through its public stages or the real loop, and raises
``TooWeak``, so that ``test_mutations.py`` can run it against code with a planted bug.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tests.strength.bounds import (
    check_client_norms,
    check_poisoning_hull,
    check_poisoning_influence,
    check_roles,
    check_trimmed_hull,
    check_who_is_judged,
)
from tests.strength.budgets import check_accountants, check_central_audit, check_local_audit
from tests.strength.noise import (
    check_central_noise,
    check_local_noise,
    check_tensors_have_their_own_noise,
    check_text_noise,
)
from tests.strength.reach import (
    check_replacements_are_items,
    check_row_norm_bound,
    check_self_is_excluded,
    check_span_bound,
    check_two_items_law,
)


@cache
def green(check: Callable[[], None]) -> None:
    """Run a check on the code as it is; once, however many pairs lean on it."""
    check()


CHECKS: tuple[Callable[[], None], ...] = (
    check_central_noise,
    check_local_noise,
    check_text_noise,
    check_tensors_have_their_own_noise,
    check_client_norms,
    check_poisoning_influence,
    check_trimmed_hull,
    check_poisoning_hull,
    check_row_norm_bound,
    check_span_bound,
    check_self_is_excluded,
    check_replacements_are_items,
    check_two_items_law,
    check_accountants,
    check_central_audit,
    check_local_audit,
    check_roles,
    check_who_is_judged,
)

RULE_5: dict[tuple[str, str], tuple[Callable[[], None], ...]] = {
    ("row_norm", "local_dp"): (check_row_norm_bound, check_local_audit),
    ("span_check", "local_dp"): (check_span_bound, check_local_audit),
    ("a_hum", "dp_fedavg"): (check_poisoning_influence,),
    ("alie", "dp_fedavg"): (check_poisoning_influence,),
    ("sign_flip", "dp_fedavg"): (check_poisoning_influence,),
    ("a_hum", "trimmed_mean"): (check_trimmed_hull, check_poisoning_hull),
    ("alie", "trimmed_mean"): (check_trimmed_hull, check_poisoning_hull),
    ("sign_flip", "trimmed_mean"): (check_trimmed_hull, check_poisoning_hull),
    ("nearest_neighbor", "replacement"): (check_self_is_excluded, check_two_items_law),
    ("inverse_codebook", "replacement"): (check_two_items_law,),
}
"""The closed forms that bound a pair."""
