"""From the bytes of a plan file to a task graph, with every error at once and the place of each.

`read` tells which form a file has, reads it (the native form here, other systems' in `foreign` and `roadmap`) and checks
what holds for every plan: ids, needs, cycles.

Rules for editing: no disk, no clock, no process; the caller reads files and writes them. An error never hides another, and
what could be read is given even where there are errors. pydantic stays in this file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from swarm.core import claims, document, foreign, roadmap
from swarm.core.check import Reading, check_document, check_text, choose_in_folder, match_spec
from swarm.core.discover import AUTO
from swarm.core.document import MAX_BYTES, Problem, as_text, one_line
from swarm.core.foreign import write_back
from swarm.core.graph import Graph, Overlaps, graph, order_and_cycles, overlaps, shown
from swarm.core.layout import recognise
from swarm.core.model import (
    NO_SUITE,
    Claim,
    Contract,
    Defaults,
    Mode,
    PhaseSpec,
    PlanSpec,
    Suite,
    TaskSpec,
    slug,
)

__all__ = [
    "MAX_BYTES",
    "Graph",
    "Overlaps",
    "Problem",
    "Reading",
    "check_document",
    "check_text",
    "choose_in_folder",
    "graph",
    "match_spec",
    "overlaps",
    "read",
    "schema",
    "write_back",
]

_LEFT_OUT = "\0 left out"  # stands for an entry whose error has been told
F = TypeVar("F", bound="_Form")

# What other programs call our keys.
_OTHER_WORDS = {
    "command": "run",
    "cmd": "run",
    "script": "run",
    "description": "prompt",
    "instructions": "prompt",
    "files": "claims",
    "paths": "claims",
    "depends_on": "needs",
    "dependencies": "needs",
    "retries": "attempts",
    "timeout": "timeout_s",
    "tests": "verify",
    "verification": "verify",
}
SAME_MAX = 20  # warnings of one kind that are told one by one; the rest is counted


# --- the native form --------------------------------------------------------------------------------------------------------


class _Form(BaseModel):
    """What all parts have in common: exact types, and keys that are not known are warned of."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class _ClaimForm(_Form):
    path: str
    mode: Mode = Field(default=Mode.EXCLUSIVE, strict=False)


class _SuiteForm(_Form):
    run: str = Field(pattern=r"\S")
    name: str = Field(default="", max_length=200)
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    shard: int = Field(default=1, ge=1, le=1000)
    remember: bool = True


def _short(key: str) -> BeforeValidator:
    """Lets a plain text stand for a table that has only this key, without pydantic's errors for both readings."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_Claims = list[Annotated[_ClaimForm, _short("path")]]
_Suites = Annotated[
    list[Annotated[_SuiteForm, _short("run")]],
    BeforeValidator(lambda value: [AUTO] if value == AUTO else value),
]
_Id = Annotated[str, Field(min_length=1, max_length=200)]


class _TaskForm(_Form):
    id: _Id = Field(description="names the task, unique among tasks and phases")
    title: str = Field(default="", description="one line for people; the id where it is left out")
    phase: _Id | None = Field(default=None, description="the phase that the task belongs to")
    needs: list[str] = Field(
        default=[],
        description="ids of tasks or phases that must have landed before; a phase that has landed stays so, whatever comes into it",
    )
    claims: _Claims = Field(default=[], description="paths that the task alone may change while it goes on")
    reads: list[str] = Field(
        default=[],
        description="paths that the task is made from: `--changed` does it again once one of them has changed",
    )
    prompt: str = Field(default="", description="what an agent is told")
    run: str = Field(default="", description='the shell command of the agent "command"')
    agent: _Id | None = Field(
        None, description='what carries the task out; "command" for a task with `run` and no `prompt`'
    )
    verify: _Suites | None = Field(
        None, description="suites for this task, besides those of the plan and the phase"
    )
    timeout_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds that an attempt may take"
    )
    no_output_s: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="seconds that a worker may write nothing before it is ended as `no_output`; 0: no limit",
    )
    attempts: int | None = Field(
        default=None, ge=1, le=1000, description="how many attempts there may be; a conflict does not count"
    )
    priority: int | None = Field(default=None, ge=-1_000_000, le=1_000_000, description="higher first")
    allow_empty: bool | None = Field(default=None, description='true where "no change needed" is a good end')
    memory_mb: int | None = Field(
        default=None,
        ge=0,
        le=100_000_000,
        description="what a worker is expected to take with all that it starts; one that takes more is ended; 0: no limit",
    )
    role: str | None = Field(default=None, description="a role of the settings' [ownership] and [roles]")


class _ContractForm(_Form):
    between: list[str] = Field(min_length=2, description="ids of the tasks that agree on this")
    text: str = Field(pattern=r"\S", description="what they agree on: each of them is told")


class _PhaseForm(_Form):
    id: _Id
    title: str = ""
    needs: list[str] = Field(
        [], description="ids of tasks or phases that must have landed before any task of this phase"
    )
    parallel_safe: bool = Field(default=True, description="false: one task at a time, in order")
    verify: _Suites = Field(default=[], description="suites for every task of the phase")


class _DefaultsForm(_Form):
    agent: _Id | None = None
    prompt: str = ""
    run: str = ""
    verify: _Suites | None = None
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    no_output_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    attempts: int | None = Field(default=None, ge=1, le=1000)
    priority: int | None = Field(default=None, ge=-1_000_000, le=1_000_000)
    allow_empty: bool | None = None
    memory_mb: int | None = Field(default=None, ge=0, le=100_000_000)
    role: str | None = None


class _TopForm(_Form):
    name: str = Field(
        default="", max_length=500, description="names the run; the file's name where it is left out"
    )
    base: str = Field(
        default="", description="the branch to start from; the one checked out where it is left out"
    )
    verify: _Suites = Field(default=[], description="suites run on every candidate")
    defaults: _DefaultsForm = Field(default=_DefaultsForm(), description="for tasks that do not say")


class _PlanForm(_TopForm):
    phases: list[_PhaseForm] = []
    tasks: list[_TaskForm] = Field(min_length=1)
    contracts: list[_ContractForm] = Field(
        default=[], description="what tasks agree on that go on side by side"
    )


def schema() -> dict[str, Any]:
    """Gives the JSON Schema of the native plan."""
    made = _as_written(_PlanForm.model_json_schema())
    made["title"] = "swarm plan"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _as_written(part: Any) -> Any:
    """Names the parts without the marks of this file, and lets a text stand for a claim or a suite."""
    if isinstance(part, list):
        return [_as_written(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    named = re.fullmatch(r"#/\$defs/_(\w+)Form", str(part.get("$ref")))
    if named is None:
        if part.get("items") == {"$ref": "#/$defs/_SuiteForm"}:
            return {
                "anyOf": [{"const": AUTO}, {"type": "array", "items": _as_written(part["items"])}],
                **_told(part),
            }
        made = {re.sub(r"^_(\w+)Form$", r"\1", key): _as_written(inner) for key, inner in part.items()}
        return {key: value for key, value in made.items() if key != "title" or not isinstance(value, str)}
    reference = {**part, "$ref": f"#/$defs/{named[1]}"}
    return {"anyOf": [{"type": "string"}, reference]} if named[1] in ("Claim", "Suite") else reference


def _told(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key in ("default", "description")}


# --- reading ----------------------------------------------------------------------------------------------------------------


def read(data: bytes, *, source: str, defaults: Defaults) -> Reading:
    """Reads a plan in any known form. `source` is the file's name or path, `defaults` what tasks get where the plan is silent.

    Never raises for what is in the file: errors and warnings carry their places, all of them at once.
    """
    found = document.parse(data, source)
    if found.errors:
        return Reading(None, tuple(found.errors), tuple(found.warnings))
    stem = re.split(r"[\\/]", source)[-1]
    stem = (stem.rpartition(".")[0] or stem).strip("-. ") or "plan"
    if found.syntax == "markdown":
        plan, places, errors, warnings = roadmap.to_plan(
            found.root, source=source, stem=stem, defaults=defaults
        )
        return _finish(plan, places, errors, warnings, defaults)
    layout = recognise(found.root, native_preferred=found.syntax == "toml")
    if layout is not None:
        layout.warnings = found.warnings + layout.warnings
        plan, places = foreign.to_plan(layout, source=source, stem=stem, defaults=defaults)
        return _finish(plan, places, layout.errors, layout.warnings, defaults)
    if not isinstance(found.root, dict) or not {"tasks", "phases"} & found.root.keys():
        return Reading(None, (Problem("", _unrelated(found.root)),), tuple(found.warnings))
    native = _Native(found.root, defaults, list(found.warnings))
    return _finish(
        native.plan(source, stem, found.syntax), native.places, native.errors, native.warnings, defaults
    )


def _unrelated(root: Any) -> str:
    """Says why a document is no plan, with what it does hold."""
    looked = "no tasks found in any known form (`tasks`, `subtasks`, `chunks`, phases that hold them, or a list of features)"
    if isinstance(root, dict):
        keys = ", ".join(one_line(str(key), 30) for key in list(root)[:6]) + (", …" if len(root) > 6 else "")
        return (
            f"this is no plan: {looked}; its keys are {keys}"
            if root
            else f"this is no plan: {looked}; it is empty"
        )
    what = f"a list of {len(root)}" if isinstance(root, list) else "a single value"
    return f"this is no plan: {looked}; it is {what}"


class _Native:
    """One reading of a native plan: collects errors and warnings while it turns the document into specs."""

    def __init__(self, root: dict[str, Any], defaults: Defaults, warnings: list[Problem]) -> None:
        self.root = root
        self.settings = defaults
        self.places: dict[str, str] = {}
        self.errors: list[Problem] = []
        self.warnings = warnings
        self._phases: dict[str, PhaseSpec] = {}
        self._nameless: list[tuple[str, list[str]]] = []  # needs of what has no readable id
        self._suggest = document.Suggestions()

    def plan(self, source: str, stem: str, syntax: str) -> PlanSpec:
        """Reads everything that can be read."""
        rest = {key: value for key, value in self.root.items() if key not in ("tasks", "phases", "contracts")}
        top = self._form(_TopForm, rest, "") or _TopForm()
        self.defaults = top.defaults
        self._unknown_in(top, "")
        self._unknown(self.defaults, "defaults")
        phase_forms = self._list("phases", _PhaseForm)
        task_forms = self._list("tasks", _TaskForm)
        self._refuse_doubles(phase_forms, task_forms)
        tasks = {form.id for _, form in task_forms}
        phases = {form.id for _, form in phase_forms}
        named_by_tasks = self._named_by_tasks(task_forms, tasks, phases)
        phases |= named_by_tasks.keys()
        for place, phase in phase_forms:
            needs, phase_needs = self._needs(phase.needs, f"{place}.needs", tasks, phases)
            verify = self._suites(phase.verify, f"{place}.verify")
            self._unknown_in(phase, place)
            title = one_line(phase.title)
            self._phases.setdefault(
                phase.id, PhaseSpec(phase.id, title, needs, phase_needs, phase.parallel_safe, verify)
            )
        self._phases |= named_by_tasks
        for place, listed in self._nameless:
            self._needs(listed, place, tasks, phases)
        contracts = self._contracts(tasks)
        specs: dict[str, TaskSpec] = {}
        for place, form in task_forms:
            agreed = tuple(each.text for each in contracts if form.id in each.between)
            specs.setdefault(form.id, replace(self._task(form, place, tasks, phases), contracts=agreed))
        if top.base and not _is_branch(top.base):
            self.errors.append(Problem("base", f'"{one_line(top.base, 60)}" is no name of a branch'))
        name = one_line(top.name, 500) or stem
        return PlanSpec(
            id=slug(name),
            name=name,
            format=f"native {syntax.upper()}",
            base=top.base,
            verify=self._suites(top.verify, "verify"),
            phases=tuple(self._phases.values()),
            tasks=tuple(specs.values()),
            source=source,
            contracts=contracts,
        )

    def _named_by_tasks(
        self, forms: list[tuple[str, _TaskForm]], tasks: set[str], phases: set[str]
    ) -> dict[str, PhaseSpec]:
        """Makes the phases that only tasks name, in parallel and without needs; what looks like another's name stays an error."""
        made: dict[str, PhaseSpec] = {}
        for place, form in forms:
            name = form.phase
            if name is None or name in phases or name in made or name in tasks:
                continue
            if name != name.strip() or not name or document.has_control_characters(name):
                continue
            if self._suggest.nearest(name, lambda: phases):
                continue
            made[name] = PhaseSpec(name)
            text = f'there is no phase "{name}" in `phases`: it is made, without needs'
            self.warnings.append(Problem(f"{place}.phase", text))
        return made

    def _contracts(self, tasks: set[str]) -> tuple[Contract, ...]:
        found = []
        for place, form in self._list("contracts", _ContractForm):
            for index, name in enumerate(form.between):
                if name not in tasks and name != _LEFT_OUT:
                    near = self._suggest.nearest(name, lambda: tasks)
                    text = f'is between "{name}", which is no task of this plan{near}'
                    self.errors.append(Problem(f"{place}.between[{index}]", text))
            self._unknown(form, place)
            found.append(Contract(tuple(dict.fromkeys(form.between)), form.text.strip()))
        return tuple(found)

    def _list(self, key: str, kind: type[F]) -> list[tuple[str, F]]:
        """Reads a list of tables; those without a readable id are left out, with their errors kept."""
        value = self.root.get(key, [])
        if not isinstance(value, list):
            self.errors.append(Problem(key, f"should be a list of {key}, not {document.kind_of(value)}"))
            return []
        read = (
            (f"{key}[{index}]", self._form(kind, raw, f"{key}[{index}]")) for index, raw in enumerate(value)
        )
        return [(place, form) for place, form in read if form is not None]

    def _form(self, kind: type[F], raw: Any, place: str) -> F | None:
        """Reads one table; where parts of it are wrong, their errors are kept and the rest is read."""
        if isinstance(raw, dict) and "needs" in kind.model_fields and "needs" not in raw:
            raw = self._with_needs(raw, place)
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            found = error.errors(include_url=False)
        self.errors += [Problem(_place(place, one["loc"]), _wrong(one)) for one in found]
        if not isinstance(raw, dict):
            return None
        rest = _without(raw, found)
        try:
            return kind.model_validate(rest)
        except ValidationError:  # nothing can stand for what is wrong: an id
            self._nameless.append((f"{place}.needs", rest.get("needs") or []))
            return None

    def _with_needs(self, raw: dict[str, Any], place: str) -> dict[str, Any]:
        """Takes what other systems call needs for needs: to pass over an order that was asked for would be no small thing."""
        key = next((key for key in ("depends_on", "dependencies") if key in raw), None)
        if key is None:
            return raw
        self.warnings.append(Problem(f"{place}.{key}", f"`{key}` is read as `needs`"))
        return {"needs" if one == key else one: value for one, value in raw.items()}

    def _refuse_doubles(
        self, phases: list[tuple[str, _PhaseForm]], tasks: list[tuple[str, _TaskForm]]
    ) -> None:
        """Refuses an id that stands twice, be it of a task or a phase, and one that is no single line."""
        taken: dict[str, str] = {}
        forms: list[tuple[str, _PhaseForm | _TaskForm]] = [*phases, *tasks]
        for place, form in forms:
            if document.has_control_characters(form.id):
                self.errors.append(Problem(f"{place}.id", "an id is one line without control characters"))
            elif form.id != form.id.strip():
                self.errors.append(Problem(f"{place}.id", "an id has no blanks around it"))
            if form.id in taken:
                self.errors.append(Problem(f"{place}.id", f'the id "{form.id}" is taken by {taken[form.id]}'))
            else:
                taken[form.id] = self.places[form.id] = place

    def _needs(
        self, needs: list[str], place: str, tasks: set[str], phases: set[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        for index, need in enumerate(needs):
            if need not in tasks and need not in phases and need != _LEFT_OUT:
                near = self._suggest.nearest(need, lambda: tasks | phases)
                text = f'needs "{need}", which is no task or phase of this plan{near}'
                self.errors.append(Problem(f"{place}[{index}]", text))
        once = dict.fromkeys(needs)
        return tuple(n for n in once if n in tasks), tuple(n for n in once if n in phases and n not in tasks)

    def _task(self, form: _TaskForm, place: str, tasks: set[str], phases: set[str]) -> TaskSpec:
        if form.phase is not None and form.phase not in phases:
            text = f'there is no phase "{form.phase}" in this plan{self._suggest.nearest(form.phase, lambda: phases)}'
            self.errors.append(Problem(f"{place}.phase", text))
        needs, phase_needs = self._needs(form.needs, f"{place}.needs", tasks, phases)
        given = self.defaults
        title = one_line(form.title) or form.id
        agent, prompt, run = self._work(form, place)
        verify = form.verify if form.verify is not None else given.verify
        self._unknown_in(form, place)
        return TaskSpec(
            id=form.id,
            title=title,
            phase=form.phase if form.phase in phases else None,
            needs=needs,
            phase_needs=phase_needs,
            claims=self._claims(form.claims, f"{place}.claims"),
            reads=self._reads(form.reads, f"{place}.reads"),
            prompt=prompt or ("" if agent == "command" else title),
            run=run,
            agent=agent,
            verify=self._suites(verify or [], f"{place}.verify"),
            timeout_s=_first(form.timeout_s, given.timeout_s, self.settings.timeout_s),
            no_output_s=_first(form.no_output_s, given.no_output_s, self.settings.no_output_s),
            attempts=_first(form.attempts, given.attempts, self.settings.attempts),
            priority=_first(form.priority, given.priority, 0),
            allow_empty=_first(form.allow_empty, given.allow_empty, False),
            memory_mb=_first(form.memory_mb, given.memory_mb, 0),
            role=_first(form.role, given.role, ""),
        )

    def _work(self, form: _TaskForm, place: str) -> tuple[str, str, str]:
        """Gives agent, prompt and command: a task that has only a command is one for the agent "command"."""
        prompt, run = form.prompt or self.defaults.prompt, form.run or self.defaults.run
        only_command = "command" if form.run.strip() and not prompt.strip() else None
        agent = _first(form.agent, only_command, self.defaults.agent, self.settings.agent)
        if agent == "command" and not run.strip():
            text = f'task "{form.id}" has nothing to run: give it `run` (a shell command), or an `agent` that takes a `prompt`'
            self.errors.append(Problem(f"{place}.run", text))
        if "\0" in run:
            self.errors.append(Problem(f"{place}.run", "a command can hold no NUL character"))
        if form.run and agent != "command":
            text = f'`run` is of use only to the agent "command"; task "{form.id}" goes to "{agent}"'
            if not form.prompt:
                self.warnings.append(Problem(f"{place}.run", text))
        return agent, prompt, run

    def _claims(self, forms: list[_ClaimForm], place: str) -> tuple[Claim, ...]:
        found: dict[Claim, None] = {}
        for index, form in enumerate(forms):
            if form.path == _LEFT_OUT:
                continue
            try:
                found[Claim(claims.normalise(form.path), form.mode)] = None
            except ValueError as error:
                text = f'"{one_line(form.path, 80)}" cannot be claimed: {error}'
                self.errors.append(Problem(f"{place}[{index}]", text))
        return tuple(found)

    def _reads(self, paths: list[str], place: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for index, path in enumerate(paths):
            try:
                found[claims.normalise(path)] = None
            except ValueError as error:
                text = f'"{one_line(path, 80)}" cannot be read by a task: {error}'
                self.errors.append(Problem(f"{place}[{index}]", text))
        return tuple(found)

    def _suites(self, forms: list[_SuiteForm], place: str) -> tuple[Suite, ...]:
        """Gives suites with a name each: their own, else their command on one line."""
        found: dict[str, Suite] = {}
        for index, form in enumerate(forms):
            if form.run == _LEFT_OUT:
                continue
            name = one_line(form.name or form.run, 80)
            if name == NO_SUITE:
                text = (
                    f'"{NO_SUITE}" is what a landing says that no suite has verified: name this one otherwise'
                )
                self.errors.append(Problem(f"{place}[{index}]" + (".name" if form.name else ""), text))
            elif name in found and form.name:
                self.errors.append(Problem(f"{place}[{index}].name", f'there is a suite "{name}" already'))
            elif name in found:
                if found[name].run == form.run:
                    continue
                name = f"{name} ({index + 1})"
            if "\0" in form.run:
                self.errors.append(Problem(f"{place}[{index}].run", "a command can hold no NUL character"))
            found[name] = Suite(
                name,
                form.run,
                form.timeout_s or self.settings.suite_timeout_s,
                form.shard,
                form.remember,
                named=bool(form.name),
            )
        return tuple(found.values())

    def _unknown_in(self, form: _Form, place: str) -> None:
        """Warns of keys that are not known, those of its claims and suites included: they stay in the file."""
        self._unknown(form, place)
        for key in ("claims", "verify"):
            parts: list[_Form] = (getattr(form, key) or []) if key in type(form).model_fields else []
            for index, part in enumerate(parts):
                self._unknown(part, f"{place}.{key}[{index}]".lstrip("."))

    def _unknown(self, form: _Form, place: str) -> None:
        for key in form.model_extra or ():
            if key != "$schema":
                shown = one_line(key, 60)
                near = _near_field(key, type(form))
                self.warnings.append(
                    Problem(f"{place}.{shown}".lstrip("."), f'unknown key "{shown}", kept and not used{near}')
                )


def _without(raw: dict[str, Any], wrong: Iterable[Any]) -> dict[str, Any]:
    """Leaves out what is wrong and nothing else, so that the errors of the rest are found too; entries keep their numbers."""
    rest = dict(raw)
    for one in wrong:
        key, *inner = one["loc"] or ("",)
        value = rest.get(key)
        if one["type"] == "list_type" and isinstance(value, str):
            rest[key] = [value]
        elif isinstance(value, list) and inner and isinstance(inner[0], int):
            rest[key] = [_LEFT_OUT if index == inner[0] else entry for index, entry in enumerate(value)]
        else:
            rest.pop(key, None)
    return rest


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _is_branch(name: str) -> bool:
    """Tells whether git could take this as the name of a branch or commit, without asking it."""
    return not re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|^[-/]|/$|//", name)


@lru_cache(maxsize=256)
def _near_field(key: str, kind: type[_Form]) -> str:
    plain = key.replace("-", "_").lower()
    if _OTHER_WORDS.get(plain) in kind.model_fields:
        return f'; did you mean "{_OTHER_WORDS[plain]}"?'
    return document.Suggestions().nearest(plain, lambda: kind.model_fields)


def _place(place: str, loc: Sequence[int | str]) -> str:
    inner = document.place_at(loc)
    return inner if not place else f"{place}.{inner}" if inner else place


_NOT_IN_JSON = ("inf", "-inf", "nan")  # numbers in TOML and YAML, which `document` has as these texts


def _wrong(error: Any) -> str:
    """Says in plain words what pydantic found."""
    kind, value = error["type"], error.get("input")
    given = document.kind_of(value)
    if isinstance(value, float):
        given = str(value)
    if kind == "float_type" and value in _NOT_IN_JSON:
        return f"should be a finite number, not {value}"
    if kind == "missing":
        return "is missing"
    if kind == "list_type" and isinstance(value, str):
        return f"should be a list, not text; write [{as_text(value)!r}]".replace("'", '"')
    wanted = {
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
    }.get(kind)
    if wanted is not None:
        return f"should be {wanted}, not {given}"
    if kind == "enum":
        return f'should be {error["ctx"]["expected"]}, not "{one_line(str(value), 40)}"'.replace("'", '"')
    message = str(error["msg"]).replace("String should match pattern '\\S'", "should not be empty")
    return message.replace("Input should", "should").replace("String should", "should") + (
        f", not {value}" if isinstance(value, int | float) else ""
    )


# --- what holds for every form ------------------------------------------------------------------------------------------------


def _finish(
    plan: PlanSpec, places: dict[str, str], errors: list[Problem], warnings: list[Problem], defaults: Defaults
) -> Reading:
    """Checks what holds for every plan: there is work, no cycle, no two tasks with one branch; and puts phases in order."""
    if not plan.tasks and not errors:
        errors.append(Problem("tasks", "the plan has no tasks"))
    errors += _same_branches(plan, places)
    order, cycles = order_and_cycles(plan)
    for cycle in cycles:
        where = next((places[name] for name in cycle if name in places), "")
        errors.append(Problem(where, f"needs go round in a circle: {shown(cycle)}"))
    if not cycles:
        plan = _ordered(plan, order, warnings)
    open_tasks = [task for task in plan.tasks if not task.finished]
    told = {re.split(r"\.(?:claims|files?)\b", problem.place)[0] for problem in errors}
    for task in open_tasks:
        if not task.claims and places.get(task.id) not in told:
            text = f'task "{task.id}" claims no paths: nothing that it changes is a stray, the merge decides'
            warnings.append(Problem(places.get(task.id, ""), text))
    if not plan.format.startswith("native") and open_tasks and defaults.agent == "command":
        text = (
            'these tasks have no command to run and the default agent is "command": set `agent` in swarm.toml '
            "to a program that takes a prompt"
        )
        warnings.append(Problem("", text))
    return Reading(plan, tuple(errors), tuple(_bounded(warnings)), places)


def _same_branches(plan: PlanSpec, places: dict[str, str]) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for task in plan.tasks:
        branch = slug(task.id)
        other = taken.setdefault(branch, task.id)
        if other != task.id:
            text = f'the ids "{other}" and "{task.id}" would share the branch name "{branch}"; rename one'
            yield Problem(f"{places.get(task.id, 'tasks')}.id", text)


def _ordered(plan: PlanSpec, order: list[str], warnings: list[Problem]) -> PlanSpec:
    """Puts the tasks of phases that go one at a time so that none stands before what it needs: else both would wait for ever."""
    place = {name: number for number, name in enumerate(order)}
    tasks = list(plan.tasks)
    for phase in plan.phases:
        if phase.parallel_safe:
            continue
        slots = [number for number, task in enumerate(tasks) if task.phase == phase.id]
        there = [tasks[number] for number in slots]
        wanted = sorted(there, key=lambda task: place[task.id])
        if wanted != there:
            for number, task in zip(slots, wanted, strict=True):
                tasks[number] = task
            text = f'phase "{phase.id}" goes one at a time, and a task of it stands before one that it needs; they run as '
            warnings.append(
                Problem(
                    "",
                    text + ", ".join(task.id for task in wanted[:10]) + ("" if len(wanted) <= 10 else ", …"),
                )
            )
    return plan if tasks == list(plan.tasks) else replace(plan, tasks=tuple(tasks))


def _bounded(warnings: list[Problem]) -> Iterator[Problem]:
    """Tells the first of each kind one by one and counts the rest, so that 10,000 equal warnings stay readable."""
    kinds = [re.sub(r'"[^"]*"|\d+', "…", warning.text) for warning in warnings]
    totals, seen = Counter(kinds), Counter[str]()
    for kind, warning in zip(kinds, warnings, strict=True):
        seen[kind] += 1
        if seen[kind] <= SAME_MAX:
            yield warning
        elif seen[kind] == SAME_MAX + 1:
            more = totals[kind] - SAME_MAX
            yield Problem("", f"and {more} more of this kind: {kind}")
