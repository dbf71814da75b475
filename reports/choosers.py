"""What chooses among candidates, and the metrics that stand beside it in a table of their own."""

from __future__ import annotations

# What chooses -> (name, prefix of its references' metrics, metric of stage 1 beside it).
CHOOSERS: dict[str, tuple[str, str, str]] = {
    "hit1": ("scores", "", ""),
    "backbone_hit1": ("scores before stage 1", "", "hit1"),
    "hit1_all": ("language stage, all answers", "asked_", "stage1_hit1"),
    "hit1_valid": ("language stage, valid answers", "valid_", "valid_stage1_hit1"),
    "llm_only_hit1_all": ("LLM alone, all answers", "asked_", "stage1_hit1"),
    "llm_only_hit1_valid": (
        "LLM alone, valid answers", "llm_only_valid_", "llm_only_valid_stage1_hit1",
    ),
    "stage1_hit1": ("stage 1, users asked", "asked_", ""),
}  # fmt: skip
REFERENCES = ("popularity_hit1", "frequency_guess_hit1")


def beside_popularity(metric: str) -> bool:
    """Whether a metric stands in this table and needs no column of its own elsewhere."""
    prefixes = {prefix for _, prefix, _ in CHOOSERS.values()}
    return (
        metric.endswith("_over_popularity")
        or metric in {f"{prefix}{name}" for prefix in prefixes for name in REFERENCES}
        or metric in {"valid_stage1_hit1", "llm_only_valid_stage1_hit1", "hit1_all_over_stage1"}
    )
