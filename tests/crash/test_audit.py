"""Repositories that are broken on purpose, one breach each: `swarm audit` and the independent checker both name the invariant."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm.edge.journal import Journal, Row, record_of
from tests.conftest import git, wait_until
from tests.crash.checker import Checker
from tests.e2e.driver import Swarm, common_dir, snapshot, verified_in

RUN = "r"
Edit = Callable[[list[Row]], list[Row]]


@dataclass
class Planted:
    """A repository after a whole run, at rest, in which something is about to be broken."""

    swarm: Swarm

    @property
    def top(self) -> Path:
        return self.swarm.top

    @property
    def state(self) -> Path:
        return common_dir(self.top) / "swarm"

    @property
    def landing(self) -> Path:
        return self.state / "landing.git"

    @property
    def pool(self) -> Path:
        return self.top / ".worktrees" / "pool"

    @property
    def staging(self) -> Path:
        return self.top / ".worktrees" / RUN / "staging"

    @property
    def tip(self) -> str:
        return git(self.landing, "rev-parse", f"refs/heads/{RUN}/staging")

    def stand_at(self, commit: str) -> None:
        """Moves staging everywhere, as if it had always been there: both refs, the log, the worktree."""
        old = self.tip
        packed = git(self.landing, "rev-list", "--objects", commit, f"^{old}")
        if packed:
            pack = subprocess.run(
                ["git", "pack-objects", "--stdout", "-q"],
                cwd=self.landing, input=packed.encode(), capture_output=True, check=True,
            )  # fmt: skip
            subprocess.run(["git", "unpack-objects", "-q"], cwd=self.top, input=pack.stdout, check=True)
        (self.landing / "refs" / "heads" / RUN / "staging").write_text(f"{commit}\n")
        (common_dir(self.top) / "refs" / "heads" / "swarm" / RUN / "staging").write_text(f"{commit}\n")
        log = self.landing / "logs" / "refs" / "heads" / RUN / "staging"
        log.write_text(log.read_text().replace(old, commit))
        git(self.staging, "checkout", "-q", "--detach", commit)

    def land_otherwise(
        self, *, tree: str | None = None, second: str | None = None, message: str | None = None
    ) -> None:
        """Puts another commit in the place of the last landing, and its id wherever the old one was named."""
        old = self.tip
        text = git(self.landing, "log", "-1", "--format=%B", old) if message is None else message
        new = self.commit(
            tree or f"{old}^{{tree}}",
            git(self.landing, "rev-parse", f"{old}^1"),
            second or f"{old}^2",
            text=text,
        )
        self.stand_at(new)
        self.forge(lambda records: json_of(records, lambda text: text.replace(old, new)))

    def commit(self, tree: str, *parents: str, text: str) -> str:
        flags = [flag for parent in parents for flag in ("-p", git(self.landing, "rev-parse", parent))]
        who = ["-c", "user.name=x", "-c", "user.email=x@y"]
        return git(
            self.landing, *who, "commit-tree", git(self.landing, "rev-parse", tree), *flags, "-m", text
        )

    def tree_with(self, tree: str, path: str, content: str) -> str:
        """Gives a tree in which one file is another."""
        index = {**os.environ, "GIT_INDEX_FILE": str(self.swarm.outside / "index")}
        blob = self.swarm.outside / "blob"
        blob.write_text(content)
        oid = git(self.landing, "hash-object", "-w", str(blob))
        for args in (["read-tree", tree], ["update-index", "--add", "--cacheinfo", f"100644,{oid},{path}"]):
            subprocess.run(["git", *args], cwd=self.landing, env=index, check=True)
        made = subprocess.run(
            ["git", "write-tree"], cwd=self.landing, env=index, check=True, capture_output=True, text=True
        )
        return made.stdout.strip()

    def forge(self, edit: Edit) -> None:
        """Writes the journal anew with other records, whole in itself."""
        path = self.state / "journal.sqlite"
        with Journal.open(path, readonly=True) as journal:
            rows = list(journal.read())
        for each in self.state.glob("journal.s*"):
            each.unlink()
        shutil.rmtree(self.state / "transcript", ignore_errors=True)
        with Journal.open(path) as journal:
            journal.begin_epoch()
            journal.append([record_of(row.kind, row.data) for row in edit(rows)])

    def attempt(self, task: str, n: int = 1) -> Path:
        return self.state / "attempts" / RUN / task / str(n)


def json_of(records: list[Row], change: Callable[[str], str]) -> list[Row]:
    return [Row(0, row.kind, json.loads(change(json.dumps(row.data)))) for row in records]


def facts(records: list[Row], kind: str, task: str) -> list[int]:
    """Gives the places of what is told, or what happened, about a task."""
    return [
        at for at, each in enumerate(records) if each.data["type"] == kind and each.data.get("task") == task
    ]


def audited(planted: Planted) -> dict[str, list[str]]:
    """Gives what the audit names, by invariant."""
    found: dict[str, list[str]] = {}
    for number, cause in planted.swarm.audited():
        found.setdefault(number, []).append(cause)
    return found


def checked(planted: Planted) -> dict[str, list[str]]:
    """Gives what the checker names, by invariant."""
    found: dict[str, list[str]] = {}
    for number, text in Checker(planted.top).check():
        found.setdefault(number, []).append(text)
    return found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Swarm, Path]:
    """A repository in which a run has ended: tasks landed side by side and one after the other, one at its second attempt, one of
    two commits; one failed with work of its own. And a copy, from which it is put back."""
    folder = tmp_path_factory.mktemp("planted")
    top = folder / "repo"
    (top / "src").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", str(top))
    git(top, "config", "user.name", "Ada")
    git(top, "config", "user.email", "ada@example.org")
    (top / "src" / "a.py").write_text("".join(f"line {n}\n" for n in range(20)))
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    swarm = Swarm(top, folder / "outside")
    swarm.env["HOME"] = ""  # so that what is verified lies in the repository, and is put back with it
    commit = "git -c user.name=W -c user.email=w@x commit -q -am"
    swarm.run(
        swarm.plan(
            RUN,
            [
                swarm.task("one", claims=["same"], work="echo 1 > same"),
                swarm.task("other"),
                swarm.task("two", claims=["same"], work="echo 2 >> same"),
                swarm.task("fails", "echo w > work; exit 3", claims=["work"], attempts=2),
                swarm.task(
                    "red", "[ $SWARM_ATTEMPT = 2 ] && echo ok > red || echo bad > red", claims=["red"]
                ),
                swarm.task(
                    "last",
                    f"sed -i 3s/.*/x/ src/a.py; {commit} 1; echo y >> src/a.py; {commit} 2",
                    claims=["src/**"],
                    needs=["one", "other", "two", "red"],
                ),
            ],
            verify=[{"name": "good", "run": "! grep -qs bad red"}],
        ),
        code=1,
    )
    wait_until(
        lambda: not swarm.left_running()
    )  # it answers no more before it is gone, and its files with it
    kept = folder / "kept"
    shutil.copytree(top, kept, symlinks=True)
    return swarm, kept


@pytest.fixture
def planted(healthy: tuple[Swarm, Path]) -> Planted:
    """The repository as it was after its run."""
    swarm, kept = healthy
    shutil.rmtree(swarm.top)
    shutil.copytree(kept, swarm.top, symlinks=True)
    return Planted(swarm)


def test_a_healthy_repository_is_clean_to_both(planted: Planted) -> None:
    """Where nothing was broken neither of the two finds anything; a journal that was only written anew is none the worse."""
    assert audited(planted) == {}
    assert checked(planted) == {}
    planted.forge(lambda records: records)
    assert audited(planted) == {}
    assert checked(planted) == {}


# --- the breaches ---


def landed_twice(p: Planted) -> None:
    text = git(p.landing, "log", "-1", "--format=%B", f"{p.tip}^")
    p.stand_at(p.commit(f"{p.tip}^{{tree}}", p.tip, f"{p.tip}^1^2", text=text))


def landing_lost(p: Planted) -> None:
    p.stand_at(git(p.landing, "rev-parse", f"{p.tip}^"))


def not_published(p: Planted) -> None:
    git(p.top, "update-ref", f"refs/heads/swarm/{RUN}/staging", f"{p.tip}^")


def journal_is_older(p: Planted) -> None:
    p.forge(lambda records: records[: facts(records, "CandidateMade", "last")[0]])


def foreign_commit(p: Planted) -> None:
    p.stand_at(p.commit(p.tree_with(p.tip, "new", "new\n"), p.tip, text="mine"))


def foreign_second_parent(p: Planted) -> None:
    p.land_otherwise(second=f"refs/attempts/{RUN}/one/1")


def edited_tree(p: Planted) -> None:
    p.land_otherwise(tree=p.tree_with(p.tip, "smuggled", "in\n"))


def undoes_another(p: Planted) -> None:
    p.land_otherwise(tree=p.tree_with(p.tip, "same", "1\n"))


def other_trailers(p: Planted) -> None:
    text = git(p.landing, "log", "-1", "--format=%B", p.tip)
    p.land_otherwise(message=text.replace("Swarm-Task: last", "Swarm-Task: two"))


def claims_more_suites(p: Planted) -> None:
    text = git(p.landing, "log", "-1", "--format=%B", p.tip)
    p.land_otherwise(message=text.replace("Swarm-Verified: good", "Swarm-Verified: good, better"))


def log_goes_back(p: Planted) -> None:
    log = p.landing / "logs" / "refs" / "heads" / RUN / "staging"
    before = git(p.landing, "rev-parse", f"{p.tip}^")
    log.write_text(
        log.read_text() + f"{p.tip} {before} x <x@y> 1 +0000\tx\n{before} {p.tip} x <x@y> 1 +0000\tx\n"
    )


def base_moved(p: Planted) -> None:
    git(p.landing, "update-ref", f"refs/bases/{RUN}", f"refs/heads/{RUN}/staging~1")


def started_after_its_end(p: Planted) -> None:
    def edit(records: list[Row]) -> list[Row]:
        again = records[facts(records, "TaskStarted", "one")[0]]
        return [
            *records[:-1],
            Row(0, "fact", {**again.data, "attempt": 2, "at": records[-1].data["at"]}),
            records[-1],
        ]

    p.forge(edit)


def fact_never_told(p: Planted) -> None:
    p.forge(
        lambda records: [
            each for at, each in enumerate(records) if at not in facts(records, "TaskLanded", "one")
        ]
    )


def fact_made_up(p: Planted) -> None:
    def edit(records: list[Row]) -> list[Row]:
        at = facts(records, "TaskLanded", "one")[0]
        return [*records[:at], Row(0, "fact", {**records[at].data, "task": "fails"}), *records[at + 1 :]]

    p.forge(edit)


def number_used_again(p: Planted) -> None:
    def edit(records: list[Row]) -> list[Row]:
        at = facts(records, "TaskStarted", "red")[1]
        return [*records[:at], Row(0, "fact", {**records[at].data, "attempt": 1}), *records[at + 1 :]]

    p.forge(edit)


def old_answer_taken(p: Planted) -> None:
    def edit(records: list[Row]) -> list[Row]:
        at = facts(records, "WorkerExited", "red")[1]
        return [*records[:at], Row(0, "event", {**records[at].data, "attempt": 1}), *records[at + 1 :]]

    p.forge(edit)


def claims_overlap(p: Planted) -> None:
    def edit(records: list[Row]) -> list[Row]:
        at = facts(records, "TaskStarted", "two")[0]
        early = facts(records, "TaskStarted", "one")[0] + 1
        rest = [*records[:at], *records[at + 1 :]]
        return [*rest[:early], records[at], *rest[early:]]

    p.forge(edit)


def too_many_workers(p: Planted) -> None:
    p.forge(
        lambda records: json_of(records, lambda text: text.replace('"workers_max": 4', '"workers_max": 1'))
    )


def lease_of_nobody(p: Planted) -> None:
    (record, *_) = sorted((p.pool / ".pool").glob("*.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "key": f"{RUN}/one/1"}))


def verification_held(p: Planted) -> None:
    (record, *_) = sorted((verified_in(p.top) / ".pool").glob("*.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "key": f"verify/{RUN}/one/1"}))


def move_begun(p: Planted) -> None:
    (admin,) = common_dir(p.top).glob("worktrees/swarm-r-staging-*")
    (admin / "swarm-move").write_text(f"{p.tip} {p.tip}\n")


def record_lost(p: Planted) -> None:
    shutil.rmtree(sorted(common_dir(p.top).glob("worktrees/swarm-[0-9]*"))[0])


def folder_lost(p: Planted) -> None:
    shutil.rmtree(p.pool / "1")


def folder_of_nobody(p: Planted) -> None:
    (p.pool / "77").mkdir()


def all_worktrees_gone(p: Planted) -> None:
    shutil.rmtree(p.top / ".worktrees")


def staging_worktree_behind(p: Planted) -> None:
    git(p.staging, "checkout", "-q", "--detach", f"{p.tip}^")


def landing_lock(p: Planted) -> None:
    (p.landing / "refs" / "heads" / RUN / "staging.lock").touch()


def branch_lock(p: Planted) -> None:
    (common_dir(p.top) / "refs" / "heads" / "swarm" / RUN / "staging.lock").touch()


def worktree_lock(p: Planted) -> None:
    (sorted(common_dir(p.top).glob("worktrees/swarm-[0-9]*"))[0] / "index.lock").touch()


def object_missing(p: Planted) -> None:
    oid = git(p.landing, "rev-parse", f"{p.tip}:same")
    (p.landing / "objects" / oid[:2] / oid[2:]).unlink()


def users_object_missing(p: Planted) -> None:
    oid = git(p.top, "rev-parse", f"{p.tip}:same")
    (common_dir(p.top) / "objects" / oid[:2] / oid[2:]).unlink()


def branch_of_work_lost(p: Planted) -> None:
    git(p.top, "update-ref", "-d", f"refs/heads/swarm/{RUN}/task/fails/2")


def pin_lost(p: Planted) -> None:
    git(p.landing, "update-ref", "-d", f"refs/attempts/{RUN}/one/1")


def ref_of_nobody(p: Planted) -> None:
    git(p.top, "update-ref", f"refs/heads/swarm/{RUN}/left", "HEAD")


def settings_left(p: Planted) -> None:
    git(p.top, "config", "swarm.complete", "true")


def byte_flipped(p: Planted) -> None:
    p.forge(lambda records: records)
    path = p.state / "journal.sqlite"
    content = path.read_bytes()
    assert content.count(b"the worker ended with exit code 3") > 0
    path.write_bytes(
        content.replace(b"the worker ended with exit code 3", b"the worker ended with exit code 4", 1)
    )


def journal_cut(p: Planted) -> None:
    subprocess.run(["sqlite3", p.state / "journal.sqlite", "DELETE FROM journal WHERE seq > 40"], check=True)


def journal_with_a_hole(p: Planted) -> None:
    subprocess.run(["sqlite3", p.state / "journal.sqlite", "DELETE FROM journal WHERE seq = 20"], check=True)


def journal_gone(p: Planted) -> None:
    for each in p.state.glob("journal.sqlite*"):
        each.unlink()


def journal_empty(p: Planted) -> None:
    journal_gone(p)
    (p.state / "journal.sqlite").touch()


def journal_is_noise(p: Planted) -> None:
    journal_gone(p)
    (p.state / "journal.sqlite").write_bytes(bytes(range(256)) * 64)


def unknown_worker(p: Planted) -> None:
    shutil.copytree(p.attempt("one"), p.attempt("one", 2))


def unknown_pin(p: Planted) -> None:
    git(p.landing, "update-ref", f"refs/attempts/{RUN}/one/2", p.tip)


def unknown_pin_of_a_run_called_finish(p: Planted) -> None:
    git(p.landing, "update-ref", f"refs/attempts/finish/{RUN}/1", p.tip)


BREACHES: list[tuple[Callable[[Planted], None], str]] = [
    (landed_twice, "I1"),
    (landing_lost, "I1"),
    (not_published, "I1"),
    (other_trailers, "I1"),
    (journal_is_older, "I2"),
    (foreign_commit, "I2"),
    (foreign_second_parent, "I2"),
    (log_goes_back, "I3"),
    (base_moved, "I3"),
    (claims_more_suites, "I4"),
    (undoes_another, "I6"),
    (edited_tree, "I6"),
    (edited_tree, "I7"),
    (undoes_another, "I7"),
    (started_after_its_end, "I8"),
    (fact_never_told, "I9"),
    (fact_made_up, "I9"),
    (number_used_again, "I10"),
    (old_answer_taken, "I10"),
    (claims_overlap, "I11"),
    (lease_of_nobody, "I12"),
    (verification_held, "I12"),
    (move_begun, "I12"),
    (record_lost, "I13"),
    (folder_lost, "I13"),
    (folder_of_nobody, "I13"),
    (all_worktrees_gone, "I13"),
    (staging_worktree_behind, "I13"),
    (landing_lock, "I14"),
    (branch_lock, "I14"),
    (worktree_lock, "I14"),
    (object_missing, "I15"),
    (users_object_missing, "I15"),
    (branch_of_work_lost, "I15"),
    (pin_lost, "I15"),
    (too_many_workers, "I17"),
    (byte_flipped, "I18"),
    (journal_cut, "I18"),
    (journal_with_a_hole, "I18"),
    (journal_gone, "I18"),
    (journal_empty, "I18"),
    (journal_is_noise, "I18"),
    (unknown_worker, "I18"),
    (unknown_pin, "I18"),
    (unknown_pin_of_a_run_called_finish, "I18"),
    (ref_of_nobody, "I20"),
    (settings_left, "I20"),
]


@pytest.mark.parametrize(("plant", "invariant"), BREACHES, ids=lambda each: getattr(each, "__name__", each))
def test_a_breach_is_named_by_both(
    planted: Planted, plant: Callable[[Planted], None], invariant: str
) -> None:
    """Each breach is named, by the audit and by the checker, as the invariant that it breaks.

    To the checker a landing that changes what its attempt did not is no merge of its parents: I6 is I7 there.
    """
    plant(planted)
    found = audited(planted)
    assert invariant in found, found
    second = checked(planted)
    assert invariant.replace("I6", "I7") in second, second


def test_what_older_versions_kept_of_a_finish_is_no_breach(planted: Planted) -> None:
    """They pinned the commit at which a finish found its target among the attempts, and it may lie there still."""
    git(planted.landing, "update-ref", f"refs/attempts/finish/{RUN}/{planted.tip[:16]}", planted.tip)
    assert audited(planted) == {}


def older_beside_its_transcript(p: Planted, records: int) -> None:
    """Puts an older copy of the journal beside the transcript of the newer one."""
    kept = (p.state / "transcript").rename(p.swarm.outside / "transcript")
    p.forge(lambda all_records: all_records[:records])
    shutil.rmtree(p.state / "transcript", ignore_errors=True)
    shutil.move(kept, p.state / "transcript")


DOUBTED: dict[str, Callable[[Planted], None]] = {
    "older, and empty": lambda p: older_beside_its_transcript(p, 0),
    "older": lambda p: older_beside_its_transcript(p, 40),
    "cut": journal_cut,
    "with a hole": journal_with_a_hole,
    "lacks an attempt": unknown_pin,
}


@pytest.mark.parametrize(
    "damage", [pytest.param(each, marks=[] if each == "cut" else [pytest.mark.slow]) for each in DOUBTED]
)
def test_nothing_is_said_to_be_nobodys_beside_a_doubted_journal(planted: Planted, damage: str) -> None:
    """I18: where the journal is damaged or lacks something, the audit does not look for what it does not know, and says so; it
    names one way to have the journal back, and none to remove anything. A run is not said to be unknown."""
    ref_of_nobody(planted)
    DOUBTED[damage](planted)
    document = json.loads(planted.swarm("audit", "--json", code=1).out)
    steps = {each["next"] for each in document["broken"] if each["invariant"] == "I18"}
    assert steps == {"swarm recover --journal brings back what is missing"}
    seen = {each["id"]: each["ok"] for each in document["invariants"]}
    assert {seen[name] for name in ("I12", "I13", "I14", "I16", "I20")} == {None}
    assert not any(word in each["next"] for each in document["broken"] for word in ("-d ", "remove"))
    planted.swarm("audit", "--run", RUN, code=1)


@pytest.mark.slow
def test_who_only_reads_beside_an_older_journal_says_so(planted: Planted) -> None:
    """Status, show, wait, finish and discard end with 1 and say how the journal is had back; to the doctor it is bad."""
    older_beside_its_transcript(planted, 0)
    (planted.state / "journal.snapshot").unlink(missing_ok=True)
    commands = [["status"], ["status", "--json"], ["show", "one"], ["wait"], ["events"]]
    for words in [*commands, ["finish", "--preview"], ["discard", RUN, "--yes", "staging"]]:
        told = planted.swarm(*words, code=1)
        assert "swarm recover --journal" in told.out + told.err, words
    checks = json.loads(planted.swarm("doctor", "--json", code=1).out)["checks"]
    (journal,) = [each for each in checks if each["name"] == "journal"]
    assert (journal["state"], "swarm recover --journal" in journal["remedy"]) == ("bad", True)
    assert not any("-d " in each["remedy"] or "remove" in each["remedy"] for each in checks)


@pytest.mark.parametrize("how", ["by its environment", "by the lock"])
def test_a_process_of_an_ended_attempt_is_named_by_both(planted: Planted, how: str) -> None:
    """I16: a process that carries the mark of an attempt that has ended, or holds its lock, is named; and not when it is gone."""
    lock = (planted.attempt("one") / "worker" / "lock").open()
    env = {"PATH": os.environ["PATH"]}
    hold = "import fcntl; fcntl.flock(0, fcntl.LOCK_EX); " if how == "by the lock" else ""
    if not hold:
        worker = json.loads((planted.attempt("one") / "worker" / "identity").read_text())
        assert worker["pid"]
        from swarm.edge.place import places_of

        env["SWARM_NONCE"] = places_of(planted.state).nonce(RUN, "one", 1)
    program = f"{hold}print(flush=True); import time; time.sleep(600)"
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env=env,
        stdin=lock,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert "I16" in audited(planted)
        assert "I16" in checked(planted)
    finally:
        child.kill()
        child.communicate()
        lock.close()
    assert audited(planted) == {}
    assert checked(planted) == {}


def test_what_changed_of_the_users_is_seen_by_who_looked_before(planted: Planted) -> None:
    """I20: against a snapshot from before, a branch, a file, a hook and a setting of the user's that changed are seen one by one;
    the audit and the checker, which have no before, can't know."""
    before = snapshot(planted.top)

    def changed() -> set[str]:
        return {name for name, said in snapshot(planted.top).items() if said != before[name]}

    git(planted.top, "branch", "extra")
    assert changed() == {"refs"}
    git(planted.top, "branch", "-D", "extra")
    (planted.top / "src" / "a.py").write_text("changed\n")
    assert changed() == {"files", "status"}
    git(planted.top, "checkout", "-q", "--", ".")
    git(planted.top, "config", "core.editor", "ed")
    assert "config" in changed()
    assert (audited(planted), checked(planted)) == ({}, {})


def test_the_checker_is_a_program_of_its_own(planted: Planted) -> None:
    """It runs without the package, imports nothing of it, ends with 0 where all is well and with 1 and the number where not."""
    source = Path(__file__).with_name("checker.py")
    assert "swarm." not in "".join(
        line for line in source.read_text().splitlines() if line.startswith(("import", "from"))
    )
    run = [sys.executable, "-I", str(source), str(planted.top)]
    assert subprocess.run(run, cwd="/", check=False).returncode == 0
    ref_of_nobody(planted)
    done = subprocess.run(run, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, "I20")
