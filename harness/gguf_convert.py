"""A GGUF language model as a bfloat16 transformers folder, made once.

Run as ``python -m harness.gguf_convert SOURCE.gguf TARGET`` in a process of its own, so that the
caller's memory and library settings stay as they are. Weights are dequantised to float32 and
rounded to bfloat16; nothing is looked up on the hub.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.core.errors import AssetError

CONVERT_DEADLINE_SECONDS = 900.0


def to_bfloat16(source: Path, target: Path) -> None:
    """Convert ``source`` (one GGUF file) into the new folder ``target`` with tokenizer.

    Raises:
        AssetError: the conversion failed; the last line of its output is given.
    """
    command = [sys.executable, "-m", "harness.gguf_convert", str(source), str(target)]
    # The child must find this very package, wherever the parent was started.
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CONVERT_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AssetError(
            f"{source.name}: the conversion did not end within {CONVERT_DEADLINE_SECONDS:.0f} s"
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        last = lines[-1] if lines else f"exit status {done.returncode}"
        raise AssetError(f"{source.name} could not be converted: {last}")


def convert(source: Path, target: Path) -> None:
    """Do the conversion in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, local_files_only=True
    )
    # transformers leaves the marks of quantisation on the dequantised model (seen in 5.23);
    # with them save_pretrained refuses the model, and a reload would look for a quantiser.
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    setattr(model, "is_quantized", False)  # noqa: B010
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    torch.nn.Module.to(model, torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
