"""Nearest neighbours against the slow obvious search: ties, duplicates, zeros, any tile."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.neighbors import TILE, Neighbors, Tile, nearest


def slow(queries, table, k, exclude=None, metric="cosine") -> Neighbors:
    """Every pair on its own with exactly rounded sums, sorted by value and then by row."""
    items, scores = [], []
    for place, query in enumerate(queries.tolist()):
        banned = [] if exclude is None else exclude[place].reshape(-1).tolist()
        values = []
        for item, row in enumerate(table.tolist()):
            if item in banned:
                continue
            if metric == "l2":
                value = math.fsum((a - b) ** 2 for a, b in zip(query, row, strict=True))
            else:
                squares = [math.fsum(a * a for a in vector) for vector in (query, row)]
                length = math.sqrt(squares[0] * squares[1])
                dot = math.fsum(a * b for a, b in zip(query, row, strict=True))
                value = -dot / length if length else 0.0
            values.append((value, item))
        best = sorted(values)[:k]
        missing = k - len(best)
        items.append([item for _, item in best] + [-1] * missing)
        sign = 1 if metric == "l2" else -1
        found = [math.sqrt(value) if metric == "l2" else sign * value for value, _ in best]
        scores.append(found + [math.nan] * missing)
    return Neighbors(torch.tensor(items), torch.tensor(scores, dtype=torch.float64))


def assert_same(found: Neighbors, expected: Neighbors, tolerance: float = 0.0) -> None:
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(
        found.scores, expected.scores, rtol=tolerance, atol=tolerance, equal_nan=True
    )


def gaussian(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


whole = st.integers(-2, 2).map(float)


@given(st.data(), st.sampled_from(["cosine", "l2"]))
def test_small_whole_numbers_exactly(data, metric):
    """Ties, equal rows and zeros abound here, and all arithmetic is exact."""
    dim, items, count = (data.draw(st.integers(1, n)) for n in (3, 9, 5))
    row = st.lists(whole, min_size=dim, max_size=dim)
    table = torch.tensor(data.draw(st.lists(row, min_size=items, max_size=items)))
    queries = torch.tensor(data.draw(st.lists(row, min_size=count, max_size=count)))
    banned = st.lists(st.integers(-1, items - 1), min_size=2, max_size=2)
    exclude = torch.tensor(data.draw(st.lists(banned, min_size=count, max_size=count)))
    k = data.draw(st.integers(1, items + 1))
    tile = Tile(data.draw(st.integers(1, count)), data.draw(st.integers(1, items)))
    found = nearest(queries, table, k, exclude=exclude, metric=metric, tile=tile)
    assert_same(found, slow(queries, table, k, exclude, metric))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 4])
def test_every_tile_gives_the_same_bits(metric, k):
    table = gaussian(23, 16)
    table[[5, 9, 22]] = table[2].clone()
    table[[7, 11]] = 0.0
    queries = torch.cat([table[[2, 7, 22]] * 3.0, gaussian(4, 16, 1)])
    expected = nearest(queries, table, k, metric=metric)
    assert_same(expected, slow(queries, table, k, metric=metric), 1e-12)
    sizes = [(1 + width % len(queries), width) for width in range(1, len(table) + 1)]
    for rows, width in [*sizes, *((rows, 5) for rows in range(1, len(queries) + 1))]:
        found = nearest(queries, table, k, metric=metric, tile=Tile(rows, width))
        assert_same(found, expected)


def test_equal_rows_go_by_their_number_wherever_they_stand():
    table = gaussian(600, 33)
    copies = torch.tensor([17, 18, 63, 64, 255, 599])
    table[copies] = table[17].clone()
    found = nearest(table[copies] + 0.01, table, 4, tile=Tile(4, 100))
    assert torch.equal(found.items, copies[:4].expand(6, 4))
    others = nearest(table[copies], table, 1, exclude=copies, tile=Tile(4, 100))
    assert others.items[:, 0].tolist() == [18, 17, 17, 17, 17, 17]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rows_that_single_precision_cannot_tell_apart(metric):
    """Neighbours one unit in the last place apart: the product alone picks among them by chance."""
    base = torch.nn.functional.normalize(gaussian(1, 768), dim=1)
    table = base.repeat(40, 1)
    for row in range(40):
        table[row, row] = torch.nextafter(table[row, row], torch.tensor(math.inf if row % 2 else 0))
    queries = base + 0.01 * gaussian(8, 768, 3)
    expected = slow(queries, table, 5, metric=metric)
    found = nearest(queries, table, 5, metric=metric)
    assert_same(found, expected, 1e-12)
    product = torch.nn.functional.normalize(queries, dim=1) @ table.T
    assert not torch.equal(product.topk(5).indices, expected.items)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_random_vectors_at_the_default_tile(metric):
    table, queries = gaussian(TILE.table + 50, 8), gaussian(5, 8, 1)
    exclude = nearest(queries, table, 3, metric=metric).items
    second = nearest(queries, table, 2, exclude=exclude, metric=metric)
    all_five = nearest(queries, table, 5, metric=metric)
    assert torch.equal(all_five.items[:, :3], exclude)
    assert torch.equal(all_five.items[:, 3:], second.items)
    wide = table.double()
    score = queries.double() @ wide.T / wide.norm(dim=1)
    if metric == "l2":
        score = -torch.cdist(queries.double(), wide)
    assert torch.equal(all_five.items, score.topk(5).indices)


def test_lengths_at_the_edge_of_the_range():
    directions = torch.nn.functional.normalize(gaussian(6, 5), dim=1)
    lengths = torch.tensor([1e-30, 1e30, 1e-18, 1e18, 1.0, 0.0])
    table = directions * lengths[:, None]
    found = nearest(directions[:5] * 1e-25, table)
    assert found.items[:, 0].tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(found.scores[:, 0], torch.ones(5).double(), rtol=0, atol=1e-7)


def test_a_zero_query_gets_the_lowest_rows_at_cosine_zero():
    table = gaussian(300, 4)
    exclude = torch.tensor([[0, 2]])
    found = nearest(torch.zeros(1, 4), table, 3, exclude=exclude, tile=Tile(1, 7))
    assert found.items.tolist() == [[1, 3, 4]] and found.scores.tolist() == [[0.0] * 3]


def test_a_table_of_one_and_the_same_row():
    found = nearest(gaussian(3, 4), torch.ones(500, 4), 2, tile=Tile(2, 100))
    assert found.items.tolist() == [[0, 1]] * 3


def test_nothing_to_choose_from():
    table = gaussian(2, 3)
    alone = nearest(table, table, 2, exclude=torch.arange(2))
    assert alone.items.tolist() == [[1, -1], [0, -1]]
    assert alone.scores[:, 1].isnan().all() and not alone.scores[:, 0].isnan().any()
    assert nearest(table, table[:0]).items.tolist() == [[-1], [-1]]
    assert nearest(table[:0], table, 2, metric="l2").items.shape == (0, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_what_is_not_finite_is_refused(value, metric):
    good, bad = gaussian(3, 2), gaussian(3, 2)
    bad[1, 1] = value
    for queries, table in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="not finite"):
            nearest(queries, table, metric=metric)


def test_k_and_tiles_below_one_are_refused():
    vectors = gaussian(3, 2)
    with pytest.raises(ValueError, match="k=0"):
        nearest(vectors, vectors, 0)
    with pytest.raises(ValueError, match="table=0"):
        nearest(vectors, vectors, tile=Tile(1, 0))
