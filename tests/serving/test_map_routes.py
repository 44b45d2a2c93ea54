"""``/v1/map``: every published learnware's place, and a task's."""

import asyncio

import httpx

from retriever.live_map import SIDE, MapColumns
from tests.serving.conftest import Sketch, TinyDock


async def the_map(gateway: httpx.AsyncClient) -> MapColumns:
    for _ in range(400):
        answer = await gateway.get("/v1/map")
        if answer.status_code == 200:
            return MapColumns.model_validate_json(answer.content)
        assert answer.status_code == 202
        assert answer.json()["done"] >= 0
        await asyncio.sleep(0.02)
    raise AssertionError("no map came")


async def test_everybody_is_on_the_map_and_a_task_beside_its_learnware(
    gateway: httpx.AsyncClient, dock: TinyDock, sketch: Sketch
) -> None:
    found = await the_map(gateway)
    assert sorted(found.references) == sorted(each.reference for each in dock.indexer.catalogue.everything())
    task = await gateway.post("/v1/map", content=sketch("law").to_bytes())
    place = found.references.index("law@1")
    assert task.json() == {"x": found.x[place], "y": found.y[place]}
    assert 0 <= task.json()["x"] <= SIDE


async def test_what_is_no_sketch_is_refused(gateway: httpx.AsyncClient) -> None:
    refused = await gateway.post("/v1/map", content=b"this is none")
    assert refused.status_code == 400
    assert "specification" in refused.json()["error"]["message"]
