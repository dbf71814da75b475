"""What a person sees of a comparison: lines, Markdown, HTML."""

import html.parser
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from reports.comparison import compare_runs
from reports.comparison_html import comparison_html
from reports.comparison_json import comparison_json
from reports.comparison_run import read_run
from reports.comparison_text import markdown, terminal_blocks
from reports.comparison_words import caution, sections, summary

HOSTILE = "<img src=x onerror=alert(1)>|[x](javascript:1)\n# `b` *c*\x1b[31m </script>"


@pytest.fixture
def pair(tmp_path, make_fake):
    """Two runs: LUMOS without a defence loses half of its HR, one defence is missing in B."""
    a, b = make_fake(), make_fake()
    for i, s in enumerate(b.samples):
        if s.metric == "hr" and s.cell.startswith("LUMOS/none/none/0.0"):
            b.samples[i] = replace(s, values=s.values * 0.5)
    for i, row in enumerate(b.rows):
        if row.metric == "hr" and row.cell.startswith("LUMOS/none/none/0.0"):
            b.rows[i] = replace(row, value=row.value * 0.5)
    b.rows = [row for row in b.rows if row.defense != "trimmed mean"]
    return compare_runs(read_run(a.write(tmp_path / "a")), read_run(b.write(tmp_path / "b")))


@pytest.fixture
def hostile(tmp_path, make_fake):
    run = make_fake(seeds=(0,))
    run.rows = [replace(row, system=HOSTILE, reason=HOSTILE if row.reason else "")
                for row in run.rows]  # fmt: skip
    folder = run.write(tmp_path / "a")
    (folder / "manifest.json").write_text(json.dumps({"name": HOSTILE, "status": HOSTILE}))
    return compare_runs(read_run(folder), read_run(folder))


def lines(comparison, **options):
    return "\n".join(text for text, _ in terminal_blocks(comparison, **options)).splitlines()


def test_terminal_shows_the_verdicts_with_their_numbers(pair):
    shown = lines(pair)
    assert shown[:2] == ["A: a (poison_20pct)", "B: b (poison_20pct)"]
    assert any(line.startswith("warning: B is not a finished run") for line in shown)
    assert f"1 worse, {len(pair.differences) - 5} no difference" in "\n".join(shown)
    start = shown.index("Worse in B (1)")
    row = re.split(r"  +", shown[start + 1].strip())
    worst = pair.differences[0]
    assert row[0] == "HR@20" and row[3] == "LUMOS · ml-100k · no defence"
    assert row[1].startswith("−0.") and "[−" in row[1] and "→" in row[2]
    assert row[4] == f"users of 3 seeds, n = {worst.interval.n}"
    assert any(line.startswith("Only in A") for line in shown)
    assert not any(line.startswith("Better in B") for line in shown)


def test_a_narrow_terminal_gets_no_long_line(pair):
    assert max(map(len, lines(pair, width=40))) <= 40
    assert max(map(len, lines(pair))) > 100
    joined = " ".join(" ".join(lines(pair, width=40)).split())
    assert "HR@20 −0." in joined and "LUMOS · ml-100k · no defence" in joined


def test_only_changed_leaves_out_what_did_not_change(pair):
    titles = [section.title for section in sections(pair, only_changed=True)]
    assert titles == ["Worse in B", "Only in A"]
    assert len(sections(pair, only_changed=False)) > 2
    assert "No difference shown (" not in "\n".join(lines(pair, only_changed=True))


def test_summary_counts_and_caution_counts_what_was_tested(pair, tmp_path, fake):
    assert re.fullmatch(
        r"1 worse, [\d,]+ no difference shown, 0 better, 4 not comparable; "
        r"\d+ only in A, 0 only in B", summary(pair),
    )  # fmt: skip
    assert caution(pair).startswith("1 rows were tested")
    same = read_run(fake.write(tmp_path / "same"))
    assert caution(compare_runs(same, same)) == ""


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_page_holds_the_rows_and_needs_nothing_from_outside(pair):
    page = Page(comparison_html(pair))
    tags = {tag for tag, _ in page.tags}
    assert "table" in tags and not tags & {"script", "img", "link", "iframe"}
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    text = " ".join(" ".join(page.text).split())
    assert "Worse in B (1)" in text and "HR@20 −0." in text and summary(pair) in text
    rows = sum(tag == "tr" for tag, _ in page.tags)
    listed = sections(pair, only_changed=False)
    assert rows == sum(len(s.lines) + 1 for s in listed)
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    anchors = {f"#{a['id']}" for _, a in page.tags if "id" in a}
    assert links <= anchors and len(links) == len(listed)


def test_hostile_labels_stay_text_in_the_page(hostile):
    text = comparison_html(hostile)
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"img", "script"}
    assert "<img" not in text and "</script>" not in text and "\x1b" not in text
    assert any("<img src=x onerror=alert(1)>" in piece for piece in page.text)


def test_hostile_labels_stay_text_in_markdown_and_on_the_terminal(hostile):
    text = markdown(hostile)
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)[<>`\[\]]", text.replace("\n> **Warning", "\n"))
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {8}
    assert "\x1b" not in "\n".join(lines(hostile))
    found = sum(len(s.lines) for s in sections(hostile, only_changed=False))
    rows = [line for line in lines(hostile) if line.startswith("  ")]
    assert len(rows) == found
    # A newline in a label breaks no row.
    assert not [line for line in lines(hostile) if line.startswith("#")]


def test_markdown_is_one_table_a_verdict(pair):
    text = markdown(pair, only_changed=True)
    assert "## Worse in B (1)\n\n| metric | B − A |" in text
    assert "> **Warning:** B is not a finished run" in text
    assert text.count("| metric | B − A |") == text.count("\n## ") == 2


def test_json_is_strict_and_holds_what_the_lines_say(pair):
    def refuse(constant):
        raise ValueError(constant)

    found = json.loads(comparison_json(pair), parse_constant=refuse)
    assert found["summary"] == summary(pair) and found["problems"] == list(pair.problems)
    assert len(found["differences"]) == len(pair.differences)
    worst = found["differences"][0]
    assert worst["verdict"] == "worse" and worst["metric"] == "hr" and worst["low"] < 0
    assert worst["lost"]["of"] == worst["n"] and found["only_in_a"] and not found["only_in_b"]
    assert len(json.loads(comparison_json(pair, only_changed=True))["differences"]) == 1


def test_lost_users_stand_in_every_format(tmp_path, make_fake):
    a, b = make_fake(seeds=(0, 1)), make_fake(seeds=(0, 1))
    for i, s in enumerate(b.samples):
        if s.metric == "hr":
            b.samples[i] = replace(s, values=np.where(s.units < 187, np.nan, s.values))
    means = {(s.cell, s.k): float(np.nanmean(s.values)) for s in b.samples if s.metric == "hr"}
    b.rows = [
        replace(r, value=means[r.cell, r.k]) if r.metric == "hr" else r for r in b.rows
    ]  # fmt: skip
    found = compare_runs(*(read_run(x.write(tmp_path / n)) for x, n in ((a, "a"), (b, "b"))))
    words = "374 of 480 units (77.9%) have no value in B"
    texts = [markdown(found), comparison_html(found), comparison_json(found)]
    for text in ["\n".join(lines(found)), *texts]:
        plain = text.replace("\\", "")
        assert words in plain and "B has no value for users or items that the other run" in plain
