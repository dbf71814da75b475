"""Settings that every test shares: one thread, stable property tests, where real data lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of research data sets beside the checkout; tests that need it skip where absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the research data sets (../shared/data) are not beside this checkout")
    return path
