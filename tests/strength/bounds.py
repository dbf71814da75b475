"""Rule 5: what one client can do to an aggregate, and who counts as malicious."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from attacks.a_hum import AHum
from attacks.alie import Alie
from attacks.sign_flip import SignFlip
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP, whole_table
from defenses.trimmed_mean import TrimmedMean
from harness.case import build_case
from harness.core.messages import ModelAggregate, ModelUpdate
from harness.core.seeds import Seeds
from harness.plan import expand
from harness.plugins import load_plugins
from harness.scenario import load
from harness.strength import (
    TooWeak,
    require_identical,
    require_norms,
)
from tests.strength.cases import (
    CLIP,
    NUM_ITEMS,
    federation,
    flat,
    small_world,
    updates,
)
from tests.strength.lumos import train

SMOKE = Path(__file__).resolve().parents[2] / "scenarios" / "smoke" / "poison.yaml"
POISONINGS = (
    lambda: AHum(max_row_norm_ratio=2.0),
    lambda: Alie(z=5.0),
    lambda: SignFlip(scale=300.0),
)


def check_client_norms() -> None:
    """Clipped updates are no longer than C and keep their direction, extremes included."""
    sizes = torch.tensor([1e-3, 0.4, 0.6, 30.0, 1e9, 1e30])
    message = updates(6, 1.0).scaled(sizes)
    for defense in (
        LocalDP(noise_multiplier=0.0, clip_norm=CLIP),
        DPFedAvg(epsilon=None, noise_multiplier=0.0, clip_norm=CLIP),
    ):
        defense.setup(federation(6))
        clipped = defense.on_client(message, federation(6), Seeds(0))
        require_norms(clipped.norms(), CLIP)
        if not torch.allclose(clipped.norms(), sizes.double().clamp_max(CLIP), rtol=1e-4):
            raise TooWeak("the clip changes updates that are within the bound")


def check_poisoning_influence() -> None:
    """Whatever malicious clients send, they move the noise-free aggregate by at most f·C·η/(qN)."""
    world, defense = small_world(), DPFedAvg(epsilon=None, noise_multiplier=0.0, clip_norm=CLIP)
    for make in POISONINGS:
        run = train(world, [defense], make(), record=(0,))
        message, sizes = run.message(0), run.outcome.federation
        bad = torch.from_numpy(run.training.threat.roles.malicious)[message.clients]
        silent = message.scaled((~bad).float())
        moved = flat(defense.aggregate([message], sizes)) - flat(defense.aggregate([silent], sizes))
        require_norms(moved.norm(dim=1), int(bad.sum()) * CLIP / sizes.cohort_size)


def check_trimmed_hull() -> None:
    """With ⌊βn⌋ cut at each end, ⌊βn⌋ attackers cannot leave the honest values' range anywhere."""
    stream = Seeds(0).torch("hull")
    honest = updates(15)
    for sent in (1e3, -1e3):
        wild = updates(5, seed=1).scaled(torch.full((5,), sent))
        for rows in ("touched", "all"):
            # Everybody sends the same rows, so that every row has five attackers among twenty.
            ids = torch.randperm(NUM_ITEMS, generator=stream)[:6]
            message = ModelUpdate(
                torch.arange(20),
                {"weight": torch.cat([honest.dense["weight"], wild.dense["weight"]])},
                ids.repeat(20, 1),
                torch.cat([honest.rows, wild.rows]),
                torch.ones(20, dtype=torch.int64),
            )
            defense = TrimmedMean(trim=0.25, rows=rows)
            found = defense.aggregate([message], federation(20))
            order = ids.argsort()
            require_hull(found.dense["weight"], honest.dense["weight"])
            require_hull(found.rows, honest.rows[:, order])


def require_hull(found: Tensor, honest: Tensor) -> None:
    """Raise where a coordinate is outside what honest clients sent."""
    outside = (found > honest.amax(0) + 1e-6) | (found < honest.amin(0) - 1e-6)
    if bool(outside.any()):
        raise TooWeak(f"{int(outside.sum())} coordinates lie outside the honest clients' range")


def check_poisoning_hull() -> None:
    """The same under the real attacks in the real loop: dense weights stay in the honest range."""
    for make in POISONINGS:
        run = train(small_world(), [TrimmedMean(trim=0.25)], make(), record=(0,))
        record = run.outcome.transcript.rounds[0]
        assert isinstance(record.message, ModelUpdate)
        assert isinstance(record.aggregate, ModelAggregate)
        bad = torch.from_numpy(run.training.threat.roles.malicious)[record.message.clients]
        for name, delta in record.message.dense.items():
            require_hull(record.aggregate.dense[name], delta[~bad])


def check_roles() -> None:
    """Malicious clients alone send what the attack crafts; honest ones send their own."""
    world = small_world()
    seen = [train(world, d, a, record=(0,), rounds=1, cohort_fraction=0.5) for d, a in _roles()]
    honest, attacked, noisy = (run.message(0) for run in seen)
    bad = torch.from_numpy(seen[1].training.threat.roles.malicious)[honest.clients]
    assert 0 < int(bad.sum()) < len(bad)
    factor = torch.where(bad, -3.0, 1.0)
    require_identical(attacked, honest.scaled(factor))
    noise = flat(whole_table(noisy, world.domain.num_items))
    noise -= flat(whole_table(honest.scaled(factor), world.domain.num_items))
    for quiet, name in ((bad, "malicious"), (~bad, "honest")):
        touched = (noise[quiet] != 0).any(1)
        if bool((touched == (name == "malicious")).any()):
            raise TooWeak(f"the client stage acted wrongly on {name} clients")


def _roles() -> list[tuple[list[LocalDP], SignFlip | None]]:
    attack = SignFlip(scale=3.0)
    return [([], None), ([], attack), ([LocalDP(noise_multiplier=0.1, clip_norm=1e3)], attack)]


def check_who_is_judged() -> None:
    """Nobody malicious or noisy is evaluated, and no attack is scored on them, in a real cell."""
    load_plugins()
    cells = [cell for cell in expand(load(SMOKE)).cells if cell.malicious and cell.noisy.fraction]
    case = build_case(cells[0], Path("unused"), lambda text: None)
    roles, truth = case.training.threat.roles, case.truth
    bad = roles.malicious | roles.noisy
    assert roles.malicious.any() and roles.noisy.any()
    if bad[truth.evaluated].any() or (bad & truth.victims).any():
        raise TooWeak("malicious or noisy clients are among those who are judged")
