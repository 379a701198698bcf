"""The report as a reader meets it: in a real browser, from a file, without a network."""

import io
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from amago_suite.analysis.collect import collect
from amago_suite.analysis.curves import learning_curves
from amago_suite.grid import Grid
from amago_suite.report import write_report
from amago_suite.tables import write_tables

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "tables"))
from writer import make_grid, write_grid

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return write_grid(
        make_grid(tmp_path_factory.mktemp("results")), skip=lambda c: c.key == ("lake", "rnn", 1)
    )


@pytest.fixture(scope="module")
def report(grid: Grid) -> Path:
    return write_report(
        grid.folder, grid, partial=True, tables=write_tables(grid.folder, grid, partial=True, resamples=500)
    )


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The open report; a message in the console or a request beyond the file fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    noise: list[str] = []
    tab.on("console", lambda m: noise.append(f"console: {m.text}"))
    tab.on("pageerror", lambda e: noise.append(f"error: {e}"))
    tab.on("request", lambda r: noise.append(f"request: {r.url}") if r.url != report.as_uri() else None)
    tab.goto(report.as_uri())
    yield tab
    assert noise == []
    context.close()


def column(page: Any, region: str, index: int) -> list[str]:
    return page.locator(f"[aria-label='{region}'] tbody tr > :nth-child({index})").all_inner_texts()


def test_it_opens_and_says_what_is_missing(page: Any) -> None:
    """Title, warnings and the missing run are there, and no script is needed for them."""
    assert page.title() == "Demo suite (partial)"
    assert "1 run of 27 missing" in page.locator(".warnings").inner_text()
    assert "not started" in page.locator("[aria-label='Missing runs']").inner_text()
    assert page.locator("figure svg").count() >= 7


def test_scores_sort_by_number_both_ways(page: Any) -> None:
    """A click on an architecture sorts by its mean: largest first, then smallest."""
    assert column(page, "Scores", 1) == ["tmaze", "lake", "cheetah"]
    head = page.locator("[aria-label='Scores'] th", has_text="ff")
    head.locator("button").click()
    assert column(page, "Scores", 1) == ["cheetah", "tmaze", "lake"]
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert column(page, "Scores", 1) == ["lake", "tmaze", "cheetah"]
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("[aria-label='Scores'] th button", has_text="environment").press("Enter")
    assert column(page, "Scores", 1) == ["cheetah", "lake", "tmaze"]
    assert head.get_attribute("aria-sort") is None


def test_filters_hide_what_does_not_match(page: Any) -> None:
    """Typing leaves the rows and fold-outs that contain every word, and says how many."""
    page.fill("#scores-filter", "LAKE")
    assert page.locator("[data-filter='scores']:visible").count() == 1
    assert page.locator("#scores-count").inner_text() == "1 of 3"
    page.fill("#cells-filter", "rnn lake")
    assert page.locator("[data-filter='cells']:visible").count() == 1
    page.fill("#cells-filter", "")
    assert page.locator("[data-filter='cells']:visible").count() == 9


def test_a_cell_folds_out_to_what_makes_it_again(page: Any) -> None:
    """Configuration, provenance and the command: closed at first, open on a click or by a link."""
    run = page.locator("details[id='tmaze.rnn.2']")
    assert not run.is_visible()
    page.locator("summary", has_text="tmaze / rnn").click()
    run.locator("summary").click()
    text = run.inner_text()
    assert "demo.yaml results/demo/tmaze/rnn/seed_2/evaluation.json" in text
    assert "git checkout 0123456789abcdef" in text and "2.13.0+cpu" in text
    page.evaluate("location.hash = '#lake.ff.1'")
    page.wait_for_function("document.getElementById('lake.ff.1').open")
    assert page.locator("details[id='lake.ff.1']").is_visible()


def curve(page: Any, name: str) -> Any:
    """The figure, once its plot is there."""
    figure = page.locator(f"[data-plot='curves-{name}']")
    figure.scroll_into_view_if_needed()
    page.wait_for_function(
        "name => document.querySelector(`[data-plot='curves-${name}']`).classList.contains('is-live')",
        arg=name,
    )
    return figure


def point(page: Any, figure: Any) -> None:
    """Hold the pointer over the middle of the plot."""
    box = figure.locator(".plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.4)


def coloured(figure: Any) -> int:
    """Pixels of the plot that are neither grey nor white: lines, marks and bands."""
    pixels = plt.imread(io.BytesIO(figure.locator(".plot").screenshot()))[..., :3]
    return int((np.ptp(pixels, axis=-1) > 0.05).sum())


def test_pointing_at_a_curve_gives_its_values(page: Any, grid: Grid) -> None:
    """Hover: the nearest step, and mean and band of every architecture as they are in the figure's data."""
    figure = curve(page, "tmaze")
    tip = figure.locator(".tip")
    assert not tip.is_visible()
    point(page, figure)
    tip.wait_for()
    rows = tip.locator("tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["ff", "rnn", "transformer"]
    (found,) = [c for c in learning_curves(collect(grid)) if c.environment.name == "tmaze"]
    step = int(tip.locator("caption").inner_text().split()[0].replace(",", ""))
    at = found.of["rnn"].steps.tolist().index(step)
    mean, low, high = (float(getattr(found.of["rnn"], end)[at]) for end in ("mean", "low", "high"))
    said = [float(n) for n in re.findall(r"-?[\d.]+", rows[1].replace("\u2212", "-"))]
    assert said == pytest.approx([mean, low, high], abs=0.006)
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


def test_architectures_are_switched_off_by_their_names(page: Any) -> None:
    """A figure's legend for that figure, the shared one for all, and what comes later on the page too."""
    figure = curve(page, "tmaze")
    before = coloured(figure)
    button = figure.get_by_role("button", name="transformer")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(200)
    assert 0 < coloured(figure) < before
    point(page, figure)
    assert [row.split()[0] for row in figure.locator(".tip tr").all_inner_texts()] == ["ff", "rnn"]
    shared = page.locator("[data-legend]").get_by_role("button", name="rnn")
    shared.press("Enter")
    assert shared.get_attribute("aria-pressed") == "false"
    other = curve(page, "cheetah")
    assert other.get_by_role("button", name="rnn").get_attribute("aria-pressed") == "false"
    assert other.get_by_role("button", name="ff").get_attribute("aria-pressed") == "true"
    shared.press("Enter")
    assert other.get_by_role("button", name="rnn").get_attribute("aria-pressed") == "true"


def test_a_drag_zooms_and_a_double_click_goes_back(page: Any) -> None:
    """Zoom along the steps."""
    figure = curve(page, "tmaze")
    ends = "Bokeh.documents.map(d => d.roots()[0]).find(p => p.below[0].axis_label.includes('steps')).x_range"
    first = page.evaluate(f"[{ends}.start, {ends}.end]")
    box = figure.locator(".plot").bounding_box()
    y = box["y"] + box["height"] * 0.4
    page.mouse.move(box["x"] + box["width"] * 0.4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, y, steps=5)
    page.mouse.up()
    zoomed = page.evaluate(f"[{ends}.start, {ends}.end]")
    assert first[0] < zoomed[0] < zoomed[1] < first[1]
    page.mouse.dblclick(box["x"] + box["width"] * 0.5, y)
    page.wait_for_timeout(200)
    assert page.evaluate(f"[{ends}.start, {ends}.end]") == first


def test_plots_follow_the_scheme_and_paper_gets_the_drawing(page: Any) -> None:
    """Axis labels are light on dark; in print the static figure stands instead of the plot."""
    figure = curve(page, "lake")
    colour = "Bokeh.documents.map(d => d.roots()[0].below[0].axis_label_text_color)[0]"
    light = page.evaluate(colour)
    assert figure.locator(".live").is_visible() and not figure.locator("> svg").is_visible()
    page.emulate_media(color_scheme="dark")
    deadline = time.monotonic() + 20  # the page hears of it by an event
    while page.evaluate(colour) == light and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert page.evaluate(colour) != light
    page.emulate_media(media="print")
    assert not figure.locator(".live").is_visible() and figure.locator("> svg").is_visible()


def test_without_scripts_the_drawings_stand(browser: Any, report: Path) -> None:
    """Nothing that a reader needs is made by a script."""
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert tab.locator("figure > svg:visible").count() == tab.locator("figure").count() > 6
    context.close()


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_no_width_scrolls_sideways(page: Any, width: int) -> None:
    """Wide tables scroll in their own boxes; the page does not."""
    page.set_viewport_size({"width": width, "height": 800})
    curve(page, "cheetah")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark_and_print_is_light(page: Any) -> None:
    """The page follows the reader's scheme on screen; paper is always white."""
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    assert page.evaluate(brightness) > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(brightness) < 60
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(brightness) == 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_for_axe(page: Any, scheme: str) -> None:
    """Accessibility: no violation at all, folded out, with live plots, in both schemes."""
    page.emulate_media(color_scheme=scheme)
    for name in ("tmaze", "lake", "cheetah"):
        point(page, curve(page, name))
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:160]) for v in violations] == []
