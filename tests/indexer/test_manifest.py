"""Reading manifests of ready learnwares: rows in batches, and what is refused before it is judged."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.manifests import write_lines, write_parquet
from indexer import is_ready_manifest, manifest
from indexer.manifest import Item, ReadyRow, Refusal, open_manifest
from specification.errors import InvalidInput


def fields(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:064x}", "name": f"learnware-{number}", "base_model": "base", "rank": 8,
        "adapter_bytes": 1000, "tags": ["a", "b"],
    }  # fmt: skip


def file_of(number: int) -> bytes:
    return b"specification %d" % number


def with_paths(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows whose files lie in the folder and in one below it."""
    (folder / "below").mkdir()
    rows = []
    for number in range(count):
        path = f"below/{number}.safetensors" if number % 2 else f"{number}.safetensors"
        (folder / path).write_bytes(file_of(number))
        rows.append({**fields(number), "specification": path})
    return rows


def read(source: Path) -> list[Item]:
    return [item for batch in open_manifest(source).batches for item in batch]


def reasons(source: Path) -> dict[int, str]:
    return {item.number: item.reason for item in read(source) if isinstance(item, Refusal)}


def test_all_kinds_of_manifests_say_the_same(tmp_path: Path) -> None:
    rows = with_paths(tmp_path, 5)
    write_lines(tmp_path / "lines.jsonl", rows)
    write_parquet(tmp_path / "paths.parquet", rows)
    write_parquet(
        tmp_path / "files.parquet", [{**fields(each), "specification": file_of(each)} for each in range(5)]
    )
    expected = [ReadyRow(each + 1, fields(each), file_of(each)) for each in range(5)]
    for name in ("lines.jsonl", "paths.parquet", "files.parquet"):
        assert read(tmp_path / name) == expected
    assert open_manifest(tmp_path / "lines.jsonl").label(3) == "lines.jsonl, line 3"
    assert open_manifest(tmp_path / "files.parquet").label(3) == "files.parquet, row 3"
    assert open_manifest(tmp_path / "files.parquet").total == 5


def test_empty_cells_and_nulls_are_absent(tmp_path: Path) -> None:
    row = {**fields(0), "version": None, "domain": None, "specification": b"x"}
    write_parquet(tmp_path / "rows.parquet", [row])
    assert read(tmp_path / "rows.parquet") == [ReadyRow(1, fields(0), b"x")]
    (tmp_path / "0").write_bytes(b"x")
    write_lines(tmp_path / "rows.jsonl", [{**row, "specification": "0"}])
    assert read(tmp_path / "rows.jsonl") == [ReadyRow(1, fields(0), b"x")]


def test_batches_end_at_a_number_of_rows_or_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "rows.jsonl", with_paths(tmp_path, 7))
    monkeypatch.setattr(manifest, "BATCH_ROWS", 3)
    assert [len(batch) for batch in open_manifest(tmp_path / "rows.jsonl").batches] == [3, 3, 1]
    monkeypatch.setattr(manifest, "BATCH_BYTES", 2 * len(file_of(0)))
    assert [len(batch) for batch in open_manifest(tmp_path / "rows.jsonl").batches] == [2, 2, 2, 1]


def test_large_rows_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row group of any size takes the memory of a page and a slice."""
    rows = [{**fields(each), "specification": os.urandom(2**12)} for each in range(2**13)]
    write_parquet(tmp_path / "rows.parquet", rows)
    monkeypatch.setattr(manifest, "BATCH_BYTES", 2**16)
    seen: list[int] = []
    original = manifest._fields

    def noting(piece: pyarrow.RecordBatch) -> Iterator[dict[str, Any]]:
        seen.append(len(piece))
        assert pyarrow.total_allocated_bytes() < 2**24
        return original(piece)

    monkeypatch.setattr(manifest, "_fields", noting)
    assert len(read(tmp_path / "rows.parquet")) == 2**13
    assert max(seen) <= 16


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../outside", "not inside the manifest's folder"),
        ("below/../../outside", "not inside the manifest's folder"),
        ("/etc/hostname", "not inside the manifest's folder"),
        ("out/secret", "not inside the manifest's folder"),
        ("link", "links are not followed"),
        ("below", "not a regular file"),
        ("pipe", "not a regular file"),
        ("", "not a regular file"),
        ("none", "No such file"),
        ("nul\0byte", "is no path"),
        ("\ud800", "is no path"),
        ("x" * 5000, "File name too long"),
        ("large", "the limit is"),
        (7, "must be the path"),
        (["0"], "must be the path"),
        (None, "must be the path"),
    ],
)
def test_a_path_leads_to_a_file_inside_the_folder_or_nowhere(tmp_path: Path, path: object, message: str) -> None:
    folder = tmp_path / "manifest"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("wb") as large:
        large.truncate(2**30)
    rows = with_paths(folder, 2)
    write_lines(folder / "rows.jsonl", [rows[0], {**fields(1), "specification": path}, rows[1]])
    found = reasons(folder / "rows.jsonl")
    assert list(found) == [2]
    assert message in found[2]
    assert len(found[2]) < 400


def test_a_link_to_the_manifest_s_folder_is_no_way_out_but_links_inside_are_resolved(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    rows = with_paths(folder, 2)
    (folder / "alias").symlink_to(folder / "below")
    write_lines(folder / "rows.jsonl", [rows[0], {**rows[1], "specification": "alias/1.safetensors"}])
    (tmp_path / "linked").symlink_to(folder)
    assert len(read(tmp_path / "linked" / "rows.jsonl")) == 2
    assert not reasons(tmp_path / "linked" / "rows.jsonl")


def test_lines_that_cannot_be_read_are_refused_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_MANIFEST_LINE", 300)
    row = json.dumps(with_paths(tmp_path, 1)[0])
    lines = [
        "\ufeff" + row,
        "",
        "not json",
        "[1]",
        " ",
        "[" * 290,
        "x" * 1000,
        '{"name": "a", "adapter": "b"}',
        row,
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    items = read(tmp_path / "rows.jsonl")
    assert [item.number for item in items] == [1, 3, 4, 6, 7, 8, 9]
    found = reasons(tmp_path / "rows.jsonl")
    assert list(found) == [3, 4, 6, 7, 8]
    assert "'adapter' in a manifest of ready learnwares" in found[8]
    assert all("not a JSON object" in found[number] for number in (3, 4, 6, 7))
    (tmp_path / "bytes.jsonl").write_bytes(b'{"id": "\xff\xfe"}\n')
    assert "not a JSON object" in reasons(tmp_path / "bytes.jsonl")[1]


def write_columns(file: Path, columns: Mapping[str, Sequence[Any] | pyarrow.Array]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), file)
    return file


def test_text_that_is_no_utf8_is_a_value_that_no_field_takes(tmp_path: Path) -> None:
    broken = pyarrow.array([b"good", b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())
    columns = {name: [value, value] for name, value in fields(0).items()}
    file = write_columns(tmp_path / "r.parquet", {**columns, "domain": broken, "specification": [b"x", b"y"]})
    first, second = read(file)
    assert isinstance(first, ReadyRow)
    assert isinstance(second, ReadyRow)
    assert first.fields["domain"] == "good"
    assert second.fields["domain"] == manifest.NOT_TEXT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "columns missing: id;"),
        ({"specification": None, "rank": None}, "columns missing: rank, specification;"),
        ({"colour": ["red"]}, "not known or twice: colour;"),
        ({"status": ["retired"]}, "not known or twice: status;"),
    ],
)
def test_columns_are_checked_before_any_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns = {**{name: [value] for name, value in fields(0).items()}, "specification": [b"x"], **change}
    kept = {name: values for name, values in columns.items() if values is not None}
    with pytest.raises(InvalidInput, match=message):
        open_manifest(write_columns(tmp_path / "rows.parquet", kept))


def test_what_is_no_parquet_file_is_refused_and_a_damaged_one_is_read_up_to_there(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("other", b"PAR1 but not really, for a while PAR1")):
        (tmp_path / f"{name}.parquet").write_bytes(data)
        with pytest.raises(InvalidInput, match=f"{name}.parquet: not a Parquet file"):
            open_manifest(tmp_path / f"{name}.parquet")
    with pytest.raises(InvalidInput, match=r"no-such.parquet: cannot be read"):
        open_manifest(tmp_path / "no-such.parquet")
    none = pyarrow.table({name: [] for name in (*fields(0), "specification")})
    pyarrow.parquet.write_table(none, tmp_path / "none.parquet")
    with pytest.raises(InvalidInput, match=r"none.parquet: .* no learnware"):
        open_manifest(tmp_path / "none.parquet")
    file = tmp_path / "rows.parquet"
    rows = [{**fields(each), "specification": os.urandom(20_000)} for each in range(300)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.manifests.ROWS", 100)
        write_parquet(file, rows)
    damaged = bytearray(file.read_bytes())
    page = pyarrow.parquet.ParquetFile(file).metadata.row_group(1).column(6).data_page_offset
    damaged[page : page + 64] = b"\xff" * 64
    file.write_bytes(damaged)
    items = read(file)
    assert isinstance(items[-1], Refusal)
    assert "damaged here" in items[-1].reason
    assert 1 <= items[-1].number <= 201
    assert all(isinstance(item, ReadyRow) for item in items[:-1])


def test_ready_manifests_are_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "ready.jsonl").write_text('\nnot json\n[]\n{"id": "x"}\n{"adapter": "y"}\n')
    (tmp_path / "adapters.jsonl").write_text('{"name": "a", "adapter": "b"}\n{"id": "x"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    told = {name: is_ready_manifest(tmp_path / name) for name in (
        "ready.jsonl", "adapters.jsonl", "empty.jsonl", "folder", "none", "none.parquet",
    )}  # fmt: skip
    assert [name for name, ready in told.items() if ready] == ["ready.jsonl", "none.parquet"]
