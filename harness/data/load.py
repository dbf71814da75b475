"""From a data set's configuration to the data that a run uses."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import DataError, ScenarioError
from harness.core.seeds import Seeds
from harness.data.config import DatasetConfig
from harness.data.filter import drop_below_rating, k_core, keep_last, max_users
from harness.data.interactions import Interactions
from harness.data.partition import disjoint_domains, genre_domains
from harness.data.registry import LOADERS


def read(config: DatasetConfig) -> Interactions:
    """Return the data set as it is in its files, before any filter.

    Raises:
        DataError: files are missing or wrong.
        AssetError: a pinned data set cannot be fetched.
    """
    try:
        return _read(config)
    except OSError as error:
        where = error.filename or config.path or config.use
        raise DataError(f"{where}: {error.strerror or error}") from error
    except MemoryError as error:
        where = config.path or config.use
        raise DataError(f"{where}: larger than the memory of this machine") from error


def _read(config: DatasetConfig) -> Interactions:
    if config.use is not None:
        return LOADERS.get(config.use).read(config.loader_options(), config.policy)
    if config.path is None:
        raise ScenarioError("the data set names neither use nor path")
    path = _from_here(config.path)
    loader = LOADERS.fitting(Path(path).expanduser())
    return loader.read(loader.options(path=path), config.policy)


def _from_here(path: str) -> str:
    """Return a path below the current directory as relative to it: so its user would write it."""
    try:
        below = Path(path).is_relative_to(Path.cwd())
    except OSError:  # the current directory is gone
        return path
    return os.path.relpath(path) if below else path


def load(config: DatasetConfig, seed: int) -> Interactions:
    """Return one filtered data set.

    Args:
        config: what to read and what of it takes part.
        seed: of the random subset of users.

    Raises:
        ScenarioError: the configuration asks for two domains.
        DataError: files are missing or wrong, or nothing is left.
        AssetError: a pinned data set cannot be fetched.
    """
    if config.domains is not None:
        raise ScenarioError("this data set has two domains; a system of one domain cannot use it")
    return _reduced(_rated(read(config), config), config, Seeds(seed), "single")


def load_domains(config: DatasetConfig, seed: int) -> tuple[Interactions, Interactions]:
    """Return target and source, filtered, with disjoint users and items.

    Args:
        config: with ``domains``.
        seed: of the halves of users and of the random subsets.

    Raises:
        ScenarioError: the configuration names one domain only.
        DataError: files are missing or wrong, or nothing is left.
        AssetError: a pinned data set cannot be fetched.
    """
    domains = config.domains
    if domains is None:
        raise ScenarioError("this system needs two domains: give the data set a domains: entry")
    seeds = Seeds(seed)
    if domains.target is not None and domains.source is not None:
        target, source = disjoint_domains(
            _rated(load(domains.target, seed), config),
            _rated(load(domains.source, seed), config),
            drop_from=domains.drop_from,
            separate_ids=domains.separate_ids,
        )
    else:
        data = _rated(read(config), config)
        target, source = genre_domains(data, seeds.numpy("data", "halves"), domains.genre_groups)
    return _reduced(target, config, seeds, "target"), _reduced(source, config, seeds, "source")


def _rated(data: Interactions, config: DatasetConfig) -> Interactions:
    return data if config.min_rating is None else drop_below_rating(data, config.min_rating)


def _reduced(data: Interactions, config: DatasetConfig, seeds: Seeds, part: str) -> Interactions:
    """Apply the rules that act on one domain, in the order that ``DatasetConfig`` states."""
    data = k_core(data, config.k_core, max(config.k_core, config.min_length))
    if config.max_users is not None:
        data = max_users(data, config.max_users, seeds.numpy("data", "max_users", part))
    return data if config.keep_last is None else keep_last(data, config.keep_last)
