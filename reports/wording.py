"""Words and numbers as a newcomer reads them: metric names, three significant digits."""

from __future__ import annotations

import math
import re
import unicodedata

from harness.results import Interval

MAX_LABEL = 60
MAX_TICK = 36
MISSING = "–"

# name -> (short name, what it says); "@K" is filled in by metric_name.
METRICS: dict[str, tuple[str, str]] = {
    "hr": ("HR@K", "share of users whose next item is among the first K recommended"),
    "ndcg": ("NDCG@K", "as HR@K, but a hit counts more the higher it stands"),
    "mrr": ("MRR", "mean of 1 / place of the next item"),
    "hit1": ("Hit@1", "share of users whose next item is scored highest of a few candidates"),
    "hit1_all": ("Hit@1 (all)", "share of all answers that name the right candidate"),
    "hit1_valid": ("Hit@1 (valid)", "the same among answers that name any candidate"),
    "stage1_hit1": ("Hit@1 of stage 1", "the same lists and users, by the scores of stage 1"),
    "llm_only_hit1_all": ("LLM alone, Hit@1 (all)", "the untrained language model, asked in words"),
    "llm_only_hit1_valid": ("LLM alone, Hit@1 (valid)", "the same among its valid answers"),
    "backbone_hr": ("HR@K before stage 1", "the frozen sequence model without what was added"),
    "backbone_ndcg": ("NDCG@K before stage 1", "the frozen sequence model's NDCG@K"),
    "backbone_hit1": ("Hit@1 before stage 1", "the frozen sequence model's Hit@1, same lists"),
    "hr_over_backbone": ("HR@K over the backbone", "HR@K less the frozen sequence model's, paired"),
    "popularity_hit1": ("Hit@1 by popularity", "the same lists ranked by training popularity"),
    "frequency_guess_hit1": ("Hit@1, guess by frequency", "a guess drawn by training frequency"),
    "valid_ratio": ("Valid Ratio", "share of the language model's answers that name a candidate"),
    "er": ("ER@K", "share of users shown the promoted item among the first K"),
    "target_rank": ("target rank", "mean place of the promoted item"),
    "auc": ("AUC", "chance that a true item is scored above a false one"),
    "auc_sent": ("AUC, rows sent", "the same among the items whose rows the client sent"),
    "auc_history": ("AUC, history", "the same against the whole history, not the part trained on"),
    "ap": ("average precision", "precision averaged over the true items"),
    "precision_at_size": ("precision@|S|", "share of true items among the attacker's |S| best"),
    "precision": ("precision", "share of the claimed items that are true"),
    "recall": ("recall", "share of the true items that are claimed"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "advantage": ("TPR − FPR", "largest gap between true and false positive rate"),
    "exact_position": ("item at position", "share of positions whose exact item is recovered"),
    "top1": ("top-1", "share of vectors traced to the right item at the first guess"),
    "top5": ("top-5", "share of vectors traced to the right item within five guesses"),
    "top10": ("top-10", "share of vectors traced to the right item within ten guesses"),
    "median_rank": ("median rank", "median place of the right item in the attacker's list"),
    "catalogue_disclosed": ("catalogue disclosed", "share of the private catalogue named at all"),
    "category_overlap": (
        "category overlap",
        "Jaccard overlap of the named item's categories with the right one's",
    ),
    "cosine": ("cosine", "similarity of what is sent to the original: utility, not privacy"),
    "epsilon_claimed": ("ε claimed", "privacy budget that the defence's accountant claims"),
    "epsilon_audited": ("ε audited", "lower bound on ε, 95 %, that the guessed canaries prove"),
    "canary_separation": (
        "canary separation",
        "standard deviations between the canaries' scores of both coins",
    ),
    "epsilon_estimate": ("ε estimated", "ε of Gaussians fitted to the canaries; not a bound"),
    "epsilon_provable": ("ε provable", "bound that so many canaries, all guessed, would prove"),
    "epsilon_excess": ("ε excess", "ε audited less ε claimed; above 0 the claim is refuted"),
    "delta_audited": ("δ audited", "δ at which the audit bounds ε"),
    "canary_margin": ("canary margin", "how surely and rightly coins are guessed, 1 at best"),
    "noise_multiplier": ("noise z", "standard deviation of the noise over the clip norm"),
    "upload_mb": ("upload, MB", "per client and round"),
    "download_mb": ("download, MB", "per client and round"),
    "bytes_up": ("bytes up", "per client and round"),
    "bytes_down": ("bytes down", "per client and round"),
    "seconds": ("seconds", "wall time"),
    "train_seconds": ("training, s", "wall time of the training"),
    "peak_memory_mb": ("peak memory, MB", "largest resident memory of the process"),
}
_STRENGTHS = {
    "sigma": "σ", "epsilon": "ε", "delta": "δ", "lambda": "λ", "noise_multiplier": "noise z",
}  # fmt: skip


def clean(text: object, limit: int = 100_000) -> str:
    """Text that can be printed: no lone surrogates, no control characters, at most ``limit``."""
    plain = str(text).encode("utf-8", "replace").decode()
    if not plain.isprintable():
        kept = (c if c in "\n\t" or unicodedata.category(c) != "Cc" else "�" for c in plain)
        plain = "".join(kept)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def label(text: object) -> str:
    """A label short enough for a table or an axis."""
    return clean(text, MAX_LABEL)


def tick(text: object) -> str:
    """A label short enough to stand beside an axis or in a legend."""
    return clean(text, MAX_TICK)


def metric_name(metric: str, k: int = 0, protocol: str = "") -> str:
    """``hr``, 10, ``sampled`` -> ``HR@10 (sampled)``; an unknown metric keeps its own name."""
    short = METRICS.get(metric, (label(metric).replace("_", " "), ""))[0]
    if "@K" in short:
        short = short.replace("@K", f"@{k}") if k else short
    elif k and not (k == 1 and "@1" in short):
        short = f"{short} @{k}"
    drawn = {"sampled": "sampled", "popularity": "sampled by popularity"}.get(protocol)
    if drawn is None:
        return short
    return f"{short[:-1]}, {drawn})" if short.endswith(")") else f"{short} ({drawn})"


def metric_help(metric: str) -> str:
    """One line on what a metric says; empty for an unknown one."""
    return METRICS.get(metric, ("", ""))[1]


def number(value: float | None) -> str:
    """Three significant digits, no exponent in the usual range; a dash for what is not there."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 999.5:
        text = f"{value:,.0f}" if size < 1e7 else f"{value:.3g}"
    elif size < 1e-4:
        text = re.sub(r"\.?0+e", "e", f"{value:.2e}")
    else:
        digits = max(0, 2 - math.floor(math.log10(float(f"{size:.2e}"))))
        text = f"{value:.{digits}f}"
        # Trailing zeros of exact values such as 1 or 0.5 say nothing.
        text = re.sub(r"\.?0+$", "", text) if "." in text else text
    return text.replace("-", "−")


def bounds(interval: Interval) -> str:
    """``[low, high]``, or a dash where there is no interval."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return MISSING
    return f"[{number(interval.low)}, {number(interval.high)}]"


def settled(interval: Interval) -> Interval:
    """Without the dust of floating-point sums, so that a difference of nothing reads as 0."""
    value, low, high = (round(x, 6) for x in interval[:3])
    return Interval(value, low, high, interval.n)


def percent(share: float) -> str:
    """A fraction as a percentage of three significant digits."""
    return MISSING if math.isnan(share) else f"{number(100 * share)} %"


def percent_bounds(interval: Interval) -> str:
    """``[low %, high %]``; empty where there is no interval."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    return f"[{percent(interval.low)}, {percent(interval.high)}]"


def strength_text(name: str, value: float | None) -> str:
    """``sigma``, 0.05 -> ``σ = 0.05``; empty for an arm without a strength."""
    if value is None:
        return ""
    return f"{_STRENGTHS.get(name, label(name).replace('_', ' ')) or 'strength'} = {number(value)}"


def defense_text(name: str, strength_name: str, strength: float | None) -> str:
    """A defence and its strength, which is not said twice; ``no defence`` for none."""
    if name == "none":
        return "no defence"
    said = "" if strength is None else number(strength).replace(",", "").replace("−", "-")
    if said in name.replace(",", ""):
        return label(name)
    return f"{label(name)}, {strength_text(strength_name, strength)}"


def clients_text(poisoning: str, malicious: float, noisy: float) -> list[str]:
    """What a training's clients were, one text each; empty if all were honest and clean."""
    parts: list[str] = []
    if poisoning != "none":
        parts.append(f"{label(poisoning)}, {percent(malicious)} malicious")
    elif malicious:
        parts.append(f"{percent(malicious)} malicious")
    return [*parts, f"{percent(noisy)} noisy"] if noisy else parts


def seeds_text(seeds: int) -> str:
    """``1 seed`` or ``n seeds``."""
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def count(number_of: int, word: str) -> str:
    """``no attack``, ``1 attack``, ``2 attacks``."""
    return f"{number_of or 'no'} {word}{'' if number_of == 1 else 's'}"


def join_words(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if math.isnan(seconds):
        return MISSING
    if seconds < 90:
        return f"{number(seconds)} s"
    if seconds < 5400:
        return f"{number(seconds / 60)} min"
    return f"{number(seconds / 3600)} h"
