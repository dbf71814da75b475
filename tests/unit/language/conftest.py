from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.language.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny-llm"))
