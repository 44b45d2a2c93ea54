"""The pages as a whole: links that lead somewhere, a reference that is the program's, and a site that builds."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from slmdock.reference import PAGES as WRITTEN
from tests.docs.pages import NAMES, ROOT, anchors, links

# Each was looked at by hand; nothing outside this machine is asked by tests.
EXTERNAL: set[str] = set()


@pytest.mark.parametrize("page", NAMES)
def test_links_inside_lead_somewhere(page: str) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), f"{page}: {link}"


def test_links_to_the_outside_are_known() -> None:
    assert {link for page in NAMES for link in links(page) if "://" in link} == EXTERNAL


def test_every_package_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    rows = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").partition("## Built on")[2].splitlines()
    named = " ".join(row.split("|")[1] for row in rows if row.startswith("| ")).lower()
    missing = [name for name in wanted if re.split("[=<>]", name)[0].lower() not in named]
    assert not missing, f"not in the table of docs/concepts.md: {missing}"


@pytest.mark.parametrize("file", sorted(WRITTEN))
def test_the_reference_is_the_program_s(file: str) -> None:
    shown = (ROOT / "docs" / "reference" / file).read_text(encoding="utf-8")
    assert shown == WRITTEN[file](), "run: python -m slmdock.reference docs/reference"


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the extra 'docs'")
def test_the_site_builds(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("specification", "catalogue", "indexer", "retriever", "serving"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "register_task" in (tmp_path / "build" / "site" / "reference" / "python.html").read_text()
