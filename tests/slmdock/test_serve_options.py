"""Options of ``slmdock serve`` that are refused before anything is started."""

import sys
from pathlib import Path

import pytest

from slmdock import cli


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["slmdock", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_log_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve = ("--dock", str(tmp_path), "serve")
    printed = refusal(capsys, monkeypatch, *serve, "--log-format", "xml")
    assert printed == "error: --log-format 'xml': choose one of text, json\n"
    printed = refusal(capsys, monkeypatch, *serve, "--log-file", str(tmp_path / "no" / "log"))
    assert "cannot be written: No such file or directory" in printed
