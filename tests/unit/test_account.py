"""What `swarm report` tells: each figure equals a plain count over the records, and the parts add up to the whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from swarm.client.report_page import report_page
from swarm.client.report_text import report_text
from swarm.core import machine
from swarm.core import messages as m
from swarm.core.account import report
from swarm.core.chronicle import TYPES, Chronicle
from swarm.core.state import Swarm
from tests.unit.test_random_walk import walk

Record = dict[str, Any]
Numbered = tuple[int, str, Record]
KEPT_BY_TYPE = ("TaskStarted", "TaskLanded", "TaskHandedBack", "TaskFailed", "TaskCancelled", "TaskBlocked")


def told(records: list[Numbered], run: str = "r", now: float | None = None) -> Record:
    chronicle = Chronicle(run)
    for seq, kind, record in records:
        if record["type"] in TYPES:
            chronicle.take(seq, kind, record)
    return report(chronicle, now)


# --- whatever happens -------------------------------------------------------------------------------------------------------


def journal_of(log: list[str]) -> tuple[list[Numbered], Swarm]:
    """Gives the records of a walk, as a daemon writes them."""
    swarm = Swarm()
    records: list[Numbered] = []
    for data in map(json.loads, log):
        turn = machine.step(swarm, m.event_from_json(data))
        records.append((len(records) + 1, "event", data))
        for fact in turn.facts:
            records.append((len(records) + 1, "fact", fact.to_json()))
    return records, swarm


def since_it_began(records: list[Numbered], run: str) -> list[Numbered]:
    """Gives the records of a run, and of no run of that id that was discarded before."""
    mine = [each for each in records if each[2].get("run") == run]
    starts = [place for place, each in enumerate(mine) if each[2]["type"] == "RunStarted"]
    ends = [place + 1 for place, each in enumerate(mine) if each[2]["type"] == "RunDiscarded"]
    return mine[max([*starts[-1:], *ends[-1:]], default=0) :]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_every_total_is_a_plain_count(seed: int) -> None:
    """Of any journal, totals equal a count of its records, money and tokens of tasks add up to phase, agent and run, the parts of
    each task's time to its time, and the critical path has no gap and ends with the last landing."""
    *_, world = walk(seed, rush=seed % 3 == 0)
    records, swarm = journal_of(world.log)
    for run in swarm.runs:
        mine = since_it_began(records, run)
        document = told(records, run)
        check_counts(document, mine)
        check_cost(document, mine, swarm)
        check_time(document)
        assert report_text(document)
        assert report_page(document)


def check_counts(document: Record, records: list[Numbered]) -> None:
    facts = Counter(record["type"] for _, kind, record in records if kind == "fact")
    totals, tasks = document["totals"], document["tasks"]
    names = ("attempts", "landed", "handed_back", "failed", "cancelled", "blocked")
    assert [totals[name] for name in names] == [facts[kind] for kind in KEPT_BY_TYPE]
    assert totals["flakes"] == facts["SuiteFlaked"] == sum(suite["flaked"] for suite in document["suites"])
    assert (
        sum(task["attempts"] for task in tasks) == totals["attempts"] == sum(document["velocity"]["started"])
    )
    assert sum(document["velocity"]["landed"]) == totals["landed"]
    verdicts = [r for _, _, r in records if r["type"] == "Verified" and not r.get("trouble")]
    assert sum(task["verified"] for task in tasks) == sum(not each.get("again") for each in verdicts)
    said = Counter(suite["name"] for each in verdicts for suite in each.get("suites", ()))
    assert {suite["name"]: suite["ran"] for suite in document["suites"]} == said
    undone = sum(r["type"] == "TaskCancelled" and r.get("code") == "undone" for _, _, r in records)
    assert totals["undone"] == undone
    codes = Counter(r.get("code") for _, _, r in records if r["type"] in ("TaskHandedBack", "TaskFailed"))
    for code in ("conflict", "verify_failed", "worker_failed", "timeout"):
        assert (
            totals["in_vain"].get(code, 0) <= codes[code]
        )  # a task may fail twice of one attempt: over its budget
    assert totals["integration_failures"] == sum(
        totals["in_vain"].get(code, 0) for code in ("conflict", "verify_failed")
    )


def check_cost(document: Record, records: list[Numbered], swarm: Swarm) -> None:
    results = [record.get("result", {}) for _, _, record in records if record["type"] == "WorkerExited"]
    spent, tasks = document["spent"], document["tasks"]
    for key in ("cost_usd", "tokens_in", "tokens_out"):
        plain = pytest.approx(sum(result.get(key, 0) for result in results))
        for rows in ([spent], tasks, spent["by_phase"], spent["by_agent"]):
            assert sum(row[key] for row in rows) == plain
    for row in spent["by_phase"]:
        inside = [task for task in tasks if task["phase"] == row["phase"]]
        assert row["tokens_in"] == sum(task["tokens_in"] for task in inside)
        assert row["cost_usd"] == pytest.approx(sum(task["cost_usd"] for task in inside))
    run = swarm.runs[document["run"]]
    assert spent["cost_usd"] == pytest.approx(run.spent.usd)
    assert spent["tokens_in"] + spent["tokens_out"] == run.spent.tokens


def check_time(document: Record) -> None:
    wall = document["speed"]["wall_s"]
    for task in document["tasks"]:
        stood = task["stood"]
        assert sum(task["time"].values()) == pytest.approx(task["took_s"], abs=1e-6)
        assert all(0 <= each["from_s"] < each["to_s"] <= wall for each in stood), task
        assert all(a["to_s"] <= b["from_s"] for a, b in pairwise(stood)), task
    path = document["critical_path"]
    if path is None:
        assert document["totals"]["landed"] == 0
        return
    links = path["links"]
    assert links[-1]["to_s"] == document["staging"]["last_landing_s"]
    assert all(a["to_s"] == b["from_s"] for a, b in pairwise(links))
    assert path["took_s"] == pytest.approx(links[-1]["to_s"] - links[0]["from_s"], abs=1e-3)
    assert all(link["from_s"] <= link["to_s"] for link in links)
    assert all(sum(link["time"].values()) <= link["to_s"] - link["from_s"] + 1e-6 for link in links)


# --- a story with known figures ---------------------------------------------------------------------------------------------


class Story:
    """Writes the records of a run `r` by hand; times are seconds since the run began."""

    def __init__(self, *tasks: Record, limits: Record | None = None, **submitted: Any) -> None:
        self.records: list[Numbered] = []
        self.event("DaemonStarted", 0, run=None, limits={"workers_max": 2} | (limits or {}))
        plan = {"phases": submitted.pop("phases", []), "tasks": list(tasks)}
        self.event("PlanSubmitted", 0, plan=plan, **submitted)
        self.fact("RunStarted", 0)
        self.fact("PlanAccepted", 0, added=len(tasks))

    def _add(self, kind: str, name: str, at: float, data: Record) -> None:
        record = {"type": name, "at": 1000.0 + at, "run": "r", **data}
        record = {key: value for key, value in record.items() if value is not None}
        self.records.append((len(self.records) + 1, kind, record))

    def event(self, name: str, at: float, **data: Any) -> None:
        self._add("event", name, at, data)

    def fact(self, name: str, at: float, **data: Any) -> None:
        if name == "TaskHandedBack":
            data = {"end": "handed_back"} | data
        self._add("fact", name, at, data)

    def starts(self, task: str, at: float, n: int = 1) -> None:
        self.fact("TaskStarted", at, task=task, attempt=n, agent="command")
        self.event("WorkerStarted", at, task=task, attempt=n)

    def exits(self, task: str, at: float, n: int = 1, code: int = 0, **result: Any) -> None:
        self.event("WorkerExited", at, task=task, attempt=n, exit_code=code, result=result)
        if code == 0:
            self.fact("TaskQueued", at, task=task, attempt=n)

    def candidate(self, task: str, at: float, until: float, n: int = 1, outcome: str = "passed") -> None:
        self.event("CandidateMade", at, task=task, attempt=n)
        self.verified(task, until, until - at, n, outcome)

    def verified(self, task: str, at: float, took: float, n: int = 1, outcome: str = "passed") -> None:
        suites = [{"name": "unit", "outcome": outcome, "duration_s": took}]
        self.event("Verified", at, task=task, attempt=n, suites=suites)

    def lands(self, task: str, at: float, n: int = 1, verified: tuple[str, ...] = ("unit",)) -> None:
        self.event("StagingAdvanced", at, task=task, attempt=n)
        self.fact("TaskLanded", at, task=task, attempt=n, verified=list(verified))


def a_task(name: str, *claims: str, **more: Any) -> Record:
    wanted = [{"path": path, "mode": "exclusive"} for path in claims]
    return {"id": name, "title": f"Do {name}", "claims": wanted, **more}


def three() -> Story:
    """Two tasks want one file, the third needs the first."""
    story = Story(a_task("a", "src/x"), a_task("b", "src/**"), a_task("c", "doc", needs=["a"], phase="late"),
                  phases=[{"id": "late", "parallel_safe": True}])  # fmt: skip
    story.starts("a", 1)
    story.exits("a", 5, cost_usd=0.5, tokens_in=10)
    story.candidate("a", 5, 7)
    story.lands("a", 7)
    story.starts("b", 7)
    story.starts("c", 8)
    story.exits("c", 9, code=1, tokens_out=7)
    story.fact("TaskHandedBack", 9, task="c", attempt=1, code="worker_failed", text="exit code 1")
    story.starts("c", 10, n=2)
    story.exits("b", 12)
    story.candidate("b", 12, 13, outcome="failed")
    story.fact("TaskHandedBack", 13, task="b", attempt=1, code="verify_failed", text="red")
    story.starts("b", 13, n=2)
    story.exits("c", 15, n=2, cost_usd=0.25)
    story.event("CandidateMade", 15, task="c", attempt=2)
    story.exits("b", 16, n=2)
    story.verified("c", 18, 3, n=2)
    story.lands("c", 18, n=2)
    story.candidate("b", 18.5, 19.5, n=2)
    story.lands("b", 20, n=2)
    story.fact("RunEnded", 20, landed=3)
    return story


def by_id(document: Record) -> dict[str, Record]:
    return {task["id"]: task for task in document["tasks"]}


def test_where_the_time_of_each_task_went() -> None:
    """What a task waited for, and how long it was at work, in the queue and verified, is told apart."""
    tasks = by_id(told(three().records))
    assert tasks["a"]["time"] == {"admission": 1.0, "working": 4.0, "verifying": 2.0}
    assert tasks["b"]["time"] == {
        "claim": 6.0,
        "admission": 1.0,
        "working": 8.0,
        "verifying": 2.0,
        "queue": 3.0,
    }
    assert tasks["c"]["time"] == {"needs": 7.0, "admission": 2.0, "working": 6.0, "verifying": 3.0}
    assert (tasks["b"]["attempts"], tasks["b"]["verified"], tasks["b"]["red"]) == (2, 2, 1)


def test_what_is_measured_and_what_is_estimated() -> None:
    """Workers' time by the time that passed is the speed-up; the estimate leaves out all waiting."""
    document = told(three().records)
    assert document["speed"] == {
        "wall_s": 20.0,
        "workers_s": 18.0,
        "speed_up": 0.9,
        "at_once_max": 2,
        "one_by_one_s": 25.0,
    }
    assert document["staging"] == {
        "first_landing_s": 7.0,
        "last_landing_s": 20.0,
        "first_green_s": 7.0,
        "last_green_s": 20.0,
    }
    assert document["velocity"]["landed_per_hour"] == 540.0


def test_a_clock_that_was_set_back_leaves_a_report() -> None:
    """Where all of a run seems to have happened in no time there is no rate to tell, and the rest is told."""
    records = [(seq, kind, {**record, "at": 0.0}) for seq, kind, record in three().records]
    document = told(records)
    assert document["velocity"]["landed_per_hour"] is None
    assert "set back" in report_text(document)
    assert "set back" in report_page(document)


def test_the_critical_path_is_what_let_each_go_on() -> None:
    """It goes back from the last landing through the queue, a need or a claim, to the beginning."""
    path = told(three().records)["critical_path"]
    links = [(link["task"], link["from_s"], (link["after"] or {}).get("why")) for link in path["links"]]
    assert links == [("a", 0.0, None), ("c", 7.0, "needs"), ("b", 18.0, "queue")]
    assert path["took_s"] == 20.0
    assert path["links"][2]["after"]["task"] == "c"


def test_who_failed_at_work_had_nobody_behind_it_in_the_merge_queue() -> None:
    """Who waits there stands behind what is verified or lands; an attempt that never stood there is not named."""
    story = Story(a_task("a"), a_task("b"), a_task("c"))
    story.starts("a", 0)
    story.starts("b", 1)
    story.exits("a", 2)
    story.event("CandidateMade", 2, task="a", attempt=1)
    story.exits("b", 3)
    story.starts("c", 3)
    story.verified("a", 6, 4)
    story.lands("a", 6)
    story.exits("c", 6.5, code=3)
    story.fact("TaskFailed", 6.5, task="c", attempt=1, code="worker_failed", text="exit code 3")
    story.candidate("b", 7, 9)
    story.lands("b", 9)
    links = told(story.records)["critical_path"]["links"]
    behind = [(link["task"], link["after"]["task"]) for link in links if link["after"]]
    assert behind == [("b", "a")]


def test_a_slot_that_was_free_before_holds_nobody_up() -> None:
    """The critical path goes on to who gave a slot away only where that was waited for."""
    story = Story(a_task("a"), a_task("b"), a_task("c", needs=["b"]))
    story.starts("a", 0)
    story.exits("a", 1)
    story.starts("b", 2)
    story.exits("b", 3)
    story.lands("a", 4, verified=())
    story.lands("b", 5, verified=())
    story.starts("c", 6)
    story.exits("c", 7)
    story.lands("c", 8, verified=())
    links = told(story.records)["critical_path"]["links"]
    assert [(link["task"], link["from_s"]) for link in links] == [("a", 0.0), ("b", 4.0), ("c", 5.0)]


def test_who_takes_turns_at_one_file_is_on_the_critical_path() -> None:
    """Where tasks take a file in turn, with a moment between, each waited for the one before it, and no time counts twice."""
    story = Story(*(a_task(f"t{i}", "CHANGELOG") for i in range(50)))
    for i in range(50):
        story.starts(f"t{i}", i)
        story.exits(f"t{i}", i + 0.75)
        story.lands(f"t{i}", i + 0.75, verified=())
    document = told(story.records)
    path = document["critical_path"]
    assert [link["task"] for link in path["links"]] == [f"t{i}" for i in range(50)]
    assert {link["after"]["why"] for link in path["links"][1:]} == {"claim"}
    assert sum(path["time"].values()) == path["took_s"] == 49.75
    assert by_id(document)["t49"]["time"] == {"claim": 49.0, "working": 0.75}
    assert by_id(document)["t49"]["stood"][0]["held_by"] == "t48"


def test_what_failed_and_what_it_cost() -> None:
    """Attempts in vain are listed with their reason, red candidates are integration failures, and costs go to phase and agent."""
    document = told(three().records)
    assert [(row["task"], row["attempt"], row["code"]) for row in document["not_landed"]] == [
        ("c", 1, "worker_failed"),
        ("b", 1, "verify_failed"),
    ]
    assert document["totals"]["integration_failures"] == 1
    assert document["totals"]["more_attempts"] == 2
    phases = {
        row["phase"]: (row["cost_usd"], row["tokens_in"], row["tokens_out"])
        for row in document["spent"]["by_phase"]
    }
    assert phases == {None: (0.5, 10, 0), "late": (0.25, 0, 7)}
    (suite,) = document["suites"]
    assert (suite["ran"], suite["red"], suite["median_s"], suite["total_s"]) == (4, 1, 1.5, 7.0)


def test_claims_tell_who_waited_for_whom() -> None:
    """A claim that was waited for is told with the task that waited longest and who held it; one in turns says so."""
    (row,) = told(three().records)["claims"]
    assert (row["path"], row["waited_s"], row["longest_task"], row["held_by"]) == ("src/**", 6.0, "b", "a")
    story = Story(a_task("a"), a_task("b"), sequential=True)
    story.starts("a", 0)
    story.exits("a", 2)
    story.lands("a", 3, verified=())
    story.starts("b", 3)
    (row,) = told(story.records)["claims"]
    assert (row["path"], row["turn"], row["waited_s"]) == (None, "run", 3.0)


def test_a_phase_that_goes_one_at_a_time_is_named() -> None:
    """Whoever waits for its turn in a phase is told so with the phase, whatever that is called."""
    phases = [{"id": "run", "parallel_safe": False}]
    story = Story(a_task("a", phase="run"), a_task("b", phase="run"), phases=phases)
    story.starts("a", 0)
    story.exits("a", 2)
    story.lands("a", 3, verified=())
    story.starts("b", 3)
    (row,) = told(story.records)["claims"]
    assert (row["path"], row["turn"], row["waited_s"]) == (None, "phase run", 3.0)


def test_a_claim_kept_after_a_conflict_holds_others_up_and_not_its_task() -> None:
    """Whoever conflicted keeps its claims: it waits to be let start again, and others for it."""
    story = Story(a_task("a", "x"), a_task("b", "x"))
    story.starts("a", 0)
    story.exits("a", 1)
    story.fact("TaskHandedBack", 2, task="a", attempt=1, code="conflict", text="it conflicts")
    story.starts("a", 5, n=2)
    story.exits("a", 6, n=2)
    story.lands("a", 7, n=2, verified=())
    story.starts("b", 7)
    tasks = by_id(told(story.records))
    assert tasks["a"]["time"]["admission"] == 3.0
    assert tasks["b"]["time"] == {"claim": 7.0}


def test_pauses_and_a_daemon_that_was_stopped_are_told_apart() -> None:
    """A wait that a pause, a stopped daemon or a held agent explains is not one for a slot."""
    story = Story(a_task("a", agent="mine"))
    story.event("Paused", 1)
    story.event("Resumed", 3)
    story.event("DaemonStopped", 4, run=None)
    story.event("DaemonStarted", 8, run=None, limits={"workers_max": 2})
    story.fact("AgentHeld", 9, agent="command")
    story.fact("AgentGoesOn", 10, agent="command")
    story.starts("a", 11)
    (task,) = told(story.records)["tasks"]
    assert task["time"] == {"admission": 4.0, "paused": 2.0, "stopped": 4.0, "agent": 1.0}


def long_and_limited(*extra: Record) -> Story:
    """Beside a task that works for a long time, and `extra` ones, one meets a rate limit twice."""
    story = Story(a_task("long", "long"), a_task("limited", "tf"), *extra, limits={"workers_max": 4})
    story.starts("long", 0)
    for n in (1, 2):
        story.starts("limited", 3 * n, n)
        story.exits("limited", 3 * n + 1, n, code=75)
        story.fact("AgentHeld", 3 * n + 1, agent="command", code="rate_limit")
        story.fact("TaskHandedBack", 3 * n + 1, task="limited", attempt=n, code="rate_limit", text="a limit")
        story.fact("AgentGoesOn", 3 * n + 3, agent="command")
    story.starts("limited", 9, 3)
    story.exits("limited", 10, 3)
    story.lands("limited", 10, 3, verified=())
    return story


def test_a_wait_for_ones_own_next_attempt_is_for_no_claim() -> None:
    """However long the run, what a task claims itself does not hold it up between its attempts; its agent does, which was held."""
    story = long_and_limited()
    story.exits("long", 1000)
    story.lands("long", 1000, verified=())
    document = told(story.records)
    assert by_id(document)["limited"]["time"] == {"admission": 3.0, "working": 3.0, "agent": 4.0}
    assert document["claims"] == []
    assert "held, most for" not in document["bottleneck"]


def test_what_failed_waits_for_no_claim_of_its_own_and_for_that_of_another() -> None:
    """Of the time between two attempts only that counts for a claim in which another task had it."""
    story = Story(a_task("a", "x"), a_task("b", "x"), a_task("long"))
    story.starts("long", 0)
    story.starts("a", 0)
    for at in (1, 2):
        story.exits("a", at, at, code=1)
        story.fact("TaskHandedBack", at, task="a", attempt=at, code="worker_failed", text="exit code 1")
        if at == 1:
            story.starts("a", 1.5, 2)
    story.starts("b", 3)
    story.exits("b", 5)
    story.lands("b", 5, verified=())
    story.starts("a", 6, 3)
    story.exits("a", 7, 3)
    story.lands("a", 7, 3, verified=())
    story.exits("long", 1000)
    story.lands("long", 1000, verified=())
    stood = by_id(told(story.records))["a"]["stood"]
    waits = [(each["from_s"], each["to_s"], each["held_by"]) for each in stood if each["kind"] == "claim"]
    assert waits == [(3.0, 6.0, "b")]


def test_a_task_that_never_started_waits_for_its_agent() -> None:
    """Whoever waits for a held agent is told so before it has ever started, and as soon as one starts it is held no more."""
    story = Story(a_task("a", agent="mine"), a_task("b"))
    story.fact("AgentHeld", 1, agent="mine", code="breaker", text="it fails")
    story.starts("b", 2)
    tasks = by_id(told(story.records, now=1005.0))
    assert tasks["a"]["time"] == {"admission": 1.0, "agent": 4.0}
    story.fact("TaskStarted", 5, task="a", attempt=1, agent="mine")
    story.fact("TaskHandedBack", 7, task="a", attempt=1, code="worker_failed", text="exit code 1")
    assert by_id(told(story.records, now=1009.0))["a"]["time"] == {
        "admission": 3.0,
        "agent": 4.0,
        "preparing": 2.0,
    }


def test_a_wait_that_the_worker_asked_for_is_for_no_slot() -> None:
    """One task alone that exits 75 waits because it asked for that, and nothing is said of slots, which are free."""
    story = Story(a_task("only", "only"), limits={"workers_max": 4})
    for n in (1, 2):
        story.starts("only", 31 * n - 31, n)
        story.exits("only", 31 * n - 30, n, code=75)
        story.fact(
            "TaskHandedBack",
            31 * n - 30,
            task="only",
            attempt=n,
            code="try_later",
            text="later",
            until=1000.0 + 31 * n,
        )
    story.starts("only", 62.25, 3)
    story.exits("only", 63.25, 3)
    story.lands("only", 63.25, 3, verified=())
    document = told(story.records)
    assert document["time"] == {"working": 3.0, "later": 60.0, "admission": 0.25}
    assert document["bottleneck"] == (
        "95 % of the way to the last landing was a wait that workers asked for, most of it for only. "
        "What tasks that could have started waited for longest was a wait that workers asked for."
    )


def test_the_longest_of_many_is_not_most_of_them() -> None:
    """Of three tasks one after the other the longest is named as that; one that took more than the others together took most."""
    for took, part in ((40.0, "longest"), (100.0, "most of it")):
        story, at = Story(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b"])), 0.0
        for task, seconds in (("a", 30.0), ("b", took), ("c", 30.0)):
            story.starts(task, at)
            at += seconds
            story.exits(task, at)
            story.lands(task, at, verified=())
        assert told(story.records)["bottleneck"].startswith(
            f"100 % of the way to the last landing was work, {part} for b."
        )


def test_slots_are_blamed_only_while_all_are_taken() -> None:
    """A start that comes late though a slot is free waited for no slot, in whichever run the workers are that take them."""
    story = Story(*(a_task(name) for name in "abc"))
    story.starts("a", 1)
    story.fact("TaskStarted", 2, run="other", task="z", attempt=1, agent="command")
    story.event("WorkerExited", 5, run="other", task="z", attempt=1, exit_code=1)
    story.fact("TaskFailed", 6, run="other", task="z", attempt=1, code="worker_failed", text="exit code 1")
    story.starts("b", 8)
    story.exits("a", 10)
    story.lands("a", 11, verified=())
    story.event("LimitsChanged", 12, run=None, workers_max=1)
    story.starts("c", 13)
    tasks = by_id(told(story.records))
    assert tasks["a"]["time"]["admission"] == 1.0
    assert tasks["b"]["time"] == {"admission": 4.0, "slot": 4.0, "working": 5.0}
    assert tasks["c"]["time"] == {"admission": 6.0, "slot": 7.0}


def test_verification_beside_the_first_takes_a_slot() -> None:
    """Candidates that are verified beside the first take the room of a worker, until the one below them comes to nothing."""
    story = Story(*(a_task(name) for name in "abc"), limits={"workers_max": 1})
    for number, name in enumerate("ab"):
        story.starts(name, number)
        story.exits(name, number + 1)
    story.event("CandidateMade", 2, task="a", attempt=1)
    story.event("CandidateMade", 3, task="b", attempt=1)
    story.fact("TaskHandedBack", 7, task="a", attempt=1, code="verify_failed", text="red")
    story.starts("c", 9)
    assert by_id(told(story.records))["c"]["time"] == {"slot": 6.0, "admission": 3.0}


def test_the_critical_path_goes_on_to_who_gave_its_slot_away() -> None:
    """A task that had to wait for a slot, and then a moment more, began as another one ended."""
    story = Story(a_task("a"), a_task("b"), limits={"workers_max": 1})
    story.starts("a", 0)
    story.exits("a", 10)
    story.lands("a", 11, verified=())
    story.event("LimitsChanged", 12, run=None, workers_max=2)
    story.starts("b", 13)
    story.exits("b", 20)
    story.lands("b", 20, verified=())
    path = told(story.records)["critical_path"]
    assert [(link["task"], link["from_s"]) for link in path["links"]] == [("a", 0.0), ("b", 10.0)]
    assert path["links"][1]["after"]["why"] == "slot"


def test_time_stands_still_while_all_has_ended_and_when_the_clock_jumps() -> None:
    """A retry the next day does not make the run a day longer, nor does a clock that is set."""
    story = Story(a_task("a", "x"))
    story.starts("a", 0)
    story.exits("a", 2, code=1)
    story.fact("TaskFailed", 2, task="a", attempt=1, code="worker_failed", text="exit code 1")
    story.fact("RunEnded", 2, landed=0)
    story.event("ClockSet", 50_000, run=None, by_s=100.0)
    story.fact("TaskRetried", 86_402, task="a", attempt=1)
    story.starts("a", 86_402, n=2)
    story.event("ClockSet", 86_303, run=None, by_s=-100.0)
    story.exits("a", 86_305, n=2)
    story.lands("a", 86_306, n=2, verified=())
    document = told(story.records)
    assert document["speed"]["wall_s"] == 6.0
    assert document["tasks"][0]["time"] == {"working": 5.0, "queue": 1.0}


def test_an_undo_is_no_attempt_in_vain() -> None:
    """A task that was taken off staging again did not fail, and its landing counts as it was told."""
    story = three()
    story.fact("UndoBegun", 30, task="a", attempt=2, tasks=["a"])
    story.event("CandidateMade", 31, task="a", attempt=2)
    story.event("StagingAdvanced", 33, task="a", attempt=2)
    story.fact("TaskCancelled", 33, task="a", attempt=2, code="undone", text="it was taken off")
    document = told(story.records)
    assert [row["task"] for row in document["not_landed"]] == ["c", "b"]
    assert (document["totals"]["undone"], document["totals"]["landed"]) == (1, 3)
    assert (by_id(document)["a"]["state"], document["speed"]["wall_s"]) == ("cancelled", 23.0)


def test_a_run_that_goes_on_is_told_up_to_now() -> None:
    """What is at work now has been so until now; a run that has ended is as it ended."""
    story = Story(a_task("a"))
    story.starts("a", 1)
    document = told(story.records, now=1011.0)
    assert (document["over"], document["speed"]["wall_s"], document["counts"]) == (False, 11.0, {"open": 1})
    assert document["tasks"][0]["time"] == {"admission": 1.0, "working": 10.0}
    assert told(three().records, now=5000.0)["speed"]["wall_s"] == 20.0


def test_what_only_left_out_is_not_told_of() -> None:
    """A task that --only leaves out has waited for nothing; what the named ones need has."""
    story = Story(a_task("a"), a_task("b", needs=["a"]), a_task("c"), only=["b"])
    assert [task["id"] for task in told(story.records, now=1005.0)["tasks"]] == ["a", "b"]


def test_a_long_chain_of_phases_and_a_contested_file_cost_little() -> None:
    """Ten thousand tasks that take turns at one file, in phases each of which needs the one before, are told of all the same."""
    number = 3000
    phases = [
        {"id": f"p{i}", "phase_needs": [f"p{i - 1}"] if i else [], "parallel_safe": True}
        for i in range(number)
    ]
    story = Story(*(a_task(f"t{i}", "CHANGELOG", phase=f"p{i}") for i in range(number)), phases=phases)
    for i in range(number):
        story.starts(f"t{i}", i)
        story.exits(f"t{i}", i + 0.5)
        story.lands(f"t{i}", i + 0.6, verified=())
    document = told(story.records)
    assert len(document["critical_path"]["links"]) == number
    assert sum(len(task["stood"]) for task in document["tasks"]) < 5 * number


# --- shown ------------------------------------------------------------------------------------------------------------------

HOSTILE = '\x1b]0;</title><script src="http://x/">alert(1)</script>\u202e&"\''


def hostile() -> Record:
    """A run whose every name is somebody's attack."""
    story = Story(a_task(HOSTILE, HOSTILE), a_task("b", HOSTILE))
    story.starts(HOSTILE, 0)
    story.exits(HOSTILE, 9, cost_usd=1.0)
    story.fact("TaskHandedBack", 9, task=HOSTILE, attempt=1, code=HOSTILE, text=HOSTILE)
    story.starts("b", 9)
    return told(story.records, now=1020.0)


def test_text_fits_and_is_harmless() -> None:
    """No line is wider than the terminal, and nothing of others reaches it as it is."""
    for width in (80, 60, 40, 30):
        for document in (told(three().records), hostile()):
            lines = report_text(document, width=width).splitlines()
            assert max(map(len, lines)) <= width, max(lines, key=len)
            assert not {"\x1b", "\u202e"} & set("".join(lines))
    assert "\x1b[36m" in report_text(told(three().records), colour=True)


def test_in_a_narrow_terminal_no_figure_is_lost() -> None:
    """Columns for which there is no room come below, the names again beside them, and the critical path is told in whole words."""
    wide = report_text(told(three().records), width=100)
    text = report_text(told(three().records), width=40)
    for head in ("Where the time went", "Claims that were", "Verification"):
        cells = [line.split() for line in lines_of(wide, head)]
        below = Counter(cell for line in lines_of(text, head) for cell in line.split())
        assert not Counter(cell for line in cells for cell in line) - below, head
    bars = [line.split() for line in list(lines_of(text, "Timeline"))[:3]]
    assert [(bar[0], bar[-1]) for bar in bars] == [("a", "7.0s"), ("b", "20s"), ("c", "18s")]
    path = " ".join(text.split("Critical path", 1)[1].split("\n\n", 1)[0].split())
    assert (
        "stood behind c in the merge queue; work 1.0s" in path or "stood behind c in the merge queue;" in path
    )
    assert "…" not in path


def test_a_program_finds_every_name_as_it_is() -> None:
    """Where nobody looks at a terminal no name and no reason is cut."""
    name, why = (
        "a-task-with-a-rather-long-name",
        "a reason that is so long that it does not fit into a line of eighty",
    )
    story = Story(a_task(name, "src/" + "x" * 60), a_task("b", "src/**"))
    story.starts(name, 0)
    story.fact("TaskHandedBack", 9, task=name, attempt=1, code="worker_failed", text=why)
    story.starts("b", 9)
    story.exits("b", 10)
    story.lands("b", 10, verified=())
    story.starts(name, 10, 2)
    story.exits(name, 19, 2)
    story.lands(name, 19, 2, verified=())
    document = told(story.records)
    text = report_text(document, whole=True)
    assert "…" not in text
    assert why in text
    assert text.count(name) >= 5
    assert "…" in report_text(document)


def test_the_beginning_is_0s_and_what_is_not_over_says_whether_a_daemon_runs() -> None:
    """A time of the run is told to the tenth, its beginning too, and a run goes on only while a daemon runs."""
    story = three()
    text, page = report_text(told(story.records)), report_page(told(story.records))
    assert next(lines_of(text, "Critical path")).split()[:2] == ["0s", "a"]
    assert "<td class=t>a<td>7.0s" in page.replace("<td>0s", "")
    assert "<td>0s<td class=t>a" in page
    document = told(Story(a_task("a")).records)
    for running, said in (
        (True, "1 open after 0s, and it goes on"),
        (False, "after 0s, as far as the journal tells: no daemon"),
    ):
        assert said in report_text(document | {"daemon": {"running": running}})


def test_what_was_undone_is_told() -> None:
    """Landings that were taken off again count in the speed, and it is said how many they were."""
    story = three()
    story.fact("UndoBegun", 30, task="a", attempt=2, tasks=["a"])
    story.fact("TaskCancelled", 33, task="a", attempt=2, code="undone", text="it was taken off")
    assert "; undone since: 1" in report_text(told(story.records))
    assert "undone" not in report_text(told(three().records))


def test_the_timeline_shows_where_each_task_stood() -> None:
    """A bar says in each column what took most of it, to scale."""
    text = report_text(told(three().records), width=33)
    (bar,) = [line for line in text.splitlines() if line.startswith("  a ")][:1]
    assert bar == "  a :####vvv                 7.0s"


def test_many_tasks_are_counted_where_they_are_not_shown() -> None:
    """A text of thousands of tasks is a page or two, and says how many it does not show."""
    story = Story(*(a_task(f"t{i}") for i in range(2000)))
    text = report_text(told(story.records, now=1005.0))
    assert len(text.splitlines()) < 80
    assert "… and 1970 tasks more" in text


class Tags(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("document", [told(three().records), hostile()])
def test_the_page_loads_nothing_and_runs_nothing(document: Record) -> None:
    """Whatever names are, a page has no script, no address and no handler, and forbids all of them."""
    page = report_page(document)
    tags = Tags()
    tags.feed(page)
    names = {name for name, _ in tags.found}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "a", "form"}
    assert not {
        key
        for _, attributes in tags.found
        for key in attributes
        if key.startswith("on") or key in ("src", "href")
    }
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    assert "rect" in names


def lines_of(text: str, head: str) -> Iterator[str]:
    yield from text.split(head, 1)[1].split("\n\n", 1)[0].splitlines()[1:]


def test_the_text_names_what_held_up() -> None:
    """Claims, attempts in vain and costs are there by name."""
    text = report_text(told(three().records))
    assert any("src/**" in line and "while a held it" in line for line in lines_of(text, "Claims that were"))
    assert any(line.split()[:2] == ["c", "#1"] for line in lines_of(text, "Attempts in vain"))
    assert any(line.split()[:2] == ["late", "$0.2500"] for line in lines_of(text, "Spent"))
