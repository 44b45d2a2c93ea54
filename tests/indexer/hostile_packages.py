"""Hostile packages of the PyPI package learnware, in archives and folders; see ``hostile``.

The good one that they spoil has files that learnware 0.4.0.post1 wrote (``make_packages.py``), a real adapter and
a real specification.
"""

import io
import json
import os
import pickle
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZipFile, ZipInfo

from tests.indexer.parcels import Parcel, Spoil, nested
from tests.indexer.spoilers import Touch

FIXTURES = Path(__file__).with_name("packages")
YAML, SEMANTICS, STATISTICS = "learnware.yaml", "semantic_specification.json", "stat.json"
SPECIFICATION = "specification.safetensors"
CONFIG, WEIGHTS = "weights/adapter_config.json", "weights/adapter_model.safetensors"
ESCAPES = "\x1b[2J\x1b]0;owned\x07.json"
FLAGS, METHOD, CRC, SIZE, OFFSET = 8, 10, 16, 24, 42
"""Where fields lie in an entry of an archive's directory."""
Entry = tuple[str | ZipInfo, bytes]


def package_files(adapter: Path, specification: bytes) -> dict[str, bytes]:
    """A good package's files by name."""
    files = {file.name: file.read_bytes() for file in sorted((FIXTURES / "adapter").iterdir())}
    files |= {f"weights/{file.name}": file.read_bytes() for file in sorted(adapter.iterdir())}
    return {**files, SPECIFICATION: specification, "__init__.py": b"raise SystemExit('run')\n"}


def write_archive(file: Path, files: dict[str, bytes], *more: Entry) -> Path:
    """Writes an archive, deflated, with further entries of any name."""
    with warnings.catch_warnings(), ZipFile(file, "w", ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, data in [*files.items(), *more]:
            archive.writestr(name, data)
    return file


def archive(*more: Entry, without: str = "", name: str = "package.zip") -> Spoil:
    """A package as an archive: entries named by a text take the place of good ones, others stand beside them."""

    def spoil(parcel: Parcel) -> None:
        files = package_files(parcel.folder, parcel.specification)
        files |= {key: data for key, data in more if isinstance(key, str)}
        files.pop(without, None)
        beside = (each for each in more if isinstance(each[0], ZipInfo))
        parcel.folder = write_archive(parcel.root / name, files, *beside)

    return spoil


def patched(field: int, value: int, form: str = "<I", name: str = WEIGHTS) -> Spoil:
    """The good archive, with a number in its directory's entry of one file overwritten."""

    def change(data: bytearray) -> bytearray:
        with ZipFile(io.BytesIO(data)) as opened:
            place = opened.start_dir
        while (length := struct.unpack_from("<H", data, place + 28)[0]) and (
            data[place + 46 : place + 46 + length] != name.encode()
        ):
            place += 46 + length + sum(struct.unpack_from("<HH", data, place + 30))
        struct.pack_into(form, data, place + field, value)
        return data

    return changed(change)


def changed(change: Callable[[bytearray], bytes | bytearray], name: str = "package.zip") -> Spoil:
    def spoil(parcel: Parcel) -> None:
        archive(name=name)(parcel)
        parcel.folder.write_bytes(change(bytearray(parcel.folder.read_bytes())))

    return spoil


def entry(name: str, mode: int = 0, method: int = ZIP_DEFLATED, comment: bytes = b"") -> ZipInfo:
    """An entry of any name, which zipfile would mend, and of a kind of file."""
    made = ZipInfo("x")
    made.filename, made.external_attr, made.compress_type, made.comment = name, mode << 16, method, comment
    return made


def in_folder(change: Callable[[Path], object]) -> Spoil:
    """The package as a folder."""

    def spoil(parcel: Parcel) -> None:
        files = package_files(parcel.folder, parcel.specification)
        parcel.folder = parcel.root / "package"
        for name, data in files.items():
            (parcel.folder / name).parent.mkdir(exist_ok=True, parents=True)
            (parcel.folder / name).write_bytes(data)
        change(parcel.folder)

    return spoil


def with_pickle(name: str) -> Spoil:
    """Only a pickle in place of the weights; it makes a file where it is loaded."""

    def spoil(parcel: Parcel) -> None:
        data = pickle.dumps(Touch(parcel.root / "owned"))
        archive((name, data), without=WEIGHTS)(parcel)

    return spoil


def with_yaml(text: str) -> Spoil:
    return archive((YAML, text.encode()))


def with_statistics(**fields: object) -> Spoil:
    good = json.loads((FIXTURES / "adapter" / STATISTICS).read_text())
    return archive((STATISTICS, json.dumps(good | fields).encode()))


def remade(name: str, make: Callable[[Path], object]) -> Spoil:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return in_folder(change)


def named(name: str) -> Spoil:
    return archive((entry(name), b"{}"))


def piped(parcel: Parcel) -> None:
    parcel.folder = parcel.root / "pipe.zip"
    os.mkfifo(parcel.folder)


def crowded(folder: Path) -> None:
    for part in range(11):
        (folder / str(part)).mkdir()
        for number in range(100):
            (folder / str(part) / str(number)).touch()


def deep(folder: Path) -> None:
    for _ in range(6):
        folder /= "x" * 100
        folder.mkdir()


STRANGE = json.dumps({"z": [[""] * 10**6], "beta": [], "gamma": 1})
LISTED = "stat_specifications: [{class_name: RKMETextSpecification, file_name: %s}]"
PACKAGES: dict[str, tuple[Spoil, str]] = {
    "an entry up the path": (named("../owned.json"), r"'\.\./owned\.json' leads out of it"),
    "an entry up the path, further down": (named("weights/../../owned.json"), r"'weights/\.\./\.\./owned\.json'"),
    "an entry at the root": (named("/tmp/owned.json"), "'/tmp/owned.json' leads out of it"),
    "an entry with a dot": (named("./owned.json"), r"'\./owned\.json' leads out of it, or is no plain path"),
    "an entry without a name": (named("/"), "'' leads out of it"),
    "an entry with a backslash": (named("..\\owned.json"), "is a name with a backslash"),
    "an entry with a null byte": (named("learnware.yaml\0.json"), r"yaml\\x00\.json' is a name with control"),
    "an entry with terminal escapes": (named(ESCAPES), r"'\\x1b\[2J.* is a name with control characters"),
    "an entry that reads backwards": (named("a\u202enosj.json"), r"'a\\u202enosj\.json' is a name with control"),
    "an entry with a name of 60 000": (named("x" * 60_000), "a name of 60000 characters, the limit is 500"),
    "an entry twice": (archive((entry(YAML), b"model: {}")), "'learnware.yaml' is in it twice"),
    "an entry in other case": (named("Learnware.YAML"), "'learnware.yaml' and 'Learnware.YAML' differ only by"),
    "a folder in other case": (named("Weights/more.json"), "'weights' and 'Weights' differ only by case"),
    "an entry in another Unicode form": (
        archive((entry("caf\u00e9.json"), b""), (entry("cafe\u0301.json"), b"")), "differ only by case or Unicode",
    ),
    "an entry in compatible letters": (
        archive((entry("fi.json"), b""), (entry("\ufb01.json"), b"")), "'fi.json' and 'ﬁ.json' differ only by",
    ),
    "an entry that a German folds": (
        archive((entry("strasse.json"), b""), (entry("straße.json"), b"")), "'strasse.json' and 'straße.json'",
    ),
    "a file that is a folder": (named("stat.json/more.json"), "'stat.json' is both a file and a folder"),
    "a link in an archive": (
        archive((entry("weights/link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "'weights/link' is a link; pack",
    ),
    "a device in an archive": (archive((entry("zero.json", stat.S_IFCHR), b"")), "'zero.json' is a device"),
    "a pipe in an archive": (archive((entry("pipe.json", stat.S_IFIFO), b"")), "'pipe.json' is a pipe"),
    "a folder called a file": (archive((entry("more.json", stat.S_IFDIR), b"")), "'more.json' is a folder"),
    "an archive with a password": (patched(FLAGS, 1, "<H"), f"'{WEIGHTS}' is encrypted"),
    "an archive with a hidden directory": (patched(FLAGS, 0x2000, "<H", YAML), "'learnware.yaml' is encrypted"),
    "an archive of a method that is not known": (patched(METHOD, 99, "<H"), "compressed by method 99"),
    "an archive of a method that takes memory": (
        archive((entry("more.json", method=ZIP_LZMA), b"x" * 1000)), "compressed by method 14; use",
    ),
    "an archive in the archive": (named("more/weights.ZIP"), "'more/weights.ZIP' is an archive in the archive"),
    "an archive of another kind in it": (named("weights.tar.gz"), "'weights.tar.gz' is an archive in the archive"),
    "an archive bomb": (archive(("bomb.json", bytes(2**24))), r"that unpack to \d{8}, more than 100"),
    "an archive bomb that is not unpacked": (archive(("bomb.bin", bytes(2**25))), r"bytes that unpack to \d{8}, "),
    "an archive of 4 GiB, it says": (patched(SIZE, 2**32 - 2), r"bytes that unpack to 4\d{9}, more than"),
    "an archive that says less than it holds": (patched(SIZE, 10), "does not have the 10 bytes"),
    "an archive that says more than it holds": (patched(SIZE, 10**6), "does not have the 1000000 bytes"),
    "an archive whose entries overlap": (patched(OFFSET, 0, name=SEMANTICS), "entries that overlap"),
    "an archive of a thousand and one files": (
        archive(*((entry(f"{number}.json"), b"") for number in range(1001))), "10.. files and folders, the limit",
    ),
    "an archive with a directory of 2 MB": (
        archive(*((entry(f"{number}.json", comment=bytes(60_000)), b"") for number in range(35))),
        r"a directory of 2\d{6} bytes, the limit is 1048576",
    ),
    "an archive with another checksum": (patched(CRC, 7), "Bad CRC-32"),
    "an archive with a damaged file": (changed(lambda data: data.replace(b"PK\3\4", b"PK\3\5", 1)), "Bad magic"),
    "half an archive": (changed(lambda data: data[: len(data) // 2], "half.zip"), "half.zip: not a zip archive"),
    "an archive that is none": (changed(lambda _: b"\x80\x04."), "package.zip: not a zip archive"),
    "an empty archive": (changed(lambda _: b"", "empty.zip"), "empty.zip: not a zip archive that can be read"),
    "an archive that is a pipe": (piped, r"pipe\.zip: not a regular file"),
    "an archive that is not there": (lambda parcel: setattr(parcel, "folder", parcel.root / "no"), "no such file"),
    "a package that brings no learnware.yaml": (archive(without=YAML), "learnware.yaml: no such file at the pack"),
    "a package folder with a link": (
        remade("more.json", lambda path: path.symlink_to("/etc/passwd")), r"more\.json: a symbolic link",
    ),
    "a package folder with a link to a folder": (
        remade("more", lambda path: path.symlink_to("/")), "package/more: a symbolic link",
    ),
    "a package folder with a pipe": (remade(YAML, os.mkfifo), "learnware.yaml: not a regular file"),
    "a package folder with names that differ by case": (
        remade("Stat.json", Path.touch), "'Stat.json' and 'stat.json' differ|'stat.json' and 'Stat.json' differ",
    ),
    "a package folder of a thousand and one files": (in_folder(crowded), "more than 1000 files and folders"),
    "a package without end": (in_folder(deep), "is a name of 5.. characters"),
    "a learnware.yaml that runs code": (
        with_yaml("model: !!python/object/apply:os.system ['touch owned']"), "learnware.yaml: not YAML",
    ),
    "a learnware.yaml that unfolds": (with_yaml("a: &a [x]\nb: [*a, *a]"), "learnware.yaml: YAML with an alias"),
    "a learnware.yaml nested deep": (with_yaml("model: " + nested(10_000)), "learnware.yaml: YAML nested deeper"),
    "a learnware.yaml that is a list": (with_yaml("- model"), "learnware.yaml: a YAML list"),
    "a learnware.yaml of 200 kB": (with_yaml("x: " + "y" * 200_000), "200003 characters of YAML"),
    "a learnware.yaml of 2 MB": (with_yaml(f"x: {os.urandom(10**6).hex()}"), "more than 524288 bytes"),
    "a learnware.yaml that is no UTF-8": (archive((YAML, b"model: \xff")), "learnware.yaml: not UTF-8"),
    "a learnware.yaml of strange fields": (
        with_yaml("model: 7\nstat_specifications: x"), "field 'model': .*; field 'stat_specifications': ",
    ),
    "statistics outside the package": (
        with_yaml(LISTED % "../../../etc/passwd"), r"names '\.\./\.\./\.\./etc/passwd', which is no",
    ),
    "statistics that are a device": (with_yaml(LISTED % "/dev/zero"), "names '/dev/zero', which is no .json file"),
    "statistics that are a pickle": (
        archive(("stat.pth", b"\x80\x04."), (YAML, (LISTED % "stat.pth").encode())), "names 'stat.pth', which",
    ),
    "twenty-one statistics": (
        with_yaml(f"stat_specifications: [{', '.join(['{class_name: x, file_name: x}'] * 21)}]"),
        "'stat_specifications': Tuple should have at most 20 items",
    ),
    "semantics that are a folder": (
        with_yaml("semantic_specification: {file_name: weights}"), "names 'weights', which is no .json file in it",
    ),
    "semantics that are a list": (archive((SEMANTICS, b"[]")), "specification.json: a JSON list"),
    "semantics nested deep": (archive((SEMANTICS, nested(10**5).encode())), "json: not JSON .nested too deep"),
    "semantics with a field twice": (archive((SEMANTICS, b'{"Name": 1, "Name": 2}')), "field 'Name' stands twice"),
    "semantics of 2 MB": (
        archive((SEMANTICS, json.dumps(os.urandom(10**6).hex()).encode())), "json: more than 1048576 bytes",
    ),
    "a name that routes, in semantics": (
        archive((SEMANTICS, b'{"Name": {"Type": "String", "Values": "auto"}}')), "'auto' is reserved",
    ),
    "statistics of 9 MB": (
        remade(STATISTICS, lambda path: path.write_bytes(bytes(9 * 10**6))), "stat.json: more than 8388608 bytes",
    ),
    "statistics that are not finite": (with_statistics(beta=[float("nan")]), r"field 'beta\.0': .*finite number"),
    "statistics of no points": (with_statistics(z=[], beta=[]), "field 'z': List should have at least 1"),
    "statistics of a million strange points": (
        remade(STATISTICS, lambda path: path.write_text(STRANGE)), r"'z\.0\.0'.*unable to parse",
    ),
    "statistics of ragged points": (with_statistics(z=[[1], [1, 2]], beta=[1, 0]), "'z' is no matrix of 2 rows"),
    "statistics with fewer weights than points": (with_statistics(beta=[]), "'z' is no matrix of 0 rows"),
    "statistics of another kind than it says": (with_statistics(type="RKMETableSpecification"), "field 'type'"),
    "an adapter that is a pickle, in a package": (
        with_pickle("weights/adapter_model.bin"), r"weights: only adapter_model\.bin, which can run code",
    ),
    "a package of code and pickles": (
        archive(("model.pkl", b"\x80\x04."), without=CONFIG), "the class 'Model' and '__init__.py', 'model.pkl'",
    ),
    "a package of two adapters": (
        archive(("more/adapter_config.json", b"{}"), ("more/adapter_model.safetensors", b"")),
        "2 models, such as in 'more' and 'weights'; leave one",
    ),
    "a package of an adapter and a whole model": (
        archive(("config.json", b"{}"), ("model.safetensors", b"")), r"2 models, such as in '\.' and 'weights'",
    ),
    "a package that only its own kernel compares": (
        archive(without=SPECIFICATION), r"here: RKMETextSpecification .1 x 384, gamma 0\.1. in it",
    ),
    "a package without any statistics": (
        archive((YAML, b""), without=SPECIFICATION), "no specification that can be compared here; give --examples",
    ),
    "a package of two specifications": (
        archive(("weights/specification.safetensors", b"")), "'specification.safetensors' and 'weights/spec",
    ),
    "a package with a broken specification": (archive((SPECIFICATION, b"?")), "safetensors: .*truncated"),
    "a package with broken weights": (archive((WEIGHTS, b"?" * 100)), "safetensors: not a readable"),
}  # fmt: skip
