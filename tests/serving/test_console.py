"""The console end to end, in a headless Chromium: the gateway, its catalogue and its models are real."""

import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, async_playwright, expect

from catalogue import Card, Entry, Signal, State, find_learnware
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from serving import GatewayParts
from serving.keys import KeyRequest, KeyStore
from serving.transformers_engine import TransformersConfig, TransformersEngine
from specification import SentenceEncoder, Specification, specify
from tests.serving.conftest import Sketch, TinyDock, open_dock, sentences
from tests.serving.tiny import BASE_NAME, build_adapter

CHROMIUM = shutil.which("chromium")
PAGES = ("find", "catalogue", "map", "live", "submit")
HOSTILE = '<img src=x onerror="document.title=1"> **bold** <script>alert(1)</script>'
FOREIGN = [f"Will the goalkeeper catch ball number {number} in extra time?" for number in range(24)]
WAIT_MS = 60_000
UNNAMED = """[...document.querySelectorAll("input, select, textarea")]
    .filter(each => !each.labels?.length && !each.ariaLabel).map(each => each.outerHTML)"""

KINDS = ("transaction-category", "customer-intent", "news-topic", "next-in-sequence")
# Keeps what was last drawn on a canvas: the boxes of labels as left, top, right, bottom, and the rings' middles.
NOTED = """(() => {
    const own = CanvasRenderingContext2D.prototype, { putImageData, fillText, arc } = own;
    own.putImageData = function (...given) {
        window.drawn = { labels: [], rings: [] };
        putImageData.apply(this, given);
    };
    own.arc = function (x, y, ...given) { window.drawn.rings.push([x, y]); arc.call(this, x, y, ...given); };
    own.fillText = function (text, x, y) {
        const width = this.measureText(text).width, high = parseInt(this.font.match(/[0-9]+px/)[0]);
        window.drawn.labels.push({ text, box: [x, y - high / 2, x + width, y + high / 2] });
        fillText.call(this, text, x, y);
    };
})()"""

Serving = Callable[[GatewayParts], AbstractContextManager[str]]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the package 'chromium' of Debian has it"),
]


@dataclass
class Visit:
    """A page, and what went wrong on it unseen."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    async def to(self, place: str) -> None:
        await self.page.goto(f"{self.url}/#/{place}")

    async def settle(self, heading: str) -> None:
        await expect(self.page.get_by_role("heading", level=1)).to_contain_text(heading)
        await self.page.wait_for_load_state("networkidle")


@pytest.fixture(scope="module")
def own_dock(
    tmp_path_factory: pytest.TempPathFactory,
    base: Path,
    encoder: SentenceEncoder,
    adapters: dict[str, Path],
    sketch: Sketch,
) -> Iterator[TinyDock]:
    """A dock to write to, with one learnware a topic; the card of one is hostile."""
    with open_dock(tmp_path_factory.mktemp("console"), base, encoder) as dock:
        for topic, folder in adapters.items():
            text = HOSTILE if topic == "space" else f"Answers questions about {topic}."
            card = Card(name=topic, domain=topic, description=text, tags=("demo", topic), licence="apache-2.0")
            learnware = dock.indexer.submit(folder, sketch(topic), card)
            gain = Signal(kind="gain", task=topic, metric="accuracy", value=0.25, examples=40, source="the test")
            dock.indexer.attach(learnware, (gain,))
        yield dock


@pytest.fixture(scope="module")
def parts(own_dock: TinyDock, base: Path) -> GatewayParts:
    return own_dock.parts(TransformersEngine(TransformersConfig(base, BASE_NAME, own_dock.store)))


@pytest.fixture(scope="module")
def url(parts: GatewayParts, serving: Serving) -> Iterator[str]:
    with serving(parts) as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def locked_url(own_dock: TinyDock, base: Path, keys: KeyStore, serving: Serving) -> Iterator[str]:
    keys.create_key(KeyRequest(name="somebody", roles=("serve",)))
    engine = TransformersEngine(TransformersConfig(base, BASE_NAME, own_dock.store))
    with serving(replace(own_dock.parts(engine), keys=keys)) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, url: str, refusals: bool = False) -> AsyncIterator[Visit]:
    """A fresh visitor, who must leave without a complaint and without a request to another origin.

    With ``refusals`` the gateway is expected to refuse requests, which the browser notes by itself.
    """
    context = await browser.new_context()
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    visit = Visit(await context.new_page(), url)

    def hear(message: ConsoleMessage) -> None:
        expected = refusals and message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not expected:
            visit.complaints.append(message.text)

    def watch(request: Request) -> None:
        if not request.url.startswith((url, "blob:", "data:")):
            visit.strangers.append(request.url)

    visit.page.on("console", hear)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("request", watch)
    yield visit
    await context.close()
    assert visit.complaints == []
    assert visit.strangers == []


@contextmanager
def standing_on(dock: TinyDock, name: str, base: str) -> Iterator[None]:
    """A learnware's record says another base model meanwhile."""
    catalogue = dock.indexer.catalogue
    learnware = catalogue.named(name)
    assert learnware is not None
    specification = Specification.from_bytes(catalogue.specification_file(learnware))
    catalogue.upsert([Entry(learnware.model_copy(update={"base_model": base}), specification)])
    yield
    catalogue.upsert([Entry(learnware, specification)])


def move(dock: TinyDock, name: str, state: State) -> None:
    """Gives a learnware another state."""
    learnware = find_learnware(dock.indexer.catalogue, name)
    assert learnware is not None
    dock.indexer.move(learnware, state, "somebody")


Box = tuple[float, float, float, float]


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes (left, top, right, bottom) share a place."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


async def find(page: Page, texts: list[str]) -> None:
    await page.get_by_label("Prompts as the model").fill("\n".join(texts))
    await page.get_by_role("button", name="Find the model").click()


async def test_the_main_journey(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await expect(page.get_by_text("Where your text goes").first).to_be_visible()
        await find(page, sentences("law"))
        await expect(page.locator(".verdict.fits")).to_contain_text("law fits")
        names = page.locator(".ranking h3")
        await expect(names).to_have_count(3)
        await expect(names.first).to_have_text("law")
        await expect(page.locator(".ranking li").first).to_contain_text("measured gain 0.25 accuracy")
        await expect(page.locator(".ranking li").first).to_contain_text("chosen")
        await expect(page.locator(".ranking li").first).not_to_contain_text("standard deviations")
        await page.get_by_label("Prompt", exact=True).fill("the quick brown fox")
        await page.get_by_label("up to").fill("12")
        await page.get_by_role("button", name="Answer").click()
        answers = page.locator(".answers .answer")
        await expect(answers).to_have_count(2)
        for place, model in enumerate(("law@", BASE_NAME)):
            await expect(answers.nth(place)).to_contain_text("done")
            await expect(answers.nth(place).locator("code")).to_contain_text(model)
            await expect(answers.nth(place).locator(".stream")).not_to_be_empty()
        streams = [await answers.nth(place).locator(".stream").inner_text() for place in (0, 1)]
        assert streams[0] != streams[1]
        await page.get_by_role("button", name="Answer").click()
        await expect(answers.nth(0)).to_contain_text("done")
        assert await answers.nth(0).locator(".stream").inner_text() == streams[0]


async def test_what_does_not_fit_is_folded(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await find(page, sentences("law"))
        folded, last = page.locator("summary"), page.locator(".ranking li").last
        await expect(folded).to_have_text("2 more that do not fit")
        await expect(last).to_be_hidden()
        await folded.press("Enter")
        await expect(last).to_be_visible()
        await expect(last).to_contain_text("does not fit")
        distances = await page.locator(".ranking dt:has-text('Distance') + dd").all_inner_texts()
        assert len(distances) == 3
        assert distances == sorted(distances)
        await last.get_by_role("link").click()
        await page.go_back()
        await expect(last).to_be_visible()
        await find(page, FOREIGN)
        await expect(folded).to_have_text("3 that do not fit")
        await expect(page.locator(".ranking li").first).to_be_visible()


async def test_an_expectation_says_above_what(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page

        async def measured(route: Route) -> None:
            ranking = await (await route.fetch()).json()
            ranking["ranked"][0] |= {"measured": 1.5, "expected": 0.334}
            await route.fulfill(json=ranking)

        await page.route("**/search?*", measured)
        await page.goto(url)
        await find(page, sentences("law"))
        said = "0.33 standard deviations above the average of the learnwares measured on tasks like this"
        await expect(page.locator(".ranking li").first).to_contain_text(said)
        await expect(page.locator(".ranking li").last).not_to_contain_text("standard deviations")


async def test_what_was_found_is_there_again_after_going_back(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await find(page, sentences("law"))
        await page.locator(".ranking").get_by_role("link", name="law").click()
        await expect(page.get_by_role("heading", name="How to call it")).to_be_visible()
        await page.go_back()
        await expect(page.locator(".verdict.fits")).to_contain_text("law fits")
        assert sentences("law")[0] in await page.get_by_label("Prompts as the model").input_value()


async def test_a_dropped_list_in_json_is_taken_as_examples(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        dropped = await page.evaluate_handle(
            """(text) => {
                const held = new DataTransfer();
                held.items.add(new File([text], "task.json"));
                return held;
            }""",
            json.dumps([{"text": text} for text in sentences("cooking")], indent=1),
        )
        await page.get_by_text("… or drop a file").dispatch_event("drop", {"dataTransfer": dropped})
        await page.get_by_role("button", name="Find the model").click()
        await expect(page.locator(".verdict.fits")).to_contain_text("cooking fits")


async def test_what_fits_and_cannot_answer_here_is_not_called_unfit(
    browser: Browser, url: str, own_dock: TinyDock
) -> None:
    with standing_on(own_dock, "law", "another-base"):
        async with visiting(browser, url) as visit:
            await visit.page.goto(url)
            await find(visit.page, sentences("law"))
            await expect(visit.page.locator(".verdict.none")).to_contain_text("law fits, but cannot answer here")
            await expect(visit.page.locator(".won")).to_have_count(0)


async def test_a_stopped_answer_stays_as_it_is(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await find(page, sentences("cooking"))
        await page.get_by_label("Prompt", exact=True).fill("the quick brown fox")
        # Never answered, so that it is the button alone that can end them.
        await page.route("**/v1/chat/completions", lambda route: None)
        await page.get_by_role("button", name="Answer").click()
        for place in (0, 1):
            answer = page.locator(".answers .answer").nth(place)
            await answer.get_by_role("button", name="Stop").click()
            await expect(answer).to_contain_text("stopped")


async def test_a_sketch_from_elsewhere_is_ranked(
    browser: Browser, url: str, tmp_path: Path, encoder: SentenceEncoder
) -> None:
    file = tmp_path / "task.safetensors"
    file.write_bytes(specify(sentences("space"), encoder, calibrated=False).to_bytes())
    async with visiting(browser, url) as visit:
        await visit.page.goto(url)
        await visit.page.get_by_label("Drop the sketch here").set_input_files(file)
        await expect(visit.page.locator(".ranking h3").first).to_have_text("space")


async def test_what_does_not_work_is_said(browser: Browser, url: str, tmp_path: Path) -> None:
    bad = tmp_path / "task.safetensors"
    bad.write_bytes(b"this is no specification")
    async with visiting(browser, url, refusals=True) as visit:
        page = visit.page
        await page.goto(url)
        await page.get_by_label("Drop the sketch here").set_input_files(bad)
        await expect(page.get_by_role("alert")).to_contain_text("specification")
        await find(page, ['{"text": "one"}', '{"prose": "two"}'])
        await expect(page.get_by_role("alert")).to_contain_text("examples, line 2: no field 'text'")
        await find(page, FOREIGN)
        await expect(page.locator(".verdict.none")).to_contain_text("None fits")
        await expect(page.get_by_role("alert")).to_have_count(0)
        await expect(page.locator(".won")).to_have_count(0)
        await visit.to("learnware/nobody")
        await expect(page.get_by_role("alert")).to_contain_text("no learnware 'nobody'")


async def test_a_key_that_lacks_a_role_is_told_so(browser: Browser, locked_url: str, keys: KeyStore) -> None:
    made = keys.create_key(KeyRequest(name="server", roles=("serve",)))
    async with visiting(browser, locked_url, refusals=True) as visit:
        page = visit.page
        await page.goto(f"{locked_url}/#/catalogue")
        await page.get_by_label("API key", exact=True).locator("input").fill(made.secret)
        await page.get_by_role("button", name="Use this key").click()
        refusal = page.get_by_role("alert").filter(has_text="needs a key with the role search").first
        await refusal.get_by_role("button", name="Use another key").click()
        await expect(page.get_by_label("API key", exact=True).locator("input")).to_be_focused()
        await page.get_by_role("link", name="Find").click()
        await find(page, sentences("law"))
        await expect(page.locator(".verdict.fits")).to_contain_text(
            "law fits: your texts look like those it was made for (fit"
        )
        await expect(page.locator("main")).to_contain_text("The whole list needs a key with the role search")


async def test_a_key_is_asked_for_and_kept_in_this_tab_alone(
    browser: Browser, locked_url: str, keys: KeyStore
) -> None:
    made = keys.create_key(KeyRequest(name="visitor", roles=("search", "serve")))
    async with visiting(browser, locked_url, refusals=True) as visit:
        page = visit.page
        await page.goto(f"{locked_url}/#/catalogue")
        field = page.get_by_label("API key", exact=True).locator("input")
        await expect(page.get_by_role("alert")).to_contain_text("asks for an API key")
        await field.fill("sk-dock-wrong")
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.locator(".key").get_by_role("alert")).to_be_visible()
        await field.fill(made.secret)
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.locator(".cards li")).to_have_count(3)
        await page.reload()
        await expect(page.locator(".cards li")).to_have_count(3)
        assert await page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        second = await page.context.new_page()
        await second.goto(locked_url)
        await expect(second.get_by_role("alert")).to_contain_text("asks for an API key")


async def test_the_catalogue_is_searched_and_filtered(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await visit.to("catalogue")
        entries = page.locator(".cards li")
        await expect(page.locator(".cards h2")).to_have_text(["cooking", "law", "space"])
        await page.get_by_role("group", name="Domain").get_by_label("law").check()
        await expect(entries).to_have_count(1)
        await page.get_by_role("group", name="Domain").get_by_label("law").uncheck()
        await page.get_by_label("Search the catalogue").fill("rocket in space")
        await expect(page.locator(".cards h2").first).to_have_text("space")
        await page.get_by_label("Search the catalogue").fill("")
        await page.get_by_role("group", name="State").get_by_label("published").uncheck()
        await page.get_by_label("Sort by").select_option("newest")
        await expect(entries.first).to_contain_text("version 1")


async def test_a_card_is_text_whatever_it_holds(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await visit.to("catalogue")
        await page.get_by_role("link", name="space").click()
        await expect(page.locator(".lead")).to_have_text(HOSTILE)
        await expect(page.locator("main img, main script")).to_have_count(0)
        await expect(page).to_have_title("Learnware – SLM Dock")
        await expect(page.locator("main")).to_contain_text("measured", ignore_case=True)
        await expect(page.get_by_label("curl command", exact=True)).to_contain_text("space@")
        await expect(page.get_by_role("heading", name="History").locator("..")).to_contain_text("published")


async def test_the_task_is_on_the_map_among_the_learnwares(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await find(page, sentences("law"))
        await page.get_by_role("link", name="See your task on the map").click()
        await visit.settle("Map")
        chart = page.locator("canvas")
        exact = page.get_by_role("heading", name="compared exactly").locator("+ ol li")
        await expect(exact).to_have_text(["law", "cooking", "space"], use_inner_text=True)
        await expect(page.locator("main")).to_contain_text("3 of 3 learnwares")
        middle = page.get_by_role("heading", name="In the middle of the view").locator("+ ul li")
        await page.get_by_role("button", name="Your task").click()
        await expect(middle.first).to_have_text("law")
        await page.get_by_role("button", name="law 1").click()
        await expect(page.locator("main")).to_contain_text("2 of 3 learnwares")
        await expect(middle).to_have_count(2)
        await page.get_by_role("button", name="law 1").click()
        await page.get_by_label("Highlight by name").fill("spa")
        await expect(page.locator("main")).to_contain_text("1 of 3 learnwares")
        await page.get_by_label("Highlight by name").fill("")
        await chart.focus()
        before = await chart.screenshot()
        await page.keyboard.press("+")
        await page.keyboard.press("ArrowLeft")
        await page.wait_for_timeout(100)
        assert await chart.screenshot() != before
        await page.get_by_role("button", name="Your task").click()
        box = await chart.bounding_box()
        assert box is not None
        # The task's sketch is law's own, so that its point lies in the middle now.
        await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("law")


async def test_no_label_on_the_map_lies_on_another_nor_on_a_point(browser: Browser, url: str) -> None:
    names = [f"{domain}-{kind}" for domain in ("finance", "healthcare", "mathematics") for kind in KINDS]
    side = 65_535
    # All around the task, in a hundredth of the map.
    places = [(side // 2 + 900 * (i % 4), side // 2 + 700 * (i // 4)) for i in range(len(names))]
    crowd = {
        "references": [f"{name}@1" for name in names], "domains": ["law"], "domain": [0] * len(names),
        "x": [x for x, _ in places], "y": [y for _, y in places], "published": len(names),
    }  # fmt: skip

    async def the_map(route: Route) -> None:
        here = {"x": side // 2, "y": side // 2}
        await route.fulfill(json=here if route.request.method == "POST" else crowd)

    async def ranked(route: Route) -> None:
        ranking = await (await route.fetch()).json()
        one = ranking["ranked"][0]
        learnwares = [one["learnware"] | {"name": name, "version": 1, "id": name} for name in names[:10]]
        await route.fulfill(json=ranking | {"ranked": [one | {"learnware": each} for each in learnwares]})

    async with visiting(browser, url) as visit:
        page = visit.page
        await page.add_init_script(NOTED)
        await page.route("**/v1/map", the_map)
        await page.route("**/search?*", ranked)
        await page.goto(url)
        await find(page, sentences("law"))
        await page.get_by_role("link", name="See your task on the map").click()
        await expect(page.locator("main")).to_contain_text("Ringed: the first 4 that Find lists for your task")
        for step in ("0", "+", "+", "+", "ArrowRight", "Your task"):
            button = page.get_by_role("button", name=step)
            await (button.click() if step == "Your task" else page.locator("canvas").press(step))
            await page.wait_for_timeout(100)
            drawn = await page.evaluate("window.drawn")
            assert len(drawn["rings"]) == 4
            boxes = [label["box"] for label in drawn["labels"]]
            assert "your task" in [label["text"] for label in drawn["labels"]]
            pairs = [(one, other) for i, one in enumerate(boxes) for other in boxes[:i]]
            assert not [pair for pair in pairs if overlap(*pair)]
            assert not [(x, y) for x, y in drawn["rings"] for box in boxes if overlap(box, (x, y, x, y))]
        # Where there is room all that have a name show it.
        assert len(boxes) == 4


async def test_retired_learnwares_are_searched_where_they_are_asked_for(
    browser: Browser, url: str, own_dock: TinyDock
) -> None:
    move(own_dock, "space", "retired")
    try:
        async with visiting(browser, url) as visit:
            page, entries = visit.page, visit.page.locator(".cards h2")
            await visit.to("catalogue")
            await expect(entries).to_have_text(["cooking", "law"])
            await page.get_by_label("Search the catalogue").fill("questions about law")
            await expect(page.get_by_role("group", name="Domain").get_by_label("law")).to_be_visible()
            await expect(page.get_by_role("group", name="Domain").locator("label")).to_have_count(2)
            await page.get_by_role("group", name="State").get_by_label("published").uncheck()
            await page.get_by_label("Search the catalogue").fill("")
            await page.get_by_role("group", name="State").get_by_label("retired").check()
            await page.get_by_label("Search the catalogue").fill("bold")
            await expect(entries).to_have_text(["space"])
            await page.get_by_role("link", name="space").click()
            await expect(page.locator(".notice")).to_contain_text("It is retired, and answers nobody")
    finally:
        move(own_dock, "space", "published")


async def test_the_map_looks_again_for_what_came_in_since(browser: Browser, url: str) -> None:
    told: list[object] = []

    async def older(route: Route) -> None:
        response = await route.fetch()
        found = await response.json()
        if "references" in found and not told:
            gone = found["references"].index("law@1")
            for column in ("references", "domain", "x", "y"):
                del found[column][gone]
            told.append(found)
        await route.fulfill(json=found)

    async with visiting(browser, url) as visit:
        page = visit.page
        await page.goto(url)
        await find(page, sentences("law"))
        await page.route("**/v1/map", older)
        await page.get_by_role("link", name="See your task on the map").click()
        await expect(page.locator("main")).to_contain_text("3 of 3 learnwares")
        await page.wait_for_timeout(500)
        assert told
        assert await page.evaluate(
            "(({ width, height }, of) => of.getImageData(0, 0, width, height).data.some((each) => each))"
            "(document.querySelector('canvas'), document.querySelector('canvas').getContext('2d'))"
        )


async def test_the_last_minute_is_shown(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        await visit.to("live")
        await expect(visit.page.locator(".tile")).to_have_count(5)
        await expect(visit.page.locator("table").first).to_be_visible()
        await expect(visit.page.locator("main")).to_contain_text(BASE_NAME)
        async with httpx.AsyncClient(timeout=WAIT_MS / 1000, trust_env=False) as client:
            body = {"model": BASE_NAME, "prompt": "the quick brown fox", "max_tokens": 12, "ignore_eos": True}
            (await client.post(f"{url}/v1/completions", json=body)).raise_for_status()
        tokens = visit.page.locator(".tile", has_text="Tokens a second")
        await expect(tokens.locator(".big")).to_have_text(re.compile(r"^0\.\d|^[1-9]"))
        # However few looks there are, the curve goes over the whole width.
        whole = re.compile(r"^0,.* 100,\S+$")
        await expect(tokens.locator("polyline")).to_have_attribute("points", whole)


async def test_an_adapter_is_submitted_and_a_bad_one_refused(
    browser: Browser, url: str, base: Path, tmp_path: Path
) -> None:
    folder = build_adapter(base, tmp_path / "new", seed=77)
    examples, bad = tmp_path / "examples.jsonl", tmp_path / "bad" / WEIGHTS_FILE
    texts = [f"Which tax does the shop owe for order {number}?" for number in range(24)]
    examples.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text("\n".join(json.dumps({"text": text, "answer": text[-2]}) for text in texts))
    bad.parent.mkdir()
    bad.write_bytes(b"no weights")
    async with visiting(browser, url, refusals=True) as visit:
        page = visit.page
        await visit.to("submit")
        submit = page.get_by_role("button", name="Submit")
        await expect(submit).to_be_disabled()
        await page.get_by_label("Adapter files").set_input_files([folder / CONFIG_FILE, bad])
        await page.get_by_label("… or examples").set_input_files(examples)
        await page.get_by_label("Name", exact=True).fill("taxes")
        await submit.click()
        await expect(page.get_by_role("alert")).to_contain_text(WEIGHTS_FILE)
        await page.get_by_label("Adapter files").set_input_files([folder / WEIGHTS_FILE])
        await page.get_by_label("Base model").fill("no-such-base")
        await submit.click()
        await expect(page.get_by_role("alert")).to_contain_text("'no-such-base' is not known to this dock")
        await page.get_by_label("Base model").fill("")
        await page.get_by_label("Tags").fill("tax, shop")
        await page.get_by_label("not trained on").set_input_files(held_out)
        await submit.click()
        await expect(page.locator("main")).to_contain_text("Verification by running: waiting; this dock does none")
        await page.get_by_role("link", name="taxes, version 1").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("taxes")
        await expect(page.locator("main")).to_contain_text("tax, shop")
        await visit.to("submit")
        await page.get_by_label("Adapter files").set_input_files([folder / CONFIG_FILE, folder / WEIGHTS_FILE])
        await page.get_by_label("… or examples").set_input_files(examples)
        await page.get_by_label("Name", exact=True).fill("duties")
        await submit.click()
        await expect(page.get_by_role("alert")).to_contain_text("the same content is in already as taxes")
        await page.get_by_label("If it is in under another name").check()
        await submit.click()
        await expect(page.get_by_role("link", name="duties, version 1")).to_be_visible()


async def test_every_page_by_keyboard_and_on_a_small_screen(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as visit:
        page = visit.page
        await page.set_viewport_size({"width": 390, "height": 800})
        for name in PAGES:
            await visit.to(name)
            await visit.settle("")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, name
            assert await page.evaluate(UNNAMED) == [], name
        await page.reload()
        await visit.settle("Submit")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        for name in ("SLM Dock", "Find", "Catalogue"):
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("link", name=name)).to_be_focused()
            assert await page.evaluate(outline) == "solid"
        await page.keyboard.press("Enter")
        await visit.settle("Catalogue")
