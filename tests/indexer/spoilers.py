"""Ways to spoil a parcel; each is, or returns, what does it. See ``parcels``."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from specification import PromptSection, PromptSketch, Specification
from specification.record import METADATA_KEY
from tests.indexer.parcels import Parcel, Spoil, safetensors_file, with_document, with_header
from tests.serving.tiny import BASE_NAME

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.file,)


def written(name: str, content: bytes | str) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda parcel: (parcel.folder / name).write_bytes(data)


def with_fields(file: str = CONFIG, /, **fields: object) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        config = json.loads((parcel.folder / file).read_text())
        (parcel.folder / file).write_text(json.dumps(config | fields))

    return spoil


def with_field_text(name: str, value: str, file: str = CONFIG) -> Spoil:
    """Adds a field whose value is written as it is."""

    def spoil(parcel: Parcel) -> None:
        text = (parcel.folder / file).read_text().rstrip().removesuffix("}")
        (parcel.folder / file).write_text(f'{text}, "{name}": {value}}}')

    return spoil


def with_weights_header(change: Callable[[dict[str, Any]], object], file: str = WEIGHTS) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        path = parcel.folder / file
        path.write_bytes(with_header(path.read_bytes(), change))

    return spoil


def one_tensor(name: str = A, **entry: object) -> Spoil:
    """Weights of one tensor of 8 bytes, with what its header says of it."""
    said = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry
    return written(WEIGHTS, safetensors_file({name: said}, bytes(8)))


def replaced(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        (parcel.folder / name).unlink(missing_ok=True)
        make(parcel.folder / name)

    return spoil


def pickled(file: str) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        (parcel.folder / WEIGHTS).unlink()
        (parcel.folder / file).write_bytes(pickle.dumps(Touch(parcel.root / "owned")))

    return spoil


def torch_archive(parcel: Parcel) -> None:
    torch.save({"touch": Touch(parcel.root / "owned")}, parcel.folder / WEIGHTS)


def zip_bomb(file: str) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        (parcel.folder / WEIGHTS).unlink()
        with zipfile.ZipFile(parcel.folder / file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../../owned", bytes(2**24))

    return spoil


def tiny_tensors(count: int, file: str = WEIGHTS) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        with (parcel.folder / file).open("wb") as opened:
            opened.write(bytes(8) + b'{"__metadata__":{}')
            # Not put together in memory, which is measured.
            opened.writelines(
                b',"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(count)
            )
            opened.write(b"}")
            length = opened.tell() - 8
            opened.seek(0)
            opened.write(length.to_bytes(8, "little"))

    return spoil


def sparse(file: str, size: int) -> Spoil:
    def make(path: Path) -> None:
        with path.open("wb") as opened:
            opened.truncate(size)

    return replaced(file, make)


def last_is_nan(parcel: Parcel) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(parcel.folder / WEIGHTS).items()}
    tensors[max(tensors)][-1, -1] = torch.nan
    save_file(tensors, parcel.folder / WEIGHTS)


def thousand_files(parcel: Parcel) -> None:
    for number in range(1001):
        (parcel.folder / str(number)).touch()


def linked_folder(parcel: Parcel) -> None:
    parcel.folder.rename(parcel.root / "elsewhere")
    parcel.folder.symlink_to(parcel.root / "elsewhere")


def in_folder(path: str) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        parcel.folder = parcel.folder / path

    return spoil


def with_card(**fields: object) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        parcel.card = json.dumps(json.loads(parcel.card) | fields).encode()

    return spoil


def card_text(text: bytes) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        parcel.card = text

    return spoil


def with_specification(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(parcel: Parcel) -> None:
        parcel.specification = change(parcel.specification)

    return spoil


def pickled_specification(parcel: Parcel) -> None:
    parcel.specification = pickle.dumps(Touch(parcel.root / "owned"))


def weightless(data: bytes) -> bytes:
    """The same specification, one of text alone, with weights of no bytes in 2^63 rows."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    start, end = header["text.points"]["data_offsets"]
    header["text.points"]["data_offsets"] = [0, end - start]
    header["text.weights"] = {"dtype": "F32", "shape": [2**63, 0], "data_offsets": [end - start] * 2}
    return safetensors_file(header, data[8 + length + start : 8 + length + end])


def with_document_change(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return with_specification(lambda data: with_document(data, change))


def with_text_section(**fields: object) -> Spoil:
    return with_document_change(lambda document: document["sections"]["text"].update(fields))


def with_document_text(text: str) -> Spoil:
    return with_specification_header(lambda header: header["__metadata__"].update({METADATA_KEY: text}))


def with_specification_header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return with_specification(lambda data: with_header(data, change))


def with_prompt_points(*shape: int) -> Spoil:
    """A prompt section of another version of the views, of a strange shape, under a digest that fits."""

    def change(data: bytes) -> bytes:
        good = Specification.from_bytes(data)
        section = PromptSection(views="others", sample_size=10)
        sketch = PromptSketch(np.zeros(shape, dtype=np.float32), section)
        return Specification(good.reduced_set, good.section, prompt=sketch).to_bytes()

    return with_specification(change)


def manifest_line(line: dict[str, Any] | str, name: str = "manifest.jsonl") -> Spoil:
    def spoil(parcel: Parcel) -> None:
        (parcel.root / "good").write_bytes(parcel.specification)
        text = line if isinstance(line, str) else json.dumps({"name": "harmless", "specification": "good"} | line)
        (parcel.root / name).write_text(text + "\n")

    return spoil


def with_model_card(front: str) -> Spoil:
    """A manifest of an adapter whose folder has a model card with this front matter."""

    def spoil(parcel: Parcel) -> None:
        (parcel.folder / "README.md").write_text(f"---\n{front}\n---\nWords.\n")
        manifest_line({"adapter": parcel.folder.name})(parcel)

    return spoil


def ready_row(**fields: object) -> Spoil:
    row = {"id": "ab" * 32, "base_model": BASE_NAME, "rank": 4, "adapter_bytes": 1000}
    return manifest_line(row | fields, "rows.jsonl")


def of_folder(spoil: Callable[[Path], object]) -> Spoil:
    return lambda parcel: spoil(parcel.folder)
