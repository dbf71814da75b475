"""Pre-trained sequence models kept by content, so that cells which share one train it once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.torch import load, save

from harness.core.seeds import Seeds
from harness.core.system import Domain, Progress
from harness.store import read_sealed, write_sealed
from models.backbone import SequenceModel, build_backbone
from models.central import CentralConfig, fit_central
from models.sequences import readable

ALGORITHM = 2
"""Raise when :func:`models.central.fit_central` changes its result."""


def pretrained(
    domain: Domain, config: CentralConfig, seeds: Seeds, cache: Path, progress: Progress
) -> SequenceModel:
    """Return ``fit_central`` of exactly these inputs, from the cache if it was done before."""
    path = cache / "pretrained" / f"{_key(domain, config, seeds)}.safetensors.sealed"
    backbone = build_backbone(
        config.backbone,
        embedding_size=config.embedding_size,
        num_blocks=config.num_blocks,
        num_heads=config.num_heads,
        max_positions=config.max_length,
    )
    # A file that is cut short or altered is trained again.
    content = read_sealed(path)
    if content is None:
        model = fit_central(domain, config, seeds, progress)
        parts = {**model.dense, "item table": model.table}
        content = save(parts, {"caveat": model.caveat})
        write_sealed(path, content)
    tensors = load(content)
    # The header comes first, its length in eight bytes before it.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    caveat = header.get("__metadata__", {}).get("caveat", "")
    table, reads = tensors.pop("item table"), readable(domain.histories, config.max_length)
    return SequenceModel(backbone, tensors, table, reads, caveat=caveat)


def _key(domain: Domain, config: CentralConfig, seeds: Seeds) -> str:
    """Hash all that decides the result: data, settings, seeds, and the algorithm's version."""
    digest = hashlib.sha256()
    digest.update(f"{ALGORITHM}|{config.model_dump_json()}|{seeds.integer()}|".encode())
    digest.update(f"{domain.num_items}|".encode())
    digest.update(np.asarray(domain.validation, dtype=np.int64).tobytes())
    for history in domain.histories:
        digest.update(len(history).to_bytes(8, "little"))
        digest.update(np.asarray(history, dtype=np.int64).tobytes())
    return digest.hexdigest()
