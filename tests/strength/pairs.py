"""Which attack meets which defence, how strong it gets, and which rule holds for the pair.

The rules (``harness.strength``): 1 the undefended attack is above chance; 2 strength 0 is no
defence, bit for bit; 3 stronger never helps the attack, and the strongest lowers it; 4 the
strongest setting reaches chance; 5 nobody beats theory. Rule 6, the utility budget, and the
accountants belong to a defence alone (``test_defenses.py``); rule 7 plants bugs
(``test_mutations.py``). Rules 1 to 4 are in ``test_pairs.py``, rule 5 in ``checks.py``.

A pair is listed here with the rules it is excused from and why; all other rules are tested. Pairs
that share no kind of message (row norms against replacement, say) cannot meet and are not listed;
``test_every_pair_that_can_meet_is_listed`` finds new ones.

| | local_dp | dp_fedavg | trimmed_mean | counterfactual_negatives | replacement |
|---|---|---|---|---|---|
| row_norm | 1 2 3 4 5 | 1 2 | 1 2 | 1 2 | |
| span_check | 1 2 3 4 5 | 1 2 | 1 2 | 1 2 | |
| a_hum | 1 2 | 1 2 3 4 5 | 1 2 3 4 5 | 1 2 | |
| alie | 1 2 | 1 2 3 4 5 | 1 2 5 | 1 2 | |
| sign_flip | 1 2 | 1 2 3 4 5 | 1 2 3 5 | 1 2 | 1 2 |
| nearest_neighbor | | | | | 1 2 3 4 5 |
| inverse_codebook | | | | | 1 2 3 4 5 |

Where a defence makes no claim against an attack, the opposite is tested, so that nobody reads
protection into it: the server's attacks succeed as before (``test_no_claim_means_no_protection``).

A-hum meets the trimmed mean over the whole cohort. Trimmed over a row's senders it is not stopped:
on a rarely sent row the attackers are the majority
(``test_trimming_over_senders_does_not_stop_promotion``).

Success is AUC (row norms), the share of positions named (span check), top-1 (text vectors), and for
poisoning what the attack changes against the same training without it: exposure gained by each
target (A-hum), utility lost (ALIE, sign flip), quantisation error gained by honest items (sign flip
on text vectors, where the loss of utility is too small to measure). Chance is what the scorer says,
0 for changes. Data: synthetic and directly built ones in the fast tier, MovieLens in the slow one;
counterfactual negatives in the fast tier alone, with views of random items, since an LLM's views
take minutes and what the defence does with a view does not hang on who wrote it. ALIE in the fast
tier alone as well: on 300 users of MovieLens its damage cannot be told from none, so nothing that a
defence does against it there would mean anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from attacks.a_hum import AHum
from attacks.alie import Alie
from attacks.inverse_codebook import InverseCodebook
from attacks.nearest_neighbor import NearestNeighbor
from attacks.row_norm import RowNorm
from attacks.sign_flip import SignFlip
from attacks.span_check import SpanCheck
from defenses.counterfactual_negatives import CounterfactualNegatives
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from defenses.replacement import Replacement
from defenses.trimmed_mean import TrimmedMean
from harness.core.attack import Attack
from harness.core.defense import Defense

BOUNDLESS = 1e12
"""A clip that no update reaches."""

SERVER_SEES_IT_ALL = (
    "the server sees every update before this defence acts on it, and nothing is claimed"
)
NOT_ON_ATTACKERS = (
    "a malicious client skips the client stage, so noise on honest updates bounds nobody and hides "
    "them; nothing is claimed"
)
COVER_ROWS = (
    "the view's items only travel along in the update, where the history's own still stand out; "
    "nothing is claimed"
)
NO_ROBUSTNESS = "nothing is claimed against malicious clients; it changes what honest ones learn"
NO_CLOSED_FORM = "no closed form bounds this attack under a defence that does not act on it"


POWERLESS_ON_REAL = frozenset({"alie"})
"""Utility lost on MovieLens: 0.04 [-0.02, 0.11] at z = 5 and 0.02 [-0.04, 0.08] at z = 10."""


@dataclass(frozen=True)
class Pair:
    """An attack, a defence from none to strongest, and what does not apply.

    Attributes:
        attack: makes the attack.
        neutral: makes the defence at the strength that stands for none.
        strengths: make the defence, weakest first; the undefended case goes before them.
        excused: rule to the reason why it is not tested.
        aggregation: LUMOS's rule for item rows that the neutral strength equals (rule 2).
        margin: how far above chance rule 4 lets the interval reach.
    """

    attack: Callable[[], Attack]
    neutral: Callable[[], Defense]
    strengths: tuple[Callable[[], Defense], ...]
    excused: dict[int, str] = field(default_factory=dict[int, str])
    aggregation: str = "touched"
    margin: float = 0.03

    def __str__(self) -> str:
        return "-".join(self.names)

    @property
    def names(self) -> tuple[str, str]:
        return self.attack().name, self.neutral().name


def _local(noise_multiplier: float) -> Callable[[], Defense]:
    return lambda: LocalDP(noise_multiplier=noise_multiplier, clip_norm=1.0)


def _central(noise_multiplier: float, clip: float) -> Callable[[], Defense]:
    return lambda: DPFedAvg(epsilon=None, noise_multiplier=noise_multiplier, clip_norm=clip)


def _trimmed(trim: float, rows: str) -> Callable[[], Defense]:
    return lambda: TrimmedMean(trim=trim, rows=rows)


def _replaced(sigma: float) -> Callable[[], Defense]:
    return lambda: Replacement(sigma=sigma)


def _weight(weight: float) -> Callable[[], Defense]:
    return lambda: CounterfactualNegatives(weight=weight)


def _promotion() -> Attack:
    return AHum(max_row_norm_ratio=2.0)


def _shift() -> Attack:
    return Alie(z=5.0)


def _flip() -> Attack:
    # Five times the honest update wrecks a training whatever is trimmed; at twice, trimming has
    # something to save.
    return SignFlip(scale=2.0)


def _codebook() -> Attack:
    return InverseCodebook(samples=16)


LOCAL_NEUTRAL = LocalDP(noise_multiplier=0.0, clip_norm=BOUNDLESS, rows="sent").config
CENTRAL_NEUTRAL = DPFedAvg(epsilon=None, noise_multiplier=0.0, clip_norm=BOUNDLESS).config
NO_PROTECTION = dict.fromkeys((3, 4, 5), SERVER_SEES_IT_ALL)
NO_CLAIM = {3: NO_ROBUSTNESS, 4: NO_ROBUSTNESS, 5: NO_CLOSED_FORM}


def _server_pairs(
    attack: Callable[[], Attack], noise: tuple[float, ...], margin: float = 0.03
) -> tuple[Pair, ...]:
    """An attack by the server against every defence on model updates."""
    strongest = _trimmed(0.45, "touched")
    return (
        Pair(
            attack, lambda: LocalDP(LOCAL_NEUTRAL), tuple(_local(z) for z in noise), margin=margin
        ),
        Pair(
            attack,
            lambda: DPFedAvg(CENTRAL_NEUTRAL),
            (_central(10.0, 1.0),),
            NO_PROTECTION,
            aggregation="cohort",
        ),
        Pair(attack, _trimmed(0.0, "touched"), (strongest,), NO_PROTECTION),
        Pair(attack, _weight(1.0), (_weight(0.0),), dict.fromkeys((3, 4, 5), COVER_ROWS)),
    )


def _client_pairs(
    attack: Callable[[], Attack],
    clips: tuple[float, ...],
    rows: str,
    trims: tuple[float, ...],
    excused: dict[int, str],
) -> tuple[Pair, ...]:
    """A poisoning attack against every defence on model updates.

    What DP-FedAvg does against malicious clients is the clip, so that is what grows stronger here.
    Its noise does not: it lifts rarely seen items from the bottom of every list to the middle, from
    where A-hum's push goes further (0.03 of exposure gained at ten times the noise, 0.00 at once).
    """
    skipped = dict.fromkeys((3, 4, 5), NOT_ON_ATTACKERS)
    aggregation = "cohort" if rows == "all" else "touched"
    trimmed = tuple(_trimmed(trim, rows) for trim in trims)
    # Where no target of twenty to forty is shown to anybody, Wilson's interval still ends near 0.1.
    # Twenty targets of which none gains anything leave 0.18 open.
    margin = 0.2 if rows == "all" else 0.03
    return (
        Pair(attack, lambda: LocalDP(LOCAL_NEUTRAL), (_local(0.1),), skipped),
        Pair(
            attack,
            lambda: DPFedAvg(CENTRAL_NEUTRAL),
            tuple(_central(1.0, clip) for clip in clips),
            aggregation="cohort",
        ),
        Pair(attack, _trimmed(0.0, rows), trimmed, excused, aggregation, margin),
        Pair(attack, _weight(1.0), (_weight(0.0),), NO_CLAIM),
    )


INSIDE_THE_SPREAD = (
    "the attack is made to stay inside the spread of honest clients, where trimming leaves it: on "
    "MovieLens-100K utility fell further with trimming than without"
)
BIAS_REMAINS = (
    "cutting as many values at the honest end as at the attackers' leaves a bias of the order of "
    "the clients' spread, which rule 5 bounds and which users' own data make large"
)
NOT_ROBUST_TEXT = (
    "replacement acts on honest uploads and claims nothing against a malicious domain; "
    + NO_CLOSED_FORM
)

TEXT_NEUTRAL = Replacement(
    sigma=0.0, self_neighbor="allow", compare="clean", normalize=False
).config

PAIRS: tuple[Pair, ...] = (
    *_server_pairs(RowNorm, (1e-3, 1e-2, 3e-2, 1e-1, 1.0)),
    # No hit among 60 users who return in three seeds leaves 0.061 open.
    *_server_pairs(SpanCheck, (1e-5, 1e-4, 1e-3, 1e-1), margin=0.07),
    *_client_pairs(_promotion, (1.0, 0.1), "all", (0.25, 0.45), {}),
    *_client_pairs(
        _shift, (1.0, 0.01), "touched", (0.25,), {3: INSIDE_THE_SPREAD, 4: INSIDE_THE_SPREAD}
    ),
    *_client_pairs(_flip, (1.0, 0.01), "touched", (0.25, 0.4), {4: BIAS_REMAINS}),
    *(
        Pair(
            attack,
            lambda: Replacement(TEXT_NEUTRAL),
            tuple(_replaced(sigma) for sigma in (0.01, 0.1, 0.3, 3.0)),
            # Exact bounds of three hits in 720 uploads reach 0.017 above chance.
            margin=0.02,
        )
        for attack in (NearestNeighbor, _codebook)
    ),
    Pair(
        lambda: SignFlip(scale=3.0),
        lambda: Replacement(TEXT_NEUTRAL),
        (_replaced(0.1),),
        {3: NOT_ROBUST_TEXT, 4: NOT_ROBUST_TEXT, 5: NOT_ROBUST_TEXT},
    ),
)
