"""Rate limits, agents that do not work, and budgets, as they are met from outside."""

from __future__ import annotations

import json

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import Swarm


def with_agent(swarm: Swarm, work: str, settings: str = "") -> None:
    """Defines the agent `mine`, which does what the shell says."""
    command = json.dumps(swarm.does(work))
    (swarm.top / "swarm.toml").write_text(
        f'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", {command}]\n{settings}'
    )
    swarm.look_again()


def test_one_rate_limit_holds_every_worker_of_its_agent(swarm: Swarm) -> None:
    """Rows 71 and 80: of five workers one hits the limit: no other starts before the reset, though slots get free and the daemon is
    killed meanwhile; those at work go on and land; status says until when; once it is over all land, and no attempt was used up."""
    with_agent(
        swarm,
        f'case "$SWARM_TASK$SWARM_ATTEMPT" in a1) until [ -e {swarm.gate("limit")} ]; do sleep 0.02; done; '
        'echo "{\\"retry_after_s\\": 7200}" > "$SWARM_RESULT_FILE"; exit 75;; '
        f'[b-e]1) until [ -e {swarm.gate("rest")} ]; do sleep 0.02; done;; esac; echo x > "out-$SWARM_TASK"',
    )
    tasks = [
        {"id": name, "title": name, "prompt": "do it", "claims": [f"out-{name}"], "attempts": 1}
        for name in "abcdefg"
    ]
    swarm("start", "--workers", "5")
    swarm("submit", str(swarm.plan("limited", tasks)))
    swarm.wait_for_start(*"abcde")
    swarm.open("limit")
    wait_until(lambda: bool(swarm.status()["capacity"]["held"]))
    swarm.end_daemon()
    swarm("start", "--workers", "5")
    swarm.open("rest")
    swarm.wait_for_landed("limited", *"bcde")
    document = swarm.status()
    (held,) = document["capacity"]["held"]
    assert (held["agent"], held["code"]) == ("mine", "rate_limit")
    waiting = {t["id"]: t["reason"]["code"] for t in document["runs"][0]["tasks"] if t["state"] == "ready"}
    assert waiting == dict.fromkeys("afg", "rate_limit")
    assert f"held: a rate limit of mine until {held['until'][:10]}" in swarm("status").out
    assert sorted(swarm.starts()) == [*"abcde"]
    swarm("resume")
    run = swarm.wait("limited")
    swarm.check_landed(run)
    assert run["counts"]["landed"] == 7
    assert [attempt["exit_code"] for attempt in run["tasks"][0]["attempts"]] == [75, 0]


@pytest.mark.slow
def test_an_agent_that_does_not_work_is_stopped(swarm: Swarm) -> None:
    """When the first workers of an agent all fail alike at once no more of them start, what waits says why, and `swarm resume` goes
    on with every attempt that there was."""
    within = "[limits]\nbreaker_within_s = 600\n"  # a busy machine is slow to see an end
    with_agent(swarm, f'test -e {swarm.gate("mended")} || exit 9; echo x > "out-$SWARM_TASK"', within)
    tasks = [
        {"id": name, "title": name, "prompt": "do it", "claims": [f"out-{name}"], "attempts": 2}
        for name in "abcdefgh"
    ]
    swarm("start", "--workers", "1")
    swarm("submit", str(swarm.plan("burnt", tasks)))
    wait_until(lambda: bool(swarm.status()["capacity"]["held"]))
    assert len(swarm.starts()) == 3
    text = swarm("status").out
    assert "held: the first 3 workers of mine all ended with exit code 9 within 600 s" in text
    run = swarm.run_of("burnt")
    assert run["counts"]["failed"] <= 1
    swarm.open("mended")
    swarm("resume")
    run = swarm.wait("burnt", code=run["counts"]["failed"] and 1)
    swarm.check_landed(run)
    assert run["counts"]["landed"] >= 7


def test_a_run_over_its_budget_ends_and_can_go_on_with_another(swarm: Swarm) -> None:
    """What workers report is summed and shown; with the budget spent nothing new starts, what waits fails as over_budget, and the
    run ends with 1; a daemon with a higher budget goes on with what failed."""
    (swarm.top / "swarm.toml").write_text("[limits]\nbudget_usd = 1.0\n")
    swarm.look_again()
    says = 'echo "{\\"cost_usd\\": 0.6, \\"tokens_in\\": 1000, \\"tokens_out\\": 200}" > "$SWARM_RESULT_FILE"'
    tasks = [swarm.task(name, f"{says}; echo x > out-{name}", claims=[f"out-{name}"]) for name in "abcd"]
    plan = swarm.plan("dear", tasks)
    run = swarm.run(plan, "--workers", "1", code=1)
    swarm.check_landed(run)
    assert [task["state"] for task in run["tasks"]] == ["landed", "landed", "failed", "failed"]
    assert {task["reason"]["code"] for task in run["tasks"][2:]} == {"over_budget"}
    assert run["spent"] == {"cost_usd": 1.2, "tokens": 2400, "budget_usd": 1.0, "budget_tokens": None}
    assert "spent $1.20 of $1.00, 2,400 tokens" in swarm("status").out
    exits = swarm.events("WorkerExited")
    assert sum(event["result"]["cost_usd"] for event in exits) == 1.2
    swarm.wait_for_rest()
    swarm("start", "--workers", "1")
    told = swarm("retry", "d", code=1).out
    assert told.startswith("dear/d has failed again, before any attempt: the run is over its budget")
    assert "Next: a higher budget" in told
    swarm("stop")
    swarm("start", "--workers", "1", SWARM_LIMITS__BUDGET_USD="10")
    swarm("retry", "--failed")
    run = swarm.wait("dear")
    assert run["counts"]["landed"] == 4
    assert run["spent"]["cost_usd"] == pytest.approx(2.4)
