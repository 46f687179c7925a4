"""Where the phases and tasks of another system's plan stand in its document, and which form of plan that makes it.

Three forms are told apart by what they hold, never by their name: `implementation_plan.json` in its variants (phases of `subtasks`,
`chunks` or `tasks`, or a flat list of them), `build-tasks.json` and `feature_list.json`.

Rules for editing: an entry is only found and named here, what is in it is read in `foreign`. What stands in another's way is told,
and refused where work could be lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from swarm.core.document import Key, Problem, as_text, kind_of, one_line, place_at
from swarm.core.model import slug
from swarm.dataclass import dataclass

LISTS = ("subtasks", "chunks", "tasks")  # in this order of preference
PHASE_KEYS = ("id", "phase_id", "phase")
TASK_KEYS = ("id", "subtask_id", "chunk_id", "task_id")
NEED_KEYS = ("depends_on", "dependencies")
FILE_KEYS = ("files_to_modify", "files_to_create", "files_to_delete", "files", "file")
STATE_KEYS = ("status", "state", "passes", "completed", "done")
TITLE_KEYS = ("title", "name", "description")
NAME_KEYS = ("feature", "spec_name", "spec_id", "name")

_NATIVE_KEYS = frozenset(
    {"needs", "claims", "run", "prompt", "attempts", "timeout_s", "allow_empty", "memory_mb", "verify"}
)
_NATIVE_TOP = frozenset({"defaults", "base", "verify"})
_FOREIGN_TOP = frozenset(
    {
        "feature",
        "spec_name",
        "spec_id",
        "workflow_type",
        "parallel_mode",
        "total_tasks",
        "total_phases",
        "planStatus",
        "qa_signoff",
    }
)
_FOREIGN_TASK = frozenset(
    {
        *NEED_KEYS,
        *FILE_KEYS,
        *STATE_KEYS,
        "description",
        "verification",
        "estimated_time",
        "implementation_details",
    }
)


@dataclass(slots=True)
class Entry:
    """A phase or task as found: `path` leads to it in the document, `place` is the same for people."""

    raw: dict[str, Any]
    path: tuple[Key, ...]
    id: str = ""
    phase: int | None = None
    twins: list[Entry] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Names the entry as `phases[2].subtasks[0]`."""
        return place_at(self.path)


@dataclass(slots=True)
class Layout:
    """A foreign plan recognised: which form, and where its phases and tasks stand."""

    form: str
    top: dict[str, Any]
    phases: list[Entry]
    tasks: list[Entry]
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


# --- which form -------------------------------------------------------------------------------------------------------------


def recognise(root: Any, *, native_preferred: bool = False) -> Layout | None:
    """Tells whether a document is a foreign plan, and finds its parts; None when it is native or no plan at all.

    With `native_preferred` (TOML) only phases that hold their tasks make it foreign.
    """
    if isinstance(root, list):
        return _recognise_array(root)
    if not isinstance(root, dict):
        return None
    errors: list[Problem] = []
    phases = _entries(root, ("phases",), errors)
    nested = any(_task_lists(phase.raw) for phase in phases)
    if not nested:
        if native_preferred or (_looks_native(root, phases) and "features" not in root):
            return None
        if _is_features(root.get("features")):
            return Layout("feature_list.json", root, [], _identified_features(_entries(root, ("features",))))
        flat = next(iter(_task_lists(root)), None)
        if flat is None:
            known = phases and _FOREIGN_TOP & root.keys()
            return Layout("implementation_plan.json (no tasks)", root, [], []) if known else None
    layout = Layout("", root, phases, [], errors)
    _find_tasks(layout)
    layout.form = _form(layout, nested)
    return layout


def _recognise_array(root: list[Any]) -> Layout | None:
    """Reads an array as `feature_list.json` when every entry describes something that can pass, or be in a state."""
    if not _is_features(root):
        return None
    entries = [Entry(raw, (index,)) for index, raw in enumerate(root)]
    return Layout("feature_list.json", {}, [], _identified_features(entries))


def _is_features(value: Any) -> bool:
    wanted = {"passes", "steps", "category", "id", "status"}
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(one, dict) and one.keys() & set(TITLE_KEYS) and one.keys() & wanted for one in value
        )
    )


def _looks_native(root: dict[str, Any], phases: list[Entry]) -> bool:
    """Tells a native plan from a flat foreign one: by a key that only one of the two has."""
    if any(_task_lists({key: root.get(key)}) for key in ("subtasks", "chunks")):
        return False
    tasks = [entry.raw for entry in _entries(root, ("tasks",))]
    if _NATIVE_TOP & root.keys() or any(
        _NATIVE_KEYS & raw.keys() for raw in (*tasks, *(phase.raw for phase in phases))
    ):
        return True
    return not (_FOREIGN_TOP & root.keys() or any(_FOREIGN_TASK & raw.keys() for raw in tasks))


def _form(layout: Layout, nested: bool) -> str:
    """Names the form for people."""
    lists = Counter(str(task.path[-2]) for task in layout.tasks)
    kind = lists.most_common(1)[0][0] if lists else "tasks"
    if not nested:
        building = kind == "tasks" and (
            "parallel_mode" in layout.top or not _FOREIGN_TOP - {"total_tasks"} & layout.top.keys()
        )
        return "build-tasks.json" if building else f"implementation_plan.json (flat {kind})"
    integer = any(isinstance(first(phase.raw, PHASE_KEYS), int) for phase in layout.phases)
    return f"implementation_plan.json ({kind}, {'integer' if integer else 'string'} phase ids)"


# --- phases and tasks in the document ----------------------------------------------------------------------------------------


def first(raw: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """Gives the first of these keys that says something."""
    return next((raw[key] for key in keys if raw.get(key) not in (None, "")), None)


def _entries(
    holder: Mapping[str, Any], path: tuple[Key, ...], problems: list[Problem] | None = None
) -> list[Entry]:
    """Lists the objects under the last key of `path`, in a list or by name; a text stands for an entry that has only that."""
    value = holder.get(str(path[-1]))
    numbered: Iterable[tuple[Key, Any]]
    if isinstance(value, dict):
        numbered = ((key, {"id": key, **one} if isinstance(one, dict) else one) for key, one in value.items())
    else:
        numbered = enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, one in numbered:
        if isinstance(one, str) and one.strip():
            one = {"description": one}
        if isinstance(one, dict):
            found.append(Entry(one, (*path, key)))
        elif problems is not None:
            problems.append(Problem(place_at((*path, key)), f"should be an object, not {kind_of(one)}"))
    return found


def _task_lists(raw: Mapping[str, Any]) -> list[str]:
    """Gives the keys of a phase (or plan) under which there are tasks, the preferred one first."""
    return [key for key in LISTS if isinstance(raw.get(key), list | dict) and raw[key]]


def _find_tasks(layout: Layout) -> None:
    """Finds every task, gives phases and tasks their ids, and says where two lists or two ids got in each other's way."""
    _name_phases(layout)
    for number, phase in enumerate(layout.phases):
        layout.tasks += _tasks_in(layout, phase.raw, phase.path, number)
    in_phases = {(task.id, str(task.raw.get("description"))) for task in layout.tasks}
    flat = _tasks_in(layout, layout.top, (), None)
    left = [task for task in flat if (task.id, str(task.raw.get("description"))) not in in_phases]
    if left and in_phases:
        layout.warnings.append(
            Problem(
                left[0].place,
                f"{len(left)} {'task stands' if len(left) == 1 else 'tasks stand'} outside the phases, and read too, without one",
            )
        )
    by_key = {phase.id.casefold(): number for number, phase in enumerate(layout.phases)}
    for task in left:
        named = task.raw.get("phase", task.raw.get("phase_id"))
        task.phase = by_key.get(as_text(named).casefold()) if named is not None else None
    layout.tasks += left
    _qualify(layout)


def _name_phases(layout: Layout) -> None:
    seen: Counter[str] = Counter()
    for number, phase in enumerate(layout.phases):
        key = first(phase.raw, PHASE_KEYS)
        phase.id = as_text(number + 1 if key is None or isinstance(key, dict | list) else key)
        seen[phase.id] += 1
        if seen[phase.id] > 1:
            again = f"{phase.id}-{seen[phase.id]}"
            layout.warnings.append(
                Problem(phase.place, f'there is a phase "{phase.id}" already; this one is read as "{again}"')
            )
            phase.id = again


def _tasks_in(layout: Layout, raw: dict[str, Any], path: tuple[Key, ...], phase: int | None) -> list[Entry]:
    """Lists the tasks of one phase, or those outside phases, ids not yet qualified."""
    keys = _task_lists(raw)
    if not keys:
        return []
    found = _entries(raw, (*path, keys[0]), layout.errors)
    for number, task in enumerate(found):
        task.phase = phase
        given = first(task.raw, TASK_KEYS)
        prefix = "task" if phase is None else layout.phases[phase].id
        task.id = f"{prefix}-{number + 1}" if given is None else as_text(given)
    by_id = {task.id: task for task in found}
    for key in keys[1:]:
        for other in _entries(raw, (*path, key)):
            twin = by_id.get(as_text(first(other.raw, TASK_KEYS)))
            if twin is not None:
                twin.twins.append(other)
                continue
            text = f'"{keys[0]}" and "{key}" stand side by side and differ; only "{keys[0]}" is read'
            layout.warnings.append(Problem(place_at((*path, key)), text))
            break
    return found


def _qualify(layout: Layout) -> None:
    """Makes ids that stand in several phases `<phase>/<id>`, drops an entry that is there twice, refuses other doubles."""
    counts = Counter(task.id for task in layout.tasks)
    kept: dict[str, Entry] = {}
    for task in layout.tasks:
        plain = task.id
        if counts[plain] > 1 and task.phase is not None:
            task.id = f"{layout.phases[task.phase].id}/{plain}"
        before = kept.get(task.id)
        if before is None:
            kept[task.id] = task
            if task.id != plain:
                layout.warnings.append(
                    Problem(task.place, f'the id "{plain}" stands in several phases; read as "{task.id}"')
                )
        elif before.raw == task.raw:
            before.twins.append(task)
            layout.warnings.append(
                Problem(task.place, f"the same task as {before.place}, word for word; read once")
            )
        else:
            layout.errors.append(Problem(f"{task.place}.id", f'the id "{plain}" is taken by {before.place}'))
    layout.tasks = list(kept.values())


def _identified_features(entries: list[Entry]) -> list[Entry]:
    """Gives features ids: their own, else one made of the description, so that it stays when others are added before."""
    seen: Counter[str] = Counter()
    for entry in entries:
        given = first(entry.raw, TASK_KEYS)
        text = one_line(str(first(entry.raw, ("description", "title", "name"))), 10_000)
        entry.id = slug(text, max_length=40) if given is None else as_text(given)
        seen[entry.id] += 1
        if seen[entry.id] > 1:
            entry.id = f"{entry.id}-{seen[entry.id]}"
    return entries
