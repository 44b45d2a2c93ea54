"""The history: what is written comes back in order, is bounded, and trouble with its file is said clearly."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer import Change, History
from indexer.history import MAX_WHY, Event, as_reason, require_reason, system_user
from specification.errors import HistoryUnavailable, InvalidInput

ID, OTHER = "a" * 64, "b" * 64


def change(state: Event = "published", id: str = ID, version: int | None = 1, name: str = "law") -> Change:
    return Change(learnware=id, name=name, version=version, state=state, who="somebody", when=1.5, why="ü")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


def test_changes_come_back_newest_first_and_page_by_page(history: History) -> None:
    assert history.changes() == []
    assert history.last_version("law") == 0
    assert not history.path.exists()
    written = [change("submitted"), change("checked"), change("published"), change("retired")]
    history.add(written[:3])
    history.add(written[3:])
    found = History(history.path).changes()
    assert [one.model_copy(update={"number": 0}) for one in found] == written[::-1]
    assert [one.number for one in found] == [4, 3, 2, 1]
    assert history.changes(limit=2) == found[:2]
    assert history.changes(limit=2, before=found[1].number) == found[2:]


def test_a_learnware_s_changes_are_found_by_whatever_names_it(history: History) -> None:
    history.add([change(), change(id=OTHER, version=2), change(id=OTHER, version=11, name="space")])
    counts = {"law": 2, "law@1": 1, f"law@{'b' * 16}": 1, OTHER: 2, "space@1": 0, "nobody": 0}
    assert {reference: len(history.changes(reference)) for reference in counts} == counts
    assert (history.last_version("law"), history.last_version("space")) == (2, 11)
    for wrong in ("a/b", "law@", "law@x y", "@1", "law@1\n", "\ud800", "law\n"):
        with pytest.raises(InvalidInput, match="is no learnware's name, name@version or id"):
            history.changes(wrong)


def test_refusals_are_bounded_and_push_out_nothing_else(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.history.KEPT_REFUSALS", 3)
    history.add([change()])
    for number in range(1, 6):
        history.add([change("refused", id="", version=None, name=f"x{number}")])
    assert [one.name for one in history.changes()] == ["x5", "x4", "x3", "law"]


@pytest.mark.parametrize("data", [b"no database at all, but text", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_named_with_the_cure(history: History, data: bytes) -> None:
    history.path.write_bytes(data)
    works: list[Callable[[], object]] = [
        lambda: history.add([change()]), history.changes, lambda: history.last_version("law")
    ]  # fmt: skip
    for work in works:
        with pytest.raises(HistoryUnavailable, match=r"history.sqlite: damaged; restore it .*, or move it away"):
            work()
    history.path.rename(history.path.with_name("away"))
    history.add([change()])
    assert len(history.changes()) == 1


def test_a_row_that_no_one_here_wrote_is_damage(history: History) -> None:
    history.add([change()])
    with sqlite3.connect(history.path) as connection:
        connection.execute("UPDATE change SET state = 'blessed'")
    connection.close()
    with pytest.raises(HistoryUnavailable, match="damaged"):
        history.changes()


def test_other_trouble_with_the_file(history: History, tmp_path: Path) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    for path in (tmp_path / "folder.sqlite", tmp_path / "nowhere" / "history.sqlite"):
        with pytest.raises(HistoryUnavailable, match="cannot be read or written"):
            History(path).add([change()])
    history.path.touch()
    assert history.changes() == []
    history.add([change()])
    with sqlite3.connect(history.path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(HistoryUnavailable, match="newer SLM Dock"):
        history.changes()


def test_a_batch_is_written_whole_or_not(history: History) -> None:
    history.add([change()])
    with sqlite3.connect(history.path) as connection:
        connection.execute("CREATE UNIQUE INDEX once ON change (name)")
    connection.close()
    with pytest.raises(HistoryUnavailable):
        history.add([change(name="new"), change()])
    assert [one.name for one in history.changes()] == ["law"]


def test_what_cannot_be_noted_is_logged_and_not_raised(history: History, caplog: pytest.LogCaptureFixture) -> None:
    history.path.mkdir()
    history.note([change("retired")])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "done, but not recorded in the history (law retired): " in record.getMessage()


def test_writers_at_once_lose_nothing(history: History) -> None:
    def write() -> None:
        for _ in range(10):
            history.add([change()])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.number for one in history.changes()] == list(range(40, 0, -1))


def test_reasons_are_limited() -> None:
    require_reason("x" * MAX_WHY)
    for wrong in ("x" * (MAX_WHY + 1), "\x1b[31m", "\ud800"):
        with pytest.raises(InvalidInput, match="why: "):
            require_reason(wrong)
        require_reason(as_reason(wrong))
    assert system_user()
