"""`make mutants`: bugs that are planted on purpose, one at a time, to see that the checks can fail.

Each takes one safety step out of the code, as a piece of text that is replaced in a copy of the tree; then the checks that should
notice are run there, the cheapest first, until one does. What comes out is a table: bug, what caught it, after how many runs and
seconds. A bug that nothing catches makes the run fail, unless it is listed as such with the reason.

A check is written as `walk` (random walks of the machine, so many seeds), `day POINT` (a day of F1 killed there, then the audit and
the independent checker), or a test by its file and name. Before any bug is planted each check is run on a copy without one: a check
that fails by itself catches nothing.

Rules for editing: `old` is found in its file exactly once (`tests/unit/test_mutants.py` sees to it, so that the list cannot rot),
and what is left is a program that runs: a bug that breaks everything shows nothing about the checks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
COPIED = ("swarm", "tests", "scripts", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
LIMIT_S = 1200.0  # for one check; one that takes longer has not said anything
SEED = 7


class Mutant(NamedTuple):
    """A planted bug: what the program does then, where, and the checks that should notice, cheapest first.

    `missed` says why none does, where that is known.
    """

    bug: str
    file: str
    old: str
    new: str
    checks: tuple[str, ...]
    missed: str = ""


_MERGE_QUEUE = "tests/unit/test_merge_queue.py"
_LANDING = "tests/integration/test_landing.py"
_WORKTREES = "tests/integration/test_worktrees.py"
_PROCESS = "tests/integration/test_process.py"
_JOURNAL = "tests/integration/test_journal.py"
_GIT = "tests/integration/test_git.py"
_HOSTILE = "tests/hostile/test_histories.py"

MUTANTS: dict[str, Mutant] = {
    "act-first": Mutant(
        "commands are carried out before their turn is in the journal",
        "swarm/daemon/coordinator.py",
        "        if not self._remembered(self._decided):\n            return\n",
        "        self.start(self._decided.commands)\n        self._decided.commands.clear()\n"
        "        if not self._remembered(self._decided):\n            return\n",
        ("tests/integration/test_stuck_journal.py::test_nothing_is_acted_on_that_is_not_remembered",),
    ),
    "forget-intent": Mutant(
        "that a candidate was made is not written into the journal",
        "swarm/daemon/coordinator.py",
        'records = [record("event", *m.parts_of(event))]',
        'records = [record("event", *m.parts_of(event))] * (not isinstance(event, m.CandidateMade))',
        ("tests/e2e/test_life.py::test_what_is_known_survives_the_daemon", "day landing.advanced"),
    ),
    "no-recovery": Mutant(
        "a start carries out what is new only, not what was outstanding",
        "swarm/daemon/coordinator.py",
        "self.start(pending_commands(self.swarm))",
        "self.start(turn.commands)",
        ("tests/e2e/test_life.py::test_workers_outlive_the_daemon",),
    ),
    "no-looking-after": Mutant(
        "programs that a killed daemon had started go on beside the next one",
        "swarm/daemon/reconcile.py",
        """        ("process", _programs),\n""",
        "",
        ("tests/crash/test_rules.py::test_what_a_killed_daemon_had_started_is_ended",),
    ),
    "no-old-value": Mutant(
        "staging is moved without looking where it stood",
        "swarm/edge/landing.py",
        "RefChange(staging_ref(run), new, old)",
        "RefChange(staging_ref(run), new, None)",
        (f"{_LANDING}::test_advance_is_compare_and_swap",),
    ),
    "equal-not-above": Mutant(
        "a landing counts as done only where staging stands exactly at it, not above it",
        "swarm/edge/landing.py",
        "            return place <= tip_place\n        return self.is_ancestor(commit, tip)",
        "            return place == tip_place\n        return commit == tip",
        (f"{_LANDING}::test_advance_is_compare_and_swap", f"{_LANDING}::test_advance_may_move_over_several"),
    ),
    "counted-twice": Mutant(
        "an advance that is repeated after a crash makes the line one longer",
        "swarm/edge/lineage.py",
        "if commit not in line.place:",
        "if commit != onto:",
        (f"{_LANDING}::test_an_advance_that_is_repeated_counts_once",),
    ),
    "verify-base": Mutant(
        "suites run on the commit below the candidate",
        "swarm/daemon/verification.py",
        "self._verifier.scratch.take(self.key, self._candidate)",
        "self._verifier.scratch.take(self.key, self._verifier.scratch.objects.commit(self._candidate).parents[0])",
        ("tests/e2e/test_landing.py::test_verification_sees_exactly_what_lands",),
    ),
    "changed-forgotten": Mutant(
        "which tracked files a suite changed is not read again after a kill",
        "swarm/daemon/verification.py",
        "_with_changed(end.result, _read_changed(end.folder))",
        "_with_changed(end.result, blamed(left, end.changed))",
        ("tests/e2e/test_suites.py::test_changed_files_are_not_forgotten_by_a_kill",),
    ),
    "parts-believed": Mutant(
        "parts count although a test file was in none of them",
        "swarm/core/suites.py",
        "if times[name] != 1]",
        "if times[name] > 1]",
        ("tests/unit/test_suites.py::test_parts_are_every_test_file_once",),
    ),
    "any-command-remembered": Mutant(
        "what passed is remembered for the tree, whatever the command",
        "swarm/edge/remembered.py",
        "parts = [tree, suite.run, ",
        "parts = [tree, ",
        ("tests/integration/test_remembered.py::test_each_of_the_three_makes_another_key",),
    ),
    "merge-after-verify": Mutant(
        "what is merged again because staging moved lands without being verified again",
        "swarm/core/merge_queue.py",
        "Step.VERIFYING if attempt.to_pass else Step.VERIFIED",
        "Step.VERIFYING if attempt.to_pass and not attempt.merge_moves else Step.VERIFIED",
        ("walk", f"{_MERGE_QUEUE}::test_staging_that_moved_is_merged_onto_anew"),
    ),
    "stands-on-nothing": Mutant(
        "what was made from a candidate that was sent back goes on as if that had landed",
        "swarm/core/train.py",
        "(gives_way or not stands)",
        "gives_way",
        ("walk", "tests/unit/test_train.py::test_red_because_of_one_ahead_is_forgotten"),
    ),
    "batch-by-its-first": Mutant(
        "a batch lands as soon as its first candidate, which nothing verifies, is made",
        "swarm/core/batch.py",
        "return members(run, attempt)[-1]",
        "return members(run, attempt)[0]",
        ("tests/unit/test_batch.py::test_a_red_batch_is_halved_until_one_is_red_by_itself",),
    ),
    "conflict-ahead-counts": Mutant(
        "a conflict with a candidate that may never land is held against the attempt",
        "swarm/core/merge_queue.py",
        "if run.landing[0] != task.spec.id:",
        "if run.landing[0] != task.spec.id and attempt.alone:",
        ("tests/unit/test_train.py::test_a_conflict_with_one_ahead_is_nobodys_fault",),
    ),
    "until-green": Mutant(
        "what is red runs again until it is green",
        "swarm/core/merge_queue.py",
        "if red and not attempt.again and",
        "if red and",
        ("tests/unit/test_train.py::test_red_twice_is_handed_back",),
    ),
    "first-verdict-again": Mutant(
        "a suite that runs once more is taken for the one that has run, and its exit status read again",
        "swarm/core/places.py",
        "{'-again' if again else ''}",
        "{''}",
        ("tests/e2e/test_train.py::test_a_flake_lands_and_is_told",),
    ),
    "any-verdict": Mutant(
        "a verdict is taken without looking which candidate it is about",
        "swarm/core/merge_queue.py",
        "    if event.candidate != attempt.candidate or event.again",
        "    if event.candidate is None or event.again",
        ("walk", f"{_MERGE_QUEUE}::test_a_verdict_on_another_candidate_is_stale"),
    ),
    "wrong-merge-base": Mutant(
        "an attempt is merged as if it had started from the last commit but one of its own",
        "swarm/edge/landing.py",
        "self._merger.merge_over(base, self.objects.tree_of(onto), head)",
        "self._merger.merge_over(topic[-1].parents[0] if topic else base, self.objects.tree_of(onto), head)",
        (f"{_LANDING}::test_merge_equals_plain_git_on_random_topics",),
    ),
    "conflict-lands": Mutant(
        "what git could not merge lands as git left it, with the marks of a conflict in it",
        "swarm/edge/merging.py",
        'if status == b"1":\n            return Merged',
        "if tree:\n            return Merged",
        (f"{_HOSTILE}::test_swarm_and_git_agree",),
    ),
    "wrong-replay-base": Mutant(
        "each commit is replayed as if it held all before it too",
        "swarm/edge/merging.py",
        "outcome = self.merge_over(commit.parents[0], tree, commit.oid)",
        "outcome = self.merge_over(commits[0].parents[0], tree, commit.oid)",
        (f"{_HOSTILE}::test_commits_that_fit_one_by_one_land",),
    ),
    "lines-anyway": Mutant(
        "files of which their attributes say that they are not merged by lines are merged by lines",
        "swarm/edge/attributes.py",
        "return found if any(word in text for text in found.values() for word in _OF_MERGING) else {}",
        "return {}",
        (f"{_HOSTILE}::test_files_that_are_not_merged_by_lines_are_not",),
    ),
    "taken-back": Mutant(
        "a merge commit that drops what others have landed is a merge like any other, until the check refuses it for ever",
        "swarm/edge/landing.py",
        'return Conflict(tuple(foreign), ("it takes back what has landed",))',
        "return outcome",
        (f"{_HOSTILE}::test_taking_back_what_others_landed_is_a_conflict",),
    ),
    "names-mangled": Mutant(
        "what is no UTF-8 in a name is replaced when it is read",
        "swarm/edge/git/call.py",
        'return raw.decode("utf-8", "surrogateescape")',
        'return raw.decode("utf-8", "replace")',
        (f"{_HOSTILE}::test_whatever_a_path_is_called_a_conflict_names_it",),
    ),
    "lost-mode": Mutant(
        "that a file became executable is not seen",
        "swarm/edge/git/call.py",
        '    ("submodule.recurse", "false"),\n',
        '    ("submodule.recurse", "false"),\n    ("core.fileMode", "false"),\n',
        (f"{_HOSTILE}::test_a_mode_alone_is_a_change",),
    ),
    "endless-link": Mutant(
        "a link to a repository that is not there can't be collected, and that is tried for ever",
        "swarm/edge/leftovers.py",
        '            if not os.path.lexists(self.tree.path / path / ".git"):\n                continue',
        "            if not path:\n                continue",
        (f"{_WORKTREES}::test_a_link_to_a_repository_that_is_not_here_is_told",),
    ),
    "no-own-paths": Mutant(
        "a candidate that changes what the attempt did not is let through",
        "swarm/edge/landing.py",
        "foreign = [path for path in changed if path not in own]",
        "foreign: list[str] = []",
        (f"{_LANDING}::test_check_refuses_the_undoing_of_others_work",),
    ),
    "any-exit-conflict": Mutant(
        "any failure of git while merging is taken for a conflict",
        "swarm/edge/merging.py",
        'if "unrelated histories" in problem.err:',
        "if problem is not None:",
        (f"{_LANDING}::test_failure_of_git_is_never_a_conflict",),
    ),
    "forced-publish": Mutant(
        "the staging branch is moved from wherever a person put it",
        "swarm/edge/landing.py",
        "if left is None or here is None or there is None or here < left:\n"
        "                raise StagingBranchMoved(branch, old, found)\n"
        "            if there <= here:",
        "if there is not None and here is not None and there <= here:",
        (f"{_LANDING}::test_publish_is_repeatable_and_never_forced",),
    ),
    "claims-before-kill": Mutant(
        "claims are free as soon as a worker is told to end, while it still runs",
        "swarm/core/lifecycle.py",
        "    attempt.ending = attempt.ending or why\n",
        "    attempt.ending = attempt.ending or why\n    run.release_claims(task)\n",
        ("tests/unit/test_machine.py::test_a_claim_is_freed_at_the_end",),
    ),
    "any-attempt": Mutant(
        "the answer of an attempt that has ended is taken for the live one's",
        "swarm/core/state.py",
        "    if attempt is None or attempt.n != event.attempt:\n        raise",
        "    if attempt is None:\n        raise",
        ("walk",),
    ),
    "blind-move": Mutant(
        "the staging worktree is moved away from a commit that a person makes in it at that moment",
        "swarm/edge/follower.py",
        '_FAST_FORWARD = ("merge", "-q", "--ff-only", "--no-autostash", "--no-verify-signatures")',
        '_FAST_FORWARD = ("checkout", "-q", "--detach")',
        ("tests/integration/test_worktrees.py::test_a_commit_made_while_staging_moves_is_left_standing",),
    ),
    "from-follower": Mutant(
        "a worker starts from where the staging worktree stands, not from staging",
        "swarm/core/scheduling.py",
        "        base=run.published,\n",
        "        base=run.followed,\n",
        ("walk", f"{_MERGE_QUEUE}::test_a_dependant_starts_from_the_published_commit"),
    ),
    "needs-not-waited-for": Mutant(
        "a task is ready although what it needs has not landed",
        "swarm/core/lifecycle.py",
        "    elif run.needs.free(task.spec.id):\n",
        "    else:\n",
        ("walk",),
    ),
    "phase-open-for-ever": Mutant(
        "a task that comes into a phase that has landed holds nobody up",
        "swarm/core/needs.py",
        "self._miscounted = self._miscounted or isinstance(target, Gate)",
        "pass",
        ("walk", "tests/unit/test_phases_again.py"),
    ),
    "killed-at-work": Mutant(
        "what has died behind the back of a task at work blocks what needs that task",
        "swarm/core/needs.py",
        "(counts.dead > 0 and node not in self._working)",
        "counts.dead > 0",
        ("walk", "tests/unit/test_phases_again.py"),
    ),
    "back-without-needs": Mutant(
        "a task that is handed back is tried again at once, whatever it needs by now",
        "swarm/core/lifecycle.py",
        "    if run.needs.free(name) and not run.needs.dead(name):\n        ready(",
        "    if True:\n        ready(",
        ("walk", "tests/unit/test_phases_again.py"),
    ),
    "lost-never-counts": Mutant(
        "a worker that is lost again and again never uses an attempt up",
        "swarm/core/working.py",
        "attempt.counts = lost > turn.swarm.limits.lost_max",
        "attempt.counts = False",
        ("tests/unit/test_attempts.py::test_a_lost_worker_costs_no_attempt_at_first",),
    ),
    "inherited-lock": Mutant(
        "whatever is started while a lock is held holds it as well",
        "swarm/edge/lockfile.py",
        "        descriptor = _open(path)\n",
        "        descriptor = _open(path)\n        os.set_inheritable(descriptor, True)\n",
        ("tests/integration/test_lockfile.py::test_a_child_started_while_holding_does_not_keep_the_lock",),
    ),
    "no-epoch": Mutant(
        "a daemon that another has followed still writes into the journal",
        "swarm/edge/journal/store.py",
        "FROM head WHERE epoch = {epoch})",
        "FROM head WHERE epoch >= {epoch})",
        (f"{_JOURNAL}::test_an_older_daemon_cannot_write",),
    ),
    "not-durable": Mutant(
        "the journal does not wait until the disk has what was written",
        "swarm/edge/journal/store.py",
        'connection.execute("PRAGMA synchronous=FULL")\n                connection.execute(f"PRAGMA journal_size',
        'connection.execute("PRAGMA synchronous=OFF")\n                connection.execute(f"PRAGMA journal_size',
        (f"{_JOURNAL}::test_every_append_reaches_the_disk",),
    ),
    "started-twice": Mutant(
        "a worker is started again although it has been started",
        "swarm/edge/process.py",
        "        if already is not None:\n            return already\n",
        "",
        (f"{_PROCESS}::test_started_once_however_often_asked",),
    ),
    "session-only": Mutant(
        "only the session of a worker is ended, not what has left it",
        "swarm/edge/process.py",
        "    found = _with_descendants(table, found | _marked(table, nonce, found))\n",
        "",
        (f"{_PROCESS}::test_nothing_gets_away",),
    ),
    "lent-to-two": Mutant(
        "a worktree that somebody has is given to another",
        "swarm/edge/worktrees.py",
        "free = [m for m in self._members.values() if not m.key]\n                member = min",
        "free = list(self._members.values())\n                member = min",
        (f"{_WORKTREES}::test_two_keys_get_two_worktrees_and_one_key_the_same_again",),
    ),
    "work-dropped": Mutant(
        "a worktree is cleaned without saving what nobody collected",
        "swarm/edge/worktrees.py",
        "            place = self._keeper.put_away(member, at, seen)\n            crash_at",
        "            place = None\n            crash_at",
        (f"{_WORKTREES}::test_work_that_was_never_collected_is_saved_when_given_back",),
    ),
    "lease-believed": Mutant(
        "a worktree whose preparation was cut short is believed to be clean",
        "swarm/edge/upkeep.py",
        "        self.leases.save(member)  # from here on a crash leaves a lease whose files are not to be believed\n",
        "",
        (f"{_WORKTREES}::test_a_move_that_was_cut_short_is_not_believed",),
    ),
    "prune-only": Mutant(
        "git's record of a removed worktree is left for `git worktree prune`",
        "swarm/edge/upkeep.py",
        "                if there is None:\n                    linked.unlink(tree, lock=held)\n                else:",
        "                if there is not None:",
        (f"{_WORKTREES}::test_trim_removes_free_members_only",),
    ),
    "pid-believed": Mutant(
        "a process is taken for a worker because it has the same number, whenever it began",
        "swarm/edge/process.py",
        "found is not None and found.start_ticks == identity.start_ticks and found.running",
        "found is not None and found.running",
        (f"{_PROCESS}::test_alive_means_exactly_this_process",),
    ),
    "claims-never-freed": Mutant(
        "an attempt that has ended keeps its claims",
        "swarm/core/lifecycle.py",
        "    if not keep_claims:\n        run.release_claims(task)\n",
        "",
        ("walk",),
    ),
    "claims-lost-in-conflict": Mutant(
        "a task gives its claims up when it is handed back with a conflict",
        "swarm/core/lifecycle.py",
        "    if not keep_claims:\n        run.release_claims(task)\n",
        "    run.release_claims(task)\n",
        ("tests/unit/test_handed_back.py::test_claims_are_kept_from_a_conflict_to_the_next_attempt",),
    ),
    "partner-by-guess": Mutant(
        "work that is red where it began is said to be red only together with what has landed since",
        "swarm/core/searching.py",
        "search = search if red else",
        "search =",
        ("tests/unit/test_searching.py::test_what_is_red_where_it_began_is_at_fault_itself",),
    ),
    "blind-finish": Mutant(
        "the target branch is moved from wherever it stands by then",
        "swarm/daemon/finishing.py",
        'self.refs.move(f"refs/heads/{command.target}", outlook.new, outlook.old)',
        'self.refs.move(f"refs/heads/{command.target}", outlook.new, None)',
        ("tests/e2e/test_finish.py::test_a_target_that_moves_while_the_files_do_is_left",),
    ),
    "any-lock-is-ours": Mutant(
        "the lock of a branch of the user's is removed whatever it holds",
        "swarm/edge/git/refs.py",
        "left = [lock] if filled or self._was_ours(lock, ref, new) else []",
        "left = [lock] if os.path.exists(lock) else []",
        (f"{_GIT}::test_the_locks_of_our_killed_git_go_from_the_users_branch",),
    ),
    "object-not-synced": Mutant(
        "a loose object gets its name before the disk has it",
        "swarm/edge/git/objects.py",
        "            if durable:\n                os.fsync(fd)\n",
        "",
        (f"{_GIT}::test_an_object_is_on_the_disk_before_it_has_its_name",),
    ),
    "cache-believed": Mutant(
        "a start believes what of the journal is in the system's memory alone",
        "swarm/edge/journal/store.py",
        "PRAGMA wal_checkpoint(PASSIVE)",
        "PRAGMA user_version",
        (f"{_JOURNAL}::test_what_a_start_reads_is_written_once_more",),
    ),
    "unremembered-told": Mutant(
        "a daemon that could not remember its last step leaves the state after it for `swarm status`",
        "swarm/daemon/service.py",
        "        _leave_failure(places, error, coordinator.now())\n",
        "        _leave_failure(places, error, coordinator.now())\n        _leave_status(places, coordinator)\n",
        ("tests/crash/test_resources.py::test_a_journal_that_the_disk_did_not_take_ends_the_daemon",),
    ),
    "objects-expire": Mutant(
        "a gc of the landing repository removes what no ref names at once",
        "swarm/edge/landing.py",
        "\\tpruneExpire = never\n",
        "\\tpruneExpire = now\n",
        (f"{_LANDING}::test_bring_in_survives_gc_in_the_users_repository",),
        missed="nothing of swarm calls gc there, and whatever must stay stands under a ref: the setting is a second line",
    ),
}


class Outcome(NamedTuple):
    """What a check said: the sentence that names what is wrong ("" for nothing), runs until then, seconds."""

    said: str
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Yard:
    """A copy of the tree in which a bug may be planted, and checks be run."""

    top: Path
    seeds: int

    @classmethod
    def make(cls, top: Path, seeds: int) -> Yard:
        """Copies the tree without what was compiled from it."""
        top.mkdir()
        for name in COPIED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, top / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, top / name)
        return cls(top, seeds)

    def plant(self, mutant: Mutant) -> None:
        """Puts a bug in. Raises `ValueError` where there is no such place, or more than one."""
        file = self.top / mutant.file
        file.write_text(planted(file.read_text("utf-8"), mutant), "utf-8")

    def check(self, check: str) -> Outcome:
        """Runs a check."""
        began = monotonic()
        kind, _, what = check.partition(" ")
        if kind == "day":
            said, runs = self._day(what)
        elif kind == "walk":
            said, runs = self._pytest("tests/unit/test_random_walk.py")
        else:
            said, runs = self._pytest(check)
        return Outcome(said, runs, monotonic() - began)

    def _run(self, *arguments: str) -> tuple[int, str]:
        env = {**os.environ, "PYTHONPATH": str(self.top), "SWARM_WALK_SEEDS": str(self.seeds)}
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.top,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout

    def _pytest(self, what: str) -> tuple[str, int]:
        quiet = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short", "--timeout=600")
        code, out = self._run("pytest", what, *quiet)
        if code not in (0, 1):
            raise SystemExit(f"{what} could not be run:\n{out[-3000:]}")
        counted = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|error)", out)}
        if not counted:
            raise SystemExit(f"{what} ran no test:\n{out[-3000:]}")
        return (_first_failure(out) if code else ""), sum(counted.values())

    def _day(self, point: str) -> tuple[str, int]:
        """A point that was not reached, or did not fire, is nothing that was caught."""
        arguments = ("--layers", "F1", "--points", point, "--kinds", "kill", "--hits", "1", "--jobs", "1")
        _, out = self._run("tests.crash", *arguments, "--seed", str(SEED))
        reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if not reports:
            raise SystemExit(f"the day of {point} could not be run:\n{out[-3000:]}")
        wrong = [sentence for report in reports for sentence in report["wrong"]]
        for report in reports:
            shutil.rmtree(
                Path(report.get("folder", "")).parent if report.get("folder") else self.top / "none", True
            )
        return (wrong[0] if wrong else ""), len(reports)


def planted(text: str, mutant: Mutant) -> str:
    """Gives a file with the bug in it. Raises `ValueError` where the text to replace is not there exactly once."""
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.file} has the text to replace {found} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def _first_failure(out: str) -> str:
    """Gives what pytest says of the first failure, in a line."""
    summary = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", out, re.MULTILINE)
    if summary is None:
        return "it failed"
    case = re.search(r"\[.*\]$", summary[1])  # of a walk its seed
    raised = re.findall(r"^E +(.*)$", out, re.MULTILINE)
    return f"{case[0] + ' ' if case else ''}{(raised or [summary[2] or ''])[0]}"


def controls(base: Path, names: Sequence[str], seeds: int) -> Iterator[str]:
    """Runs every check that will be asked on a tree without a bug; gives a sentence for each that fails by itself."""
    yard = Yard.make(base / "control", seeds)
    for check in dict.fromkeys(check for name in names for check in MUTANTS[name].checks):
        outcome = yard.check(check)
        print(
            f"{'control':22}{check}: {outcome.said or 'passes'} ({outcome.runs} runs, {outcome.seconds:.0f} s)",
            flush=True,
        )
        if outcome.said:
            yield f"{check} fails without any bug: {outcome.said}"


def try_out(base: Path, name: str, options: argparse.Namespace) -> tuple[str, bool]:
    """Plants a bug and runs its checks; gives the row of the table, and whether it is as it must be."""
    mutant = MUTANTS[name]
    yard = Yard.make(base / name, options.seeds)
    yard.plant(mutant)
    caught: list[str] = []
    runs, seconds = 0, 0.0
    for check in mutant.checks:
        outcome = yard.check(check)
        runs, seconds = runs + outcome.runs, seconds + outcome.seconds
        if outcome.said:
            caught.append(f"`{check.rpartition('::')[2]}`: {_plain(outcome.said)}")
            if not options.all:
                break
    shutil.rmtree(yard.top, ignore_errors=True)
    by = "; ".join(caught) or f"**not caught**{': ' + mutant.missed if mutant.missed else ''}"
    return f"| {mutant.bug} | {by} | {runs} | {seconds:.0f} |", bool(caught) is not bool(mutant.missed)


def _plain(text: str, most: int = 140) -> str:
    line = " ".join(text.replace("|", "/").split())
    line = re.sub(r"[0-9a-f]{40}", lambda oid: oid[0][:8], line)
    line = re.sub(r"/[\w./-]*/", "…/", line)  # folders of this machine
    return line if len(line) <= most else f"{line[:most]}…"


def main(arguments: Sequence[str]) -> int:
    """Tries the bugs out; 1 where one was not caught, or one was of which we say that it is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.mutants", description=__doc__)
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(MUTANTS), help="names of bugs"
    )
    parser.add_argument(
        "--all", action="store_true", help="every check of a bug, also after one has caught it"
    )
    parser.add_argument("--seeds", type=int, default=20, help="random walks, where a check is one")
    parser.add_argument("--no-control", action="store_true", help="do not run the checks without a bug first")
    options = parser.parse_args(arguments)
    began, rows = monotonic(), list[str]()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="swarm-mutants-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        if not options.no_control:
            wrong += controls(base, options.only, options.seeds)
        for name in options.only:
            row, right = try_out(base, name, options)
            print(f"{name:22}{row}", flush=True)
            rows.append(row)
            if not right:
                wrong.append(f"{name} is not what the list says of it")
    print("\n| planted bug | caught by | runs | seconds |\n| --- | --- | --- | --- |")
    print("\n".join(rows))
    print(f"\n{len(rows)} bugs, {len(wrong)} wrong, {monotonic() - began:.0f} s")
    for sentence in wrong:
        print(f"wrong: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
