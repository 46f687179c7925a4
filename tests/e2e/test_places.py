"""Repositories, checkouts and machines of every kind: where it works, and that it keeps to itself there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PROJECT, Swarm, common_dir, snapshot, verified_in
from tests.e2e.test_ends import task_of

MakeSwarm = Callable[..., Swarm]


def a_repository(top: Path, *options: str, identity: bool = True) -> Path:
    """Makes a repository with one commit."""
    top.mkdir(parents=True)
    git(top, "init", "-q", "-b", "main", *options)
    if identity:
        git(top, "config", "user.name", "Ada")
        git(top, "config", "user.email", "ada@example.org")
    (top / "a").write_text("a\n")
    git(top, "add", "-A")
    git(top, "-c", "user.name=Ada", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return top


def lands(swarm: Swarm, name: str = "r") -> None:
    """Carries two tasks out, one after the other, and checks them."""
    swarm.check_landed(swarm.run(swarm.plan(name, [swarm.task("one"), swarm.task("two", needs=["one"])])))
    assert swarm.landings(name, "HEAD") == ["one", "two"]


def test_workers_do_not_see_each_other(swarm: Swarm) -> None:
    """Row 23: what one worker writes is seen neither by one beside it nor in the user's checkout before it has landed."""
    seen = swarm.outside / "seen"
    writer = swarm.task(
        "writer", "echo secret > secret; echo x >> README.md", gate="seen", claims=["secret", "README.md"]
    )
    reader = swarm.task(
        "reader",
        f"until [ -e {swarm.gate('written')} ]; do sleep 0.02; done; ls > {seen}; cat README.md >> {seen}; echo r > r",
        claims=["r"],
    )
    swarm("start")
    swarm("submit", str(swarm.plan("r", [writer, reader])))
    swarm.wait_for_start("writer", "reader")
    worktree = Path(task_of(swarm.status()["runs"][0], "writer")["attempts"][0]["worktree"])
    wait_until((worktree / "secret").exists)
    swarm.open("written")
    swarm.wait_for_landed("r", "reader")
    assert snapshot(swarm.top) == swarm.before
    swarm.open("seen")
    swarm.check_landed(swarm.wait("r"))
    assert "secret" not in seen.read_text()
    assert "x" not in seen.read_text().splitlines()


@pytest.mark.parametrize("how", ["plan", pytest.param("checkout", marks=pytest.mark.slow)])
def test_the_base_that_is_wished_for(swarm: Swarm, how: str) -> None:
    """Row 26: a run starts from the tip of the branch that the plan names, else of the one checked out, and finishes into it."""
    git(swarm.top, "checkout", "-q", "-b", "develop")
    (swarm.top / "only-develop").write_text("d\n")
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "develop")
    tip = git(swarm.top, "rev-parse", "develop")
    more = {}
    if how == "plan":
        git(swarm.top, "checkout", "-q", "main")
        more = {"base": "develop"}
    swarm.look_again()
    run = swarm.run(swarm.plan("r", [swarm.task("t", "cp only-develop copy", claims=["copy"])], **more))
    assert run["base"] == {"branch": "develop", "commit": tip}
    assert git(swarm.top, "merge-base", "develop", "swarm/r/staging") == tip
    assert swarm.content("r", "copy") == "d\n"
    main = git(swarm.top, "rev-parse", "main")
    swarm("finish")
    assert git(swarm.top, "rev-parse", "develop") == swarm.staging("r")
    assert git(swarm.top, "rev-parse", "main") == main
    swarm.look_again()


def test_what_git_ignores_is_provided(swarm: Swarm) -> None:
    """Row 30: a copied `.env`, a shared `node_modules` and what the setup command makes can be used in worktrees and suites."""
    (swarm.top / ".gitignore").write_text(".env\nnode_modules\n.ready\n")
    (swarm.top / "swarm.toml").write_text(
        '[worktrees]\ncopy = [".env"]\nshare = ["node_modules"]\nsetup = "echo ready > .ready"\n'
    )
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "settings")
    (swarm.top / ".env").write_text("KEY=1\n")
    (swarm.top / "node_modules" / "m").mkdir(parents=True)
    (swarm.top / "node_modules" / "m" / "index.js").write_text("module\n")
    swarm.look_again()
    read = "cat .env node_modules/m/index.js .ready"
    tasks = [
        swarm.task(f"t{n}", f"{read} > out{n}", claims=[f"out{n}"], needs=[f"t{n - 1}"] if n else [])
        for n in range(3)
    ]
    run = swarm.run(swarm.plan("r", tasks, verify=[f'test "$({read} | wc -l)" = 3']))
    swarm.check_landed(run)
    for n in range(3):
        assert swarm.content("r", f"out{n}") == "KEY=1\nmodule\nready\n"
        assert swarm.content("r", ".env") is None
        assert task_of(run, f"t{n}")["attempts"][0]["touched"] == [f"out{n}"]


@pytest.mark.slow
def test_a_submodule_with_a_relative_address_is_set_up_for_suites_too(swarm: Swarm) -> None:
    """What `git submodule update --init` brings into a worker's worktree it brings into a suite's, into those of `verify` and
    `audit` and into that of a finish: a relative address is resolved by the remote of the checkout."""
    lib, up = swarm.outside / "far" / "lib", swarm.outside / "far" / "up.git"
    git(swarm.outside, "init", "-q", "-b", "main", str(lib))
    git(lib, "-c", "user.name=Ada", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "empty")
    (lib / "l.txt").write_text("from the library\n")
    git(lib, "add", "-A")
    git(lib, "-c", "user.name=Ada", "-c", "user.email=a@b", "commit", "-q", "-m", "library")
    git(swarm.top, "remote", "add", "origin", str(up))
    allowed = "git -c protocol.file.allow=always submodule"
    git(swarm.top, *allowed.split()[1:], "--quiet", "add", "../lib", "vendor/lib")
    settings = f'sandbox_setup = false\n[worktrees]\nsetup = "{allowed} update --init"\n'
    (swarm.top / "swarm.toml").write_text(settings)
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "with a submodule")
    swarm.look_again()
    read = "cat vendor/lib/l.txt"
    task = swarm.task("t", f"{read} > out", claims=["out"])
    swarm.check_landed(swarm.run(swarm.plan("r", [task], verify=[f"{read} | cmp - out"])))
    assert swarm("verify", "--json").json["ok"] is True
    assert swarm("audit", "--verify", "1", "--json").json["ok"] is True
    git(swarm.top, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    swarm("finish")
    swarm.look_again()


@pytest.mark.slow
def test_nothing_of_the_checkout_is_above_a_suite(swarm: Swarm) -> None:
    """What looks upwards for its settings finds none of the checkout: not below it, and below no folder called `.git`, in which
    some test runners find nothing. Without a home that can't be had, and suites run beside the workers."""
    (swarm.top / "pytest.ini").write_text("[pytest]\n")
    swarm.look_again()
    told = swarm.outside / "told"
    look = f'd=$PWD; while [ "$d" != / ]; do ls "$d/pytest.ini" 2>/dev/null; echo "$d"; d=$(dirname "$d"); done > {told}'
    plan = swarm.plan("r", [swarm.task("t")], verify=[{"name": "up", "run": look, "remember": False}])
    swarm.check_landed(swarm.run(plan))
    above = told.read_text().splitlines()
    assert str(swarm.top) not in above
    assert not [line for line in above if line.endswith(("pytest.ini", "/.git"))]
    swarm("start")
    shutil.rmtree(verified_in(swarm.top))  # it is a cache
    swarm("audit")
    swarm("submit", str(swarm.plan("r", [swarm.task("t"), swarm.task("u")], verify=[f"{look}; true"])))
    swarm.check_landed(swarm.wait("r"))
    swarm("audit")
    swarm("stop")
    plan = swarm.plan("s", [swarm.task("t")], verify=[{"name": "up", "run": look, "remember": False}])
    wait_until(lambda: not swarm.status()["daemon"]["running"])
    swarm.run(plan, HOME="")
    assert Path(told.read_text().splitlines()[0]).parent == Path(
        os.path.realpath(swarm.top / ".worktrees/.verify")
    )


@pytest.mark.slow
def test_where_suites_run_moves_with_the_setting(swarm: Swarm) -> None:
    """They run beside worktrees that lie outside of the checkout. While there are runs with worktrees in another place than is set,
    that is refused; without them nothing is left there, on the disk or in git's records."""
    told = swarm.outside / "told"
    suite = {"name": "where", "run": f"pwd > {told}", "remember": False}
    landing = common_dir(swarm.top) / "swarm" / "landing.git"
    for number, root in enumerate((".worktrees", "../elsewhere", "../elsewhere")):
        wait_until(lambda: not swarm.status()["daemon"]["running"])
        if number == 1:
            settings = swarm.top / "swarm.toml"
            settings.write_text(f'[worktrees]\nroot = "{root}"\n')
            for command in ("start", "recover"):
                told_so = swarm(command, code=2).err
                assert f"is not where the worktrees of r are: {swarm.top / '.worktrees'}" in told_so
            settings.unlink()
            swarm("discard", "r", "--force", "--yes", "staging")
            swarm("stop", code=None)
            settings.write_text(f'[worktrees]\nroot = "{root}"\n')
            swarm.look_again()
        swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task(f"t{number}")], verify=[suite])))
        place = Path(told.read_text().strip())
        if number:
            assert place.parent == Path(os.path.realpath(swarm.top / root)) / ".verify"
        listed = git(landing, "worktree", "list", "--porcelain").splitlines()
        assert [line for line in listed if line.startswith("worktree ")][1:] == [f"worktree {place}"]
        swarm("audit")
    assert not [*Path(os.environ["HOME"], ".cache/swarm/verify").iterdir()]


@pytest.mark.slow
def test_what_git_tracks_is_not_copied(swarm: Swarm) -> None:
    """A copy of tracked files would be verified instead of what lands: refused with what is tracked, as is a folder that the
    worktrees lie in; whatever reads the settings says so, and nothing has begun."""
    plan = str(swarm.plan("r", [swarm.task("t")]))
    for path, why in (
        ("src", "git tracks files in it, such as src/a.py"),
        ("README.md", "git tracks it"),
        (".worktrees", "the worktrees lie in it"),
        (".", "not a path inside the repository"),
        (".git/config", "not a path inside the repository"),
    ):
        (swarm.top / "swarm.toml").write_text(f'[worktrees]\ncopy = ["{path}"]\n')
        for command in (("check", plan), ("run", plan), ("start",)):
            refused = swarm(*command, code=2)
            assert why in refused.err
            assert "worktrees.copy" in refused.err
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()
    assert "runs" not in swarm.status() or swarm.status()["runs"] == []


def test_nothing_leaks_from_one_attempt_to_the_next(swarm: Swarm) -> None:
    """Row 23: a worktree that is used again holds nothing of the attempt before, neither ignored nor untracked nor half merged."""
    (swarm.top / ".git" / "info" / "exclude").write_text("*.cache\n")
    swarm.look_again()
    seen = swarm.outside / "seen"
    messy = "; ".join(
        (
            "echo x > junk.cache",
            "mkdir -p d.cache",
            "echo y > d.cache/f",
            "chmod +x src/a.py",
            "git stash -q || true",
            "echo 1 > one",
        )
    )
    look = f"(git status --porcelain --ignored; ls -A; stat -c %a src/a.py; git branch --show-current) > {seen}; echo 2 > two"
    tasks = [
        swarm.task("messy", messy, claims=["one", "src/a.py"]),
        swarm.task("next", look, claims=["two"], needs=["messy"]),
    ]
    # With a spare worktree the second would get that one wherever the first one's is not cleaned yet.
    run = swarm.run(swarm.plan("r", tasks), "--workers", "1", code=None, SWARM_WORKTREES__SPARE="0")
    assert task_of(run, "next")["attempts"][0]["worktree"] == task_of(run, "messy")["attempts"][0]["worktree"]
    said = seen.read_text()
    assert "cache" not in said
    assert "644" in said
    git(swarm.top, "update-ref", "-d", "refs/stash", check=False)
    swarm.before["stash"] = snapshot(swarm.top)["stash"]


@pytest.mark.slow
def test_worktrees_can_be_kept(swarm: Swarm) -> None:
    """Row 121: with worktrees.keep the worktree of an attempt that did not land stays with what lies in it, and status names it."""
    plan = swarm.plan("r", [swarm.task("t", "echo half > half; exit 1", claims=["half"], attempts=1)])
    done = swarm("run", str(plan), "--json", code=1, SWARM_WORKTREES__KEEP="true")
    (run,) = done.json["runs"]
    worktree = Path(task_of(run, "t")["attempts"][0]["worktree"])
    assert (worktree / "half").read_text() == "half\n"
    assert str(worktree) in [row["path"] for row in swarm("worktrees", "--json").json["worktrees"]]


@pytest.mark.slow
def test_names_in_every_script(swarm: Swarm) -> None:
    """Row 106: plan file, ids, titles, claims and paths in Cyrillic, with spaces, quotes and emoji, run and stay UTF-8."""
    (swarm.top / "документы").mkdir()
    (swarm.top / "документы" / "план работ.txt").write_text("раз\n", "utf-8")
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "кириллица")
    swarm.look_again()
    tasks = [
        swarm.task(
            "Задача №1",
            "echo два >> 'документы/план работ.txt'",
            title="Тест «кавычки» 🚀",
            claims=["документы/**"],
        ),
        swarm.task(
            'it\'s "two"',
            "echo x > 'a b \"c\".txt'",
            title="Spaces & 'quotes'",
            claims=['a b "c".txt'],
            needs=["Задача №1"],
        ),
    ]
    path = swarm.plan("r", tasks).rename(swarm.outside / "план сборки.json")
    path.write_text(path.read_text("utf-8").replace('"name": "r"', '"name": "Сборка Ü"'), "utf-8")
    assert swarm("check", str(path), "--json").json["ok"]
    run = swarm.run(path)
    assert run["counts"]["landed"] == 2
    swarm.check_landed(run)
    shown = git(swarm.top, "show", f"{run['staging']['branch']}:документы/план работ.txt")
    assert shown == "раз\nдва"
    assert run["name"] == "Сборка Ü"
    assert task_of(run, "Задача №1")["attempts"][0]["touched"] == ["документы/план работ.txt"]
    swarm("show", "Задача №1")
    swarm("logs", 'it\'s "two"')
    assert "+два" in swarm("diff", "Задача №1").out
    swarm("finish")
    assert (swarm.top / "документы" / "план работ.txt").read_text("utf-8") == "раз\nдва\n"
    swarm.look_again()


@pytest.mark.slow
def test_a_repository_with_sha256(tmp_path: Path, swarm_in: MakeSwarm) -> None:
    """A repository whose objects are named by SHA-256 works the same, landing repository and finish included."""
    swarm = swarm_in(a_repository(tmp_path / "repo", "--object-format=sha256"))
    lands(swarm)
    assert len(swarm.staging("r")) == 64
    swarm("finish")
    swarm.look_again()


@pytest.mark.slow
def test_a_path_of_several_lines(tmp_path: Path, swarm_in: MakeSwarm) -> None:
    """In a repository whose path has line ends in it, as git allows, everything works, from a linked worktree too."""
    swarm = swarm_in(a_repository(tmp_path / "new\nline" / "repo"), tmp_path / "outside")
    lands(swarm)
    assert "no commit" not in swarm("doctor", code=None).out
    staging = swarm.wait_for_follow("r")
    assert swarm("status", "--json", cwd=staging).json["runs"][0]["id"] == "r"
    swarm("finish", cwd=staging)
    swarm.look_again()
    assert "as the journal has it" in swarm("recover").out
    swarm("discard", "r")


@pytest.mark.slow
def test_a_path_too_long_for_the_journal(tmp_path: Path, swarm_in: MakeSwarm) -> None:
    """Where SQLite would open no file by so long a path nothing is begun, it is said by how much, and by the doctor too; as long as
    it may be, everything works."""
    base = len(os.fsencode(tmp_path / "x")) + len("/.git/swarm/journal.sqlite")
    for more, code in ((0, 0), (1, 4)):
        below = (("y" * 99 + "/") * 5)[: 500 + more - base]
        below = below[:-1] + "y"
        swarm = swarm_in(a_repository(tmp_path / ("x" + below)), tmp_path / f"outside-{more}")
        assert len(os.fsencode(swarm.top / ".git/swarm/journal.sqlite")) == 500 + more
        checks = {each["name"]: each for each in swarm("doctor", "--json", code=None).json["checks"]}
        assert checks["journal"]["state"] == ("bad" if more else "ok")
        if not more:
            lands(swarm)
            continue
        told = swarm("start", code=code).err
        assert "has 501 bytes, and SQLite opens none of more than 500" in told
        assert "shorter by 1 bytes" in told


@pytest.mark.slow
def test_in_any_locale_a_plan_is_utf8(swarm: Swarm) -> None:
    """What a plan says goes out to workers and suites as it stands in the file, and claims are compared with git's names, also
    where the locale that swarm is started in has another encoding."""
    work = 'echo 2 >> übung; printf %s "$SWARM_CLAIMS" > claims'
    task = swarm.task("t", work, claims=["übung", "claims"])
    plan = swarm.plan("r", [task], verify=["grep -q 2 übung"])
    swarm.env |= {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = swarm.run(plan)
    swarm.check_landed(run)
    assert run["tasks"][0]["attempts"][0]["strays"] == []
    assert swarm.content("r", "übung") == "2\n"
    assert json.loads(swarm.content("r", "claims") or "")
    assert "übung" in swarm("show", "t").out
    swarm("check", str(plan))


@pytest.mark.slow
def test_a_path_too_long_for_a_socket(tmp_path: Path, swarm_in: MakeSwarm) -> None:
    """In a folder whose socket path would be over 107 bytes, with spaces in it, the daemon is found all the same."""
    with tempfile.TemporaryDirectory(
        prefix="sw-", dir="/tmp"
    ) as short:  # where the socket goes must not be too long itself
        _socket_elsewhere(swarm_in, tmp_path, Path(short))


def _socket_elsewhere(swarm_in: MakeSwarm, tmp_path: Path, short: Path) -> None:
    swarm = swarm_in(a_repository(tmp_path / ("long folder " * 9).strip() / "repo"), short)
    assert len(str(swarm.top)) > 107
    lands(swarm)
    swarm("start")
    place = swarm.outside / f"swarm-{os.getuid()}"
    (socket,) = place.iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    swarm("stop")
    assert list(place.iterdir()) == []


def test_the_socket_and_the_journal_are_private(swarm: Swarm) -> None:
    """The daemon's socket has mode 0600; its folder, wherever a long path has put it, and the state folder are closed to others."""
    swarm("start")
    state = common_dir(swarm.top) / "swarm"
    socket = Path(json.loads((state / "daemon.json").read_text())["socket"])
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


@pytest.mark.slow
def test_from_where_one_stands(swarm: Swarm, tmp_path: Path) -> None:
    """From a subfolder, by -C, and from a linked worktree commands mean the same daemon, and runs the checkout one stands in."""
    linked = tmp_path / "linked"
    git(swarm.top, "worktree", "add", "-q", "-b", "side", str(linked))
    swarm.look_again()
    before = snapshot(linked)
    swarm("start", cwd=swarm.top / "src")
    pid = swarm.status()["daemon"]["pid"]
    for cwd, args in (
        (linked, ()),
        (tmp_path, ("-C", str(swarm.top))),
        (tmp_path, ("-C", str(linked / "src"))),
    ):
        assert swarm(*args, "status", "--json", cwd=cwd).json["daemon"]["pid"] == pid
    plan = swarm.plan("r", [swarm.task("t")])
    shutil.copy(plan, linked / "src" / "plan.json")
    swarm("run", "plan.json", cwd=linked / "src")
    (linked / "src" / "plan.json").unlink()
    assert swarm.landings("r") == ["t"]
    assert snapshot(linked) == before
    assert not (linked / ".worktrees").exists()


def test_a_run_starts_from_the_branch_of_the_checkout_one_stands_in(swarm: Swarm, tmp_path: Path) -> None:
    """From a linked worktree a run starts from its branch, whether a daemon runs or is started for it, and finish goes there."""
    linked = tmp_path / "linked"
    git(swarm.top, "worktree", "add", "-q", "-b", "side", str(linked))
    git(linked, "commit", "-q", "--allow-empty", "-m", "only here")
    tip = git(linked, "rev-parse", "HEAD")
    for name in ("one", "two"):
        task = swarm.task(f"of-{name}")
        (run,) = swarm("run", str(swarm.plan(name, [task])), "--json", cwd=linked).json["runs"]
        assert run["base"] == {"branch": "side", "commit": tip}
        assert swarm.landings(name, "side") == [f"of-{name}"]
        swarm("start")
    swarm("finish", "--run", "one", cwd=linked)
    assert "is on side" in swarm("finish", cwd=linked).out  # the other is finished: no need to say which
    assert (linked / "out-of-one").exists()
    assert git(linked, "status", "--porcelain") == ""
    assert git(swarm.top, "rev-parse", "main") != git(swarm.top, "rev-parse", "side")
    swarm.look_again()


def test_finishing_without_a_run_starts_no_daemon(swarm: Swarm) -> None:
    """Where there is nothing to finish it says so with 2 and leaves nothing behind."""
    assert "no run yet" in swarm("finish", code=2).err
    assert not (common_dir(swarm.top) / "swarm").exists()


def test_no_repository(tmp_path: Path, swarm: Swarm) -> None:
    """Outside of a repository, and in one without a commit, it says so with exit 2 and makes nothing."""
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = swarm("status", cwd=empty, code=2)
    assert "git repository" in refused.err
    git(empty, "init", "-q")
    refused = swarm("run", str(swarm.plan("r", [swarm.task("t")])), cwd=empty, code=None)
    assert refused.code in (1, 2, 4), refused
    assert "commit" in refused.err
    swarm("stop", "--now", cwd=empty)


def test_a_repository_with_a_submodule(swarm: Swarm, tmp_path: Path) -> None:
    """With a submodule in the repository tasks land, its link stays as it is, and the user's copy of it is not touched."""
    library = a_repository(tmp_path / "library")
    git(swarm.top, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib")
    git(swarm.top, "commit", "-q", "-m", "with a submodule")
    swarm.look_again()
    lands(swarm)
    assert git(swarm.top, "ls-tree", "swarm/r/staging", "lib") == git(swarm.top, "ls-tree", "main", "lib")
    swarm("finish")
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()


def test_a_repository_without_an_identity(tmp_path: Path, swarm_in: MakeSwarm) -> None:
    """Where git knows no user, what workers leave is committed all the same, and lands."""
    swarm = swarm_in(a_repository(tmp_path / "repo", identity=False))
    lands(swarm)


def test_started_from_a_hook(swarm: Swarm) -> None:
    """Git's own variables of a hook or an alias that started it point neither the daemon nor workers at the user's index."""
    plan = swarm.plan(
        "r",
        [
            swarm.task(
                "t",
                "git status --porcelain; env | grep '^GIT_INDEX_FILE' && exit 1; echo x > out",
                claims=["out"],
            )
        ],
    )
    swarm(
        "run",
        str(plan),
        GIT_DIR=str(swarm.top / ".git"),
        GIT_INDEX_FILE=str(swarm.top / ".git" / "index"),
        GIT_PREFIX="",
    )
    assert swarm.landings("r") == ["t"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can look into."""
    folder = Path(tempfile.mkdtemp(prefix="swarm-e2e-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _python_for(prefix: tuple[str, ...], packages: str) -> str | None:
    """Finds a Python of our version that somebody else can start, and that can start itself again."""
    asked = "import subprocess, sys, pydantic; subprocess.run([sys.executable, '-c', 'import starlette'], check=True)"
    for python in (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info)):
        tried = subprocess.run(
            [*prefix, python, "-c", asked],
            env={"PYTHONPATH": packages},
            cwd="/",
            capture_output=True,
            check=False,
        )
        if tried.returncode == 0:
            return python
    return None


def as_nobody(open_folder: Path, swarm_in: MakeSwarm, monkeypatch: pytest.MonkeyPatch) -> Swarm:
    """Gives the program in a repository of another user's, run as that user, who has no rights and no home."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    packages = os.pathsep.join([str(PROJECT), *(path for path in sys.path if path.endswith("site-packages"))])
    python = _python_for(nobody, packages)
    if python is None:
        pytest.skip("no Python of this version that another user may start")
    monkeypatch.setenv("HOME", str(open_folder / "no-home"))
    top = a_repository(open_folder / "repo")
    subprocess.run(["chown", "-R", "65534:65534", str(open_folder)], check=True)
    for name, value in (("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", "*")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    swarm = swarm_in(top, open_folder / "outside")
    swarm.env = {
        name: value
        for name, value in swarm.env.items()
        if not name.startswith("GIT_CONFIG_") or "SYSTEM" in name or "GLOBAL" in name
    }
    subprocess.run(["chown", "-R", "65534:65534", str(swarm.outside)], check=True)
    swarm.prefix, swarm.program = nobody, (python, "-m", "swarm")
    swarm.env["PYTHONPATH"] = packages
    return swarm


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv to become somebody else",
)
def test_as_another_user(open_folder: Path, swarm_in: MakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user without any rights of root, without a home of its own, a run and finish work, and root is kept out of nothing. A
    worker that takes that user's rights in the state folder away ends nothing: they are given back. Where nobody is there to do it,
    it is told what is wrong, and what to type."""
    swarm = as_nobody(open_folder, swarm_in, monkeypatch)
    lands(swarm)
    state = swarm.top / ".git" / "swarm"
    shuts = f"chmod 000 {state}; until [ -x {state} ]; do sleep 0.1; done; echo x > three"
    swarm.check_landed(swarm.run(swarm.plan("shut", [swarm.task("three", shuts, claims=["three"])])))
    swarm("stop", code=None)
    state.chmod(0)
    for words in (["status"], ["finish", "--run", "r"]):
        told = swarm(*words, code=4).err
        assert "its mode (000) does not let you use it" in told, words
        assert f"chmod u+rwx {state}" in told, words
    state.chmod(0o700)
    swarm("finish", "--run", "r")
    assert (swarm.top / "out-two").stat().st_uid == 65534
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv to become somebody else",
)
def test_what_another_user_keeps_is_told(open_folder: Path, swarm_in: MakeSwarm) -> None:
    """Nobody is told that no daemon runs where another user's does: each command says that it is theirs, and ends with 4."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    packages = os.pathsep.join([str(PROJECT), *(path for path in sys.path if path.endswith("site-packages"))])
    python = _python_for(nobody, packages)
    if python is None:
        pytest.skip("no Python of this version that another user may start")
    swarm = swarm_in(a_repository(open_folder / "repo"), open_folder / "outside")
    swarm("start")
    ours = swarm.program
    swarm.prefix, swarm.program, swarm.env["PYTHONPATH"] = nobody, (python, "-m", "swarm"), packages
    for words in (
        ["status"],
        ["status", "--json"],
        ["stop"],
        ["events"],
        ["show", "a"],
        ["wait"],
        ["recover"],
    ):
        told = swarm(*words, code=4)
        assert "belongs to another user" in told.err or "work as the user" in told.err, words
    swarm.prefix, swarm.program = (), ours
    assert swarm.status()["daemon"]["running"] is True
