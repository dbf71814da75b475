"""Cosines in blocks: right, and the same bits whatever the block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.core import scores as rooms
from harness.core.cosine import TABLE_TILE, cosines, products, ranking, unit_rows
from harness.core.scores import ROW_TILE, RowScores, block_rows, row_blocks


def gaussian(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_cosines_against_double_precision():
    queries, table = 5 * gaussian(40, 96), gaussian(70, 96, 1) / 9
    table[3], queries[4] = 0.0, 0.0
    found = cosines(queries, table).dense()
    expected = F.normalize(queries.double(), dim=1) @ F.normalize(table.double(), dim=1).T
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    assert (found[4] == 0).all() and (found[:, 3] == 0).all()
    assert cosines(queries.double(), table).dense().dtype == torch.float64


@pytest.mark.parametrize("items", [1, 2, 33, TABLE_TILE + 1])
def test_every_block_gives_the_same_bits(items):
    count = 21
    table = cosines(gaussian(count, 40), gaussian(items, 40, 1))
    everything = table.dense()
    for height in range(1, count + 1):
        blocks = [table.make(rows) for rows in torch.arange(count).split(height)]
        assert torch.equal(torch.cat(blocks), everything)
    backwards = torch.arange(count).flip(0)
    assert torch.equal(table.make(backwards), everything[backwards])


def test_rows_beyond_one_tile_and_equal_items():
    queries, table = gaussian(ROW_TILE + 3, 20), gaussian(TABLE_TILE + 1, 20, 1)
    table[[9, TABLE_TILE // 2, TABLE_TILE]] = table[5].clone()
    found = cosines(queries, table).dense()
    for copy in (9, TABLE_TILE // 2, TABLE_TILE):
        assert torch.equal(found[:, copy], found[:, 5])
    single = cosines(queries, table).make(torch.tensor([ROW_TILE + 1]))
    assert torch.equal(single[0], found[ROW_TILE + 1])


def test_products_are_not_scaled():
    queries, table = gaussian(3, 6) * 10, gaussian(4, 6, 1)
    torch.testing.assert_close(products(queries, table), queries @ table.T)
    assert products(queries, table[:0]).shape == (3, 0)


def test_unit_rows_of_any_length():
    vectors = gaussian(7, 12)
    torch.testing.assert_close(unit_rows(vectors), F.normalize(vectors, dim=1))
    scales = torch.tensor([1.0, 1e-30, 1e30, 1e-20, 1e20, 0.0, 3.0])
    unit = unit_rows(vectors * scales[:, None])
    torch.testing.assert_close(unit[scales > 0], F.normalize(vectors, dim=1)[scales > 0])
    assert (unit[5] == 0).all()
    vectors[2, 0] = torch.nan
    assert unit_rows(vectors).isnan().any(1).tolist() == [row == 2 for row in range(7)]


def test_ranking_is_a_stable_sort_of_dot_products():
    table = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    assert ranking(np.array([1.0, 0.5]), table).tolist() == [3, 0, 2, 1]


def test_blocks_cover_the_chosen_rows_once(monkeypatch):
    dense = gaussian(30, 9)
    made: list[int] = []

    def make(rows: torch.Tensor) -> torch.Tensor:
        made.append(len(rows))
        return dense[rows]

    chosen = torch.tensor([3, 29, 4, 0, 7, 8, 11])
    monkeypatch.setattr(rooms, "BLOCK_BYTES", 3 * 4 * 9)
    for table in (dense, RowScores((30, 9), make)):
        parts, blocks = zip(*row_blocks(table, chosen), strict=True)
        assert torch.equal(torch.cat(blocks), dense[chosen])
        assert [part.start for part in parts] == [0, 3, 6]
    assert made == [3, 3, 1], "a block was made twice, or too many rows at once"
    assert list(row_blocks(dense, chosen[:0])) == []


def test_a_block_stays_within_its_bytes():
    for items in (1, 3_000, 100_000, 10_000_000, 10**9):
        rows = block_rows(items)
        assert rows == 1 or rows * items * 4 <= rooms.BLOCK_BYTES
        assert rows < ROW_TILE or rows % ROW_TILE == 0
    assert block_rows(100_000) == ROW_TILE and block_rows(0) > 0
