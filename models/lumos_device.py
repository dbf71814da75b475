"""What each of LUMOS's devices prepares before training: views written by its LLM, then packed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.language.encoder import SentenceEncoder
from harness.language.generator import TextGenerator
from models.lumos_config import MAX_FUTURE, LumosConfig
from models.lumos_views import VIEW_NAMES, Views, build_views
from models.packing import PackedUser, pack_user


def write_views(domain: Domain, config: LumosConfig, resources: Resources) -> Views:
    """Let every device's LLM write its user's views; texts come from the cache where they exist."""
    cache, say = resources.cache, resources.progress
    generator = TextGenerator(
        resources.paths["llm"],
        cache=cache / "texts.sqlite",
        progress=lambda done, total: say(f"LLM views: {done} of {total} prompts"),
    )
    encoder = SentenceEncoder(resources.paths["encoder"], cache=cache / "embeddings")
    histories = [history.tolist() for history in domain.histories]
    seeds = Seeds(config.views.sampling_seed).child("lumos")
    return build_views(histories, domain.titles, generator, encoder, config.views, seeds)


def view_findings(views: Views) -> dict[str, float]:
    """Return what a reader should know of the views, by metric name."""
    found: dict[str, float] = {}
    for view in VIEW_NAMES:
        statistics = views.statistics[view]
        found[f"view_{view}_grounded"] = statistics.grounding.valid_ratio
        found[f"view_{view}_present"] = 1.0 - statistics.dropped_share
        found[f"view_{view}_copied"] = statistics.copied_share
    return found


def packed_user(
    user: int, history: Int[np.ndarray, " event"], views: Views | None, config: LumosConfig
) -> PackedUser | None:
    """Pack one user's sequences, cut to what the encoder reads; None without a training pair."""
    if len(history) < 2:
        return None
    kept = history[-config.max_length :].tolist()
    if views is None:
        return pack_user(kept, None, None, None)
    present = views.mask[user]
    use_future = config.future and present[0]
    use_rephrased = config.rephrased and present[1]
    use_counterfactual = config.counterfactual and present[2]
    return pack_user(
        kept,
        views.future[user][len(history) :][:MAX_FUTURE] if use_future else None,
        views.rephrased[user][-len(kept) :] if use_rephrased else None,
        views.counterfactual[user][: config.max_length] if use_counterfactual else None,
    )
