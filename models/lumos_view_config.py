"""The choices behind LUMOS's three views, each with its source."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ViewName = Literal["future", "rephrased", "counterfactual"]
VIEW_NAMES: tuple[ViewName, ...] = ("future", "rephrased", "counterfactual")


class ViewsConfig(BaseModel):
    """How the views are asked for and built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_kind: str = Field(
        default="movies",
        min_length=1,
        description="plural noun for the items in the prompts [ours]",
    )
    history_length: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="most recent titles shown to the LLM [ours: a token costs time]",
    )
    examples: int = Field(
        default=3, ge=0, le=10_000, description="catalogue examples in each prompt [ours]"
    )
    future_items: int = Field(
        default=4,
        ge=1,
        le=20,
        description="next items asked for and appended to S_u; 3-5 [digest-A]",
    )
    substitutions: int = Field(
        default=2,
        ge=0,
        le=10_000,
        description="most recent items to replace by near-equivalents [digest-A: substitution; "
        "ours: how many]",
    )
    alternatives: int = Field(
        default=3,
        ge=1,
        le=10_000,
        description="near-equivalents asked for per item, of which one is used [ours]",
    )
    swaps: int = Field(
        default=1,
        ge=0,
        le=10_000,
        description="adjacent pairs exchanged: 'mild reordering' [digest-A; ours: 1]",
    )
    counterfactual_items: int = Field(
        default=6, ge=1, le=50, description="length asked for of the counterfactual sequence [ours]"
    )
    counterfactual_source: Literal["llm", "farthest"] = Field(
        default="llm",
        description="llm: asked for another kind [paper: the idea; digest-A: opposite categories]; "
        "farthest: drawn from the quarter of the catalogue farthest from the history [ours]",
    )
    answer: Literal["text", "shortlist"] = Field(
        default="text",
        description="text: the LLM writes freely and titles are grounded afterwards [digest-A]; "
        "shortlist: it can only write titles from a list that the sentence encoder retrieves "
        "(near for the first two views, far for the third) [ours]",
    )
    shortlist: int = Field(
        default=40, ge=1, le=1_000_000, description="titles to choose from with 'shortlist' [ours]"
    )
    threshold: float = Field(
        default=0.6, ge=-1, le=1, description="least cosine of a nearest-neighbour match [ours]"
    )
    min_valid: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a view is dropped when a smaller share maps [digest-A advice]",
    )
    drop_copied: bool = Field(
        default=True,
        description="leave items of the history out of the appended future items [ours]",
    )
    temperature: float = Field(
        default=0.7,
        ge=0,
        description="of sampling; 0 is greedy, where one title reached up to 77 % of users [ours]",
    )
    sampling_seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="of the LLM and of the examples, so that all seeds share texts [ours]",
    )
