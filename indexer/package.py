"""Packages of the PyPI package learnware (Beimingwu): what in them can be served becomes a submission.

Nothing in a package is run, imported or unpickled. Its statistics cannot be compared with specifications of this
dock (docs/packages.md), so they are read for what they say of themselves, and not taken.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, FiniteFloat, ValidationError, model_validator

from catalogue import Card, parse_card
from catalogue.labels import MAX_LABEL, MAX_LABELS
from catalogue.learnware import MAX_DESCRIPTION, describe, short
from indexer import whole_model
from indexer.archive import check_names, unpack
from indexer.bulk import SPECIFICATION_FILE, Submission
from indexer.folders import MAX_FILES, PICKLES, list_folder, read_object, without_weights
from indexer.model_card import MAX_NAME, plain
from indexer.plain_yaml import MAX_LENGTH, read_yaml
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from specification.errors import InvalidInput, TooLarge
from specification.files import read_file

PACKAGE_FILE = "learnware.yaml"
SEMANTIC_FILE = "semantic_specification.json"
TEXT_STATISTICS: Final = "RKMETextSpecification"
MAX_SEMANTIC_BYTES = 2**20
MAX_STATISTICS_BYTES = 2**23
UNPACKED = frozenset({".jinja", ".json", ".md", ".model", ".safetensors", ".txt", ".yaml"})
"""What is unpacked of an archive; all else, code and pickles too, stays in it."""
CODE = (".py", ".pickle", ".joblib", *PICKLES)
SHOWN = 3
Short = Annotated[str, Field(max_length=200)]
Rows = Annotated[list[Annotated[list[FiniteFloat], FailFast()]], FailFast(), Field(min_length=1)]
Read = TypeVar("Read", bound=BaseModel)


class ModelClass(BaseModel):
    """The class that the package learnware would load to use the model."""

    class_name: Short = "Model"
    module_path: Short = "__init__.py"


class Statistics(BaseModel):
    """A statistical specification in the package, by its class and its file."""

    class_name: Short
    file_name: Short


class SemanticPlace(BaseModel):
    """Where the semantic specification lies."""

    file_name: Short = SEMANTIC_FILE


class PackageConfig(BaseModel):
    """What is read of learnware.yaml."""

    id: Any = None
    model: ModelClass = ModelClass()
    stat_specifications: Annotated[tuple[Statistics, ...], Field(max_length=20)] = ()
    semantic_specification: SemanticPlace = SemanticPlace()


class TextStatistics(BaseModel):
    """An RKMETextSpecification: points ``z`` [m, d], weights ``beta`` [m], the kernel's gamma."""

    model_config = ConfigDict(frozen=True)

    type: Literal["RKMETextSpecification"] = TEXT_STATISTICS
    z: Rows
    beta: Annotated[list[FiniteFloat], FailFast()]
    gamma: Annotated[FiniteFloat, Field(gt=0)]
    language: Annotated[tuple[Short, ...], FailFast(), Field(max_length=MAX_LABELS)] = ()

    @model_validator(mode="after")
    def _of_one_shape(self) -> Self:
        if len(self.beta) != len(self.z) or len({len(point) for point in self.z}) > 1:
            raise ValueError(f"'z' is no matrix of {len(self.beta)} rows, as many as 'beta' has numbers")
        return self

    def __str__(self) -> str:
        return f"{self.type} ({len(self.z)} x {len(self.z[0])}, gamma {self.gamma:g})"


@dataclass(frozen=True)
class Package:
    """An opened package: where it is called from, where its files lie, and the names of all that were in it."""

    source: Path
    folder: Path
    names: Sequence[str]

    def object(self, name: str, limit: int) -> dict[str, Any]:
        """Returns the JSON object in a file that the package names.

        Raises:
            InvalidInput: no such file in it, or it holds none. TooLarge: over ``limit`` bytes.
        """
        if name not in self.names or not name.endswith(".json"):
            raise InvalidInput(f"{self.source}: {PACKAGE_FILE} names {short(name)}, which is no .json file in it")
        return read_object(self.folder / name, limit)

    def folders(self) -> Iterator[tuple[str, set[str]]]:
        """Yields each folder with files in it, and their names."""
        found: dict[str, set[str]] = {}
        for name in self.names:
            folder, _, last = name.rpartition("/")
            found.setdefault(folder, set()).add(last)
        return iter(sorted(found.items()))


def read_package(source: Path, place: Path, examples: Path | None = None) -> Submission:
    """Returns what of a package, a folder or a zip archive with learnware.yaml at its top, can be taken in.

    An archive is unpacked into a folder in ``place``; what was there before is removed. The specification is
    the specification.safetensors in the package, unless ``examples`` are given.

    Raises:
        InvalidInput: not exactly one PEFT adapter or whole model as safetensors in it, no specification that can
            be compared, or a file that cannot be read; see ``unpack`` for archives. TooLarge: over a limit.
    """
    package = _open(source, place)
    config = _read_config(package)
    statistics = [
        _validated(TextStatistics, package.object(each.file_name, MAX_STATISTICS_BYTES), source / each.file_name)
        for each in config.stat_specifications
        if each.class_name == TEXT_STATISTICS
    ]
    model = package.folder / _model_folder(package, config)
    card = _card(package, config, statistics)
    if examples is not None:
        return Submission(model, card, examples, None)
    return Submission(model, card, None, package.folder / _specification(package, config, statistics))


def _open(source: Path, place: Path) -> Package:
    for old in place.iterdir():
        shutil.rmtree(old)
    if source.is_dir():
        return Package(source, source, _listed(source))
    folder = place / source.name
    folder.mkdir()
    return Package(source, folder, unpack(source, folder, UNPACKED))


def _listed(folder: Path) -> list[str]:
    """The names of the files in a folder and below, see ``check_names``."""
    names: list[str] = []
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        for name in sorted(list_folder(current)):
            path = current / name
            names.append(f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}")
            waiting.extend([path] if path.is_dir() else [])
        if len(names) > MAX_FILES:
            raise TooLarge(f"{folder}: more than {MAX_FILES} files and folders, which is the limit")
    return check_names(folder, names)


def _read_config(package: Package) -> PackageConfig:
    file = package.source / PACKAGE_FILE
    if PACKAGE_FILE not in package.names:
        raise InvalidInput(
            f"{file}: no such file at the package's top, so it is no package of learnware; "
            "'slmdock submit' takes the folder of an adapter or a whole model"
        )
    try:
        text = read_file(package.folder / PACKAGE_FILE, 4 * MAX_LENGTH).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
    return _validated(PackageConfig, read_yaml(text, str(file)), file)


def _validated(kind: type[Read], fields: Mapping[Any, Any], file: Path) -> Read:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"{file}: {describe(error)}") from None


def _model_folder(package: Package, config: PackageConfig) -> str:
    """Returns the folder of the one model in a package that can be served."""
    found = []
    for folder, names in package.folders():
        if CONFIG_FILE in names:
            if WEIGHTS_FILE not in names:
                raise without_weights(package.source / folder, names, WEIGHTS_FILE)
            found.append(folder)
        elif whole_model.CONFIG_FILE in names and any(map(whole_model.is_weights_file, names)):
            found.append(folder)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(
            f"{package.source}: {len(found)} models, such as in {short(found[0] or '.')} and {short(found[1])}; "
            "leave one in it"
        )
    code = [name for name in package.names if name.lower().endswith(CODE)]
    files = f" and {', '.join(map(short, code[:SHOWN]))}{' …' if len(code) > SHOWN else ''}" if code else ""
    raise InvalidInput(
        f"{package.source}: no PEFT adapter and no whole model as safetensors in it, only the class "
        f"{short(config.model.class_name)}{files}; code and pickles are never run here, so nothing of it can be "
        "served: put what save_pretrained writes of a language model into it"
    )


def _specification(package: Package, config: PackageConfig, statistics: Sequence[TextStatistics]) -> str:
    """Returns the one file in a package that is a specification of this project's."""
    found = [name for name in package.names if name.rpartition("/")[2] == SPECIFICATION_FILE]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"{package.source}: {short(found[0])} and {short(found[1])}; leave one of them in it")
    others = [plain(each.class_name) for each in config.stat_specifications if each.class_name != TEXT_STATISTICS]
    held = ", ".join([*map(str, statistics), *others[:SHOWN]])
    because = f": {held} in it, of another encoder and kernel or a pickle (docs/packages.md)" if held else ""
    raise InvalidInput(
        f"{package.source}: no specification that can be compared here{because}; give --examples with this one "
        f"package, or put {SPECIFICATION_FILE}, made with 'slmdock spec', into it"
    )


def _card(package: Package, config: PackageConfig, statistics: Sequence[TextStatistics]) -> Card:
    """The card that the semantic specification gives; what in it is no text is left out."""
    name = config.semantic_specification.file_name
    if name not in package.names and "semantic_specification" not in config.model_fields_set:
        fields = {}
    else:
        fields = package.object(name, MAX_SEMANTIC_BYTES)
    title, description = (" ".join(_values(fields, field)) for field in ("Name", "Description"))
    source = [f"beimingwu:{plain(config.id)}"[:MAX_LABEL]] if isinstance(config.id, str) else []
    scenarios = [value for value in _values(fields, "Scenario") if value != "Others"]
    return parse_card(
        {
            "name": _name(title) or _name(package.source.resolve().stem),
            "description": (description or title)[:MAX_DESCRIPTION],
            "domain": "".join(scenarios[:1])[:MAX_LABEL],
            "task_type": "".join(_values(fields, "Task")[:1]).lower().replace(" ", "-")[:MAX_LABEL],
            "licence": ", ".join(_values(fields, "License"))[:MAX_LABEL] or "unknown",
            "languages": [plain(each)[:MAX_LABEL] for one in statistics for each in one.language][:MAX_LABELS],
            "tags": [*source, *(value[:MAX_LABEL] for value in scenarios)][:MAX_LABELS],
            "owner": "unknown",
        }
    )


def _values(fields: Mapping[str, Any], name: str) -> list[str]:
    """The texts of one field of a semantic specification: ``{"Type": …, "Values": a text or a list of them}``."""
    said = fields.get(name)
    values = said.get("Values") if isinstance(said, dict) else None
    listed = values if isinstance(values, list) else [values]
    return [text for value in listed if isinstance(value, str) and (text := plain(value))]


def _name(text: str) -> str:
    """A learnware's name like ``text``, empty where nothing of it can stand in one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:MAX_NAME]
