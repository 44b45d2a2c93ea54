"""The console's map: how long it takes to lay out, whether neighbours stay neighbours, and frames in a browser.

    python -m benchmarks.map [--size 1000 …] [--data DIR] [--folder DIR]

Learnwares are drawn (see ``benchmarks.drawn``). Judge: of the ten nearest learnwares by the vectors themselves,
how many are among the hundred nearest on the map; beside it the first two principal components. Then a headless
Chromium, if there is one, drags and zooms the map for a few seconds and counts frames.
"""

import argparse
import asyncio
import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from playwright.async_api import Page, async_playwright

from benchmarks.catalogue_data import arguments, rows, source, tags_of
from benchmarks.drawn import Drawn
from benchmarks.report import finish, progress_bar, resident, table
from catalogue import CatalogueSettings, EdgeCatalogue
from retriever.live_map import MOST, CatalogueMap, LiveMap
from serving import console_routes, map_routes
from specification import SentenceEncoder
from specification.kernel import Floats

JUDGED = 300
TRUE, NEAR = 10, 100
BATCH = 2000
SECONDS = 5.0
FRAMES = """(seconds) => new Promise((done) => {
    const started = performance.now(), times = [];
    const frame = (now) => { times.push(now);
        now - started < 1000 * seconds ? requestAnimationFrame(frame) : done(times); };
    requestAnimationFrame(frame);
})"""


def main() -> None:
    options = arguments(__doc__, 1000, 10_000, 100_000).parse_args()
    drawer, words = source(options.data, options.seed)
    results: dict[str, Any] = {"texts": words}
    for size in options.size:
        if size > MOST:
            raise SystemExit(f"--size {size}: the map shows at most {MOST}")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            drawn = drawer.draw(size, np.random.default_rng((options.seed, size)))
            results[str(size)] = _measured(drawn, Path(folder), options)
    _show(results)
    finish("map", results)


def _measured(drawn: Drawn, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    encoder = SentenceEncoder().identity
    with EdgeCatalogue.open(folder / "catalogue", CatalogueSettings.of(encoder)) as catalogue:
        with progress_bar("loading", "learnwares") as progress:
            waiting = list(rows(drawn, encoder, tags_of(len(drawn), options.seed), options.seed))
            for start in range(0, len(waiting), BATCH):
                catalogue.load(waiting[start : start + BATCH])
                progress(min(start + BATCH, len(waiting)), len(waiting))
        catalogue.settle()
        live, before, started = LiveMap(catalogue), resident(), time.perf_counter()
        live.refresh()
        seconds, memory = time.perf_counter() - started, resident() - before
        made = live.current()
        assert made is not None
        by_id = {row.learnware.reference: place for place, row in enumerate(waiting)}
        order = [by_id[reference] for reference in made.columns.references]
        vectors = made.feature_map.embed([drawn.reduced(place) for place in order])
        figures = {"seconds": seconds, "gigabytes": memory, "bytes": len(made.json)} | _kept(made, vectors)
        return figures | (asyncio.run(_frames(live)) if shutil.which("chromium") else {})


def _kept(made: CatalogueMap, vectors: Floats) -> dict[str, float]:
    """The share of true neighbours that are near on the map, and on the first two principal components."""
    asked = np.random.default_rng(0).choice(len(vectors), min(JUDGED, len(vectors)), replace=False)
    true = _nearest(vectors, asked, TRUE)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    planes = {"map": np.array([made.columns.x, made.columns.y]).T, "components": centred @ axes[:, -2:]}
    return {name: _share(true, _nearest(plane.astype(np.float64), asked, NEAR)) for name, plane in planes.items()}


def _share(true: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]))


def _nearest(vectors: NDArray[Any], asked: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    squares = np.square(vectors).sum(axis=1)
    distances = squares[asked, None] + squares - 2 * vectors[asked] @ vectors.T
    distances[np.arange(len(asked)), asked] = np.inf
    found: NDArray[np.int64] = np.argpartition(distances, count, axis=1)[:, :count]
    return found


async def _frames(live: LiveMap) -> dict[str, float]:
    """Frames a second while the map is dragged and zoomed, and the longest wait for one in ms."""
    app = FastAPI()
    app.include_router(console_routes.router)
    app.include_router(map_routes.router)
    app.state.parts = SimpleNamespace(map=live, keys=None)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.goto(f"http://127.0.0.1:{port}/#/map")
        await page.locator("canvas").wait_for()
        await page.wait_for_timeout(1000)
        still = await page.evaluate(FRAMES, SECONDS)
        counting = asyncio.create_task(page.evaluate(FRAMES, SECONDS))
        before = await page.locator("canvas").screenshot()
        await _move(page)
        times = await counting
        if await page.locator("canvas").screenshot() == before:
            raise RuntimeError("the map did not move")
        await browser.close()
    server.should_exit = True
    return {
        "frames": len(times) / SECONDS,
        "longest": float(np.diff(times).max()),
        "still": len(still) / SECONDS,
    }


async def _move(page: Page) -> None:
    """Drags in circles and turns the wheel for as long as frames are counted."""
    box = await page.locator("canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        await page.mouse.move(x, y)
        await page.mouse.down()
        for step in range(24):
            turn = 2 * np.pi * step / 24
            await page.mouse.move(x + 120 * np.cos(turn), y + 120 * np.sin(turn))
        await page.mouse.up()
        for delta in (-200, -200, 200, 200):
            await page.mouse.wheel(0, delta)


def _show(results: dict[str, Any]) -> None:
    sizes = [name for name in results if name.isdigit()]
    fields = ("seconds", "gigabytes", "bytes", "map", "components", "frames", "longest", "still")
    table(
        "the map",
        [
            "learnwares",
            "s",
            "GB",
            "bytes sent",
            "neighbours kept",
            "by components",
            "frames/s",
            "longest ms",
            "at rest/s",
        ],
        [[size, *(results[size].get(field) for field in fields)] for size in sizes],
    )


if __name__ == "__main__":
    main()
