"""What each of LUMOS's devices prepares before training: views written by its LLM, then packed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from harness.core.seeds import Seeds
from harness.core.system import Domain, Part, Resources
from harness.language.cache import model_identity
from harness.language.encoder import SentenceEncoder
from harness.language.generator import TextGenerator
from harness.language.grounding import shown_titles
from harness.store import read_sealed, write_sealed
from models.lumos_config import MAX_FUTURE, LumosConfig
from models.lumos_inquiries import write_texts
from models.lumos_views import VIEW_NAMES, Views, build_views
from models.packing import PackedUser, pack_user

VIEWS_VERSION = 3
"""Raise when :func:`models.lumos_views.build_views` or its streams change their result."""


@dataclass(frozen=True)
class WrittenViews:
    """The three views of every user, and what a reader should know of them.

    Attributes:
        future: history with items appended; empty where absent.
        rephrased: history with substitutions; empty where absent.
        counterfactual: items the user would not choose; empty where absent.
        findings: figures on the views, by metric name.
    """

    future: list[list[int]]
    rephrased: list[list[int]]
    counterfactual: list[list[int]]
    findings: dict[str, float | None]


def prepare_texts(
    domains: Sequence[Domain], config: LumosConfig, resources: Resources, part: Part
) -> None:
    """Let the LLM write one part of all texts that these domains' views need, into the cache.

    Args:
        domains: one catalogue under different noise.
        config: the system's.
        resources: paths of the models, and the cache.
        part: which share.
    """
    if all(_views_path(domain, config, resources).exists() for domain in domains):
        return
    histories = [history.tolist() for domain in domains for history in domain.histories]
    generator, encoder = _models(resources)
    write_texts(histories, domains[0].titles, generator, encoder, config.views, part)


def encode_titles(
    domains: Sequence[Domain], config: LumosConfig, resources: Resources, part: Part
) -> None:
    """Embed one part of the catalogue's titles, which views are grounded in, into the cache.

    Args:
        domains: one catalogue under different noise.
        config: the system's.
        resources: paths of the models, and the cache.
        part: which share.
    """
    if all(_views_path(domain, config, resources).exists() for domain in domains):
        return
    _, encoder = _models(resources)
    encoder.encode_part(shown_titles(domains[0].titles), part.index, part.count)


def write_views(domain: Domain, config: LumosConfig, resources: Resources) -> WrittenViews:
    """Let every device's LLM write its user's views; texts come from the cache where they exist.

    Args:
        domain: training histories and titles.
        config: the system's.
        resources: paths of the models, and the cache.
    """
    path = _views_path(domain, config, resources)
    # A file that is cut short or altered is written again, from the cached texts.
    if (content := read_sealed(path)) is not None:
        return WrittenViews(**json.loads(content))
    generator, encoder = _models(resources)
    histories = [history.tolist() for history in domain.histories]
    seeds = Seeds(config.views.sampling_seed).child("lumos")
    views = build_views(histories, domain.titles, generator, encoder, config.views, seeds)
    written = WrittenViews(
        views.future, views.rephrased, views.counterfactual, view_findings(views)
    )
    write_sealed(path, json.dumps(asdict(written)).encode())
    return written


def _views_path(domain: Domain, config: LumosConfig, resources: Resources) -> Path:
    key = {
        "version": VIEWS_VERSION,
        "histories": [history.tolist() for history in domain.histories],
        "titles": domain.titles,
        "views": config.views.model_dump(),
        # By content: a folder of one's own may hold another model the next day.
        "models": [model_identity(resources.paths[role]) for role in ("llm", "encoder")],
    }
    if resources.device != "cpu":
        key["device"] = resources.device
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return resources.cache / "views" / f"{name}.json.sealed"


def _models(resources: Resources) -> tuple[TextGenerator, SentenceEncoder]:
    generator = TextGenerator(
        resources.paths["llm"],
        cache=resources.cache / "texts.sqlite",
        progress=lambda done, total: resources.progress(f"LLM views: {done} of {total} prompts"),
        device=resources.device,
    )
    return generator, SentenceEncoder(
        resources.paths["encoder"],
        cache=resources.cache / "embeddings",
        progress=resources.progress,
    )


def view_findings(views: Views) -> dict[str, float | None]:
    """Return what a reader should know of the views, by metric name; None where undefined."""
    found: dict[str, float] = {}
    for view in VIEW_NAMES:
        statistics = views.statistics[view]
        found[f"view_{view}_grounded"] = statistics.grounding.valid_ratio
        found[f"view_{view}_present"] = 1.0 - statistics.dropped_share
        found[f"view_{view}_copied"] = statistics.copied_share
        found[f"view_{view}_cosine"] = statistics.cosine_history
        found[f"view_{view}_cosine_random"] = statistics.cosine_random
    return {name: None if math.isnan(value) else float(value) for name, value in found.items()}


def packed_user(
    user: int,
    history: Int[np.ndarray, " event"],
    views: WrittenViews,
    config: LumosConfig,
    counterfactual: bool = True,
) -> PackedUser:
    """Pack one user's sequences, cut to what the encoder reads.

    Args:
        user: whose views to take.
        history: training items, oldest first, at least two.
        views: what the devices' LLMs wrote.
        config: which views are in use.
        counterfactual: False leaves the counterfactual view out, as if it had never been written.
    """
    kept = history[-config.window :]
    future = views.future[user][len(history) :][:MAX_FUTURE] if config.future else None
    rephrased = views.rephrased[user][-len(kept) :] if config.rephrased else None
    wanted = config.counterfactual and counterfactual
    opposite = views.counterfactual[user][: config.max_length] if wanted else None
    return pack_user(kept, future, rephrased or None, opposite)
