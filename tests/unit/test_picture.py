"""What the page of `swarm web` shows of a status document, and what its files are made of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from swarm.client.web import picture
from swarm.client.web.routes import message
from tests.unit.test_render import EVIL, NOW, a_document, a_run, a_task, an_attempt

STATIC = Path(picture.__file__).parent / "static"


def shown(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return picture.repository(document, "/r", now=NOW, **more)


def test_each_thing_that_matters_has_its_row() -> None:
    """A running worker, what waits and for what, the queue with what is verified, landings, and failures with what to type."""
    run = a_run(
        a_task(
            "a",
            "running",
            attempts=[an_attempt(cpu_percent=12.4, rss_bytes=210_000_000, doing="writes tests")],
        ),
        a_task("b", "ready", reason={"code": "claim", "text": "a holds src/**"}),
        a_task("c", "landing", attempts=[an_attempt(state="verifying")]),
        a_task("d", "failed", reason={"code": "conflict", "text": "it conflicts in src/x"}),
        a_task(
            "e",
            "landed",
            landed_commit="f" * 40,
            attempts=[an_attempt(state="landed", ended_at="2026-11-21T03:59:00Z")],
        ),
    )
    entry = {"run": "modernise", "task": "c", "attempt": 1, "state": "verifying", "candidate": "c" * 40}
    found = shown(a_document(run, merge_queue=[entry]))
    (worker,), (waits,), (queued,) = found["workers"], found["waiting"], found["queue"]
    assert (worker["name"], worker["agent"], worker["text"]) == ("a", "claude", "writes tests")
    assert (worker["cpu"], worker["memory"], worker["started"]) == ("12 %", "210 MB", NOW - 61.5)
    assert waits["text"] == "a holds src/**"
    assert (queued["step"], queued["candidate"]) == ("verifying", "c" * 9)
    assert found["failures"][0]["text"] == "conflict: it conflicts in src/x"
    assert found["failures"][0]["type"] == ["swarm logs modernise/d", "swarm retry modernise/d"]
    assert (found["landings"][0]["text"], found["landings"][0]["at"]) == ("f" * 9, NOW - 60)
    assert found["capacity"] | {"most": 4, "cpu": 41, "memory": 52} == found["capacity"]
    assert (found["runs"][0]["landed"], found["runs"][0]["total"]) == (1, 5)


def test_a_worker_that_tells_nothing_is_shown_by_its_last_line() -> None:
    """Only such a one is asked for its output; what an agent says of itself is better."""
    talks = a_task("t", "running", attempts=[an_attempt(doing="thinks")])
    document = a_document(a_run(a_task("s", "running", attempts=[an_attempt()]), talks))
    assert list(picture.silent(document)) == [("modernise", "s", 1)]
    found = shown(document, words={("modernise", "s"): "step 3 of 5"})
    assert [row["text"] for row in found["workers"]] == ["step 3 of 5", "thinks"]


def test_without_a_daemon_the_next_step_begins_with_one() -> None:
    """What can be typed is told as it works: the daemon is started first; no figures of the machine are made up."""
    document = a_document(a_run(a_task("d", "failed")), daemon={"running": False})
    found = shown(document)
    assert found["daemon"]["state"] == "none"
    assert "swarm start" in found["daemon"]["text"]
    assert found["failures"][0]["type"][1] == "swarm start && swarm retry modernise/d"
    assert found["capacity"] is None


def test_what_is_held_is_told_as_in_the_terminal() -> None:
    """The page has the words of `swarm status`: what is held waits, though no slot is wanted."""
    held = [{"agent": "claude", "code": "rate_limit", "text": "claude is held until 12:00"}]
    capacity = {"workers_max": 4, "running": 0, "reason": "nothing waits", "held": held}
    found = shown(a_document(capacity=capacity))
    assert found["capacity"]["text"] == "nothing waits but for what is held"
    assert found["notes"] == ["held: claude is held until 12:00"]


def test_a_finish_under_way_is_told_and_not_asked_for_again() -> None:
    """Of one that goes on the page says so, the same at any time, and does not say to type it."""
    under_way = {"state": "under_way", "into": "main", "asked_at": "2026-11-21T03:59:00Z"}
    landed = a_task("a", "landed", landed_commit="f" * 40)
    document = a_document(a_run(landed, state="ended", finishing=under_way))
    one, later = (picture.repository(document, "/r", now=NOW + s)["runs"][0] for s in (0, 100))
    assert one["lines"][-1].startswith("a finish into main is under way: ")
    assert one["type"] == ""
    assert one == later


def test_a_picture_in_which_nothing_happened_is_the_same() -> None:
    """Time that goes by is the page's to count: nobody is told of it."""
    document = a_document(a_run(a_task("a", "running", attempts=[an_attempt()])))
    assert picture.repository(document, "/r", now=NOW) == picture.repository(document, "/r", now=NOW + 100)


def test_rows_are_bounded_and_the_rest_is_counted() -> None:
    """Of a thousand tasks a page has a few dozen rows of each kind, and says how many there are."""
    tasks = [a_task(f"t{n}", state) for n in range(1000) for state in ("ready", "failed")]
    found = shown(a_document(a_run(*tasks)))
    for name in ("waiting", "failures"):
        assert (len(found[name]), found["more"][name]) == (picture.ROWS_MAX, 1000 - picture.ROWS_MAX)
    assert len(json.dumps(found)) < 60_000
    listed = picture.tasks(a_document(a_run(*tasks)), "T99", "ready")
    assert listed["number"] == len(listed["tasks"]) == 11


def test_what_failed_is_not_what_that_blocked() -> None:
    """A tab has a number for each of the two words, of all runs that are not finished, also where a summary lists few of them."""
    counts = {"failed": 5, "blocked": 76, "landed": 2}
    runs = [a_run(a_task("f", "failed")), {**a_run(), "id": "b", "counts": counts}]
    over = {**a_run(a_task("g", "failed")), "id": "c", "state": "finished"}
    assert shown(a_document(*runs, over))["bad"] == [["failed", 6], ["blocked", 76]]
    assert shown(a_document(a_run(a_task("l", "landed"))))["bad"] == []


def test_hostile_text_is_text() -> None:
    """Escapes of terminals and marks that turn the writing around are shown as what they are; markup is left to be text."""
    evil = f"<script>{EVIL}</script>"
    run = a_run(
        a_task(evil, "failed", title=evil, reason={"code": evil, "text": evil}), id=evil, problems=[evil]
    )
    found = shown(a_document(run))
    row = found["failures"][0]
    for text in (
        row["name"],
        row["title"],
        row["text"],
        *row["type"],
        found["runs"][0]["id"],
        found["runs"][0]["problems"][0],
    ):
        assert not set(text) & set("\x1b\x07\r\n\u202e\x9b")
        assert "\\x1b" in text
    assert (row["run"], row["task"]) == (evil, evil), "asked for by the name that it really has"


def test_an_event_is_one_event() -> None:
    """Whatever stands in it: a newline in a title must not begin a line of its own in the stream."""
    assert (
        message({"title": "a\n\ndata: b\r\u2028"}, name="m-3")
        == b'id: m-3\ndata: {"title":"a\\n\\ndata: b\\r\\u2028"}\n\n'
    )
    assert message({}) == b"data: {}\n\n"


# --- the files of the page ---


def test_the_page_has_no_script_nor_style_in_it() -> None:
    """The policy that it is served under would refuse them; and all that it loads is a file of ours."""
    page = (STATIC / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"\s(style|on\w+)=|javascript:|<style|<script(?![^>]* src=)", page)
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert loaded
    assert all((STATIC / path.removeprefix("/")).is_file() for path in loaded)


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_no_markup_is_made_of_strings(path: Path) -> None:
    """So nothing that others wrote can become a part of the page, and nothing is fetched from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(|srcdoc|https?:",
        text,
    )


def test_every_element_that_a_script_asks_for_is_there() -> None:
    """By its id; a name that is misspelt would be found only by whoever opens that part of the page."""
    page = set(re.findall(r'id="([^"]+)"', (STATIC / "page.html").read_text(encoding="utf-8")))
    asked = {
        name
        for path in STATIC.glob("*.js")
        for name in re.findall(r'byId\("([^"]+)"\)', path.read_text("utf-8"))
    }
    assert asked
    assert asked <= page
