"""Every code block of README and docs: Python is run against a gateway, shell lines are run, or at least parsed.

A block that cannot be run says why in a comment before it, ``<!-- not run: reason -->``; NOT_RUN counts them.
"""

import re
import shlex
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from slmdock import cli
from tests.docs.pages import NAMES, PAGES, SHELL, Block, blocks

DEFAULT_URL = "http://127.0.0.1:8000"
BLOCKS = [block for page in NAMES for block in blocks(page)]
COMMANDS = [(block, command) for block in BLOCKS for command in block.commands]
MODULES = sorted({found for block in BLOCKS for found in re.findall(r"python -m (benchmarks\.\w+)", block.text)})
RUNNABLE = [page for page in NAMES if any(block.commands and not block.reason for block in blocks(page))]
PYTHON = [page for page in NAMES if any(block.language == "python" for block in blocks(page))]
NOT_RUN = {
    "README.md": 2,
    "docs/benchmarks.md": 1,
    "docs/how-to/adapters.md": 1,
    "docs/how-to/compose.md": 3,
    "docs/how-to/serve.md": 2,
    "docs/quick-start.md": 2,
    "docs/zoo.md": 1,
    "docs/scale.md": 5,
}


def parsed(words: list[str]) -> None:
    """Parses a command line as the program does, down to the command's own options; runs nothing."""
    command, context, name = typer.main.get_command(cli.app), None, "slmdock"
    while True:
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        found, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        name = str(found)


def test_what_is_not_run_says_why_and_is_counted() -> None:
    not_run = [block for block in BLOCKS if block.reason]
    for block in not_run:
        print(f"{block.page}:{block.line}: {block.reason}")
    assert Counter(block.page for block in not_run) == NOT_RUN


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    for block in BLOCKS:
        assert block.language in ("python", "text", *SHELL), f"{block.page}:{block.line}"
        assert block.language != "python" or not block.reason
        if block.language in SHELL:
            assert block.commands or block.reason, f"{block.page}:{block.line} has no 'slmdock' line and no reason"


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=lambda each: str(getattr(each, "page", each)))
def test_every_command_line_is_one(block: Block, command: str) -> None:
    parsed(shlex.split(command)[1:])


def test_an_option_that_is_not_there_is_noticed() -> None:
    with pytest.raises(Exception, match="--nowhere"):
        parsed(["catalogue", "rebuild", "--nowhere"])


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_is_there(module: str) -> None:
    assert find_spec(module) is not None


@pytest.mark.parametrize("page", RUNNABLE)
def test_commands_run(
    page: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(page):
        for line in block.lines if not block.reason else []:
            where = f"{block.page}:{block.line}: {line}"
            program, *words = shlex.split(line)
            if program == "export":
                for name, _, value in (word.partition("=") for word in words):
                    monkeypatch.setenv(name, value)
                continue
            if program != "slmdock":
                done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
                continue
            monkeypatch.setattr("sys.argv", [program, *words])
            with pytest.raises(SystemExit) as end:
                cli.main()
            printed = capsys.readouterr()
            assert not end.value.code, f"{where}\n{printed.out}{printed.err}"
            assert printed.out


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page: str, gateway_url: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text.replace(DEFAULT_URL, gateway_url)
            exec(compile(source, page, "exec"), names)
            if "print(" in block.text:
                assert capsys.readouterr().out.strip(), f"{page}:{block.line} printed nothing"


def test_all_pages_are_looked_at() -> None:
    assert len(PAGES) > 10
    assert {block.page for block in BLOCKS if block.language == "python"} >= {"README.md", "docs/how-to/route.md"}
