import os
from pathlib import Path

import pytest

from indexer import AdapterStore
from specification.errors import InvalidInput, NotFound

ID = "ab" * 32
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path)


def test_put_find_delete(store: AdapterStore) -> None:
    assert store.put(ID, FILES)
    assert not store.put(ID, FILES)
    assert {path.name: path.read_bytes() for path in store.path_of(ID).iterdir()} == FILES
    assert store.by_prefix(ID[:16]) == store.path_of(ID)
    assert list(store.ids()) == [ID]
    store.delete(ID)
    assert store.by_prefix(ID[:16]) is None
    with pytest.raises(NotFound):
        store.path_of(ID)


@pytest.mark.parametrize("id", ["", "..", "../../etc/passwd", "AB" * 32, "ab" * 31 + "/x", ID + "\n", ID[:16]])
def test_nothing_but_an_id_names_an_adapter(store: AdapterStore, id: str) -> None:
    with pytest.raises(InvalidInput):
        store.path_of(id)
    with pytest.raises(InvalidInput):
        store.put(id, FILES)


@pytest.mark.parametrize("prefix", ["ab", "../../../../../../", "ab" * 7 + "a/", "AB" * 8])
def test_nothing_but_hex_digits_is_a_prefix(store: AdapterStore, prefix: str) -> None:
    with pytest.raises(InvalidInput):
        store.by_prefix(prefix)


def test_an_ambiguous_prefix_or_a_link_names_nothing(store: AdapterStore, tmp_path: Path) -> None:
    store.put(ID, FILES)
    store.put(ID[:-1] + "0", FILES)
    assert store.by_prefix(ID[:16]) is None
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / ("cd" * 32)).symlink_to(tmp_path)
    assert store.by_prefix("cd" * 8) is None


def test_a_failed_put_leaves_nothing(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(ID, FILES | {"no/such/folder": b""})
    assert list(store.ids()) == []
    assert not list(tmp_path.glob(".incoming-*"))


def test_sweep_removes_what_a_crash_left_and_nothing_that_is_being_written(
    store: AdapterStore, tmp_path: Path
) -> None:
    (tmp_path / ".incoming-old").mkdir()
    os.utime(tmp_path / ".incoming-old", (0, 0))
    (tmp_path / ".incoming-new").mkdir()
    store.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [".incoming-new"]


def test_an_incomplete_adapter_is_put_anew(store: AdapterStore) -> None:
    store.put(ID, FILES)
    (store.path_of(ID) / "adapter_config.json").unlink()
    assert store.put(ID, FILES)
    assert {path.name: path.read_bytes() for path in store.path_of(ID).iterdir()} == FILES
