"""The daemon's life as people see it: started, stopped in every way, killed, joined, left alone."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import psutil
import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir, runs, widest
from tests.e2e.test_ends import task_of


@pytest.mark.slow
def test_there_is_one_daemon(swarm: Swarm) -> None:
    """Row 93: of several starts at once one starts the daemon, and the others say that it is already running, as does one
    that comes later, in the foreground too; each ends with 0."""
    with ThreadPoolExecutor(4) as pool:
        starts = list(pool.map(lambda _: swarm("start"), range(4)))
    pid = swarm.status()["daemon"]["pid"]
    already = f"The daemon is already running (process {pid}).\n"
    assert [done.err for done in starts if "Started" in done.err] == [
        f"Started the daemon (process {pid}).\n"
    ]
    assert [done.out for done in starts if "Started" not in done.err] == [already] * 3
    for more in ((), ("--foreground",)):
        assert swarm("start", *more).out == already
    assert swarm.status()["daemon"]["pid"] == pid
    # A program that a daemon starts looks like the daemon for a moment.
    wait_until(lambda: sum(" swarm.daemon " in line for line in swarm.left_running()) == 1)


def test_what_is_known_survives_the_daemon(swarm: Swarm) -> None:
    """Row 93: with no daemon, and with the next one, status tells the same of a run as before; each says whether one runs."""
    swarm("start")
    swarm(
        "submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b", "exit 1", claims=["x"], attempts=1)]))
    )
    before = swarm.wait("r", code=1)
    swarm("stop")
    without = swarm.status()
    assert without["daemon"]["running"] is False
    assert without["daemon"]["pid"] is None
    assert "no daemon" in swarm("status").out.lower()
    swarm("start")
    after = swarm.status()
    assert after["daemon"]["running"] is True
    keys = ("id", "state", "base", "counts", "tasks")
    for document in (without, after):
        run = document["runs"][0]
        assert {key: run[key] for key in keys} == {key: before[key] for key in keys}
        # Where the staging worktree stands is left out: it may still have been on its way.
        assert all(run["staging"][key] == before["staging"][key] for key in ("branch", "commit", "verified"))
    seqs = [event["seq"] for event in swarm.events()]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize(
    "how",
    ["stop", pytest.param("SIGTERM", marks=pytest.mark.slow), pytest.param("now", marks=pytest.mark.slow)],
)
def test_a_stop_ends_workers_and_the_next_start_goes_on(swarm: Swarm, how: str) -> None:
    """Row 72: a stop ends the workers and keeps what they did; after the next start their tasks are done, no attempt used up."""
    work = 'echo $SWARM_ATTEMPT > out; [ "$SWARM_ATTEMPT" = 1 ] || exit 0; sleep 300 & true'
    plan = swarm.plan(
        "r",
        [swarm.task("t", work, claims=["out"], attempts=1, gate="never"), swarm.task("after", needs=["t"])],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_gate("t")
    worker = swarm.launchers("r", "t")["t"]
    daemon = psutil.Process(swarm.status()["daemon"]["pid"])
    if how == "SIGTERM":
        daemon.terminate()
    else:
        swarm("stop", *(["--now"] if how == "now" else []))
    wait_until(lambda: not runs(daemon.pid) and not runs(worker))
    swarm.wait_for_rest()
    stopped = swarm.the_run()
    assert task_of(stopped, "t")["state"] == "ready"
    assert git(swarm.top, "show", "swarm/r/task/t/1:out") == "1"
    swarm("start")
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert swarm.content("r", "out") == "2\n"
    assert swarm.landings("r") == ["t", "after"]


def test_a_drain_waits_for_workers(swarm: Swarm) -> None:
    """`stop --drain` starts nothing new, lets what runs finish and land, and the next start does the rest."""
    plan = swarm.plan("r", [swarm.task("t", gate="t"), swarm.task("after", needs=["t"])])
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t")
    stopping = swarm.spawn("stop", "--drain")
    wait_until(lambda: swarm.status()["daemon"]["stopping"])
    swarm.open("t")
    assert stopping.wait(PATIENCE_S) == 0
    assert swarm.landings("r") == ["t"]
    assert swarm.starts() == ["t"]
    swarm("start")
    swarm.check_landed(swarm.wait("r"))
    assert swarm.starts() == ["t", "after"]


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        pytest.param((), ("--drain",), [True], marks=pytest.mark.slow),
        pytest.param((), (), [True], marks=pytest.mark.slow),
        (("--drain",), (), [False, True]),
    ],
)
def test_a_second_stop_only_makes_it_faster(
    swarm: Swarm, first: tuple[str, ...], second: tuple[str, ...], taken: list[bool]
) -> None:
    """A gentler stop, or the same, that comes while one is under way changes nothing of that; a stronger one takes its place."""
    swarm.env["SWARM_LIMITS__GRACE_S"] = "3600"
    deaf = swarm.task("t", "trap '' TERM", claims=["out"], gate="t")
    swarm("start")
    swarm("submit", str(swarm.plan("r", [deaf])))
    swarm.wait_for_gate("t")
    daemon_log = common_dir(swarm.top) / "swarm" / "log" / "daemon.log"
    stopping = []
    for args in (first, second):
        stopping.append(swarm.spawn("stop", *args))
        wait_until(lambda: daemon_log.read_text().count("stop.requested") == len(stopping))
        wait_until(lambda: swarm.status()["daemon"]["stopping"])
    swarm.open("t")
    assert [each.wait(PATIENCE_S) for each in stopping] == [0, 0]
    asked = [event for event in swarm.events() if event["type"] == "StopRequested"]
    assert [event.get("end_workers", False) for event in asked] == taken


@pytest.mark.parametrize("how", [pytest.param("leave-workers", marks=pytest.mark.slow), "kill"])
def test_workers_outlive_the_daemon(swarm: Swarm, how: str) -> None:
    """A worker goes on without its daemon, which left it or was killed; the next one adopts the same process and lands it."""
    plan = swarm.plan(
        "r",
        [
            swarm.task("long", gate="long"),
            swarm.task("ended", gate="ended"),
            swarm.task("after", needs=["long"]),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_gate("long", "ended")
    pid = swarm.launchers("r", "long", "ended")["long"]
    if how == "kill":
        swarm.end_daemon()
    else:
        swarm("stop", "--leave-workers")
    assert swarm.status()["daemon"]["running"] is False
    told = swarm("stop", "--now").out
    assert "2 workers that the last one left go on" in told
    assert f"\n  r/long, attempt 1: process {pid}\n" in told
    swarm.open("ended")
    wait_until(lambda: any(span.task == "ended" and span.end < float("inf") for span in swarm.spans()))
    swarm("start")
    now = task_of(swarm.the_run(), "long")["attempts"]
    assert [(attempt["n"], attempt["pid"], attempt["state"]) for attempt in now] == [(1, pid, "running")]
    swarm.open("long")
    swarm.check_landed(swarm.wait("r"))
    assert sorted(swarm.starts()) == ["after", "ended", "long"]


def test_a_killed_daemon_loses_nothing(swarm: Swarm) -> None:
    """Row 68: killed with -9 amid workers and a verification, the next start lands everything once, and nothing ran twice. Until
    then a stop says who goes on."""
    looks = swarm.outside / "looks"
    whose = 'git log -1 --format="%(trailers:key=Swarm-Task,valueonly,separator=)"'
    suite = f"echo $({whose}) >> {looks}; until [ -e {swarm.gate('suite')} ]; do sleep 0.02; done"
    tasks = [
        swarm.task("first"),
        *(swarm.task(f"w{n}", gate="w") for n in range(2)),
        swarm.task("after", needs=["first", "w0"]),
    ]
    swarm("start", "--workers", "3")
    swarm("submit", str(swarm.plan("r", tasks, verify=[suite])))
    swarm.wait_for_start("w0", "w1")
    wait_until(looks.exists)
    swarm.end_daemon()
    told = swarm("stop").out
    assert "2 workers and 1 suite that the last one left go on" in told
    assert "\n  r/first, attempt 1, a suite: process " in told
    swarm.open("w")
    swarm("start", "--workers", "3")
    swarm.open("suite")
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert sorted(swarm.starts()) == ["after", "first", "w0", "w1"]
    assert sorted(looks.read_text().split()) == ["after", "first", "w0", "w1"]
    assert sorted(swarm.landings("r")) == ["after", "first", "w0", "w1"]


def test_a_daemon_killed_again_and_again_still_lands_everything_once(swarm: Swarm) -> None:
    """Row 68: however often the daemon is killed in the middle of a run, each task's worker runs once and each lands once."""
    tasks = [swarm.task(f"t{n}", sleep_s=0.1, needs=[f"t{n - 2}"] if n > 1 else []) for n in range(10)]
    swarm("start", "--workers", "2")
    swarm("submit", str(swarm.plan("r", tasks, verify=["sleep 0.05"])))
    for landed in (1, 3, 5, 7):
        wait_until(lambda count: len(swarm.landings("r")) >= count, landed)
        swarm.end_daemon()
        swarm("start", "--workers", "2")
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert sorted(swarm.starts()) == sorted(f"t{n}" for n in range(10))
    assert sorted(swarm.landings("r")) == sorted(f"t{n}" for n in range(10))
    seqs = [event["seq"] for event in swarm.events()]
    assert seqs == list(range(1, len(seqs) + 1))


def test_interrupting_a_run_only_detaches(swarm: Swarm) -> None:
    """Row 76: Ctrl-C on `swarm run` ends it with 130 and says how to come back; the run goes on, and running it again joins it."""
    plan = swarm.plan("r", [swarm.task("a", gate="a")])
    running = swarm.spawn("run", str(plan))
    swarm.wait_for_start("a")
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "swarm wait --run r" in out + err
    assert task_of(swarm.the_run(), "a")["state"] == "running"
    joined = swarm.spawn("run", str(plan), "--json")
    wait_until(lambda: swarm.status()["daemon"]["running"])
    swarm.open("a")
    out, _ = joined.communicate(timeout=PATIENCE_S)
    assert joined.returncode == 0
    assert '"landed":1' in out.replace(" ", "")
    assert swarm.starts() == ["a"]


def test_a_daemon_that_run_started_ends_by_itself(swarm: Swarm) -> None:
    """A daemon that `swarm run` started ends once no run is active; what happened can be asked for afterwards."""
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
    wait_until(lambda: not swarm.status()["daemon"]["running"])
    swarm.wait_for_rest()
    assert swarm.the_run()["counts"]["landed"] == 1
    assert swarm("wait", "--run", "r").code == 0


@pytest.mark.slow
def test_a_daemon_that_is_about_to_end_fails_nobody(swarm: Swarm) -> None:
    """However close to its end a daemon of `swarm run` is, finish, run and start work: that one does it or the next."""
    for n, ask in enumerate([("finish", "--preview", "--run", "r0"), ("run", "again"), ("start",)]):
        swarm.run(swarm.plan(f"r{n}", [swarm.task("t")]))
        again = str(swarm.plan("again", [swarm.task("t")])) if ask[0] == "run" else ""
        first = swarm.status()["daemon"]["pid"]
        while (first is not None) and runs(first):
            swarm(*(again or word if word == "again" else word for word in ask))
            if ask == ("start",):
                break
        swarm("stop")


@pytest.mark.slow
def test_start_makes_a_daemon_stay(swarm: Swarm) -> None:
    """A daemon that `swarm run` started stays once somebody has said `swarm start`; to retry afterwards works."""
    run = swarm.run(swarm.plan("r", [swarm.task("t", "exit 1", claims=["x"], attempts=1)]), code=1)
    swarm("start")
    pid = swarm.status()["daemon"]["pid"]
    assert run["counts"]["failed"] == 1
    swarm("retry", "t")
    swarm.wait("r", code=1)
    swarm("start")
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(pid).wait(1.5)
    assert swarm.status()["daemon"]["pid"] == pid


@pytest.mark.slow
def test_the_same_plan_again_changes_nothing(swarm: Swarm) -> None:
    """Submitting and running a plan again starts nothing that has landed; what is new in it is added, what changed is replaced."""
    plan = swarm.plan("r", [swarm.task("a"), swarm.task("b", "exit 1", claims=["x"], attempts=1)])
    swarm("start")
    swarm.run(plan, code=1)
    swarm.run(plan, code=1)
    submitted = swarm("submit", str(plan), "--json").json["submitted"]
    assert submitted == {"run": "r", "added": [], "replaced": [], "unchanged": 2, "verify": []}
    assert swarm.starts() == ["a", "b"] or swarm.starts() == ["b", "a"]
    swarm("pause")
    first = swarm.plan(
        "r",
        [
            swarm.task("a"),
            swarm.task("b", "exit 1", claims=["x"], attempts=1),
            swarm.task("c", "echo old > c", claims=["c"]),
        ],
    )
    assert swarm("submit", str(first), "--json").json["submitted"]["added"] == ["c"]
    second = swarm.plan(
        "r",
        [
            swarm.task("a"),
            swarm.task("b", "exit 1", claims=["x"], attempts=1),
            swarm.task("c", "echo new > c", claims=["c"]),
        ],
    )
    assert swarm("submit", str(second), "--json").json["submitted"]["replaced"] == ["c"]
    changed = swarm.plan("r", [swarm.task("a", "echo changed > out-a", claims=["out-a"])])
    refused = swarm("submit", str(changed), code=4)
    assert "a" in refused.err
    swarm("resume")
    swarm.wait("r", code=1)
    assert swarm.content("r", "c") == "new\n"
    assert sorted(swarm.starts()) == ["a", "b", "c"]


@pytest.mark.slow
def test_tasks_can_be_added_one_by_one(swarm: Swarm) -> None:
    """Row 70: of twenty additions at the same time none is lost, each is done, and needs among them hold."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("first")])))

    def add(n: int) -> None:
        swarm(
            "add",
            "--title",
            f"Number {n}",
            "--id",
            f"n{n}",
            "--claim",
            f"f{n}",
            "--run",
            swarm.does(f"echo {n} > f{n}"),
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    swarm(
        "add",
        "--title",
        "Last one",
        "--needs",
        "n3",
        "--needs",
        "n19",
        "--run",
        swarm.does("cat f3 f19 > last"),
    )
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert run["counts"]["landed"] == 22
    assert swarm.content("r", "last") == "3\n19\n"
    assert task_of(run, "last-one")["needs"] == ["n3", "n19"]


@pytest.mark.slow
def test_two_runs_beside_each_other(swarm: Swarm) -> None:
    """Rows 24 and 25: two runs with the same task ids in one repository share the workers and never each other's branches."""
    swarm("start", "--workers", "2")
    for name in ("one", "two"):
        tasks = [
            swarm.task("t", f"echo {name} > {name}", claims=[name], gate="t"),
            swarm.task("u", f"cat {name} > u", needs=["t"], claims=["u"]),
        ]
        swarm("submit", str(swarm.plan(name, tasks)))
    wait_until(lambda: len(swarm.starts()) == 2)
    assert {span.task for span in swarm.spans("one")} == {span.task for span in swarm.spans("two")} == {"t"}
    swarm("logs", "t", code=2)
    swarm.open("t")
    for name, other in (("one", "two"), ("two", "one")):
        swarm.check_landed(swarm.wait(name))
        assert swarm.landings(name) == ["t", "u"]
        assert swarm.content(name, "u") == f"{name}\n"
        assert swarm.content(name, other) is None
    assert widest(swarm.spans("one") + swarm.spans("two")) == 2
    swarm("logs", "one/t")
    worktrees = [run["staging"]["worktree"] for run in swarm.status()["runs"]]
    assert len(set(worktrees)) == 2


@pytest.mark.slow
def test_workers_ignore_no_signal_that_the_daemon_was_started_to_ignore(swarm: Swarm) -> None:
    """Under nohup, or as a shell's background job, a daemon is told to ignore signals; its workers are not, and it stays up."""
    ignored = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        swarm("start")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    pid = swarm.status()["daemon"]["pid"]
    for number in ignored:
        os.kill(pid, number)
    plan = swarm.plan("ignored", [swarm.task("t", "grep SigIgn /proc/self/status > out", claims=["out"])])
    swarm("submit", str(plan))
    swarm.wait("ignored")
    shown = swarm.content("ignored", "out")
    assert shown is not None
    mask = int(shown.split()[1], 16)
    assert [number for number in ignored if mask & 1 << (number - 1)] == []
    assert swarm.status()["daemon"]["pid"] == pid


@pytest.mark.slow
def test_titles_that_make_the_same_id_replace_nobody(swarm: Swarm) -> None:
    """Of two titles that differ only in what no id may have both are done, the ids are told, and the same again adds nothing."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("first")])))
    swarm("pause")
    one = ("add", "--title", "Fix C++", "--run", "echo 1 > cpp")
    two = ("add", "--title", "Fix C#", "--run", "echo 1 > cs")
    assert "its id is fix-c\n" in swarm(*one).out
    told = swarm(*two, "--json").json["submitted"]
    (other,) = told["added"]
    assert (told["task"], told["replaced"]) == (other, [])
    assert other != "fix-c"
    for again, name in ((one, "fix-c"), (two, other)):
        said = swarm(*again).out
        assert "0 added, 0 replaced, 1 unchanged" in said
        assert f"its id is {name}\n" in said
    replaced = swarm("add", "--title", "Fix C", "--id", "fix-c", "--run", "echo 1 > cpp").out
    assert "0 added, 1 replaced" in replaced
    swarm("resume")
    swarm.check_landed(swarm.wait("r"))
    assert (swarm.content("r", "cpp"), swarm.content("r", "cs")) == ("1\n", "1\n")


@pytest.mark.slow
@pytest.mark.parametrize("code", [9, 75])
def test_what_ended_in_time_while_no_daemon_ran_is_judged_by_how_it_ended(swarm: Swarm, code: int) -> None:
    """The time of a worker that ended by itself may be over when a daemon comes to see it: it was not too late for that, and one
    that asked to be tried later pays nothing."""
    later = """echo '{"retry_after_s": 0}' > "$SWARM_RESULT_FILE"; """ if code == 75 else ""
    work = f'[ "$SWARM_ATTEMPT" -gt 1 ] || {{ sleep 1; {later}exit {code}; }}; echo x > out'
    task = swarm.task("t", work, claims=["out"], timeout_s=4, attempts=1 if code == 75 else 2)
    swarm("start")
    swarm("submit", str(swarm.plan("r", [task])))
    swarm.launchers("r", "t")
    began = swarm.the_run()["tasks"][0]["attempts"][0]["started_at"]
    swarm.end_daemon()
    over = datetime.fromisoformat(began).timestamp() + 4.5
    wait_until(lambda: time.time() > over)
    swarm("start")
    run = swarm.wait("r")
    swarm.check_landed(run)
    (task,) = run["tasks"]
    assert task["attempts"][0]["reason"]["code"] == ("rate_limit" if code == 75 else "worker_failed")
