"""The daemon takes snapshots while it works, and every start and status goes on from them as it would from the first event."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import wait_until
from tests.e2e.driver import Swarm, common_dir


def shown(swarm: Swarm) -> Any:
    """The runs as the status document has them with no daemon."""
    return swarm.status()["runs"]


def test_a_daemon_takes_snapshots_and_the_next_goes_on_from_them(swarm: Swarm) -> None:
    """With a snapshot every few records: after kill -9 the status is the same with and without it, the next daemon goes on from it
    to the end, and the audit, which replays everything, agrees."""
    often = swarm.with_constants("swarm.daemon.recovery", RECORDS_APART=10, REST=0)
    state = common_dir(swarm.top) / "swarm"
    swarm("start", env=often)
    swarm(
        "submit",
        str(swarm.plan("p", [*(swarm.task(f"t{n}") for n in range(5)), swarm.task("last", gate="g")])),
    )
    swarm.wait_for_start(*(f"t{n}" for n in range(5)), "last")
    wait_until((state / "journal.snapshot").exists)
    swarm.end_daemon()
    before, content = shown(swarm), (state / "journal.snapshot").read_bytes()
    (state / "journal.snapshot").unlink()
    assert shown(swarm) == before
    (state / "journal.snapshot").write_bytes(content)
    swarm("start", env=often)
    swarm.open("g")
    run = swarm.wait("p")
    assert {task["state"] for task in run["tasks"]} == {"landed"}
    assert sorted(swarm.starts()) == ["last", *(f"t{n}" for n in range(5))]
    swarm("stop")
    swarm("audit")
    log = [json.loads(line) for line in (state / "log" / "daemon.log").read_text().splitlines()]
    assert sum(line["event"] == "snapshot.taken" for line in log) > 1  # one of each daemon, at least
    assert not list(state.glob("journal.snapshot.*"))
