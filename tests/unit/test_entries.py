"""What may not come in with an attempt's work, by what is known of it."""

from __future__ import annotations

import pytest

from swarm.core.entries import COMMANDS, Entry, Policy, is_dot_git, judge, twins

MEGABYTE = 1_000_000


def refused(*entries: Entry, policy: Policy = Policy()) -> tuple[str, ...]:  # noqa: B008
    return judge(entries, (), policy).refused


@pytest.mark.parametrize(
    "name",
    [".git", ".GIT", ".g\u200cit", "\ufeff.git", ".git ", ".git . .", ".git::$INDEX", "git~1", "GIT~1", ".git\\x", "a\\.git"],
)  # fmt: skip
def test_what_some_disk_takes_for_gits_own_folder(name: str) -> None:
    """A part of a path that a file system of the Macintosh or of Windows would take for `.git` is refused, wherever it stands."""
    assert is_dot_git(name)
    assert refused(Entry(f"a/{name}/config")) == (
        f"a/{name}/config has a name that is, or on some machines becomes, that of git's own folder",
    )


@pytest.mark.parametrize(
    "name", [".github", ".gitignore", "git", ".gitx", "a.git", ".git-blame", "git~10", "x.git"]
)
def test_what_only_looks_like_it(name: str) -> None:
    """Names that honest trees have pass."""
    assert not is_dot_git(name)
    assert refused(Entry(f"{name}/a")) == ()


@pytest.mark.parametrize(
    "path",
    [".worktrees", ".worktrees/pool/1/a", ".WorkTrees/x", ".worktrees/.gitignore", "build", "build/wt/x"],
)
def test_what_would_be_checked_out_into_worktrees(path: str) -> None:
    """Nothing lands where worktrees lie, nor in the place of a folder above them: a checkout would put it into those of others."""
    policy = Policy(worktrees="build/wt" if path.startswith("build") else ".worktrees")
    assert refused(Entry(path), policy=policy) == (
        f"{path} is in the place of worktrees, {policy.worktrees}",
    )
    assert refused(Entry(path)) == ()


@pytest.mark.parametrize("path", [".worktrees2/x", "a/.worktrees/x", ".work", "worktrees/x"])
def test_what_lies_beside_worktrees(path: str) -> None:
    """Names that only begin alike pass."""
    assert refused(Entry(path), policy=Policy(worktrees=".worktrees")) == ()


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("up", "..", "up is a link out of the tree, to .."),
        ("a/b/up", "../../../x", "a/b/up is a link out of the tree, to ../../../x"),
        ("a/up", "b/../../../x", "a/up is a link out of the tree, to b/../../../x"),
        ("up", "/etc/passwd", "up is a link to a place of one machine, /etc/passwd"),
        ("up", "C:\\x", "up is a link to a place of one machine, C:\\x"),
        ("up", "a/../.GIT/config", "up is a link into git's own folder, to a/../.GIT/config"),
        ("up", "x" * 5000, "up is a link to a name that is too long"),
    ],
)
def test_links_that_leave(path: str, target: str, said: str) -> None:
    """A link that leads out of the tree, to an absolute place or into git's folder is refused, with where it leads."""
    assert refused(Entry(path, target=target)) == (said,)
    assert refused(Entry(path, target=target), policy=Policy(links="allow")) == ()
    assert judge([Entry(path, target=target)], (), Policy(links="warn")) == ((), (said,))


@pytest.mark.parametrize(
    ("path", "target"), [("a/b", "../c"), ("a", "b/c"), ("a/b/c", "../../d"), ("a", "."), ("a", "b/..")]
)
def test_links_that_stay(path: str, target: str) -> None:
    """A link within the tree passes, also one to nothing."""
    assert refused(Entry(path, target=target)) == ()


def test_sizes() -> None:
    """A file over the limit is refused, one that was over it before is not; what all of them add has a limit too; 0 is any."""
    policy = Policy(file_bytes_max=10 * MEGABYTE, added_bytes_max=25 * MEGABYTE)
    large = Entry("big", 11 * MEGABYTE)
    assert refused(large, policy=policy) == (
        "big has 11 MB, and a file of 10 MB is the largest that may come in",
    )
    assert refused(Entry("big", 10 * MEGABYTE), policy=policy) == ()
    assert refused(large._replace(size_before=12 * MEGABYTE), policy=policy) == ()
    assert refused(large._replace(passing=True), policy=policy) != ()
    nine = [Entry(name, 9 * MEGABYTE) for name in "abc"]
    assert refused(*nine, policy=policy) == ("it adds 27 MB in all, and 25 MB may come in with one attempt",)
    assert refused(large, *nine, policy=Policy(file_bytes_max=0, added_bytes_max=0)) == ()


def test_files_that_git_obeys() -> None:
    """Changes of .gitattributes anywhere, of .gitmodules and swarm.toml at the top come in and are told, or are refused, as it is
    set."""
    entries = [Entry("a/.gitattributes"), Entry(".gitModules"), Entry("a/.gitmodules")]
    entries += [Entry("Swarm.toml"), Entry("a/swarm.toml")]
    found = judge(entries, (), Policy())
    assert found.refused == ()
    assert found.noticed == (
        "a/.gitattributes says how git treats files",
        ".gitModules says where other repositories come from",
        f"Swarm.toml {COMMANDS}",
    )
    strict = judge(entries, (), Policy(attributes="reject", submodules="reject", settings="reject"))
    assert (strict.refused, strict.noticed) == (found.noticed, ())
    assert judge(entries, (), Policy(attributes="allow", submodules="allow", settings="allow")) == ((), ())


def test_twins() -> None:
    """Names that differ in case alone, or in how an accent is written, are twins where one of them was added; those that were there
    before are not."""
    names = {"": ["A", "a", "b"], "src": ["Foo.py", "foo.py", "e\u0301", "\u00e9", "x"]}
    assert list(twins(["src/foo.py", "src/x"], names)) == [("src/Foo.py", "src/foo.py")]
    assert list(twins(["src/\u00e9"], names)) == [("src/e\u0301", "src/\u00e9")]
    assert list(twins(["A", "a"], names)) == [("A", "a")]
    assert list(twins(["b", "src/x", "new/y"], names)) == []
    pair = ("A", "a")
    assert judge([], [pair], Policy()).refused == (
        "A and a differ in case alone, and on some machines are one file",
    )
    assert judge([], [pair], Policy(twins="allow")) == ((), ())


def test_the_problem_is_a_sentence_that_does_not_grow_for_ever() -> None:
    """Of many things that must not come in five are named, each once; where there is none nothing is said."""
    assert judge([], [], Policy()).problem == ""
    many = [Entry(f"l{n}", target="/x") for n in range(7) for _ in range(2)]
    problem = judge(many, [], Policy()).problem
    assert problem.startswith(
        "What it changed must not come in: l0 is a link to a place of one machine, /x; l1 "
    )
    assert problem.endswith("; l4 is a link to a place of one machine, /x; and 2 more.")
