"""Does replacement perturbation protect items, catalogue and category, and what does it cost?"""

from __future__ import annotations

from reports.candidates import against_popularity, gain_over_popularity
from reports.evidence import Arm, Estimate, Evidence
from reports.findings.answer import (
    Answer,
    advantage,
    federated,
    kept,
    named,
    shown,
    strongest,
)
from reports.verdicts import MARGIN
from reports.wording import MISSING, join_words, label, number

_HR, _HIT = ("hr", 20, "full"), ("hit1", 1, "sampled")
_OF_THE_LLM = ("hit1_all", 1, "sampled")
_POPULAR = ("asked_popularity_hit1", 1, "sampled")
_HEAD = (
    "upload",
    "item: top-1, strongest attacker",
    "catalogue disclosed, strongest attacker",
    "category overlap, strongest attacker",
    "HR@20 kept",
    "Hit@1 kept, stage 1",
    "Hit@1 of the LLM's answers",
    "Hit@1 by popularity, same lists",
    "LLM less popularity, paired",
)


def replacement(evidence: Evidence, language: Evidence) -> Answer:
    """Answer from the sweep without and the run with the language stage."""
    arms = federated(evidence)
    spoken = {_key(arm): arm for arm in federated(language)}
    rows = tuple(_row(evidence, language, arm, spoken.get(_key(arm))) for arm in arms)
    return Answer(
        question=(
            "Does replacement perturbation protect item identity, catalogue and category, "
            "and at what cost to Hit@1?"
        ),
        sentences=(*_protection(evidence, arms), *_price(language)),
        head=_HEAD,
        rows=rows,
        notes=(
            f"Guessing names the right item with probability {_chance(evidence, 'top1')} and "
            f"reaches a category overlap of {_chance(evidence, 'category_overlap')} (the best "
            "single guess per domain). The disclosed catalogue has no chance level: whoever names "
            "every public item discloses all of it.",
            "SF-UBM's paper reports cosines between a vector and what is sent for it. A cosine is "
            "no protection: the adaptive attacker runs the same perturbation on the public "
            "catalogue and inverts it.",
            "The language stage was trained once a strength (one seed), so the last column's "
            "intervals cover users only; another training could differ by as much.",
        ),
        runs=("replacement", "replacement_language"),
    )


def _key(arm: Arm) -> tuple[str, float | None]:
    return arm.family if arm.undefended else arm.defense, arm.strength


def _row(evidence: Evidence, language: Evidence, arm: Arm, spoken: Arm | None) -> tuple[str, ...]:
    found = language.select(lambda e: e.arm == spoken and e.measure == _OF_THE_LLM)
    return (
        arm.text,
        named(strongest(evidence, arm, "top1")),
        named(strongest(evidence, arm, "catalogue_disclosed")),
        named(strongest(evidence, arm, "category_overlap")),
        kept(evidence, arm, _HR),
        kept(evidence, arm, _HIT),
        *_spoken(language, found[0] if found else None),
    )


def _spoken(language: Evidence, said: Estimate | None) -> tuple[str, str, str]:
    """What the LLM reached, popularity on the same lists, and the difference by user."""
    if said is None:
        return MISSING, MISSING, MISSING
    popular = language.find(said.arm, said.condition, _POPULAR, "none")
    gain = gain_over_popularity(language, said)
    return (
        shown(said.interval),
        shown(popular.interval) if popular else MISSING,
        shown(gain.interval) if gain else MISSING,
    )


def _protection(evidence: Evidence, arms: list[Arm]) -> list[str]:
    """For each variant: from which strength on the item is safe, and what is told even then."""
    said: list[str] = []
    for family in dict.fromkeys(_variant(arm) for arm in arms if not arm.undefended):
        own = [arm for arm in arms if not arm.undefended and _variant(arm) == family]
        safe = next((arm for arm in own if _safe(evidence, arm)), None)
        if safe is None:
            said.append(
                f"**{label(family)}**: no strength that was run brings the strongest attacker's "
                f"top-1 to within {MARGIN:g} of guessing."
            )
            continue
        catalogue = strongest(evidence, safe, "catalogue_disclosed")
        category = strongest(evidence, safe, "category_overlap")
        text = (
            f"**{label(family)}** hides which item stands where (top-1 within {MARGIN:g} of "
            f"guessing) from {safe.text} on, where {kept(evidence, safe, _HIT)} of Hit@1 and "
            f"{kept(evidence, safe, _HR)} of HR@20 are left"
        )
        if catalogue:
            text += f"; the catalogue as a set is still disclosed to {named(catalogue)}"
        if category:
            verb = "is not" if advantage(category).low > MARGIN else "is"
            text += f"; the category {verb} hidden: overlap {named(category)}, by guessing "
            text += number(category.chance)
        said.append(text + ".")
    return said


def _variant(arm: Arm) -> str:
    """The label of a variant without its strength, which the label's last word holds."""
    return arm.defense.rsplit(" ", 1)[0] if " " in arm.defense else arm.defense


def _safe(evidence: Evidence, arm: Arm) -> bool:
    found = strongest(evidence, arm, "top1")
    return found is not None and advantage(found).high <= MARGIN


def _price(language: Evidence) -> list[str]:
    found = {e.arm: e for e in language.select(lambda e: e.measure == _OF_THE_LLM)}
    base = next((e for arm, e in found.items() if arm.undefended), None)
    treated = [e for arm, e in found.items() if not arm.undefended]
    if base is None or not treated:
        return []
    parts = [f"{e.arm.text}: {shown(e.interval)}" for e in treated]
    different = [e for e in treated if (d := language.difference(e, base)).low > 0 or d.high < 0]
    verdict = (
        "over these users no difference to it can be told from chance"
        if not different
        else "over these users different from it: " + ", ".join(e.arm.text for e in different)
    )
    return [
        f"Through the whole system, the LLM's Hit@1 is {shown(base.interval)} without perturbation "
        f"and {'; '.join(parts)} ({verdict}).",
        *beside_popularity(language),
    ]


def beside_popularity(language: Evidence) -> list[str]:
    """Whether the LLM chooses better than popularity does on the same lists, for each kind."""
    kinds = {"sampled": "uniform lists", "popularity": "lists drawn by popularity"}
    said: list[str] = []
    for protocol, lists in kinds.items():
        measure = (_OF_THE_LLM[0], _OF_THE_LLM[1], protocol)
        estimates = language.select(lambda e, measure=measure: e.measure == measure)
        if estimates:
            said += _on_lists(language, estimates, lists)
    return said


def _on_lists(language: Evidence, estimates: list[Estimate], lists: str) -> list[str]:
    words = {e.arm.text: against_popularity(language, e) for e in estimates}
    if not all(words.values()):
        return [f"Popularity was not measured on the same {lists}, so that the LLM chooses by the "
                "user's taste is not shown there."]  # fmt: skip
    told = [
        f"it {verdict} popularity at {join_words([a for a, w in words.items() if w == verdict])}"
        for verdict in dict.fromkeys(words.values())
    ]
    shows = all(word == "beats" for word in words.values())
    end = "" if shows else ": that it chooses by the user's taste is not shown there"
    # What was reached on uniform lists is said in the sentence before.
    reached = "" if estimates[0].measure == _OF_THE_LLM else _reached(language, estimates)
    return [f"Beside popularity on the same {lists}{reached}, {'; '.join(told)}{end}."]


def _reached(language: Evidence, estimates: list[Estimate]) -> str:
    """Hit@1 under each setting, and popularity's, which is the same for all: so are the lists."""
    first = estimates[0]
    measure = (_POPULAR[0], first.k, first.protocol)
    popular = language.find(first.arm, first.condition, measure, "none")
    against = f" and popularity's {shown(popular.interval)}" if popular else ""
    return f", where its Hit@1 is {join_words([shown(e.interval) for e in estimates])}{against}"


def _chance(evidence: Evidence, metric: str) -> str:
    found = evidence.select(lambda e: e.metric == metric)
    return number(found[0].chance) if found else MISSING
