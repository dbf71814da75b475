"""Matrix products and row lookups with parameters that clients share, or have one each of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RoundedWeight:
    """A plain parameter whose matrix products are rounded, as under autocast: Adam's own way.

    The products' gradients are rounded as they come out; the parameter and its moments are not.

    Attributes:
        value: the copies ``[client, in, out]``, or one that all share.
        products: number format of the products.
    """

    value: Tensor
    products: torch.dtype

    def linear(
        self, x: Float[Tensor, "client token in"], bias: Float[Tensor, "*client out"]
    ) -> Float[Tensor, "client token out"]:
        """Return ``x @ value + bias``."""
        return rounded_product(x, self.value, self.products) + bias.unsqueeze(-2)

    def lookup(self, index: Int[Tensor, "client token"]) -> Float[Tensor, "client token out"]:
        """Return the rows of the shared table, or of each client's own, at its indices."""
        return rows_of(self.value, index)

    def scores(self, x: Float[Tensor, "client token out"]) -> Float[Tensor, "client token in"]:
        """Return each row's product with ``x``."""
        return rounded_product(x, self.value.mT, self.products)


def rounded_product(left: Tensor, right: Tensor, products: torch.dtype | None) -> Tensor:
    """Return ``left @ right`` from factors rounded to ``products``, in the format of ``left``."""
    if products is None:
        return torch.matmul(left, right)
    return torch.matmul(left.to(products), right.to(products)).to(left.dtype)


def rows_of(tables: Tensor, index: Int[Tensor, "client token"]) -> Float[Tensor, "client token d"]:
    """Return the rows at these indices of a shared table ``[row, d]`` or ``[client, row, d]``."""
    if tables.dim() == 2:
        return F.embedding(index, tables)
    return F.embedding(index + begins_of(len(index), tables), tables.flatten(0, 1))


def begins_of(clients: int, tables: Float[Tensor, "*client row d"]) -> Int[Tensor, "client 1"]:
    """Return where each client's rows begin, if all tables lie one below the other."""
    rows = tables.shape[-2]
    return torch.arange(0, clients * rows, rows, device=tables.device).unsqueeze(1)


def add_rows(
    table: Float[Tensor, "row dim"],
    index: Int[Tensor, "client token"],
    rows: Float[Tensor, "client token dim"],
) -> None:
    """Add rows to those of a table in place; an index may repeat."""
    # Three times faster than embedding's own backward pass.
    where = index.reshape(-1, 1).expand(-1, rows.shape[-1])
    table.scatter_add_(0, where, rows.flatten(0, 1))


def squared_norms_of_product(
    inputs: Float[Tensor, "client token in"], gradients: Float[Tensor, "client token out"]
) -> Float[Tensor, " client"]:
    """Return ‖xᵀg‖² of each client: from xxᵀ and ggᵀ where those are smaller than xᵀg."""
    if inputs.shape[1] < min(inputs.shape[2], gradients.shape[2]):
        alike = torch.bmm(inputs, inputs.transpose(1, 2))
        return (alike * torch.bmm(gradients, gradients.transpose(1, 2))).sum((1, 2))
    return torch.bmm(inputs.transpose(1, 2), gradients).flatten(1).square().sum(1)
