"""report.html: filled, escaped, alone; and, where there is a browser, working in it."""

import html.parser
import json
import re
import shutil

import pytest

from lilliput import api, cli
from lilliput.errors import BadData
from lilliput.reports.page import inspected
from lilliput.system import signals
from tests.reports.conftest import NASTY


class Reader(html.parser.HTMLParser):
    """What a page holds, as a browser would take it apart."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def read(out):
    page = (out / "report.html").read_text()
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.S)  # our own and plotly's code
    reader = Reader()
    reader.feed(body)
    return page, reader


def test_every_section_is_filled_and_every_picture_described(study):
    out, paths, _ = study
    page, reader = read(out)
    assert out / "report.html" in paths and len(page) < 15e6
    sections = {about.get("id") for tag, about in reader.tags if tag == "section"}
    wanted = {
        "verdict",
        "table",
        "figure1",
        "figure2",
        "cost",
        "saliency",
        "neighbours",
        "mistakes",
        "colour",
        "layers",
    }
    assert sections >= wanted | {"geometry", "map", "few_labels", "protocol"}
    assert "could not be made" not in reader.text and "There are none" not in reader.text
    few = reader.text.partition("Fine-tuned")[2]
    assert "learns from 3 and from 9 labelled images" in few and "random init" in few.partition("From results.csv")[0]
    images = [about for tag, about in reader.tags if tag == "img"]
    assert len(images) > 10 and all(len(about["alt"]) > 20 for about in images)
    assert all(about.get("aria-label") for _, about in reader.tags if "plot" in (about.get("class") or ""))
    assert all(
        (out / "inspect" / f"{name}.{kind}").exists() for name in ("layers", "confusion") for kind in ("png", "svg")
    )


def test_the_map_of_cells_has_each_accuracy_with_its_interval(study):
    """And what is beside it is for a cell: its figures are those of the table."""
    page, _ = read(study[0])
    heat = re.search(r"<table id=heat>.*?</table>", page, re.S).group(0)
    cells = re.findall(r'data-tip="([^"]*)"[^>]*>(?:<button[^>]*>)?(\.\d{3}|1\.000)', heat)
    assert len(cells) > 4 and all(shown in tip and "±" in tip for tip, shown in cells)
    table = page.partition('<section id="table">')[2].partition("</section>")[0]
    assert all(shown in table for _, shown in cells)
    data = json.loads(re.search(r"<script type=application/json id=cells-data>(.*?)</script>", page, re.S).group(1))
    assert len(data["cells"]) == heat.count("<button")
    for cell in data["cells"].values():
        keys = [cell["neighbours"][0]["image"], *cell["neighbours"][0]["near"], cell["saliency"][0]["image"]]
        assert set(keys) <= set(data["images"]) and len(cell["saliency"][0]["maps"]) == len(data["methods"]) == 2
        assert f"--techniques {cell['technique']} --backbones {cell['backbone']} --seeds 0" in cell["command"]
        assert cell["epochs"] == sorted(cell["epochs"]) and len(cell["epochs"]) == len(cell["values"]) > 1


def test_names_of_classes_are_text_and_the_page_loads_nothing(study):
    page, reader = read(study[0])
    assert not [1 for tag, about in reader.tags if about.get("src") == "x" or "onerror" in about]
    assert NASTY in reader.text
    sources = [about[key] for _, about in reader.tags for key in ("src", "href") if about.get(key)]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in page
    data = re.search(r"<script type=application/json id=map-data>(.*?)</script>", page, re.S).group(1)
    assert NASTY in json.loads(data)["classes"]


def test_a_report_made_again_inspects_nothing_again(study, monkeypatch):
    out = study[0]
    monkeypatch.setenv("LILLIPUT_HOME", str(out.parent / "home"))
    monkeypatch.setattr("lilliput.studies.judge.Judge.rows", lambda *_, **__: pytest.fail("inspected again"))
    before = (out / "inspect" / "results.csv").read_bytes()
    api.report(out)
    assert (out / "inspect" / "results.csv").read_bytes() == before


def test_without_its_images_a_report_says_how_to_get_its_pictures(study, tmp_path):
    out, _, photos = study
    copied = shutil.copytree(out, tmp_path / "copied")
    api.report(copied)  # the home of this test has no stores
    assert "name them with --data" in read(copied)[1].text
    with pytest.raises(BadData, match="digests differ"):
        api.report(copied, "scenes")
    api.report(copied, photos)
    assert "surest" in read(copied)[1].text


def test_a_cell_without_trained_encoders_costs_no_other_its_pictures(study, tmp_path, capsys):
    """Four sections were empty for all, and the picture of an untrained network was shown as the cell's."""
    copied = tmp_path / "study"
    shutil.copytree(study[0], copied)
    for path in (copied / "cells/simclr-shufflenet_v2-0").glob("encoder_*"):
        if path.name != "encoder_000.safetensors":
            path.unlink()
    shutil.rmtree(copied / "inspect")
    api.report(copied, study[2])
    page = read(copied)[1]
    assert page.text.count("Without a trained encoder, so not shown: SimCLR on shufflenet_v2.") == 4
    assert "could not be made" not in page.text and "is empty" not in capsys.readouterr().err
    assert [path.name for path in sorted((copied / "inspect").glob("saliency-*.png"))] == ["saliency-split_brain.png"]
    assert not list((copied / "inspect").glob("simclr-*.npz"))


def test_a_section_that_fails_says_why_and_costs_no_other(study, tmp_path, monkeypatch, capsys):
    copied = shutil.copytree(study[0], tmp_path / "study")
    makers = {maker.anchor: maker for maker in inspected.MAKERS}
    broken = makers["layers"]._replace(make=lambda inspection: [][1])
    monkeypatch.setattr(inspected, "MAKERS", (broken, makers["few_labels"]))
    api.report(copied, study[2], workers=1)
    text = read(copied)[1].text
    assert "This section could not be made: list index out of range" in text
    assert "learns from 3 and from 9 labelled images" in text
    assert "the report's section 'Layers' is empty: list index out of range" in capsys.readouterr().err


def test_a_stop_while_the_page_is_made_stops(study, tmp_path, monkeypatch):
    """It was taken for the error of a cell, and for that of the next, until a page without them was done."""
    copied = tmp_path / "study"
    shutil.copytree(study[0], copied, ignore=shutil.ignore_patterns("inspect", "report.html"))
    monkeypatch.setattr(signals, "_asked", 15)
    with pytest.raises(signals.Stopped):
        api.report(copied, study[2])
    assert not (copied / "report.html").exists()


def test_a_study_without_the_linear_probe_has_a_table_and_says_why_no_page(study, tmp_path, capsys):
    """It once ended in a traceback."""
    words = "--techniques rotnet --backbones shufflenet_v2 --epochs 1 --batch 16 --device cpu --plan precision=fp32"
    data = ["--data", str(study[2]), "--image-size", "32", "--probes", "knn", "--out", str(tmp_path / "s")]
    assert cli.main(["study", *data, *words.split()]) == 0
    said = capsys.readouterr()
    assert "no report.html" in said.err and "add it to --probes" in said.err and "RotNet" in said.out


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not binary or not shutil.which("chromedriver"):
        pytest.skip("no Chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser, out):
    """The page in the browser, when its plots are drawn."""
    wait = pytest.importorskip("selenium.webdriver.support.wait")
    browser.get((out / "report.html").as_uri())
    drawn = "return document.querySelectorAll('#figure1 .main-svg, #open .main-svg').length"
    wait.WebDriverWait(browser, 60).until(lambda browser: browser.execute_script(drawn) >= 2)


def test_in_a_browser_a_cell_opens_and_two_stand_side_by_side(study, browser):
    browser.set_window_size(1200, 900)
    opened(browser, study[0])
    buttons = browser.find_elements("css selector", "#heat button")
    (best,) = [button for button in buttons if button.get_attribute("aria-pressed") == "true"]
    assert float(best.text) == max(float(button.text) for button in buttons)  # the most accurate is open
    other = next(button for button in buttons if button != best)
    browser.execute_script("arguments[0].click()", other)
    name = other.get_attribute("data-cell").split()[1]
    assert browser.find_element("css selector", "#open h3").text.partition(" on ")[2].startswith(name)
    for part in (".right, #open .wrong", "figcaption", ".curve .main-svg"):
        assert browser.find_elements("css selector", f"#open {part}"), part
    pixels = "return [...document.querySelectorAll('#open img')].map((one) => one.naturalWidth)"
    assert all(browser.execute_script(pixels))
    browser.execute_script("arguments[0].click()", browser.find_element("css selector", "#open button.plain"))
    browser.execute_script("arguments[0].click()", best)
    dialog = browser.find_element("id", "compared")
    assert dialog.is_displayed() and len(dialog.find_elements("css selector", ".cell")) == 2
    said = dialog.find_element("css selector", "p").text
    first, _, rest = said.partition(" − ")
    assert first.endswith(name) and (": −." in rest) == (float(other.text) < float(best.text))
    browser.execute_script("arguments[0].click()", dialog.find_element("css selector", "button"))
    assert not dialog.is_displayed()
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_in_a_browser_nothing_fails_nothing_is_fetched_and_tables_sort(study, browser):
    browser.set_window_size(1200, 900)
    opened(browser, study[0])
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    fetched = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in fetched if one["method"] == "Network.requestWillBeSent"}
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)
    column = "return [...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[2].dataset.v)"
    button = browser.find_elements("css selector", "#table th button")[2]
    browser.execute_script("arguments[0].click()", button)
    down = [float(value) for value in browser.execute_script(column) if value]
    browser.execute_script("arguments[0].click()", button)
    up = [float(value) for value in browser.execute_script(column) if value]
    assert down == sorted(down, reverse=True) and up == sorted(up) and len(up) > 3


def test_in_a_browser_a_point_of_the_map_shows_its_image_and_a_chart_keeps_to_its_place(study, browser):
    opened(browser, study[0])
    browser.execute_script(
        "const plot = document.getElementById('plot-map');"
        "plot.emit('plotly_hover', {points: [{customdata: 3}], event: {clientX: 10, clientY: 10}});"
    )
    image = browser.find_element("id", "map-image")
    assert image.is_displayed() and image.get_property("naturalWidth") > 0
    for width in (390, 800, 1400):
        browser.set_window_size(width, 900)
        opened(browser, study[0])
        inside, outside = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert inside <= outside + 1  # nothing sticks out
        tall = browser.execute_script(
            "return [...document.querySelectorAll('.plot')].filter((one) =>"
            " one.firstElementChild && one.firstElementChild.scrollHeight > one.clientHeight + 2).length"
        )
        assert tall == 0
        ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(set(ids)) == len(ids) and browser.find_elements("css selector", "#figure1 h2")
