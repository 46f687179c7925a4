"""What goes to GitHub: a pull request of staging, and the first push of a new project.

Rules for editing: the daemon looks at all that a finish asks for before anything is pushed, and moves nothing for it. Pushing is
done here, as the user at this terminal, and what is there already is used.
"""

from __future__ import annotations

from typing import Any

from swarm.client import naming
from swarm.client.session import Session

LISTED_MAX = 200  # tasks named in the text of a pull request


def propose(session: Session, run_id: str, document: dict[str, Any]) -> None:
    """Pushes the staging of a run that may be finished, and opens a pull request into its target, or finds the one that is open;
    "finish" of the status document then says where."""
    from swarm.client import offline

    facts, run = document["finish"], naming.run_of(session.document(run=run_id), run_id)
    if facts["outcome"] == "nothing":
        return
    facts["pull_request"] = offline.pull_request(
        session.top,
        commit=facts["commit"],
        head=run["staging"]["branch"],
        base=facts["into"],
        title=_title(run),
        body=_body(run, facts),
    )
    facts["outcome"] = "proposed"


def _title(run: dict[str, Any]) -> str:
    goal = (run.get("goal") or {}).get("text") or ""
    return next((line.strip()[:120] for line in goal.splitlines() if line.strip()), str(run["id"]))


def _body(run: dict[str, Any], facts: dict[str, Any]) -> str:
    """Says what a reader of the pull request wants to know first: what landed, and what did not."""
    titles = {task["id"]: task["title"] for task in run["tasks"]}
    lines = [f"- {titles.get(name, name)} (`{name}`)" for name in facts["landed"][:LISTED_MAX]]
    more = len(facts["landed"]) - LISTED_MAX
    lines += [f"- and {more} more"] if more > 0 else []
    if facts["missing"]:
        lines += ["", f"Not in it, because it has not landed: {', '.join(facts['missing'][:LISTED_MAX])}"]
    staging = run["staging"]["branch"]
    lines += [
        "",
        f"Each is one merge in `git log --first-parent {staging}`, whose trailers say how it was verified.",
    ]
    return "\n".join(lines) + "\n"


def publish(session: Session, run_id: str, document: dict[str, Any], name: str) -> None:
    """Makes the repository `name` on GitHub where this one has none yet, and pushes the branch that the run began from and its
    staging there; "github" of the status document then says where."""
    from swarm.client import offline

    run = naming.run_of(document, run_id)
    branches = [each for each in (run["base"]["branch"], run["staging"]["branch"]) if each]
    document["github"] = {"name": name, **offline.publish(session.top, name, branches)}


def publish_text(document: dict[str, Any]) -> str:
    """Tells what was pushed."""
    facts, which = document["github"], naming.chosen(document["runs"][0])
    return (
        f"Pushed to {facts['remote']}: {' and '.join(facts['branches'])}.\n"
        f"  Next: swarm finish --pr{which} opens a pull request; or swarm finish{which}, and push your branch\n"
    )
