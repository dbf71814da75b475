"""SF-UBM stage 1c: federated knowledge distillation between ID and text representations.

SF-UBM, arXiv:2604.14833v1, section 3.3, equations 8-14 as reconstructed: a factual mediator
d⁺ = f_ID(I_u) − f_T(T_u) of the user's items (student) is pulled to a counterfactual mediator d⁻
of items the user never had (teacher). Encoders are one linear layer and a sigmoid, decoders one
linear layer [lineage: A-LLMRec]. Open in the paper and chosen here: the representations are encoded
item by item and averaged over the sequence, so that single items decode well [inferred]; the
teacher passes no gradient (option).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from harness.core.params import Params
from harness.core.seeds import Seeds
from models.backbone import SequenceModel
from models.sequences import complement_sample


class FkdConfig(Params):
    """Settings of the distillation; defaults are the paper's where it states one."""

    dim: int = Field(default=128, ge=1, le=65_536, description="mapping dimension [paper 4.5]")
    id_weight: float = Field(default=0.5, ge=0, description="α of the ID reconstruction [paper]")
    text_weight: float = Field(
        default=0.2, ge=0, description="β of the text reconstruction [paper]"
    )
    distillation: bool = Field(
        default=True, description="use L_FKD (equation 10); off for the ablation"
    )
    text: bool = Field(default=True, description="use the text branch at all; off for the ablation")
    stop_gradient: bool = Field(default=True, description="teacher is constant [ours: not stated]")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Adam; the paper's 1e-4 does not converge in 10 epochs here"
    )
    epochs: int = Field(default=10, ge=0, le=100_000, description="[paper: 10]")
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="users a step [paper: 32]")
    max_items: int = Field(
        default=20, ge=1, le=1_000_000, description="most recent items of a user that are distilled"
    )


@dataclass(frozen=True)
class Mapping:
    """The four trained maps.

    Attributes:
        parameters: ``id_encoder``, ``text_encoder``, ``id_decoder``, ``text_decoder``, each with
            ``.weight`` [in, out] and ``.bias``.
    """

    parameters: dict[str, Tensor]

    def apply(self, name: str, inputs: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Apply one map; encoders end in a sigmoid."""
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        out = inputs @ weight + bias
        return torch.sigmoid(out) if name.endswith("encoder") else out

    def codes(self, table: Float[Tensor, "item dim"]) -> Float[Tensor, "item code"]:
        """Return z_i = f_ID(E_i), the enhanced item embeddings of equation 16."""
        return self.apply("id_encoder", table)

    def decoded(self, table: Float[Tensor, "item dim"]) -> Float[Tensor, "item dim"]:
        """Return Dec_ID(f_ID(E_i)), which equation 13 scores against the user's state."""
        return self.apply("id_decoder", self.codes(table))


@dataclass(frozen=True)
class FkdData:
    """Frozen inputs of the distillation.

    Attributes:
        model: pre-trained sequence model.
        histories: training histories.
        states: x_u of each history without its last item.
        federated: g_i, the centroid returned for each item.
        text: Q_i, the local clean text vector of each item.
    """

    model: SequenceModel
    histories: Sequence[Int[np.ndarray, " event"]]
    states: Float[Tensor, "user dim"]
    federated: Float[Tensor, "item text"]
    text: Float[Tensor, "item text"]


def initial_mapping(id_dim: int, text_dim: int, code_dim: int, seeds: Seeds) -> Mapping:
    """Draw the maps' initial weights (uniform in ±1/√in)."""
    generator = seeds.torch("mapping")
    shapes = {
        "id_encoder": (id_dim, code_dim),
        "text_encoder": (text_dim, code_dim),
        "id_decoder": (code_dim, id_dim),
        "text_decoder": (code_dim, text_dim),
    }
    parameters: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes.items():
        draw = torch.rand(rows, columns, generator=generator)
        parameters[f"{name}.weight"] = (2 * draw - 1) * rows**-0.5
        parameters[f"{name}.bias"] = torch.zeros(columns)
    return Mapping(parameters)


def fit_fkd(data: FkdData, config: FkdConfig, seeds: Seeds) -> Mapping:
    """Train the four maps on equation 14; sequence model and vectors stay frozen."""
    mapping = initial_mapping(data.model.table.shape[1], data.text.shape[1], config.dim, seeds)
    parameters = [p.requires_grad_() for p in mapping.parameters.values()]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)
    users = np.array([u for u, h in enumerate(data.histories) if len(h) >= 2], dtype=np.int64)
    for epoch in range(config.epochs):
        stream = seeds.numpy("epoch", epoch)
        order = stream.permutation(users)
        for start in range(0, len(order), config.batch_size):
            batch = order[start : start + config.batch_size]
            loss = fkd_loss(mapping, data, config, batch, stream)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Mapping({name: p.detach() for name, p in mapping.parameters.items()})


def fkd_loss(
    mapping: Mapping,
    data: FkdData,
    config: FkdConfig,
    users: Int[np.ndarray, " user"],
    stream: np.random.Generator,
) -> Float[Tensor, ""]:
    """Return L = L_rec + L_FKD + α·L_IDrec + β·L_Trec (equation 14) of a batch of users."""
    items, real, foreign = _batch_items(data, users, config.max_items, stream)
    ids, table = mapping.codes(data.model.table[items]), data.model.table
    loss = _recommendation(mapping, data, users, items, foreign)
    loss = loss + config.id_weight * _mean_over_users(
        (mapping.apply("id_decoder", ids) - table[items]).square().sum(-1), real
    )
    if not config.text:
        return loss
    texts = mapping.apply("text_encoder", data.federated[items])
    loss = loss + config.text_weight * _mean_over_users(
        (mapping.apply("text_decoder", texts) - data.text[items]).square().sum(-1), real
    )
    if not config.distillation:
        return loss
    factual = _pooled(ids - texts, real)
    teacher = _pooled(
        mapping.codes(table[foreign]) - mapping.apply("text_encoder", data.federated[foreign]), real
    )
    teacher = teacher.detach() if config.stop_gradient else teacher
    return loss + (factual - teacher).square().sum(-1).mean()


def _batch_items(
    data: FkdData, users: Int[np.ndarray, " user"], limit: int, stream: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return recent items [user, item], which are real, and as many items never had."""
    histories = [data.histories[u][-limit:] for u in users]
    width = max(len(h) for h in histories)
    items = np.zeros((len(users), width), dtype=np.int64)
    foreign, real = items.copy(), np.zeros(items.shape, dtype=bool)
    num_items = len(data.model.table)
    for row, history in enumerate(histories):
        seen = np.unique(data.histories[users[row]])
        draws = stream.integers(0, max(1, num_items - len(seen)), width)
        foreign[row] = np.minimum(complement_sample(draws, seen), num_items - 1)
        # Newest last, so that the last real column is the target of equation 13.
        items[row, width - len(history) :] = history
        real[row, width - len(history) :] = True
    return torch.from_numpy(items), torch.from_numpy(real), torch.from_numpy(foreign)


def _recommendation(
    mapping: Mapping,
    data: FkdData,
    users: Int[np.ndarray, " user"],
    items: Int[Tensor, "user item"],
    foreign: Int[Tensor, "user item"],
) -> Float[Tensor, ""]:
    """Equation 13: the state without the last item against the decoded last and a random item."""
    states = data.states[torch.from_numpy(users)]
    positive = (states * mapping.decoded(data.model.table[items[:, -1]])).sum(-1)
    negative = (states * mapping.decoded(data.model.table[foreign[:, -1]])).sum(-1)
    return (F.softplus(-positive) + F.softplus(negative)).mean()


def _pooled(values: Float[Tensor, "user item dim"], real: Tensor) -> Float[Tensor, "user dim"]:
    weight = real.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1)


def _mean_over_users(values: Float[Tensor, "user item"], real: Tensor) -> Float[Tensor, ""]:
    weight = real.to(values.dtype)
    return ((values * weight).sum(1) / weight.sum(1)).mean()
