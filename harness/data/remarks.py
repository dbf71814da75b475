"""What a reader must know of how a data set was read: said on the terminal and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.data.interactions import Interactions
from harness.data.split import leave_one_out

Report = Mapping[str, Any]

SHARED_TEXT = 0.01
"""Share of items with another's text from which on it is said: no attack can tell them apart."""


def remarks(data: Interactions) -> tuple[str, ...]:
    """Return a sentence for everything that was guessed, changed or left out on the way.

    What the scenario asked for (k-core, fewer users) is said with its price; what was as expected
    is not said.
    """
    report = data.report
    said = [sentence(report) for sentence in _SENTENCES]
    own = [str(value) for name, value in report.items() if name.startswith("remark_")]
    found = (*own, *said, *_rules(report), *_texts(data), *_tested(data))
    return tuple(text for text in found if text)


def _counted(key: str, words: str, also: Callable[[Report], str] = lambda _: "") -> Any:
    """Return what says ``words`` of a count above 0."""

    def sentence(report: Report) -> str:
        count = int(report.get(key, 0))
        return f"{count:,} {words}{also(report)}" if count else ""

    return sentence


def _of_rows(report: Report) -> str:
    return f" of {int(report.get('rows_read', 0)):,} were wrong and left out (on_bad: drop)"


def _doubles(report: Report) -> str:
    merged = int(report.get("duplicate_rows_merged", 0))
    return "; merged" if merged else "; kept (duplicates: merge leaves them out)"


def _order(report: Report) -> str:
    if report.get("order_by") != "file order":
        return ""
    return "no times and no order column: each user's events are in the order of the file"


def _encoding(report: Report) -> str:
    read_as = [
        f"{what} read as {report[key]}"
        for what, key in (("log", "log_encoding"), ("items", "items_encoding"))
        if report.get(key, "ascii") not in ("ascii", "utf-8")
    ]
    return ", ".join(read_as)


def _times(report: Report) -> str:
    return str(report.get("warning_times", ""))


_SENTENCES: tuple[Callable[[Report], str], ...] = (
    _counted("rows_bad_dropped", "rows", _of_rows),
    _times,
    _counted("times_before_1970_or_after_2100", "times lie before 1970 or after 2100"),
    _order,
    _encoding,
    _counted("log_files_joined", "files of a log that was split beforehand were joined"),
    _counted(
        "duplicate_rows", "events have the user, item and time of an earlier one", _doubles
    ),
    _counted("ids_merged_by_normalisation", "ids differ from another in spaces or Unicode form"),
    _counted("lone_surrogates_replaced", "halves of characters in titles were replaced"),
    _counted(
        "title_characters_unreadable",
        "characters of titles are control characters or U+FFFD: the encoding may be wrong",
    ),
    _counted("users_without_attributes", "users are not in the file of users"),
    _counted("shared_users_dropped", "users stand in both domains and were left out of this one"),
    _counted("shared_items_dropped", "items stand in both domains and were left out of this one"),
    _counted("items_without_a_genre_of_either_group", "items have a genre of neither domain"),
    _counted("titles_shortened", "titles were shortened"),
    _counted("item_rows_with_known_id", "rows of the item file repeat an id; the first counts"),
    _counted("item_rows_without_id", "rows of the item file have no id"),
    _counted("metadata_lines_unreadable", "lines of the metadata can't be read"),
    _counted("titles_that_were_page_code", "titles were page code and are left empty"),
)  # fmt: skip


def _rules(report: Report) -> list[str]:
    """Return what each rule of the data set's configuration left out."""
    found: list[str] = []
    for rule in ("min_rating", "min_length", "k_core", "max_users", "keep_last"):
        counts = [
            f"{int(report[key]):,} {what}"
            for what in ("users", "items", "events")
            if report.get(key := f"{rule}_{what}_dropped")
        ]
        if counts:
            found.append(f"{rule} left out {', '.join(counts)}")
    return found


def _texts(data: Interactions) -> list[str]:
    """Return what is missing in titles and texts, and how many items share theirs."""
    found: list[str] = []
    untitled = sum(not title for title in data.titles)
    if untitled:
        found.append(f"{untitled:,} of {data.num_items:,} items have no title")
    garbled = [title for title in data.titles if _garbled(title)]
    if garbled:
        found.append(
            f"{len(garbled):,} titles look like UTF-8 read in another encoding, such as "
            f"{garbled[0][:60]!r}"
        )
    counts = Counter(text for text in item_texts(data) if text.strip())
    shared = sum(count for count in counts.values() if count > 1)
    if shared > SHARED_TEXT * data.num_items:
        found.append(
            f"{shared:,} of {data.num_items:,} items share their text with another: nothing that "
            "reads texts can tell them apart"
        )
    return found


def _garbled(title: str) -> bool:
    """Whether a title is UTF-8 that was read as Windows-1252 or Latin-1 (``AmÃ©lie``)."""
    if title.isascii():
        return False
    for encoding in ("cp1252", "latin-1"):
        try:
            return title.encode(encoding).decode() != title
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
    return False


def _tested(data: Interactions) -> list[str]:
    """Return how many users are tested on an item that nobody trains on, or that they have had."""
    split = leave_one_out(data)
    found: list[str] = []
    if split.excluded:
        found.append(f"{split.excluded:,} users have fewer than three events and take no part")
    if not split.train:
        return found
    trained = np.bincount(np.concatenate(split.train), minlength=data.num_items) > 0
    cold = int((~trained[split.test]).sum())
    if cold:
        found.append(f"{cold:,} users are tested on an item that is in no training history")
    if split.repeated_tests:
        found.append(
            f"{split.repeated_tests:,} users are tested on an item that they have had before"
        )
    return found


def item_texts(data: Interactions) -> list[str]:
    """Return the text of each item that systems read: the longer one, or its title."""
    return data.titles if data.item_text is None else data.item_text
