"""The report as a reader meets it: in a real browser, from a file, without a network."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    assert "amago-suite train results/demo/tmaze/rnn/seed_2" in text
    assert "git checkout 0123456789abcdef" in text and "2.13.0+cpu" in text
    page.evaluate("location.hash = '#lake.ff.1'")
    page.wait_for_function("document.getElementById('lake.ff.1').open")
    assert page.locator("details[id='lake.ff.1']").is_visible()


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_no_width_scrolls_sideways(page: Any, width: int) -> None:
    """Wide tables scroll in their own boxes; the page does not."""
    page.set_viewport_size({"width": width, "height": 800})
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
def test_nothing_serious_for_axe(page: Any, scheme: str) -> None:
    """Accessibility: no serious or critical violation, folded out, in both schemes."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    violations = axe.run(page).response["violations"]
    serious = [
        (v["id"], v["nodes"][0]["html"][:160]) for v in violations if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
