"""Zip archives that strangers made, unpacked with every check at the door. Nothing in them is run.

Names are checked before anything is written, sizes by what the headers say and again by what really comes out.
"""

import io
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from catalogue.learnware import short
from indexer.folders import KINDS, MAX_FILES, folded
from indexer.whole_model import MAX_MODEL_BYTES
from specification.errors import DockError, InvalidInput, TooLarge

MAX_DIRECTORY_BYTES = 2**20
MAX_NAME = 500
MAX_RATIO = 100
"""How many times as large as the archive its files may be in all; safetensors shrink little, text five times."""
PIECE_BYTES = 2**20
LOCAL_HEADER_BYTES = 30
ENCRYPTED = 0x2041
"""Flags of encryption: of the file, by a strong method, of the directory."""
ARCHIVES = (".7z", ".bz2", ".gz", ".jar", ".rar", ".tar", ".tgz", ".whl", ".xz", ".zip", ".zst")


def unpack(archive: Path, target: Path, suffixes: frozenset[str]) -> list[str]:
    """Writes those files of a zip archive that end in one of ``suffixes`` into the empty folder ``target``.

    Returns the names of all its files, relative paths with ``/``, see ``check_names``; the others stay behind.

    Raises:
        InvalidInput: no zip archive, or damaged; names that could lead out or be taken for one another; links,
            devices, encryption, archives in it, entries that overlap, headers that say what is not so.
        TooLarge: too many files, too large a directory, or too many bytes in all.
    """
    try:
        if not archive.is_file():
            raise InvalidInput(f"{archive}: {'not a regular file' if archive.exists() else 'no such file'}")
        with _Limited(archive) as file, ZipFile(file) as opened:
            names = _checked(opened, archive)
            for entry in opened.infolist():
                if PurePosixPath(entry.orig_filename).suffix.lower() in suffixes and not _is_folder(entry):
                    _write(opened, entry, archive, target)
    except DockError:
        raise
    except OSError as error:
        raise InvalidInput(
            f"{archive}: cannot be unpacked ({error.strerror}); is there room in the temporary folder, TMPDIR?"
        ) from None
    except Exception as error:
        # Damaged archives make the library raise whatever Python does.
        raise InvalidInput(f"{archive}: not a zip archive that can be read ({str(error)[:200]})") from None
    return names


def check_names(source: Path, names: Iterable[str]) -> list[str]:
    """Returns the files among the entries ``names`` of ``source``; those that end in a slash are folders.

    Raises:
        InvalidInput: a name is too long, leads out, is one that a terminal or another system would take for
            something else, or differs from another one only by case or Unicode form.
    """
    files: list[str] = []
    folders: set[str] = set()
    spellings: dict[str, str] = {}
    for name in names:
        path = name.removesuffix("/")
        _check_name(source, path)
        above = [str(folder) for folder in PurePosixPath(path).parents][:-1]
        for each in (path, *above):
            other = spellings.setdefault(folded(each), each)
            if other != each:
                raise InvalidInput(
                    f"{source}: {short(other)} and {short(each)} differ only by case or Unicode form; rename one"
                )
        folders.update(above if path == name else (path, *above))
        if path == name:
            files.append(path)
    if len(set(files)) < len(files):
        twice = next(name for name in files if files.count(name) > 1)
        raise InvalidInput(f"{source}: {short(twice)} is in it twice; make the archive again")
    both = sorted(folders.intersection(files))
    if both:
        raise InvalidInput(f"{source}: {short(both[0])} is both a file and a folder; rename one")
    return files


def _check_name(source: Path, path: str) -> None:
    if len(path) > MAX_NAME:
        raise InvalidInput(f"{source}: {short(path)} is a name of {len(path)} characters, the limit is {MAX_NAME}")
    if not path.isprintable():
        raise InvalidInput(f"{source}: {short(path)} is a name with control characters; rename the file")
    if "\\" in path:
        raise InvalidInput(f"{source}: {short(path)} is a name with a backslash; separate folders by '/'")
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise InvalidInput(f"{source}: {short(path)} leads out of it, or is no plain path; pack it again")


class _Limited(io.FileIO):
    """A file that is never read by more at once than an archive's directory may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise TooLarge(
                f"{self.name}: a directory of {size} bytes, the limit is {MAX_DIRECTORY_BYTES}; pack fewer files"
            )
        return super().read(size)


def _checked(opened: ZipFile, archive: Path) -> list[str]:
    """Returns the names of the files after checking all that the directory says."""
    entries = opened.infolist()
    if len(entries) > MAX_FILES:
        raise TooLarge(f"{archive}: {len(entries)} files and folders, the limit is {MAX_FILES}")
    names = check_names(archive, [entry.orig_filename for entry in entries])
    for entry in entries:
        _check_entry(entry, archive)
    _check_places(entries, opened.start_dir, archive)
    size, limit = archive.stat().st_size, MAX_MODEL_BYTES
    total = sum(entry.file_size for entry in entries)
    if total > min(limit, MAX_RATIO * size):
        raise TooLarge(
            f"{archive}: {size} bytes that unpack to {total}, more than {MAX_RATIO} times as many, or than {limit}"
        )
    return names


def _check_entry(entry: ZipInfo, archive: Path) -> None:
    name = short(entry.orig_filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if _is_folder(entry) else stat.S_IFREG):
        raise InvalidInput(f"{archive}: {name} is {KINDS.get(kind, 'strange')}; pack the file itself")
    if entry.flag_bits & ENCRYPTED:
        raise InvalidInput(f"{archive}: {name} is encrypted; pack it without a password")
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise InvalidInput(f"{archive}: {name} is compressed by method {entry.compress_type}; use deflate or none")
    if entry.orig_filename.lower().endswith(ARCHIVES):
        raise InvalidInput(f"{archive}: {name} is an archive in the archive; pack its files, or leave it out")


def _check_places(entries: Sequence[ZipInfo], directory: int, archive: Path) -> None:
    """Refuses entries that share bytes, by which a small archive can unpack to any size."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            break
        end = entry.header_offset + LOCAL_HEADER_BYTES + len(entry.orig_filename) + entry.compress_size
    else:
        if end <= directory:
            return
    raise InvalidInput(f"{archive}: entries that overlap, as in an archive bomb; make the archive again")


def _write(opened: ZipFile, entry: ZipInfo, archive: Path, target: Path) -> None:
    said, written = entry.file_size, 0
    # Else the library ends where the header says, whatever follows.
    entry.file_size = MAX_MODEL_BYTES + 1
    path = target / entry.orig_filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, path.open("xb") as file:
        while piece := source.read(PIECE_BYTES):
            written += len(piece)
            if written > said:
                break
            file.write(piece)
    if written != said:
        raise InvalidInput(
            f"{archive}: {short(entry.orig_filename)} does not have the {said} bytes that its header says; "
            "make the archive again"
        )


def _is_folder(entry: ZipInfo) -> bool:
    return entry.orig_filename.endswith("/")
