"""README and the pages under ``docs/``, read as Markdown: their code blocks, links and anchors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SHELL = ("console", "")
REASON = re.compile(r"<!-- not run: (.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is where its content begins, ``reason`` why it is not run, empty if it is."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    @property
    def lines(self) -> list[str]:
        """The lines of a shell block: whole ones, without comments and prompts."""
        if self.language not in SHELL:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        bare = [re.sub(r"\s+#.*", "", line.strip().removeprefix("$ ")) for line in lines]
        return [line for line in bare if line]

    @property
    def commands(self) -> list[str]:
        """Those that call ``slmdock``."""
        return [line for line in self.lines if line.startswith("slmdock ")]


def parse(page: str) -> list[Token]:
    """Returns a page's tokens."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))


def blocks(page: str) -> Iterator[Block]:
    """Yields a page's fenced blocks in their order."""
    before = ""
    for token in parse(page):
        if token.type == "fence":
            assert token.map is not None
            found = REASON.fullmatch(before)
            yield Block(page, token.map[0] + 2, token.info.strip(), token.content, found[1] if found else "")
        before = token.content if token.type == "html_block" else ""


def links(page: str) -> Iterator[str]:
    """Yields where a page's links and pictures lead."""
    for token in parse(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield unquote(str(target))


def anchors(page: str) -> set[str]:
    """Returns the anchors of a page's headings, as the site and code forges make them."""
    tokens = parse(page)
    titles = [
        "".join(part.content for part in after.children or ())
        for token, after in pairwise(tokens)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
