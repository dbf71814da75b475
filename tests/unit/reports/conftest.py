"""A made-up run with the shapes of a real one: two systems, four attacks, sweeps, three seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.results import Row, SampleBlock, write_results
from harness.sealing import sealed
from reports.html import build_report

USERS = np.arange(240)
# system -> arm: (family, strength name, strength, utility kept, leak left, shield, epsilon)
ARMS = {
    "LUMOS": {
        "none": ("none", "", np.nan, 1.0, 1.0, 0.0, np.nan),
        "DP-FedAvg z=0.01": ("user_dp", "noise_multiplier", 0.01, 0.99, 0.85, 0.05, 4e5),
        "DP-FedAvg z=0.1": ("user_dp", "noise_multiplier", 0.1, 0.9, 0.3, 0.2, 900.0),
        "DP-FedAvg z=1": ("user_dp", "noise_multiplier", 1.0, 0.55, 0.0, 0.9, 4.2),
        "counterfactual negatives": (
            "counterfactual_negatives",
            "",
            np.nan,
            1.04,
            1.0,
            0.1,
            np.nan,
        ),
        "trimmed mean": ("trimmed_mean", "trim", 0.2, 0.8, 1.0, 0.8, np.nan),
    },
    "SF-UBM": {
        "none": ("none", "", np.nan, 1.0, 1.0, 0.0, np.nan),
        "replacement σ=0.005": ("replacement", "sigma", 0.005, 0.98, 0.4, 0.0, np.nan),
        "replacement σ=0.05": ("replacement", "sigma", 0.05, 0.95, 0.12, 0.0, np.nan),
        "replacement σ=0.5": ("replacement", "sigma", 0.5, 0.7, 0.0, 0.0, np.nan),
    },
}
THREATS = {
    "row norm": "The honest-but-curious server sees one client's update and knows the catalogue.",
    "nearest neighbour": "The server sees uploaded vectors and a public superset of the catalogue.",
    "A-hum": "20 % of the clients are malicious, see the global model and push one cold item.",
    "sign flip": "20 % of the clients are malicious and send the negative of an honest update.",
}
PRIVACY = {
    "LUMOS": ("row norm", 0.999, 0.5, "auc"),
    "SF-UBM": ("nearest neighbour", 0.98, 0.0005, "top1"),
}
CONDITIONS = [
    ("none", 0.0, 0.0, 1.0), ("none", 0.0, 0.1, 0.93), ("A-hum", 0.2, 0.1, 0.92),
    ("sign flip", 0.2, 0.1, 0.35),
]  # fmt: skip


class Fake:
    """Rows and values per user of a made-up run."""

    def __init__(self, seeds=(0, 1, 2)):
        self.rows: list[Row] = []
        self.samples: list[SampleBlock] = []
        for seed in seeds:
            self._seed(seed)

    def add(self, base, rng, values, *, proportion_of=None, **changes):
        values = np.asarray(values, dtype=np.float32)
        mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
        row = replace(base, value=mean, low=mean - half, high=mean + half, n=len(values), **changes)
        self.rows.append(row)
        self.samples.append(
            SampleBlock(cell=row.cell, attack=row.attack, metric=row.metric, k=row.k,
                        protocol=row.protocol, units=USERS, values=values)
        )  # fmt: skip

    def _seed(self, seed):
        rng = np.random.default_rng(seed)
        luck = rng.random(len(USERS))
        for name, hr in (("popularity", 0.12), ("random", 0.012), ("central SASRec", 0.23)):
            base = Row(run="fake", cell=f"{name}/{seed}", system=name, metric="hr", side="utility",
                       better="higher", kind="anchor", dataset="ml-100k", seed=seed, k=20,
                       protocol="full", chance=0.0119)  # fmt: skip
            self._utility(base, rng, luck, hr)
        for system, arms in ARMS.items():
            for arm, facts in arms.items():
                for condition in CONDITIONS:
                    self._cell(system, arm, facts, condition, seed, rng, luck)

    def _cell(self, system, arm, facts, condition, seed, rng, luck):
        family, strength_name, strength, kept, leak, shield, epsilon = facts
        poisoning, malicious, noisy, damage = condition
        damage = damage + (1 - damage) * shield
        base = Row(
            run="fake", cell=f"{system}/{arm}/{poisoning}/{noisy}/{seed}", system=system,
            metric="hr", side="utility", better="higher", dataset="ml-100k", seed=seed, k=20,
            protocol="full", defense=arm, defense_family=family, strength=strength,
            strength_name=strength_name, malicious=malicious, noisy=noisy, poisoning=poisoning,
            epsilon=epsilon, delta=1e-5 if epsilon == epsilon else np.nan, chance=0.0119,
            seconds=4.0 + seed, peak_memory_mb=1900.0, scenario_hash="ab12", data_hash="cd34",
        )  # fmt: skip
        self._utility(base, rng, luck, 0.21 * kept * damage)
        cost = replace(base, side="cost", better="lower", k=0, protocol="", chance=np.nan)
        self.rows.append(replace(cost, metric="upload_mb", value=0.42, n=1))
        if poisoning == "A-hum":
            er = replace(base, side="robustness", better="lower", metric="er", k=10,
                         attack="A-hum", threat_model=THREATS["A-hum"], chance=0.006)  # fmt: skip
            self.add(er, rng, luck < 0.9 * (1 - shield) + 0.006 * shield)
        if not malicious and not noisy:
            self._privacy(base, rng, leak)

    def _utility(self, base, rng, luck, hr):
        jitter = (luck + 0.05 * rng.random(len(luck))) % 1
        hits = (jitter < hr).astype(float)
        self.add(base, rng, hits)
        self.add(base, rng, hits * 0.4, metric="ndcg", chance=0.0046)
        if base.system == "SF-UBM":
            sampled = replace(base, k=0, protocol="sampled", chance=0.05)
            self.add(sampled, rng, (jitter < 1.1 * hr).astype(float), metric="hit1_all")
            self.add(
                sampled, rng, rng.random(len(luck)) < 0.91, metric="valid_ratio", chance=np.nan
            )

    def _privacy(self, base, rng, leak):
        attack, best, chance, metric = PRIVACY[base.system]
        row = replace(base, side="privacy", better="lower", attack=attack, k=0, protocol="",
                      metric=metric, chance=chance, threat_model=THREATS[attack])  # fmt: skip
        level = chance + (best - chance) * leak
        if metric == "auc":
            self.add(row, rng, np.clip(rng.normal(level, 0.04, len(USERS)), 0, 1))
            self.add(row, rng, rng.random(len(USERS)) < 0.02 + 0.6 * leak,
                     metric="precision_at_size", chance=0.012)  # fmt: skip
        else:
            self.add(row, rng, rng.random(len(USERS)) < level)
            self.rows.append(replace(row, metric="median_rank", better="higher",
                                     value=1 + 800 * (1 - leak), n=1682, chance=841.5))  # fmt: skip
            lost = replace(row, attack="row norm", metric="auc", status="not applicable",
                           value=np.nan, low=np.nan, high=np.nan, n=0,
                           reason="SF-UBM never uploads gradients or weight updates")  # fmt: skip
            self.rows.append(lost)

    def write(self, folder: Path, manifest=True) -> Path:
        write_results(folder, self.rows, self.samples)
        if manifest:
            cells = list(dict.fromkeys(row.cell for row in self.rows if row.cell))
            (folder / "scenario.yaml").write_text("name: poison 20 %\nseeds: [0, 1, 2]\n")
            cells = list(dict.fromkeys(row.cell for row in self.rows if row.cell))
            (folder / "manifest.json").write_bytes(sealed(folder, MANIFEST, cells))
        return folder


MANIFEST = {
    "name": "poison_20pct", "status": "finished", "started": "2026-01-05T10:00:00Z",
    "finished": "2026-01-05T10:11:09Z", "seconds": 669.3, "git": "1a2b3c4 (clean)",
    "versions": {"python": "3.11.7", "torch": "2.13.0"}, "cpu": "2 cores", "threads": 1,
    "scenario_hash": "ab12", "threat_models": THREATS,
    "timings": [{"stage": "training", "seconds": 410.0}, {"stage": "views", "seconds": 120.5}],
    "systems": [
        {"label": "LUMOS", "description": "One user per client; on-device LLM views.",
         "deviations": ["Item rows are averaged over the clients that touched them."]},
        {"label": "SF-UBM", "description": "Two domains as clients.", "deviations": []},
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def fake():
    """The full made-up run; treat as read-only."""
    return Fake()


@pytest.fixture(scope="session")
def finished(fake, tmp_path_factory):
    """The report of the full run; read-only."""
    return build_report(fake.write(tmp_path_factory.mktemp("run")))


@pytest.fixture
def make_fake():
    """The class itself, for runs with other seeds."""
    return Fake
