"""The report in a real headless Chromium: nothing hostile runs, nothing overflows, all is legible.

Every check has a control that would turn it red: the same labels unescaped open a dialog.
"""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from chromium import Chromium, find

from harness.results import write_results
from reports.html import build_report

pytestmark = pytest.mark.skipif(
    find() is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
WIDE = "w" * 300


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def hostile(fake, tmp_path_factory):
    """A report whose every name is an attack on its reader or far too wide."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [
        replace(r, dataset=EVIL, system=EVIL + r.system, run=EVIL, threat_model=EVIL + WIDE,
                defense=r.defense if r.defense == "none" else r.defense + EVIL,
                poisoning=r.poisoning if r.poisoning == "none" else EVIL + r.poisoning,
                attack=r.attack if r.attack == "none" else EVIL + r.attack)
        for r in fake.rows if r.seed == 0 and r.system in ("LUMOS", "popularity")
    ]  # fmt: skip
    write_results(folder, rows)
    described = {"label": EVIL, "description": EVIL + WIDE, "deviations": [EVIL, WIDE]}
    timings = [{"stage": EVIL, "seconds": 1}]
    manifest = {"name": EVIL, "status": EVIL, "note": WIDE, EVIL: EVIL, "systems": [described],
                "threat_models": {EVIL: EVIL}, "timings": timings}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "scenario.yaml").write_text(f"name: {EVIL}\ntitle: {WIDE}\n")
    return build_report(folder)


def test_hostile_names_open_no_dialog_and_are_read_as_text(browser, hostile):
    browser.look(1280)
    browser.open(hostile)
    assert browser.dialogs == []
    assert browser.ask("document.scripts.length") == 0
    assert browser.ask("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.ask("document.body.innerText").count("<img src=x onerror=alert(1)>") > 10
    assert browser.ask("document.title") == f"{EVIL[:59]}…: report"


def test_the_same_names_unescaped_do_open_a_dialog(browser, tmp_path):
    control = tmp_path / "control.html"
    control.write_text(f"<title>x</title><body>{EVIL}")
    browser.open(control)
    assert "2" in browser.dialogs


def test_the_policy_stops_a_script_even_if_escaping_failed(browser, hostile, tmp_path):
    broken = tmp_path / "broken.html"
    text = hostile.read_text()
    broken.write_text(text.replace("<main", f"<p id=here>{EVIL}</p><main", 1))
    browser.open(broken)
    assert browser.ask("document.querySelectorAll('#here script, #here img').length") > 0
    assert browser.dialogs == []


def test_nothing_is_fetched(browser, finished):
    browser.open(finished)
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert asked == [finished.as_uri()]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_sideways(browser, finished, hostile, width):
    for report in (finished, hostile):
        browser.look(width)
        browser.open(report)
        browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.ask("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert browser.ask(broken) == 0


def test_dark_and_light_both_render(browser, finished):
    brightness = []
    for dark in (False, True):
        browser.look(1280, dark=dark)
        browser.open(finished)
        for target in ("main", "#trade-off"):
            browser.ask(f"document.querySelector('{target}').scrollIntoView()")
            image = matplotlib.image.imread(io.BytesIO(browser.screenshot()), format="png")
            brightness.append(float(np.median(image[..., :3])))
            # Text and marks stand out from the page: it is not one flat colour.
            assert float(image[..., :3].std()) > 0.05
    assert min(brightness[:2]) > 0.9 and max(brightness[2:]) < 0.15


def test_the_first_tab_offers_to_skip_and_every_stop_has_a_name(browser, finished):
    browser.look(1280)
    browser.open(finished)
    browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "Skip to the verdicts"
    assert browser.ask("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    assert browser.ask("location.hash") == "#main"
    order = "[...document.querySelectorAll('a[href],summary,[tabindex]')]"
    nameless = f"{order}.filter(e => !(e.ariaLabel || e.textContent).trim()).length"
    assert browser.ask(nameless) == 0
    assert browser.ask(f"{order}.filter(e => e.tabIndex > 0).length") == 0
    unsaid = "[...document.images].filter(i => i.alt.length < 40).length"
    assert browser.ask(unsaid) == 0
    scoped = "[...document.querySelectorAll('th')].filter(h => !h.scope).length"
    assert browser.ask(scoped) == 0
    assert (
        browser.ask("[...document.querySelectorAll('table')].filter(t => !t.caption).length") == 0
    )


def _luminance(colour):
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_pair_of_text_and_ground_has_contrast_enough():
    """WCAG 2.2, 1.4.3: at least 4.5 to 1, in both schemes."""
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (Path(build_report.__code__.co_filename).parent / "templates/style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    schemes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert [len(scheme) for scheme in schemes] == [13, 13]
    for scheme in schemes:
        for ground in ("back", "band"):
            for text in ("ink", "quiet", "link", "good", "bad", "warn"):
                assert _contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        for tone in ("good", "bad", "warn"):
            for text in (tone, "ink", "quiet"):
                assert _contrast(scheme[text], scheme[f"{tone}-back"]) >= 4.5, (text, tone)
