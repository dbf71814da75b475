"""Whatever a client sends: it is admitted whole and sound, or refused, counted and named."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.core.averaging import average
from harness.core.messages import EmbeddingUpload, ModelSum, ModelUpdate
from harness.fed.guard import GuardRecord, admit, within_ratio
from tests.faults.test_updates import FORM, ITEMS, UPLOADS, update, upload
from tests.faults.thirds import Codes

SETTINGS = settings(
    max_examples=170,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
DTYPES = st.sampled_from([*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool])
NUMBERS = st.sampled_from(
    [float("nan"), float("inf"), -float("inf"), 1e30, 9e5, 1e-45, -0.0, 0.0, 2.0**62, -1.0, -2.0]
)
JUNK = st.one_of(st.none(), st.text(max_size=3), st.integers(), st.lists(st.integers(), max_size=3))


@st.composite
def tensors(draw: Any) -> Tensor:
    """A tensor of any small shape and number format, with odd values in it."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    made = torch.ones(shape, dtype=draw(DTYPES))
    kind = draw(st.sampled_from(["strided", "sparse", "meta", "expanded"]))
    if kind == "meta":
        return made.to("meta")
    if kind == "sparse" and made.dim():
        return made.to_sparse()
    if made.is_floating_point() and made.numel():
        made.view(-1)[draw(st.integers(0, made.numel() - 1))] = draw(NUMBERS)
    return made.expand(3, *shape) if kind == "expanded" else made


def _odd(draw: Any, tensor: Tensor) -> Any:
    """Return a tensor with odd values, or something else in its place."""
    how = draw(st.sampled_from(["value", "value", "value", "tensor", "junk", "cut"]))
    if how == "tensor":
        return draw(tensors())
    if how == "junk":
        return draw(JUNK)
    if how == "cut":
        return tensor[: draw(st.integers(0, len(tensor)))]
    tensor = tensor.clone()
    if tensor.numel():
        value = draw(NUMBERS)
        whole = not tensor.is_floating_point()
        # NaN and infinity are no whole numbers.
        place = draw(st.integers(0, tensor.numel() - 1))
        finite = abs(value) < 2**62 if whole else True
        tensor.view(-1)[place] = int(value) if whole and finite else (7 if whole else value)
    return tensor


def _changed(draw: Any, message: Any) -> Any:
    """Return the message with up to three fields made odd."""
    fields = dict(vars(message))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(fields)))
        if isinstance(fields[name], dict) and draw(st.booleans()):
            entries = dict(fields[name])
            key = draw(st.sampled_from([*sorted(entries), "new"]))
            if key in entries and draw(st.booleans()):
                entries[key] = _odd(draw, entries[key]) if torch.is_tensor(entries[key]) else None
            elif key in entries:
                del entries[key]
            else:
                entries[key] = draw(tensors())
            fields[name] = entries
        elif torch.is_tensor(fields[name]) and fields[name].layout == torch.strided:
            fields[name] = (
                draw(JUNK)
                if fields[name].is_meta or not fields[name].dim()
                else _odd(draw, fields[name])
            )
        else:
            fields[name] = draw(JUNK)
    return type(message)(**fields)


def _judged(message: Any, form: Any) -> tuple[Any, GuardRecord]:
    record = GuardRecord()
    kept = admit(message, 0, record, set(), form, frozenset(range(10)))
    assert record.received == record.rejected.total() + len(kept.sent_by.unique())
    assert len(record.offenders) == min(100, record.rejected.total())
    return kept, record


@SETTINGS
@given(data=st.data())
def test_model_updates(data):
    kept, _ = _judged(_changed(data.draw, update()), FORM)
    if not len(kept):
        return
    assert kept.peaks().max() <= 1e6 and len(set(kept.clients.tolist())) == len(kept)
    mean = average([kept], ITEMS, over_cohort=True)
    assert mean.rows.isfinite().all() and all(d.isfinite().all() for d in mean.dense.values())
    assert list(within_ratio([kept], 2.0, 0, GuardRecord())) is not None
    # Without the form, too, the guard judges and does not raise.
    _judged(kept, None)


@SETTINGS
@given(data=st.data())
def test_sums_uploads_and_a_third_kind(data):
    total = ModelSum(
        torch.tensor([4, 5]),
        {"w": torch.ones(2), "v": torch.ones(3, 2)},
        torch.tensor([0, 1]),
        torch.ones(2, 2),
        torch.tensor([1, 2]),
        torch.tensor([3, 3]),
    )
    third = Codes()
    for message, form in (
        (total, FORM),
        (upload(), UPLOADS),
        (third.message([0, 1, 2]), third.form(torch.zeros(4))),
    ):
        kept, _ = _judged(_changed(data.draw, message), form)
        if isinstance(kept, ModelSum) and len(kept):
            assert average([kept], ITEMS, over_cohort=True).rows.isfinite().all()
        if isinstance(kept, EmbeddingUpload):
            assert kept.vectors.isfinite().all()


@SETTINGS
@given(data=st.data())
def test_without_an_announced_form(data):
    message = data.draw(st.sampled_from([update(), upload(), Codes().message([0, 1])]))
    kept, _ = _judged(_changed(data.draw, message), None)
    if isinstance(kept, ModelUpdate):
        assert kept.peaks().isfinite().all()
