"""The plan files of other systems, read as they are into the same task graph, and written back losing nothing.

What such a file says of phases, tasks, needs, files and states, once it is known where they stand in it (`layout`). The rules come
from several hundred real files; docs/reference/plan.md tells them to users.

Rules for editing: be lenient where a meaning is plain and say so, refuse where work could be lost or the wrong thing run. A text
meant for people is never executed. Whatever is not understood stays in the file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from swarm.core import claims, document, roadmap
from swarm.core.document import Key, Problem, as_text, kind_of, one_line, place_at
from swarm.core.layout import (
    FILE_KEYS,
    NAME_KEYS,
    NEED_KEYS,
    PHASE_KEYS,
    STATE_KEYS,
    TASK_KEYS,
    TITLE_KEYS,
    Entry,
    Layout,
    first,
    recognise,
)
from swarm.core.model import Claim, Defaults, PhaseSpec, PlanSpec, TaskSpec, TaskState, slug
from swarm.core.recipe import checks_of
from swarm.errors import UsageError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FINISHED = _words(
    "complete completed completed_successfully done finished passed passes success successful merged closed landed"
)
_PENDING = _words(
    "pending not_started todo to_do backlog in_progress inprogress ready queued open planned new failed blocked stuck "
    "started running waiting retry paused cancelled canceled none"
)
# What a plan says of itself when it holds its work to be done.
_SAYS_DONE = _FINISHED | _words(
    "review in_review ai_review human_review pr_created ready_for_review ready_to_merge approved qa_approved"
)
_WRITTEN = {
    TaskState.LANDED: "completed",
    TaskState.FAILED: "failed",
    TaskState.BLOCKED: "blocked",
    TaskState.RUNNING: "in_progress",
    TaskState.QUEUED: "in_progress",
    TaskState.LANDING: "in_progress",
}
_PATH_KEYS = ("path", "file", "name")
_KINDS_OF_CHANGE = _words(
    "create created new add added modify modified change changed edit edited update updated delete deleted remove removed "
    "rename renamed move moved files tests"
)
_PRIORITY_WORDS = {"critical": 3, "urgent": 3, "high": 2, "medium": 1, "normal": 1, "low": 0}
_TEXT_KEYS = {
    "implementation_details": "Details",
    "details": "Details",
    "steps": "Steps",
    "acceptance_criteria": "Acceptance",
    "acceptance": "Acceptance",
    "patterns_from": "Follow the patterns in",
    "files_to_read": "Read first",
    "notes": "Notes",
}

# --- into the task graph ----------------------------------------------------------------------------------------------------


def to_plan(layout: Layout, *, source: str, stem: str, defaults: Defaults) -> tuple[PlanSpec, dict[str, str]]:
    """Gives the plan and the place of each task; what is wrong goes to the layout's errors and warnings."""
    names = _Names(layout)
    phases = [_phase(layout, entry, names) for entry in layout.phases]
    tasks = [_task(layout, entry, names, defaults) for entry in layout.tasks]
    sequential = layout.top.get("parallel_mode") is False and not phases
    if sequential:
        # The file asks for one at a time; a phase is what can say so.
        phases = [PhaseSpec("all", "all tasks, one at a time", parallel_safe=False)]
        tasks = [replace(task, phase="all") for task in tasks]
    _compare_states(layout, tasks)
    _compare_totals(layout)
    name = first(layout.top, NAME_KEYS)
    if name is None:
        text = f'the file gives no name, so the run is named after the file: "{stem}"'
        layout.warnings.append(Problem("", text))
    name = stem if name is None or isinstance(name, dict | list) else one_line(as_text(name))
    plan = PlanSpec(
        id=slug(name),
        name=name,
        format=layout.form,
        phases=tuple(phases),
        tasks=tuple(tasks),
        source=source,
    )
    return plan, {task.id: task.place for task in layout.tasks}


class _Names:
    """What a dependency may be called: ids, numbers and names of phases and tasks, without regard to case."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._suggest = document.Suggestions()
        self.phases: list[dict[str, list[str]]] = [{}, {}, {}, {}]
        self.tasks: list[dict[str, list[str]]] = [{}, {}, {}]
        for number, phase in enumerate(layout.phases):
            for place, keys in enumerate(self._phase_names(phase, number)):
                self._file(self.phases[place], keys, phase.id)
        for task in layout.tasks:
            raw_id = as_text(first(task.raw, TASK_KEYS) or task.id)
            ending = re.search(r"(?:^|\D)0*(\d+)$", raw_id)
            self._file(self.tasks[0], (task.id, raw_id), task.id)
            self._file(self.tasks[1], (ending[1],) if ending else (), task.id)
            self._file(
                self.tasks[2],
                (as_text(task.raw[key]) for key in ("title", "name") if key in task.raw),
                task.id,
            )

    @staticmethod
    def _phase_names(phase: Entry, number: int) -> Iterator[tuple[str, ...]]:
        """Gives what a phase is called, the surest names first: ids, numbers, names, and at last its position."""
        yield (phase.id, *(as_text(phase.raw[key]) for key in PHASE_KEYS if phase.raw.get(key) is not None))
        inside = re.match(r"phase[-_ ]?0*(\d+)", phase.id, re.IGNORECASE)
        plain = re.fullmatch(r"\d+", phase.id)
        yield (inside[1],) if inside else (f"phase-{phase.id}", f"phase {phase.id}") if plain else ()
        yield tuple(as_text(phase.raw[key]) for key in ("name", "title") if phase.raw.get(key))
        yield (str(number + 1),)

    @staticmethod
    def _file(names: dict[str, list[str]], keys: Iterable[str], target: str) -> None:
        for key in dict.fromkeys(key.casefold() for key in keys if key):
            names.setdefault(key, []).append(target)

    def phase(self, text: str) -> list[str]:
        """Gives the phases that a dependency names; more than one only where the file has the same name twice."""
        return next((names[text.casefold()] for names in self.phases if text.casefold() in names), [])

    def task(self, text: str, near: Entry) -> list[str]:
        """Gives the tasks that a dependency of the task `near` names: in its own phase, else anywhere."""
        found = self.tasks[0].get(text.casefold(), [])
        if len(found) > 1 and near.phase is not None:
            own = f"{self._layout.phases[near.phase].id}/{text}"
            found = [own] if own in found and own != near.id else [one for one in found if one != near.id]
        return found

    def task_otherwise(self, text: str) -> list[str]:
        """Gives the task that is meant by the number at the end of its id, or by its title, if that is only one."""
        return next(
            (found for names in self.tasks[1:] if len(found := names.get(text.casefold(), [])) == 1), []
        )

    def nearest(self, text: str) -> str:
        """Suggests a name for one that is not known."""
        groups = (self.tasks[0], self.phases[0], self.phases[2])
        return self._suggest.nearest(text.casefold(), lambda: [name for names in groups for name in names])


def _needs_of(layout: Layout, entry: Entry) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Gives each dependency as text, with the keys that lead to it; one that names nothing is an error, for its task would start
    before what it needs."""
    for key in NEED_KEYS:
        value = entry.raw.get(key)
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            keys = (key, index) if isinstance(value, list) else (key,)
            named = first(one, (*TASK_KEYS, *PHASE_KEYS, "task", "name")) if isinstance(one, dict) else one
            if one is None or one is False:
                continue
            if named is None or isinstance(named, bool | dict | list):
                text = f"should be the id of a task or phase, not {kind_of(one)}"
                layout.errors.append(Problem(place_at((*entry.path, *keys)), text))
            elif (text := as_text(named)).casefold() not in ("", "none", "-", "n/a"):
                yield keys, text


def _phase(layout: Layout, entry: Entry, names: _Names) -> PhaseSpec:
    needs: dict[str, None] = {}
    task_needs: dict[str, None] = {}
    for keys, text in _needs_of(layout, entry):
        phases = names.phase(text)
        tasks = [] if phases else names.task(text, Entry({}, ()))
        needs.update(dict.fromkeys(phases))
        task_needs.update(dict.fromkeys(tasks))
        if not phases and not tasks:
            problem = (
                f'phase "{entry.id}" depends on "{text}", which is no phase of this plan{names.nearest(text)}'
            )
            layout.errors.append(Problem(place_at((*entry.path, *keys)), problem))
    safe = entry.raw.get("parallel_safe", False)
    if not isinstance(safe, bool):
        layout.errors.append(
            Problem(f"{entry.place}.parallel_safe", f"should be true or false, not {kind_of(safe)}")
        )
    return PhaseSpec(
        id=entry.id,
        title=one_line(as_text(first(entry.raw, ("name", "title")) or entry.id)),
        needs=tuple(task_needs),
        phase_needs=tuple(needs),
        parallel_safe=safe is True,
    )


def _task(layout: Layout, entry: Entry, names: _Names, defaults: Defaults) -> TaskSpec:
    raw = entry.raw
    finished = _is_finished(entry, layout.warnings)
    needs, phase_needs = _task_needs(layout, entry, names)
    checks = checks_of(raw.get("verification"), f"{entry.place}.verification", defaults.suite_timeout_s)
    if not finished:
        layout.warnings.extend(checks.warnings)
    _check_id(layout, entry)
    unused = sorted({"run", "claims", "needs", "prompt"} & raw.keys())
    if unused and not finished:
        text = "kept and not used: this is a plan of another system; a native plan lists its tasks outside the phases"
        layout.warnings.append(Problem(f"{entry.place}.{unused[0]}", text))
    title = next(
        (str(raw[key]) for key in TITLE_KEYS if isinstance(raw.get(key), str) and raw[key].strip()), entry.id
    )
    return TaskSpec(
        id=entry.id,
        title=one_line(title.strip().splitlines()[0]),
        phase=None if entry.phase is None else layout.phases[entry.phase].id,
        needs=needs,
        phase_needs=phase_needs,
        claims=_claims(layout, entry, finished),
        prompt=_prompt(layout, entry, checks.for_people),
        agent=defaults.agent,
        verify=checks.suites,
        timeout_s=defaults.timeout_s,
        no_output_s=defaults.no_output_s,
        attempts=defaults.attempts,
        priority=_priority(raw.get("priority")),
        finished=finished,
    )


def _check_id(layout: Layout, entry: Entry) -> None:
    if document.has_control_characters(entry.id) or len(entry.id) > 200:
        layout.errors.append(Problem(f"{entry.place}.id", "an id is one line of at most 200 characters"))


def _task_needs(layout: Layout, entry: Entry, names: _Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    needs: dict[str, None] = {}
    phase_needs: dict[str, None] = {}
    for keys, text in _needs_of(layout, entry):
        if tasks := names.task(text, entry):
            needs.update(dict.fromkeys(tasks))
        elif phases := names.phase(text):
            phase_needs.update(dict.fromkeys(phases))
        elif tasks := names.task_otherwise(text):
            needs.update(dict.fromkeys(tasks))
        else:
            problem = f'task "{entry.id}" needs "{text}", which is no task or phase of this plan{names.nearest(text)}'
            layout.errors.append(Problem(place_at((*entry.path, *keys)), problem))
    return tuple(needs), tuple(phase_needs)


def _claims(layout: Layout, entry: Entry, finished: bool) -> tuple[Claim, ...]:
    """Makes claims of the files that a task names; of a finished task a bad one is only worth a warning."""
    found: dict[Claim, None] = {}
    problems = layout.warnings if finished else layout.errors
    for keys, path in _files(entry.raw):
        if isinstance(path, dict):
            path = first(path, _PATH_KEYS)
        if not isinstance(path, str):
            problems.append(Problem(place_at((*entry.path, *keys)), f"should be a path, not {kind_of(path)}"))
            continue
        if not path.strip():
            continue
        try:
            found[Claim(claims.normalise(path.strip().replace("\\", "/")))] = None
        except ValueError as error:
            problems.append(
                Problem(place_at((*entry.path, *keys)), f'"{one_line(path)}" cannot be claimed: {error}')
            )
    return tuple(found)


def _files(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    for key in FILE_KEYS:
        value = raw.get(key)
        groups: Iterable[tuple[tuple[Key, ...], Any]] = [((key,), value)]
        if isinstance(value, dict):
            groups = [((key, group), _in_group(group, inner)) for group, inner in value.items()]
        for keys, group in groups:
            if isinstance(group, list):
                yield from (((*keys, index), path) for index, path in enumerate(group))
            elif group is not None:
                yield keys, group


def _in_group(name: str, inner: Any) -> Any:
    """Gives the files that an entry of an object of files means: a group has them inside, as in `{"create": […]}`, and a file comes
    with what is said of it, as in `{"src/a.py": "why"}`."""
    names_itself = isinstance(inner, dict) and first(inner, _PATH_KEYS) is not None
    if isinstance(inner, list) or names_itself or _word(name) in _KINDS_OF_CHANGE:
        return inner
    is_group = isinstance(inner, str) and _is_like_a_path(inner) and not _is_like_a_path(name)
    return inner if is_group else name


def _is_like_a_path(text: str) -> bool:
    return re.search(r"[./\\]", text) is not None and re.search(r"\s", text.strip()) is None


# --- states -----------------------------------------------------------------------------------------------------------------


def _word(value: Any) -> str:
    return re.sub(r"[\s-]+", "_", str(value).strip().casefold())


def _state_key(raw: Mapping[str, Any]) -> str | None:
    return next((key for key in STATE_KEYS if raw.get(key) is not None), None)


def _is_finished(entry: Entry, warnings: list[Problem]) -> bool:
    """Tells whether the file says that a task is done; a state in no list is said and read as not done."""
    key = _state_key(entry.raw)
    if key is None:
        return False
    value = entry.raw[key]
    if isinstance(value, bool):
        return value
    word = _word(value)
    if word not in _FINISHED and word not in _PENDING:
        text = f'task "{entry.id}" has the unknown state "{one_line(str(value), 40)}"; it is read as pending'
        warnings.append(Problem(f"{entry.place}.{key}", text))
    return word in _FINISHED


def _compare_states(layout: Layout, tasks: list[TaskSpec]) -> None:
    """Says where the plan or a phase calls itself done and its tasks are not: the tasks count."""
    claims_done = [
        f'{key} "{value}"'
        for key in ("status", "planStatus", "state")
        if _word(value := layout.top.get(key)) in _SAYS_DONE
    ]
    signoff = layout.top.get("qa_signoff")
    if isinstance(signoff, dict) and _word(signoff.get("status")) in _SAYS_DONE:
        claims_done.append(f'qa_signoff "{signoff["status"]}"')
    pending = sum(not task.finished for task in tasks)
    if claims_done and pending:
        said = ", ".join(claims_done)
        text = f"contradiction: the plan says {said} while {pending} of {len(tasks)} tasks are not finished; the tasks count"
        layout.warnings.append(Problem("status", text))
    total = Counter(entry.phase for entry in layout.tasks)
    unfinished = Counter(
        entry.phase for entry, task in zip(layout.tasks, tasks, strict=True) if not task.finished
    )
    for number, phase in enumerate(layout.phases):
        if unfinished[number] and _word(phase.raw.get("status")) in _FINISHED:
            how_many = f"{unfinished[number]} of {total[number]} tasks are not finished"
            text = f'contradiction: phase "{phase.id}" says "{phase.raw["status"]}" while {how_many}'
            layout.warnings.append(Problem(f"{phase.place}.status", text))


def _compare_totals(layout: Layout) -> None:
    """Says where the file announces another number of tasks than it has: part of it may be missing."""
    announced = [
        (key, layout.top.get(key), len(layout.tasks))
        for key in ("total_tasks", "total_subtasks", "total_chunks")
    ]
    announced.append(("total_phases", layout.top.get("total_phases"), len(layout.phases)))
    for key, said, there in announced:
        if isinstance(said, int) and not isinstance(said, bool) and said != there:
            layout.warnings.append(Problem(key, f"the file announces {said} and has {there}"))


def _priority(value: Any) -> int:
    """Turns `high` or `1` (the first) into a number of which the higher goes first."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return max(1, 1000 - int(max(-1000, min(value, 1000))))
    return _PRIORITY_WORDS.get(_word(value), 0)


# --- what the agent is told -------------------------------------------------------------------------------------------------


def _prompt(layout: Layout, entry: Entry, for_people: str) -> str:
    """Writes the task for an agent: what is wanted, all that the file says about it, and what it belongs to."""
    raw = entry.raw
    texts = [
        str(raw[key]).strip() for key in ("title", "description", "name") if isinstance(raw.get(key), str)
    ]
    parts = ["\n\n".join(dict.fromkeys(text for text in texts if text)) or entry.id]
    for key, heading in _TEXT_KEYS.items():
        if raw.get(key):
            parts.append(f"{heading}:\n{_listed(raw[key])}")
    for key, heading in (
        ("files_to_create", "Files to create"),
        ("files_to_modify", "Files to change"),
        ("files", "Files"),
    ):
        if raw.get(key):
            parts.append(f"{heading}:\n{_listed(raw[key])}")
    if for_people:
        parts.append(for_people)
    where = [first(layout.top, ("feature", "spec_name", "name"))]
    if entry.phase is not None:
        phase = layout.phases[entry.phase].raw
        where += [first(phase, ("name", "title")), phase.get("description")]
    context = " / ".join(one_line(str(text), 500) for text in where if isinstance(text, str) and text.strip())
    if context:
        parts.append(f"Part of: {context}")
    return "\n\n".join(parts) + "\n"


def _listed(value: Any) -> str:
    """Writes a value as text: a list as lines with dashes, an object as `key: value`."""
    if isinstance(value, dict):
        value = [f"{key}: {_inline(inner)}" for key, inner in value.items()]
    if isinstance(value, list):
        return "\n".join(f"- {_inline(one)}" for one in value)
    return str(value).strip()


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inline(inner)}" for key, inner in value.items())
    return ", ".join(map(_inline, value)) if isinstance(value, list) else str(value)


# --- writing back -----------------------------------------------------------------------------------------------------------


def write_back(original: bytes, states: Mapping[str, TaskState], *, source: str = "") -> bytes:
    """Gives the plan file with the states of these tasks set and every other byte, comments too, as it was.

    A state that says the same already in other words is left. Ids that the file does not hold are passed over. Raises UsageError
    where the file cannot be read or is a native plan, which holds no states.
    """
    read = document.parse(original, source)
    if read.errors:
        raise UsageError(f"The plan cannot be written back: {read.errors[0].text}.", "Nothing was written.")
    mark = b"\xef\xbb\xbf" if original.startswith(b"\xef\xbb\xbf") else b""
    text = original.decode("utf-8-sig")
    if read.syntax == "markdown":
        return mark + roadmap.write_back(text, states).encode()
    layout = recognise(read.root, native_preferred=read.syntax == "toml")
    if layout is None or read.syntax != "json":
        cause = "Progress can be written back only to a plan file of another system, in JSON or Markdown."
        raise UsageError(cause, "Nothing was written; swarm status tells where each task stands.")
    plain = document.without_comments(text)
    root = document.spans(plain)
    edits: list[tuple[int, int, str]] = []
    for entry in layout.tasks:
        state = states.get(entry.id)
        for one in (entry, *entry.twins) if state is not None else ():
            span = _span_at(root, one.path)
            new = _new_state(layout, one, state or TaskState.PENDING)
            if plain[span.start] == "{":
                edits += document.member_edits(plain, span, new)
            elif new:  # a text, which can hold no state
                said = {"description": one.raw["description"], **new}
                edits.append((span.start, span.end, json.dumps(said, ensure_ascii=False)))
    return mark + document.apply_edits(text, edits).encode()


def _span_at(root: document.Span, path: tuple[Key, ...]) -> document.Span:
    for key in path:
        root = root.members[key]
    return root


def _new_state(layout: Layout, entry: Entry, state: TaskState) -> dict[str, Any]:
    """Gives the key and value that say the state in the words of the file; nothing where they are there already."""
    key = _state_key(entry.raw) or ("passes" if layout.form == "feature_list.json" else "status")
    value = entry.raw.get(key)
    if key in ("passes", "completed", "done") and (value is None or isinstance(value, bool)):
        wanted = state is TaskState.LANDED
        return {} if value is wanted else {key: wanted}
    written = _WRITTEN.get(state, "pending")
    same = _word(value) in _FINISHED if written == "completed" else _word(value) == written
    return {} if same else {key: written}
