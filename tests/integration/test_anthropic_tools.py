"""The tools of the built-in agent in a real repository: what they do, and what they refuse."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarm.core.model import Claim
from swarm.worker.anthropic.conversation import Call, Result
from swarm.worker.anthropic.tools import EDITOR, OUTPUT_HALF_BYTES, Stop, Stopped, Tools
from tests.conftest import git, wait_until


@pytest.fixture
def tools(repo: Path) -> Tools:
    return Tools(repo, (), "extend", {"PATH": os.environ["PATH"]}, Stop())


def use(tools: Tools, name: str, /, **given: Any) -> Result:
    return tools.use(Call("1", name, given))


def edit(tools: Tools, command: str, path: str, **given: Any) -> Result:
    return use(tools, EDITOR, command=command, path=path, **given)


# --- commands


def test_a_command_tells_its_output_and_how_it_ended(tools: Tools) -> None:
    """Output, errors and the exit code come back, from a shell at the top of the worktree that has nothing on its input."""
    assert (
        use(tools, "bash", command="pwd; cat; echo bad >&2; exit 3").text
        == f"{tools.top}\nbad\n(exit code 3)"
    )
    assert use(tools, "bash", command="kill -9 $$").text == "(exit code 137)"


@pytest.mark.parametrize("late", [False, True])
def test_a_command_ends_with_all_that_it_started(tools: Tools, late: bool) -> None:
    """What it left in the background is ended with it, also where that holds the output; and a command that takes too long is."""
    command = "echo $$ > pid; sleep 1000" if late else "sleep 1000 & echo $! > pid"
    result = use(tools, "bash", command=command, **({"timeout_s": 6} if late else {}))
    assert result.is_error is late
    pid = int((tools.top / "pid").read_text())
    wait_until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_endless_output_is_kept_in_part(tools: Tools) -> None:
    """Of what a command prints its beginning and end are kept, and said how much was left out."""
    text = use(tools, "bash", command="echo begin; yes | head -c 10000000; echo; echo end").text
    assert text.startswith("begin\n")
    assert text.endswith("end\n(exit code 0)")
    assert "bytes left out" in text
    assert len(text) < 2 * OUTPUT_HALF_BYTES + 200


def test_asked_to_end_no_command_is_waited_for(tools: Tools) -> None:
    """Once the worker was asked to end, a command is left at once, and a file is still written whole."""
    tools.stop.asked = True
    with pytest.raises(Stopped):
        use(tools, "bash", command="sleep 1000")
    assert not edit(tools, "create", "new", file_text="x").is_error


# --- files


def test_files_are_read_and_changed(tools: Tools) -> None:
    """The editor's four commands do what the API says of them."""
    path = "new/deep/x.txt"
    assert not edit(tools, "create", path, file_text="one\ntwo\n").is_error
    assert edit(tools, "view", path).text == "     1\tone\n     2\ttwo"
    assert edit(tools, "view", f"{tools.top}/{path}", view_range=[2, -1]).text == "     2\ttwo"
    assert not edit(tools, "str_replace", path, old_str="two", new_str="2").is_error
    assert not edit(tools, "insert", path, insert_line=1, insert_text="1.5").is_error
    assert not edit(tools, "insert", path, insert_line=0, insert_text="0\n").is_error
    assert (tools.top / path).read_text() == "0\none\n1.5\n2\n"
    assert not edit(tools, "str_replace", path, old_str="one\n").is_error
    assert (tools.top / path).read_text() == "0\n1.5\n2\n"
    listed = ["README.md", "new/", "new/deep", "src/", "src/a.py", "src/b.py"]
    assert edit(tools, "view", ".").text.splitlines() == listed


def test_line_ends_and_modes_stay(tools: Tools) -> None:
    """A file keeps its line ends, its mode and its other names, and loses nothing of a line without an end."""
    path = tools.top / "dos.txt"
    path.write_bytes(b"a\r\nb\r\nc")
    path.chmod(0o755)
    os.link(path, tools.top / "same.txt")
    assert not edit(tools, "str_replace", "dos.txt", old_str="a\nb", new_str="A\nB").is_error
    assert not edit(tools, "insert", "dos.txt", insert_line=3, insert_text="d\n").is_error
    assert path.read_bytes() == (tools.top / "same.txt").read_bytes() == b"A\r\nB\r\nc\r\nd\r\n"
    assert path.stat().st_mode & 0o777 == 0o755


def test_nothing_outside_of_the_worktree_is_touched(tools: Tools, tmp_path: Path) -> None:
    """No path, however written, and no link leads the editor out of the worktree or into what is git's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (tools.top / "way").symlink_to(outside)
    (tools.top / "link").symlink_to(outside / "file")
    (tools.top / "inside").symlink_to("src/b.py")
    there = ["way/file", "link", "../outside/file", f"{outside}/file", "src/../../outside/file", "way/new"]
    gits = [".git/config", ".GIT/config", "src/../.git/hooks/x", f"{tools.top}/.git/HEAD"]
    for path in (*there, *gits, "/etc/passwd"):
        calls = (
            edit(tools, "view", path),
            edit(tools, "create", path, file_text="x"),
            edit(tools, "str_replace", path, old_str="k", new_str="x"),
            use(tools, "search", pattern=".", path=path),
        )
        assert all(result.is_error and "kept" not in result.text for result in calls), path
    assert [each.name for each in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "kept"
    assert edit(tools, "view", "inside").text == "     1\tb = 1"


def test_claims_are_held_to(tools: Tools) -> None:
    """Outside of the claims a write is refused where strays are, and else done with a word of warning; a link counts as what it
    leads to. Without claims everything may be written."""
    (tools.top / "src" / "way.md").symlink_to("../README.md")
    for policy, written in (("reject", False), ("extend", True), ("warn", True)):
        held = replace(tools, claims=(Claim("src/**"),), policy=policy)
        assert edit(held, "create", "src/a.py", file_text=policy).text == "Written: src/a.py."
        for path in ("README.md", "src/way.md"):
            result = edit(held, "create", path, file_text=policy)
            assert result.is_error is not written
            assert "README.md" in result.text
            assert "src/**" in result.text
            assert ((tools.top / "README.md").read_text() == policy) is written
    assert edit(tools, "create", "README.md", file_text="free").text == "Written: README.md."


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("bash", {}),
        ("bash", {"command": 3}),
        ("bash", {"command": "a\0b"}),
        ("nothing", {}),
        ("search", {"pattern": "("}),
        ("search", {"path": "not/there", "pattern": 3}),
        (EDITOR, {"command": "undo_edit", "path": "README.md"}),
        (EDITOR, {"command": "view"}),
        (EDITOR, {"command": "view", "path": "not-there"}),
        (EDITOR, {"command": "view", "path": "README.md", "view_range": "1-2"}),
        (EDITOR, {"command": "view", "path": "README.md", "view_range": [9, 10]}),
        (EDITOR, {"command": "view", "path": "pipe"}),
        (EDITOR, {"command": "view", "path": "bytes"}),
        (EDITOR, {"command": "create", "path": "src", "file_text": "x"}),
        (EDITOR, {"command": "create", "path": "pipe", "file_text": "x"}),
        (EDITOR, {"command": "str_replace", "path": "src/a.py", "old_str": "line", "new_str": "x"}),
        (EDITOR, {"command": "str_replace", "path": "src/a.py", "old_str": "", "new_str": "x"}),
        (EDITOR, {"command": "str_replace", "path": "bytes", "old_str": "a", "new_str": "x"}),
        (EDITOR, {"command": "insert", "path": "src/a.py", "insert_line": 99, "insert_text": "x"}),
        (EDITOR, {"command": "insert", "path": "src/a.py", "insert_line": True, "insert_text": "x"}),
    ],
)
def test_what_can_not_be_done_is_said(tools: Tools, name: str, given: dict[str, Any]) -> None:
    """Whatever a model asks for, it is told why that can't be done, and nothing has changed."""
    os.mkfifo(tools.top / "pipe")
    (tools.top / "bytes").write_bytes(b"a\xff\n")
    before = git(tools.top, "status", "--porcelain")
    assert tools.use(Call("1", name, given)).is_error
    assert git(tools.top, "status", "--porcelain") == before


# --- searching


def test_searching_finds_lines_and_files(tools: Tools) -> None:
    """Lines are found in files old and new, file names without a pattern; what git ignores is left out, and too much is cut."""
    top = tools.top
    (top / ".gitignore").write_text("ignored/\n")
    (top / "ignored").mkdir()
    (top / "ignored" / "x.py").write_text("b = 1\n")
    (top / "new: [odd].py").write_text("B = 1\n")
    assert use(tools, "search", pattern="^b = [0-9]").text == "src/b.py:1:b = 1"
    assert use(tools, "search", pattern="^b =", ignore_case=True).text.splitlines() == [
        "new: [odd].py:1:B = 1",
        "src/b.py:1:b = 1",
    ]
    assert use(tools, "search", pattern="=", path="new: [odd].py").text == "new: [odd].py:1:B = 1"
    assert use(tools, "search", pattern="=", files="*.md").text == "Nothing was found."
    assert use(tools, "search", files="*.py", path="src").text.splitlines() == ["src/a.py", "src/b.py"]
    assert use(tools, "search", pattern="line").text.count("\n") == 19
    (top / "many").write_text("line\n" * 5000)
    assert use(tools, "search", pattern="line").text.endswith("ask for less")
