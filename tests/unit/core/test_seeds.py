"""Streams that never meet, and that nobody can reach from another branch of the tree."""

import numpy as np
import pytest
import torch

from harness.core.seeds import Seeds


def first_words(count: int) -> torch.Tensor:
    """First 62 bits of torch streams of many purposes."""
    seeds = Seeds(0).child("collisions")
    return torch.stack(
        [torch.randint(2**62, (1,), generator=seeds.torch(i))[0] for i in range(count)]
    )


def test_a_stream_depends_on_its_whole_path_and_on_nothing_else():
    seeds = Seeds(7)
    assert seeds.child("a", 1).integer("b") == seeds.child("a").integer(1, "b")
    assert seeds.child("a", np.int64(1)).key == seeds.child("a", 1).key
    others = [seeds.child("a", "1"), seeds.child("a1"), seeds.child(1, "a"), seeds.child("a")]
    assert len({seeds.child("a", 1).key, *(other.key for other in others), Seeds(8).key}) == 6
    assert torch.equal(
        torch.rand(5, generator=seeds.torch("x")), torch.rand(5, generator=seeds.torch("x"))
    )
    assert not np.array_equal(seeds.numpy("x").random(5), seeds.child("x").numpy("y").random(5))


def test_streams_whose_numbers_agree_in_32_bits_differ():
    """The old way: torch kept the low 32 bits of a number, so these two were one stream."""
    low = 123_456_789
    same = [torch.Generator().manual_seed(low + (high << 32)) for high in (1, 2)]
    assert torch.equal(*(torch.rand(4, generator=g) for g in same))
    seen: dict[int, int] = {}
    for purpose in range(200_000):
        place = Seeds(0).integer(purpose) % 2**32
        if place in seen:
            pair = [Seeds(0).torch(i) for i in (seen[place], purpose)]
            assert not torch.equal(*(torch.rand(4, generator=g) for g in pair))
            return
        seen[place] = purpose
    pytest.fail("200,000 numbers of 32 bits hold a pair with probability 0.99")


@pytest.mark.slow
def test_no_two_of_many_torch_streams_begin_alike():
    """2**17 streams of 32 bits meet with probability 0.87; of 62 bits seen, 2e-9."""
    count = 2**17
    assert len(first_words(count).unique()) == count


def test_torch_streams_are_uniform_and_normal():
    seeds = Seeds(3)
    many = torch.cat([torch.randn(500, generator=seeds.torch(i)) for i in range(400)])
    assert abs(many.mean()) < 4 / 200_000**0.5 and abs(many.var() - 1) < 4 * (2 / 200_000) ** 0.5
    firsts = torch.stack([torch.rand(2, generator=seeds.torch("first", i)) for i in range(4000)])
    assert (firsts.mean(0) - 0.5).abs().max() < 4 * 12**-0.5 / 4000**0.5
    assert abs(np.corrcoef(firsts.T.numpy())[0, 1]) < 4 / 4000**0.5


def test_the_state_is_the_twister_that_numpy_knows():
    """The words of the hash are the generator's state as the reference implementation holds it."""
    stream = Seeds(5).torch("twin")
    words = stream.get_state().numpy()[24 : 24 + 8 * 624].view(np.uint64).astype(np.uint32)
    twin = np.random.MT19937()
    state = twin.state
    state["state"]["key"], state["state"]["pos"] = words, 624
    twin.state = state
    drawn = torch.randint(2**32, (700,), generator=stream)
    # torch takes 64 bits, the later word above, for a range of 2**32.
    raw = twin.random_raw(1400).astype(np.uint64)
    assert drawn.tolist() == raw[1::2].tolist()


def test_a_node_says_nothing_of_what_is_above_or_beside_it():
    root = Seeds(11)
    mine = root.child("training", "round", 3, "client stage", 0)
    held = {value for value in vars(mine).values()}
    assert held == {mine.key} and len(mine.key) == 32
    # All that can be made of what a node holds: the streams below it.
    wanted = {root.key, root.child("training").key, root.child("canary coins").key}
    below = {mine.child(name).key for name in ("training", "canary coins", "round", "")}
    assert not wanted & (below | {mine.key})
    assert not wanted & {Seeds(int.from_bytes(mine.key, order)).key for order in ("big", "little")}
