"""Ownership as it is met from outside."""

from __future__ import annotations

from tests.e2e.driver import Swarm, widest
from tests.e2e.test_ends import code_of, task_of

SETTINGS = """
[ownership]
architect = ["docs/**"]

[roles.architect]
max = 1
"""


def test_what_belongs_to_a_role_is_changed_by_no_other(swarm: Swarm) -> None:
    """Rows 40 and 98: a claim of what is another role's is an error of check (2) and refused by submit and run (4), with the owner
    named; an unclaimed write to it does not land; of the owner's tasks one is at work at a time."""
    (swarm.top / "swarm.toml").write_text(SETTINGS)
    swarm.look_again()
    wrong = swarm.plan("wrong", [swarm.task("thief", "true", claims=["docs/a.md"], role="builder")])
    said = 'task "thief" claims docs/a.md; docs/** belongs to architect, and its role is builder'
    assert said in swarm("check", str(wrong), code=2).out
    assert said in swarm("run", str(wrong), code=2).err
    swarm("start")
    assert said in swarm("submit", str(wrong), code=2).err
    write = "mkdir -p docs && echo x > docs/$SWARM_TASK"
    tasks = [
        swarm.task(name, write, claims=[f"docs/{name}"], role="architect", sleep_s=0.2) for name in "abc"
    ]
    tasks.append(swarm.task("stray", write, attempts=1, claims=["s"]))
    swarm("submit", str(swarm.plan("owned", tasks)))
    run = swarm.wait("owned", code=1)
    swarm.check_landed(run)
    assert run["counts"]["landed"] == 3
    assert code_of(run, "stray") == "stray"
    assert "docs/stray, which belongs to architect" in task_of(run, "stray")["reason"]["text"]
    assert widest(span for span in swarm.spans() if span.task in "abc") == 1
