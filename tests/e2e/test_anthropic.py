"""The built-in agent as workers of a real daemon, on the real anthropic package, against an endpoint of our own."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import wait_until
from tests.e2e.driver import Swarm
from tests.e2e.test_sandbox import works
from tests.fakes.messages import EDITOR, Failure, Reply, Request, answered, first_text, serving

KEY = "sk-ant-a-key-that-is-seen-nowhere"


def test_three_tasks_land_in_parallel(swarm: Swarm, repo: Path) -> None:
    """Three tasks are at work at once, one meets a rate limit and is tried later, one has its worker killed and goes on where that
    was, and all land with what they cost; no command has the key, and nobody wrote it down. Shut in where that works."""
    if works():
        swarm.shut_in()
    limited: list[Request] = []

    def answers(request: Request, _number: int) -> Reply | Failure:
        name = first_text(request).split()[1]
        if name == "late" and not limited:
            limited.append(request)
            return Failure(429, "rate_limit_error", {"retry-after": "0.1"})
        if answered(request):
            return Reply(f"{name} is there.", tokens_in=1000, tokens_out=100)
        kill = [("bash", {"command": "kill -9 $PPID"})] if name == "killed" else []
        write = (EDITOR, {"command": "create", "path": f"out-{name}", "file_text": f"{name}\n"})
        return Reply("I write it.", [write, *kill], tokens_in=1000, tokens_out=100)

    names = ("plain", "late", "killed")
    tasks = [
        {
            "id": name,
            "title": name,
            "agent": "anthropic",
            "prompt": f"Write {name} please",
            "claims": [f"out-{name}"],
        }
        for name in names
    ]
    check = 'test -z "$ANTHROPIC_API_KEY"'
    plan = swarm.plan(
        "built-in", [*tasks, swarm.task("shell", f"{check} && touch out-shell")], verify=[check]
    )
    (repo / "swarm.toml").write_text(
        '[agents.anthropic]\nmodel = "m"\n[anthropic]\nretries_max = 0\n[anthropic.usd_per_million.m]\ninput = 1\noutput = 10\n'
    )
    swarm.look_again()
    with serving(answers) as endpoint:
        endpoint.hold.clear()
        child = swarm.spawn(
            "run", str(plan), "--json", ANTHROPIC_BASE_URL=endpoint.url, ANTHROPIC_API_KEY=KEY
        )
        wait_until(
            lambda: {first_text(request).split()[1] for request in endpoint.requests} == set(names),
            at_most_s=240,
        )
        endpoint.hold.set()
        out, err = child.communicate(timeout=300)
    assert child.returncode == 0, out + err
    run = swarm.run_of("built-in")
    swarm.check_landed(run)
    attempts = {task["id"]: task["attempts"] for task in run["tasks"]}
    assert [swarm.content("built-in", f"out-{name}") for name in names] == [f"{name}\n" for name in names]
    assert {name: len(attempts[name]) for name in names} == {"plain": 1, "late": 2, "killed": 2}
    assert attempts["late"][0]["reason"]["code"] == "rate_limit"
    (plain,) = attempts["plain"]
    assert (plain["tokens_in"], plain["tokens_out"], plain["cost_usd"]) == (2000, 200, 0.004)
    assert [attempt["tokens_in"] for attempt in attempts["killed"]] == [1000, 1000]
    assert swarm("logs", "plain").out.splitlines() == [
        "I write it.",
        "> writing out-plain",
        "plain is there.",
    ]
    shown = swarm("show", "killed").out
    assert "going on with attempt 1" in shown
    assert "You were interrupted" in shown
    assert "says: killed is there." in shown
    first = swarm("show", "killed", "--transcript", "--attempt", "1").out
    assert "> writing out-killed" in first
    assert '{"command": "kill -9 $PPID"}' in first
    assert set(endpoint.keys) == {KEY}
    written = [path.read_bytes() for path in (repo / ".git" / "swarm").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in text for text in [*written, (out + err).encode()])
