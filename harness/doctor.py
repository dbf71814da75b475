"""Whether this installation can be trusted: versions, threads, disk, plug-ins, determinism."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn import functional

from harness.assets import ASSETS, cache_dir, is_complete
from harness.core.own_packages import module_names
from harness.core.registry import PLUGIN_PACKAGES, discover
from harness.core.seeds import Seeds
from harness.provenance import PACKAGES, git_state, machine, package_versions, thread_variables

SELF_TEST_STEPS = 200
LOW_DISK_BYTES = 5 * 2**30


class Check(NamedTuple):
    """One finding.

    Attributes:
        name: what was looked at.
        good: whether it is as it should be.
        text: what was found.
    """

    name: str
    good: bool
    text: str


def examine() -> Iterator[Check]:
    """Yield the findings one by one; the last takes a few seconds."""
    facts = machine()
    memory = facts["memory_bytes"] / 2**30
    yield Check("machine", True, f"{facts['cpu']}, {facts['cores']} cores, {memory:.1f} GiB")
    yield Check("platform", True, f"{facts['platform']}, Python {facts['python']}")
    versions = package_versions()
    # The harness itself may run from a checkout; everything else must be installed.
    missing = [n for n, version in versions.items() if version is None and n != PACKAGES[0]]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield Check("packages", not missing, shown + (f"; missing: {missing}" if missing else ""))
    limits = ", ".join(f"{name}={value}" for name, value in thread_variables().items())
    yield Check("threads", True, f"torch uses {torch.get_num_threads()}; {limits or 'no limits'}")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    yield Check("GPU", True, device)
    yield _disk()
    held = [name for name, asset in ASSETS.items() if is_complete(asset)]
    absent = [name for name in ASSETS if name not in held]
    text = f"fetched: {', '.join(held) or 'none'}"
    yield Check("assets", True, text + (f"; not yet: {', '.join(absent)}" if absent else ""))
    yield from _plugins()
    git = git_state()
    source = f"commit {git['commit'][:12]}{', with changes' if git['dirty'] else ''}" if git else ""
    yield Check("source", True, source or "no git tree")
    yield determinism()


def _disk() -> Check:
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check("disk", free >= LOW_DISK_BYTES, f"{free / 2**30:.1f} GiB free for {folder}")


def _plugins() -> Iterator[Check]:
    """Import every plug-in module, ours and installed ones; one that fails hides no other."""
    failed = discover()
    own = [name for package in PLUGIN_PACKAGES for name in module_names(package)]
    broken = sum(name in failed for name in own)
    yield Check("plug-ins", not broken, f"{len(own) - broken} of {len(own)} modules import")
    for name, reason in failed.items():
        kind = "plug-in" if name in own else "installed plug-in"
        yield Check(kind, False, f"{name}: {reason}")


def determinism() -> Check:
    """Train the same small model twice and compare every byte of the result."""
    digests = {train_digest(seed=0) for _ in range(2)}
    other = train_digest(seed=1)
    if len(digests) > 1:
        return Check("determinism", False, "two equal trainings gave different weights")
    if other in digests:
        return Check("determinism", False, "two different seeds gave the same weights")
    return Check("determinism", True, f"two equal trainings gave {digests.pop()[:16]}")


def train_digest(seed: int) -> str:
    """Return the SHA-256 of the weights of a small attention model after some Adam steps."""
    generator = Seeds(seed).torch("doctor")
    items, size, length = 200, 32, 20
    table = torch.randn(items, size, generator=generator).mul_(0.1).requires_grad_()
    mix = torch.randn(size, size, generator=generator).mul_(0.1).requires_grad_()
    optimizer = torch.optim.Adam([table, mix], lr=0.01)
    for _ in range(SELF_TEST_STEPS):
        batch = torch.randint(items, (32, length + 1), generator=generator)
        inputs = table[batch[:, :-1]]
        weights = torch.softmax(inputs @ mix @ inputs.transpose(1, 2), dim=-1)
        logits = (weights @ inputs) @ table.T
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    values = torch.cat([table.detach().flatten(), mix.detach().flatten()])
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()
