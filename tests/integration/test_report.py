"""`swarm report --html`: what is written, and what is left as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.client.report_page import MARK
from swarm.client.reporting import write_page
from swarm.errors import Refused, UsageError

PAGE = f"{MARK}\nnew"


def test_a_page_is_written_and_written_over(tmp_path: Path) -> None:
    """A page is written whole, over an earlier one or an empty file too, and nothing else is left beside it."""
    place = tmp_path / "report.html"
    for before in (None, "", f"{MARK}\nold"):
        if before is not None:
            place.write_text(before)
        assert write_page(str(place), PAGE) == str(place)
        assert place.read_text() == PAGE
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A link stays a link, and the page is where it leads."""
    (tmp_path / "link").symlink_to("report.html")
    assert write_page(str(tmp_path / "link"), PAGE) == str(tmp_path / "report.html")
    assert (tmp_path / "link").is_symlink()


def test_whatever_is_something_else_stays(tmp_path: Path) -> None:
    """A file that is no report is refused and stays; a folder, a pipe and a place that is not there are errors."""
    (tmp_path / "notes").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused):
        write_page(str(tmp_path / "notes"), PAGE)
    for name in (".", "pipe", "missing/report.html", "notes/report.html"):
        with pytest.raises(UsageError):
            write_page(str(tmp_path / name), PAGE)
    assert (tmp_path / "notes").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["notes", "pipe"]


def test_a_page_needs_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty name is no file, and nothing is written where the command was typed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no name"):
        write_page("", PAGE)
    assert os.listdir(tmp_path) == []
