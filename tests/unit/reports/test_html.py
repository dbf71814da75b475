import csv
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from harness.core.errors import DataError
from harness.results import write_results
from reports.drawing import csv_bytes
from reports.html import build_report

EVIL = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"


class Page(HTMLParser):
    """What a browser would make of the page: elements, their attributes and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(folder):
    return Page(build_report(folder).read_text())


def test_full_run_is_one_offline_file_with_every_section(finished):
    page = Page(finished.read_text())
    sections = {a["id"] for a in page.named("h2")}
    assert sections == {
        "minute", "verdicts", "missing", "trade-off", "robustness", "utility", "attacks", "cost",
        "systems", "provenance",
    }  # fmt: skip
    policy = next(a for a in page.named("meta") if "http-equiv" in a)["content"]
    assert policy.startswith("default-src 'none'") and not page.named("script")
    images = page.named("img")
    assert len(images) == 11 and all(i["src"].startswith("data:image/svg+xml") for i in images)
    assert all(len(i["alt"]) > 40 for i in images)
    links = [a["href"] for a in page.named("a")]
    assert {h[1:] for h in links if h.startswith("#")} <= sections | {"main"}
    files = [h for h in links if not h.startswith("#")]
    assert len(files) == 3 * len(images)
    assert all((finished.parent / h).is_file() and h.startswith("figures/") for h in files)
    for text in ("central SASRec", "never uploads gradients", "4.2", "guessing (chance)",
                 "Item rows are averaged", "honest-but-curious", "Pareto front"):  # fmt: skip
        assert text in page.text, text


def test_tables_have_captions_headers_and_even_rows(finished):
    tables = re.findall(r"<table.*?</table>", finished.read_text(), flags=re.S)
    assert len(tables) > 10
    for table in tables:
        assert "<caption>" in table and 'scope="col"' in table
        rows = re.findall(r"<tr>.*?</tr>", table, flags=re.S)
        assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1


def test_every_figure_is_also_png_svg_and_csv(finished):
    figures = finished.parent / "figures"
    names = {p.name for p in figures.iterdir()}
    stems = {"robustness", "attack_by_defence"} | {
        f"trade_off_{system}_on_ml-100k_{attack}"
        for system, attack in (
            ("lumos", "row_norm"), ("lumos", "a-hum"), ("lumos", "sign_flip"),
            ("lumos", "noisy_clients"), ("sf-ubm", "nearest_neighbour"), ("sf-ubm", "a-hum"),
        )
    }  # fmt: skip
    assert names >= {f"{s}.{e}" for s in stems for e in ("png", "svg", "csv")}
    assert len(names) % 3 == 0 and {n.rsplit(".", 1)[1] for n in names} == {"png", "svg", "csv"}
    with (figures / "trade_off_lumos_on_ml-100k_row_norm.csv").open() as file:
        lines = list(csv.DictReader(file))
    bare = next(r for r in lines if r["defence"] == "none")
    assert float(bare["utility_kept"]) == 1 and float(bare["advantage"]) > 0.9


@pytest.mark.slow
def test_trade_offs_of_an_earlier_report_go_and_other_files_stay(fake, tmp_path):
    fake.write(tmp_path)
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("trade_off_gone.png", "trade_off.svg", "trade_off_notes.txt", "mine.png"):
        (figures / name).write_text("x")
    build_report(tmp_path)
    left = {p.name for p in figures.iterdir()}
    assert {"trade_off_notes.txt", "mine.png"} <= left
    assert not {"trade_off_gone.png", "trade_off.svg"} & left


def test_the_numbers_on_the_page_are_those_of_the_table(fake, finished):
    rows = [r for r in fake.rows if r.system == "popularity" and r.metric == "hr"]
    mean = np.mean([r.value for r in rows])
    assert f">{mean:.3f} <small>" in finished.read_text()


def test_same_run_same_bytes(fake, finished, tmp_path):
    assert build_report(fake.write(tmp_path)).read_bytes() == finished.read_bytes()
    for figure in (finished.parent / "figures").iterdir():
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_hostile_labels_are_text_everywhere(fake, tmp_path):
    rows = [
        replace(r, dataset=EVIL, system=f"{r.system}{EVIL}"[:300], run=EVIL, reason=r.reason + EVIL,
                defense=r.defense if r.defense == "none" else EVIL + r.defense,
                attack=r.attack if r.attack == "none" else EVIL + r.attack, threat_model=EVIL)
        for r in fake.rows if r.seed == 0
    ]  # fmt: skip
    write_results(tmp_path, rows)
    manifest = {"name": EVIL, "status": EVIL, EVIL: {EVIL: [EVIL]}, "threat_models": {EVIL: EVIL},
                "systems": [{"label": EVIL, "description": EVIL, "deviations": [EVIL]}],
                "timings": [{"stage": EVIL, "seconds": 1.0}]}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "scenario.yaml").write_text(f"name: {EVIL}\n")
    page = page_of(tmp_path)
    assert not page.named("script")
    assert all(i["src"].startswith("data:image/svg+xml;base64,") for i in page.named("img"))
    assert not [a for _, a in page.tags for name in a if name.startswith("on")]
    assert "alert(1)" in page.text


def test_numbers_in_a_csv_stay_numbers():
    assert csv_bytes((("-1.5", "+2e3", "-", "-1.5x", "\n=1"),)) == (
        b"-1.5,+2e3,'-,'-1.5x,\"'\n=1\"\n"
    )


def test_formulas_in_a_csv_are_quoted():
    assert csv_bytes((('=HYPERLINK("x")', "-1+1", -1.5, float("nan")),)) == (
        b'"\'=HYPERLINK(""x"")",\'-1+1,-1.5,\n'
    )


def only(fake, test):
    return [r for r in fake.rows if test(r)]


@pytest.mark.parametrize(
    ("case", "test", "expected"),
    [
        ("one system", lambda r: r.system == "LUMOS", "LUMOS on ml-100k"),
        ("anchors", lambda r: r.kind == "anchor", "No federated system"),
        ("one seed", lambda r: r.seed == 0, "one seed"),
        (
            "no attack",
            lambda r: r.side == "utility" and not (r.malicious or r.noisy),
            "nothing to plot",
        ),
        ("undefended", lambda r: r.defense == "none", "No defence was run"),
        ("always poisoned", lambda r: r.poisoning != "none", "20 % malicious"),
        ("nothing", lambda r: False, "holds no results"),
    ],
)
def test_partial_runs_still_make_a_page(fake, tmp_path, case, test, expected):
    write_results(tmp_path, only(fake, test))  # no values per user, no manifest, no scenario
    text = page_of(tmp_path).text
    assert expected in text and "manifest.json is missing" in text, case


def test_a_run_that_failed_altogether_says_why(fake, tmp_path):
    rows = [
        replace(r, status="failed", reason="out of memory", value=np.nan, low=np.nan, high=np.nan)
        for r in fake.rows
    ]
    write_results(tmp_path, rows)
    text = page_of(tmp_path).text
    assert "out of memory" in text and "failed" in text and "No utility was measured" in text


def test_stress_run_without_honest_clients_and_curves_over_fractions(fake, tmp_path):
    rows = only(fake, lambda r: r.system == "LUMOS" and r.defense in ("none", "trimmed mean"))
    for r in list(rows):
        if r.poisoning == "sign flip" and r.side == "utility":
            for fraction in (0.1, 0.4):
                value = r.value * (1 - fraction)
                rows.append(
                    replace(r, malicious=fraction, cell=f"{r.cell}/{fraction}", value=value)
                )
            nobody = replace(r, malicious=1.0, cell=f"{r.cell}/1", n=0, reason="no honest user")
            rows.append(replace(nobody, value=np.nan, low=np.nan, high=np.nan))
    write_results(tmp_path, rows, fake.samples)
    page = page_of(tmp_path)
    assert "no honest user" in page.text and "as the share of bad clients grows" in page.text
    with (tmp_path / "figures/robustness.csv").open() as file:
        lines = [r for r in csv.DictReader(file) if r["attack"] == "sign flip"]
    assert {r["fraction"] for r in lines} == {"0.0", "0.1", "0.2", "0.4"}


def test_broken_manifest_and_edited_results_are_named(fake, tmp_path):
    write_results(tmp_path, only(fake, lambda r: r.system == "LUMOS" and r.defense == "none"))
    (tmp_path / "manifest.json").write_text("{")
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace("LUMOS", "LUMEN", 1))
    text = page_of(tmp_path).text
    assert "not valid JSON" in text and "results.json differs" in text


def test_missing_results_are_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        build_report(tmp_path)


@pytest.mark.slow
def test_two_thousand_rows_take_less_than_ten_seconds(make_fake, tmp_path):
    large = make_fake(seeds=range(11))
    assert len(large.rows) > 2000
    large.write(tmp_path)
    start = time.process_time()
    build_report(tmp_path)
    assert time.process_time() - start < 10
