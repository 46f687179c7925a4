"""What is seen of a project for `verify = "auto"`."""

from __future__ import annotations

from pathlib import Path

from swarm.core import discover
from swarm.edge import project
from tests.conftest import git


def test_what_git_tracks_is_seen(repo: Path) -> None:
    """Tracked files are seen, with the text of those that say how the project is tested; an untracked one is nobody's suite."""
    (repo / "Makefile").write_text("lint:\n\ttrue\n")
    (repo / "src" / "test_ü.py").write_text("def test(): pass\n")
    (repo / "go.mod").write_text("module x\n")
    git(repo, "add", "Makefile", "src")
    found = project.look(repo)
    assert {"Makefile", "src/test_ü.py"} <= set(found.names)
    assert "go.mod" not in found.names
    assert found.texts["Makefile"].startswith("lint:")
    assert [each.name for each in discover.suites(found)] == ["pytest", "lint"]


def test_tests_of_rust_are_found_in_its_code(repo: Path) -> None:
    """Tests stand amid the code there: without one `cargo test` would find none, and nothing could land by it."""
    (repo / "Cargo.toml").write_text('[package]\nname = "x"\n')
    code = repo / "src" / "lib.rs"
    code.write_text("pub fn f() {}\n")
    git(repo, "add", ".")
    assert discover.suites(project.look(repo)) == ()
    code.write_text("pub fn f() {}\n#[tokio::test]\nasync fn t() {}\n")
    git(repo, "add", ".")
    assert [each.run for each in discover.suites(project.look(repo))] == ["cargo test"]


def test_a_folder_without_git_can_be_looked_at(tmp_path: Path) -> None:
    """A plan can be checked anywhere."""
    (tmp_path / "Makefile").write_text("test:\n\ttrue\n")
    assert [each.run for each in discover.suites(project.look(tmp_path))] == ["make test"]
