"""The typed, frozen configuration every plug-in carries, and what a plug-in says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Fidelity = Literal["reimplementation", "simplified", "baseline"]


class Params(BaseModel):
    """Base of every configuration: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Paper:
    """Where a plug-in comes from.

    Attributes:
        reference: arXiv id, venue or DOI; ``"ours"`` where there is no paper.
        fidelity: how close the code is to the source.
    """

    reference: str
    fidelity: Fidelity


class Component:
    """A plug-in: a configuration, a source, and a name given by the registry.

    Attributes:
        name: set at registration.
        paper: the source.
        config: the resolved parameters of this instance.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[Paper]
    Config: ClassVar[type[Params]] = Params

    def __init__(self, config: Params | None = None, **values: Any) -> None:
        self.config: Any = config if config is not None else self.Config(**values)

    @classmethod
    def summary(cls) -> str:
        """Return the first sentence on the plug-in: its module's, or its own if it shares one."""
        import sys

        module = sys.modules[cls.__module__]
        shares = any(
            isinstance(other, type) and other is not cls and "paper" in vars(other)
            for other in vars(module).values()
            if getattr(other, "__module__", None) == module.__name__
        )
        doc = (None if shares else module.__doc__) or cls.__doc__ or ""
        return doc.strip().split("\n\n")[0].replace("\n", " ").strip()
