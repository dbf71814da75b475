"""Real data sets, filtered, split and partitioned in one place."""

from harness.data.config import DatasetConfig, DomainsConfig
from harness.data.interactions import Interactions
from harness.data.load import load, load_domains, read
from harness.data.registry import LOADERS
from harness.data.split import Split, leave_one_out
from harness.data.statistics import statistics

__all__ = [
    "LOADERS",
    "DatasetConfig",
    "DomainsConfig",
    "Interactions",
    "Split",
    "leave_one_out",
    "load",
    "load_domains",
    "read",
    "statistics",
]
