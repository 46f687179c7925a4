"""Many merges at once give what each gives by itself where a person makes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from swarm.edge import attributes, merging
from tests.conftest import git

UNION, BINARY = "*.txt merge=union\n", "*.txt binary\n"
LINE: tuple[dict[str, str], ...] = (  # what each commit of a line has of attributes, by file
    {},
    {".gitattributes": UNION},
    {".gitattributes": "*.txt text\n"},
    {"sub/.gitattributes": UNION},
    {"sub/.gitattributes": BINARY},
    {"sub/.gitattributes": BINARY, ".gitattributes": UNION},
    {".gitattributes": UNION},
    {".gitattributes": BINARY},
    {},
)


def commit(top: Path, branch: str, files: dict[str, str]) -> str:
    """Commits exactly these attribute files, and others as they are given, on a branch."""
    for name in (".gitattributes", "sub/.gitattributes"):
        (top / name).unlink(missing_ok=True)
    for name, text in files.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(text)
    git(top, "add", "-A")
    git(top, "commit", "-q", "--allow-empty", "-m", branch)
    return git(top, "rev-parse", "HEAD")


def by_hand(top: Path, ours: str, theirs: str) -> str | None:
    """Merges in a checkout; gives the tree, None for a conflict."""
    git(top, "checkout", "-q", "-f", "--detach", ours)
    done = subprocess.run(["git", "merge", "-q", "--no-edit", theirs], cwd=top, capture_output=True)
    tree = git(top, "rev-parse", "HEAD^{tree}") if done.returncode == 0 else None
    git(top, "reset", "-q", "--hard")
    return tree


@pytest.mark.parametrize("at_once", [2, 3, 64])
def test_many_merges_give_what_each_gives_by_itself(
    repo: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Attributes that come, change and go from one commit to the next hold for the merge into each; what is not there is no merge,
    and holds up no other."""
    for module in (attributes, merging):
        monkeypatch.setattr(module, "REMEMBERED_TREES", at_once)
    texts = {"a.txt": "1\n2\n3\n", "sub/b.txt": "1\n2\n3\n"}
    commit(repo, "base", texts)
    changed = {name: text.replace("2", "theirs") for name, text in texts.items()}
    git(repo, "checkout", "-q", "-b", "topic")
    topics = [commit(repo, "topic", {name: changed[name]}) for name in changed]
    git(repo, "checkout", "-q", "-B", "line", "main")
    ours = {name: text.replace("2", "ours") for name, text in texts.items()}
    line = [commit(repo, "line", {**files, **ours}) for files in LINE]
    gone = "1" * 40
    pairs = [(each, topic) for each in line for topic in topics]
    pairs[3:3] = [(gone, topics[0]), (line[0], gone)]
    wanted = [None if gone in pair else by_hand(repo, *pair) for pair in pairs]
    assert 2 <= sum(tree is not None for tree in wanted) <= len(pairs) - 4
    assert merging.merge_all(repo / ".git", pairs) == wanted
