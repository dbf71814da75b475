"""Nearest neighbour: the server matches each uploaded text vector to the public catalogue.

Embedding re-identification by similarity, as in Song and Raghunathan, "Information leakage in
embedding models", CCS 2020, arXiv:2004.00053 (retrieval from an auxiliary corpus), on the upload of
SF-UBM, arXiv:2604.14833, section 3.3.5 (curious server).

Differs from the paper: no inversion model is trained; every catalogue item is ranked by cosine
between its public vector and the upload. The place of a vector in the upload is not used: the
index inside a domain is private to the domain.

Threat model: an honest-but-curious server that sees the uploads, owns the public catalogue and
runs the same public encoder.

Cost: uploads × items × dim multiply-adds; the scores are made a block of uploads at a time.
"""

from __future__ import annotations

from harness.core.attack import InferenceAttack, ItemIdentity
from harness.core.cosine import cosines
from harness.core.messages import EmbeddingUpload
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds


@ATTACKS.register("nearest_neighbor")
class NearestNeighbor(InferenceAttack):
    """See the module docstring."""

    paper = Paper("arXiv:2004.00053", "baseline")
    reads = (EmbeddingUpload,)
    threat_model = ThreatModel(
        adversary="server",
        sees=frozenset({"messages"}),
        knows=frozenset({"catalogue"}),
        words=(
            "A curious server compares each uploaded vector with the public catalogue's vectors, "
            "made by the same public encoder."
        ),
    )

    def declines(self, view: View) -> str | None:
        """Need an upload and public text vectors."""
        if last_upload(view) is None:
            return "no upload of text vectors is on record"
        return None if view.catalogue.vectors.numel() else "the system shares no text vectors"

    def infer(self, view: View, seeds: Seeds) -> ItemIdentity:
        """Score every catalogue item for every vector of the last recorded upload."""
        upload = last_upload(view)
        assert upload is not None
        return ItemIdentity(upload.domain.clone(), cosines(upload.vectors, view.catalogue.vectors))


def last_upload(view: View) -> EmbeddingUpload | None:
    """Return the last recorded upload, None if there is none."""
    uploads = [m for _, m in view.messages() if isinstance(m, EmbeddingUpload) and len(m)]
    return uploads[-1] if uploads else None
