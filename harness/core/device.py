"""Where tensors are computed, and in which number format matrix products are."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from harness.core.errors import ScenarioError

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


class Arithmetic(NamedTuple):
    """Device and number format of a training; anything but the default changes its last bits.

    Attributes:
        device: where local training and language models run; messages are on the CPU.
        precision: of the matrix products of local training. Weights, item rows and their updates
            are float32 in any case.
    """

    device: Device = "cpu"
    precision: Precision = "float32"

    @property
    def products(self) -> torch.dtype | None:
        """Number format that products are rounded to; None for the weights' own."""
        return None if self.precision == "float32" else torch.bfloat16


def available_device(asked: Literal["auto", "cpu", "cuda"]) -> Device:
    """Return the device that a setting means on this machine.

    Raises:
        ScenarioError: CUDA is asked for and there is none.
    """
    if asked == "cpu":
        return "cpu"
    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ScenarioError(
            "compute.device: cuda is asked for, but PyTorch finds no CUDA device on this machine; "
            "allowed here are auto, cpu"
        )
    return "cuda" if found else "cpu"


ON_CPU = Arithmetic()
"""The default."""
