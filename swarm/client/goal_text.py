"""Tells in plain text what came of a goal: what scouts found, what runs taught, the plan and how far it is.

Rules for editing: as in `render`: pure functions from a document to text, and all text of others goes through `printable`.
"""

from __future__ import annotations

from swarm.client.naming import into, shell_word
from swarm.client.render import is_settled, listed, qa_line
from swarm.protocol import counted, printable

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Document = Mapping[str, Any]

_STAGES = {
    "researching": "scouts look into it",
    "answered": "what scouts found is there",
    "planning": "the architect writes the plan",
    "approval": "the plan waits for your approval",
    "approved": "the plan is approved of",
    "building": "it is being built",
    "reviewing": "what was built is being reviewed",
    "ready": "ready to be finished",
    "finished": "it is finished",
    "stopped": "it can't go on by itself",
}


def merged_findings(found: Sequence[Document]) -> str:
    """Writes what scouts found as one text."""
    return "\n\n".join(f"## {each['question']}\n\n{each['text'].strip()}" for each in found if each["text"])


def findings_text(document: Document) -> str:
    """Shows what scouts found, and of whom nothing came."""
    lines = [printable(document["merged"], keep_newlines=True)] if document["merged"] else []
    for each in document["findings"]:
        if each["changed"]:
            lines.append(
                f"{printable(each['task'])} changed {listed(each['changed'])}: nothing of that lands."
            )
        if not each["text"]:
            which = shell_word(f"{document['run']}/{each['task']}")
            why = f"\n  Why: swarm show {which}, swarm logs {which}" if each["state"] == "failed" else ""
            lines.append(
                f"{printable(each['task'])} is {printable(each['state'])}: {printable(each['question'])}{why}"
            )
    return "\n\n".join([*lines, f"Kept: swarm scout --show {shell_word(document['run'])}"]) + "\n"


def lessons_text(found: Sequence[Document]) -> str:
    """Lists what runs taught."""
    if not found:
        return "No run has taught anything yet.\n"
    lines = [
        f"{printable(each['id'])}  {printable(each['text'])} ({printable(each['run'])}{_often(each['times'])})"
        for each in found
    ]
    return (
        "\n".join([*lines, "", "Later runs are told this; swarm lessons --forget ID takes one back."]) + "\n"
    )


def _often(times: int) -> str:
    return f", {times} times" if times > 1 else ""


def plan_text(document: Document) -> str:
    """Shows a plan that came of a goal, how it stands, and what to do next."""
    plan, name = document["plan"], shell_word(document["run"])
    if plan is None:
        return goal_text({"id": document["run"], "goal": document})
    lines = [
        printable(plan["text"], keep_newlines=True).rstrip(),
        "",
        f"{counted(len(plan['tasks']), 'task')}, in {printable(plan['file'])}",
    ]
    if plan["gone"]:
        kept = (
            "what was approved of is kept"
            if plan["approved"]
            else "--approve writes it again as the architect did"
        )
        lines = [f"{printable(plan['file'])} is gone; {kept}: {', '.join(map(printable, plan['tasks']))}"]
    if plan["edited"] and plan["approved"]:
        lines.append("Edited since it was approved of, which voids that.")
    if plan["errors"]:
        lines.append("It is not valid, and can't be approved of as it is:")
        lines += [f"  {printable(error)}" for error in plan["errors"]]
        lines.append(f"  Next: mend it, then swarm plan {name}")
    elif plan["edited"] and plan["approved"]:
        lines.append(f"  Next: swarm plan {name} --approve")
    elif document["stage"] == "approval":
        lines.append(
            f"It waits for your approval; edit it as you like.\n  Next: swarm plan {name} --approve, or swarm build {name} --yes"
        )
    elif document["stage"] == "approved":
        lines.append(f"Approved.\n  Next: swarm build {name}")
    return "\n".join(lines) + "\n"


def _is_taken_off(task: Document) -> bool:
    return task.get("state") == "cancelled" and (task.get("reason") or {}).get("code") == "undone"


def goal_text(run: Document) -> str:
    """Says how a run stands on its way from a goal, why it can't go on where that is so, and what to do next."""
    name, stage = shell_word(str(run["id"])), run["goal"]["stage"]
    stage = "finished" if stage == "ready" and run.get("state") == "finished" else stage
    next_step = {
        "finished": f"swarm report {name}",
        "ready": f"swarm finish --run {name}{into(run)}",
        "approval": f"swarm plan {name} shows the plan; --approve, or swarm build {name} --yes",
        "approved": f"swarm build {name}",
        "stopped": f"swarm show TASK, swarm logs TASK; swarm start, swarm retry --failed --run {name}",
    }.get(stage, f"swarm status --run {name}")
    stopped = [
        task for task in run.get("tasks") or [] if stage == "stopped" and task.get("state") == "failed"
    ]
    why = "".join(
        f"  {printable(task['id'])}: {printable(str((task.get('reason') or {}).get('text') or ''), keep_newlines=True)}\n"
        for task in stopped
        if not is_settled(run, task)
    )
    taken_off = [task for task in run.get("tasks") or [] if _is_taken_off(task)]
    reviewed = (run.get("qa") or {}).get("state")
    if stage == "stopped" and not stopped and taken_off:
        tasks = " ".join(shell_word(f"{run['id']}/{task['id']}") for task in taken_off)
        why = "".join(
            f"  {printable(task['id'])}: {printable(task['reason']['text'])}\n" for task in taken_off
        )
        next_step = f"swarm start, swarm retry {tasks}"
    elif stage == "stopped" and reviewed == "rejected":
        why, next_step = f"{why}  {qa_line(run)}\n", f"swarm start, swarm qa --run {name} reviews it again"
    elif stage == "stopped" and reviewed == "void" and not stopped:
        why = "  Staging has moved since it was approved of.\n"
        next_step = f"swarm start, swarm qa --run {name} reviews it as it is now"
    return f"{printable(run['id'])}: {_STAGES.get(stage, printable(stage))}.\n{why}  Next: {next_step}\n"
