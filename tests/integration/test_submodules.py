"""What a worker does in a submodule: it lands where others can have it, and is else kept and told, and runs nothing of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from swarm.edge import git
from swarm.edge.furnish import ORIGIN
from swarm.edge.leftovers import Collected
from swarm.edge.worktrees import Pool
from tests.conftest import git as sh
from tests.integration.test_secluded import Inside
from tests.integration.test_worktrees import collect

KEY = "r/t/1"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of the submodule, which takes pushes."""
    settings = {"protocol.file.allow": "always", "user.name": "Ada", "user.email": "ada@example.org"}
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    made = tmp_path / "library"
    sh(tmp_path, "init", "-q", "-b", "main", str(made))
    (made / "code").write_text("1\n")
    (made / ".gitignore").write_text("*.o\n")
    sh(made, "add", "-A")
    sh(made, "commit", "-qm", "library")
    sh(made, "config", "receive.denyCurrentBranch", "ignore")
    return made


@pytest.fixture
def base(repo: Path, library: Path) -> str:
    """A commit of the user's with the library as submodule `lib/one`; the user's checkout has it set up."""
    sh(repo, "submodule", "--quiet", "add", str(library), "lib/one")
    sh(repo, "commit", "-qm", "with a submodule")
    return sh(repo, "rev-parse", "HEAD")


class Worker:
    """A worker in a worktree: in the open, or with a git folder of its own, in the repository's place or beside it."""

    def __init__(self, repo: Path, pool: Pool, base: str, how: str) -> None:
        self.repo, self.pool, self.base = repo, pool, base
        self.inside = None if how == "open" else Inside(repo, pool, base, in_place=how == "in its place")
        self.tree = self.inside.tree if self.inside else pool.take(KEY, base)
        self.lib = self.tree / "lib" / "one"

    def git(self, *args: str) -> None:
        if self.inside is not None:
            self.inside.git(*args)
        else:
            sh(self.tree, *args)

    def set_up(self) -> None:
        sh(self.tree, "submodule", "--quiet", "update", "--init", "--recursive")

    def commit(self, text: str) -> str:
        (self.lib / "code").write_text(text)
        sh(self.lib, "commit", "-qam", text)
        return sh(self.lib, "rev-parse", "HEAD")

    def ends(self) -> Collected:
        if self.inside is not None and self.inside.in_place and self.inside.folder.exists():
            for made in (self.repo / ".git" / "worktrees").glob("*/modules"):  # a mount would put it there
                made.rename(self.inside.admin / "modules")
        return collect(self.pool, self.tree, self.base)

    def kept(self) -> Path:
        place = self.pool.give_back(KEY)
        assert place is not None
        assert Path(place).is_dir(), place
        assert not (self.tree / "lib" / "one" / "code").exists()
        return Path(place)


@pytest.fixture(params=["open", "named", "in its place"])
def worker(repo: Path, pool: Pool, base: str, request: pytest.FixtureRequest) -> Worker:
    """A worker before it has done anything."""
    return Worker(repo, pool, base, request.param)


def test_a_submodule_that_was_only_set_up_lands(worker: Worker) -> None:
    """Setting it up and building in it, which git ignores, is nothing of a submodule's; the other files land."""
    worker.set_up()
    (worker.lib / "code.o").write_text("built")
    (worker.tree / "work").write_text("work")
    found = worker.ends()
    assert (found.problem, found.touched) == ("", ("work",))
    assert worker.pool.give_back(KEY) is None


@pytest.mark.parametrize("is_set_up", [True, False])
def test_a_file_in_the_place_of_the_folder_above_a_submodule_lands(worker: Worker, is_set_up: bool) -> None:
    """The submodule is gone with its folder, and that is the work."""
    if is_set_up:
        worker.set_up()
    shutil.rmtree(worker.tree / "lib")
    (worker.tree / "lib").write_text("a file\n")
    found = worker.ends()
    assert (found.problem, found.touched) == ("", ("lib", "lib/one"))
    assert sh(worker.repo, "show", f"{found.head}:lib") == "a file"
    assert worker.pool.give_back(KEY) is None


def test_files_in_a_submodule_are_kept_whole_and_told(worker: Worker) -> None:
    """Changed and new files in a submodule are in no commit: the attempt says so, and the folder is kept as it lies."""
    worker.set_up()
    (worker.lib / "code").write_text("2\n")
    (worker.lib / "new").write_text("new\n")
    found = worker.ends()
    assert "lib/one" in found.problem
    assert "code, new" in found.problem
    assert worker.ends() == found
    place = worker.kept()
    assert (place / "lib/one/code").read_text() == "2\n"
    assert (place / "lib/one/new").read_text() == "new\n"


def test_files_in_a_submodule_that_is_not_set_up_are_kept_whole_and_told(worker: Worker) -> None:
    """What lies in the empty folder of a submodule git does not see at all."""
    (worker.lib / "deep").mkdir()
    found = worker.ends()
    assert found.problem == ""
    (worker.lib / "deep" / "new").write_text("new\n")
    (worker.tree / "work").write_text("work")
    found = worker.ends()
    assert "lib/one" in found.problem
    assert "deep/new" in found.problem
    assert found.touched == ("work",)
    assert (worker.kept() / "lib/one/deep/new").read_text() == "new\n"


def test_a_commit_that_nobody_else_has_is_kept_and_told(worker: Worker) -> None:
    """A commit made in a submodule and pushed nowhere would leave a link that leads nowhere. It is kept with its folder, which is a
    repository by itself then."""
    worker.set_up()
    made = worker.commit("2\n")
    found = worker.ends()
    assert "lib/one" in found.problem
    assert made[:12] in found.problem
    assert worker.ends() == found
    place = worker.kept()
    assert sh(place / "lib/one", "rev-parse", "HEAD") == made
    assert sh(place / "lib/one", "status", "--porcelain") == ""


def test_a_commit_that_was_pushed_lands(worker: Worker) -> None:
    """A commit that the submodule's remote has lands as a link."""
    worker.set_up()
    made = worker.commit("2\n")
    sh(worker.lib, "push", "-q", "origin", "HEAD:main")
    found = worker.ends()
    assert (found.problem, found.touched) == ("", ("lib/one",))
    assert made in sh(worker.repo, "ls-tree", found.head, "lib/one")
    assert worker.pool.give_back(KEY) is None


def test_a_commit_that_the_users_own_submodule_has_lands(worker: Worker) -> None:
    """So does one that is only in the user's copy of the submodule."""
    theirs = worker.repo / "lib" / "one"
    (theirs / "code").write_text("3\n")
    sh(theirs, "commit", "-qam", "the user's")
    made = sh(theirs, "rev-parse", "HEAD")
    worker.set_up()
    sh(worker.lib, "fetch", "-q", str(theirs), made)
    sh(worker.lib, "checkout", "-q", made)
    found = worker.ends()
    assert (found.problem, found.touched) == ("", ("lib/one",))


@pytest.mark.parametrize("way", ["branch", "stash", "folder gone"])
def test_a_commit_beside_the_one_it_stands_at_is_kept_and_told(worker: Worker, way: str) -> None:
    """A branch or a stash of a submodule is a worker's work too, and so is what its git folder has when its files are gone."""
    worker.set_up()
    at = sh(worker.lib, "rev-parse", "HEAD")
    if way == "stash":
        (worker.lib / "code").write_text("2\n")
        sh(worker.lib, "stash", "-q")
        made = sh(worker.lib, "rev-parse", "stash")
    else:
        sh(worker.lib, "switch", "-qc", "other")
        made = worker.commit("2\n")
        sh(worker.lib, "checkout", "-q", at)
    if way == "folder gone":
        sh(worker.tree, "submodule", "--quiet", "deinit", "--force", "lib/one")
    found = worker.ends()
    assert "lib/one" in found.problem
    place = worker.kept()
    where = f"{place}.modules/lib/one" if way == "folder gone" else str(place / "lib/one/.git")
    assert sh(place.parent, "--git-dir", where, "cat-file", "-t", made) == "commit"


def test_a_submodule_in_a_submodule(repo: Path, pool: Pool, library: Path, base: str, tmp_path: Path) -> None:
    """What is true of a submodule is true of one in it."""
    middle = tmp_path / "middle"
    sh(tmp_path, "init", "-q", "-b", "main", str(middle))
    sh(middle, "submodule", "--quiet", "add", str(library), "inner")
    sh(middle, "commit", "-qm", "middle")
    sh(repo, "submodule", "--quiet", "add", str(middle), "mid")
    sh(repo, "commit", "-qm", "nested")
    worker = Worker(repo, pool, sh(repo, "rev-parse", "HEAD"), "open")
    worker.set_up()
    inner = worker.tree / "mid" / "inner"
    assert worker.ends().problem == ""
    (inner / "code").write_text("2\n")
    sh(inner, "commit", "-qam", "2")
    made = sh(inner, "rev-parse", "HEAD")
    found = worker.ends()
    assert "mid/inner" in found.problem
    assert sh(worker.kept() / "mid/inner", "rev-parse", "HEAD") == made


def test_a_link_that_names_no_submodule_keeps_what_lies_there(repo: Path, pool: Pool, library: Path) -> None:
    """A repository that was added by mistake is a link that no .gitmodules names; files in its folder are kept and told too."""
    oid = sh(library, "rev-parse", "HEAD")
    sh(repo, "update-index", "--add", "--cacheinfo", f"160000,{oid},lost")
    sh(repo, "commit", "-qm", "a link")
    worker = Worker(repo, pool, sh(repo, "rev-parse", "HEAD"), "open")
    (worker.tree / "lost" / "new").write_text("new\n")
    assert "lost" in worker.ends().problem
    assert (worker.pool.give_back(KEY) or "") != ""


def test_a_git_folder_that_can_not_be_read_is_told(worker: Worker) -> None:
    """Of a submodule whose git folder is none the worktree could have nothing is known, so it is kept."""
    (worker.lib / ".git").write_text("gitdir: /nowhere\n")
    found = worker.ends()
    assert "can't be told" in found.problem
    assert worker.ends() == found
    worker.kept()


def test_nothing_runs_by_the_settings_of_a_submodule(worker: Worker, tmp_path: Path) -> None:
    """Git looks into a submodule by a git that goes by its settings, which a worker makes; whoever collects is not shut in."""
    worker.set_up()
    ran = tmp_path / "ran"
    sh(worker.lib, "config", "core.fsmonitor", f"touch {ran}; false")
    sh(worker.lib, "config", "filter.f.clean", f"touch {ran}; cat")
    git_dir = Path(sh(worker.lib, "rev-parse", "--absolute-git-dir"))
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("* filter=f\n")
    remove_if_there(ran)
    os.utime(worker.lib / "code", (1, 1))
    (worker.tree / "work").write_text("work")
    assert worker.ends().problem == ""
    worker.pool.give_back(KEY)
    assert not ran.exists()


def remove_if_there(path: Path) -> None:
    """Removes a file that setting a trap may have made."""
    path.unlink(missing_ok=True)


def test_a_repository_without_submodules_costs_no_process_more(
    repo: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no submodule is, collecting asks git for `add` and nothing else."""
    worker = Worker(repo, pool, sh(repo, "rev-parse", "HEAD"), "open")
    (worker.tree / "symlink").write_text("work")
    asked: list[tuple[str, ...]] = []
    real = git.run

    def noted(*args: str, **about: Any) -> git.Outcome:
        asked.append(args)
        return real(*args, **about)

    monkeypatch.setattr(git, "run", noted)
    assert worker.ends().problem == ""
    assert [args for args in asked if "add" not in args] == []
    assert len(asked) == 1


# --- relative addresses ---------------------------------------------------------------------------------------------


def repository_of(place: Path, name: str, **submodules: str) -> Path:
    """Makes a repository with a file and with submodules, each by its name, at an address that is written as it is."""
    made = place / name
    sh(place, "init", "-q", "-b", "main", str(made))
    (made / name).write_text("x\n")
    for path, address in submodules.items():
        sh(made, "config", "--file", ".gitmodules", f"submodule.{path}.path", path)
        sh(made, "config", "--file", ".gitmodules", f"submodule.{path}.url", address)
        head = sh(Path(os.path.normpath(made / address)), "rev-parse", "HEAD")
        sh(made, "update-index", "--add", "--cacheinfo", f"160000,{head},{path}")
    sh(made, "add", name, *[".gitmodules"] * bool(submodules))
    sh(made, "commit", "-qm", name)
    return made


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("named", "at"), [("", ""), ("origin", "/"), ("origin", ".."), ("other", "/")])
def test_a_relative_address_leads_where_it_does_in_the_checkout(tmp_path: Path, named: str, at: str) -> None:
    """In a worktree of a repository of ours, which has no remote, the setup command finds submodules with relative addresses as in
    the user's checkout: beside its remote, or beside itself where it has none; and those of a submodule beside that."""
    far = tmp_path / "far" / "away"
    (far / "libs").mkdir(parents=True)
    repository_of(far / "libs", "inner")
    repository_of(far / "libs", "lib", inner="../inner")
    user = repository_of(far, "user", lib="../libs/lib")
    if named:
        up, user = user, tmp_path / "user"
        sh(tmp_path, "clone", "-q", "-o", named, str(up), str(user))
        sh(user, "config", f"remote.{named}.url", str(up) if at == "/" else "../far/away/user")
    ours = tmp_path / "ours [1]*.git"
    sh(tmp_path, "clone", "-q", "--bare", str(user), str(ours))
    sh(ours, "remote", "remove", "origin")
    setup = "git -c protocol.file.allow=always submodule update --init --recursive"
    home = git.Repository.discover(user)
    pool = Pool(ours, tmp_path / "pool", lock=tmp_path / "lock", source=user, setup=setup, home=home)
    tree = pool.take("verify", sh(user, "rev-parse", "HEAD"))
    assert (tree / "lib" / "lib").exists()
    assert (tree / "lib" / "inner" / "inner").exists()
    assert sh(tree, "remote") == ""
    pool.close()


@pytest.mark.parametrize("address", ["git@host:me/p.git", "https://host/p q", 'ssh://h/a"b\\', "/p/ü\n"])
def test_an_address_arrives_as_it_is(repo: Path, tmp_path: Path, address: str) -> None:
    """The setup command's git is told the very address that the user's remote has, whatever is in it."""
    sh(repo, "config", "remote.origin.url", address)
    made = tmp_path / "made"
    ours = tmp_path / "ours.git"
    sh(tmp_path, "clone", "-q", "--bare", str(repo), str(ours))
    sh(ours, "remote", "remove", "origin")
    home = git.Repository.discover(repo)
    setup = f"git config -z remote.origin.url > {made}"
    pool = Pool(ours, tmp_path / "pool", lock=tmp_path / "lock", source=repo, setup=setup, home=home)
    pool.take("verify", sh(repo, "rev-parse", "HEAD"))
    assert made.read_text() == f"{os.path.normpath(address) if address[0] == '/' else address}\0"
    assert len([*ours.glob(f"worktrees/*/{ORIGIN}")]) == 1
    pool.close()


@pytest.mark.parametrize("committed", [False, True])
def test_a_submodule_that_was_only_untracked_stays_where_gitmodules_names_it(
    worker: Worker, committed: bool
) -> None:
    """One that is set up and that .gitmodules names is kept as any file that lies there, at the commit at which it stands."""
    worker.set_up()
    made = worker.commit("2\n")
    sh(worker.lib, "push", "-q", "origin", "HEAD:refs/heads/pushed")
    worker.git("rm", "-q", "--cached", "lib/one")
    if committed:
        worker.git("commit", "-qm", "out")
    found = worker.ends()
    assert (found.problem, found.touched) == ("", ("lib/one",))
    assert sh(worker.repo, "rev-parse", f"{found.head}:lib/one") == made
    assert worker.ends() == found
    assert worker.pool.give_back(KEY) is None


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("work", ["none", "files", "commit"])
def test_a_submodule_that_was_untracked_is_looked_into(
    worker: Worker, named: bool, ignored: bool, work: str
) -> None:
    """It goes where no .gitmodules names it any more, or git ignores it; what is in it and nowhere else is kept and told."""
    worker.set_up()
    worker.git("rm", "-q", "--cached", "lib/one")
    if not named:
        (worker.tree / ".gitmodules").unlink()
    if ignored:
        (worker.tree / ".gitignore").write_text("lib/one\n")
    if work == "commit":
        worker.commit("2\n")
    if work == "files":
        (worker.lib / "code").write_text("2\n")
    found = worker.ends()
    gone = ignored or not named or work == "commit"
    assert ("lib/one" in found.touched) == gone
    assert ("lib/one holds work" in found.problem) == (work != "none")
    again = worker.ends()
    assert (again.head, again.touched, again.problem) == (found.head, found.touched, found.problem)
    if work != "none":
        assert (worker.kept() / "lib/one/code").read_text() == "2\n"
    else:
        assert found.problem == ""
        assert worker.pool.give_back(KEY) is None
