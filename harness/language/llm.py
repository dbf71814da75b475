"""A causal language model and its tokenizer out of a local folder or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from harness.core.device import Device
from harness.core.errors import AssetError

Dtype = Literal["auto", "float32", "bfloat16"]
"""Number format; ``auto`` is `cpu_dtype`."""


def cpu_dtype() -> torch.dtype:
    """Return bfloat16 where the processor multiplies it natively, else float32.

    Without the instructions bfloat16 is emulated: five times slower than float32 was seen.
    """
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def resolved(dtype: Dtype, device: Device = "cpu") -> torch.dtype:
    """Return the number format that a setting asks for; every CUDA device has bfloat16."""
    if dtype != "auto":
        return getattr(torch, dtype)
    return torch.bfloat16 if device == "cuda" else cpu_dtype()


def load_llm(
    source: str | Path, dtype: torch.dtype, *, grouped: bool = False, device: Device = "cpu"
) -> tuple[Any, Any]:
    """Load tokenizer and model, the latter in evaluation mode.

    Args:
        source: local folder, or hub name (which needs a network).
        dtype: of the weights.
        grouped: attention that is fast for decoding, see `harness.language.attention`.
        device: where the model is put.

    Raises:
        AssetError: it is no model that ``transformers`` can load.
    """
    # Slow to import, and most commands need no language model.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.language import attention

    attention.register()
    local = Path(source).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            local_files_only=local,
            attn_implementation=attention.GROUPED if grouped else "sdpa",
        )
    except (OSError, ValueError) as error:
        raise AssetError(f"the language model {source} can't be loaded: {error}") from error
    return tokenizer, model.to(device).eval()
