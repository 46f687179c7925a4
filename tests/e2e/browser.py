"""A real browser for the tests: Chromium without a window, steered through its DevTools protocol over a pair of pipes.

Rules for editing: nothing outside the standard library; everything waits for a condition. Where no Chromium is installed
`chromium()` gives None, and tests are skipped by name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from tests.conftest import wait_until

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it does not start as root with one, and shows no pages but ours
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE_S = 120.0
# The browser listens and speaks on these two descriptors, whatever ours are.
_ON_3_AND_4 = """
import fcntl, os, sys
high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str | None:
    """Finds Chromium, or gives None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page in a browser of its own; `errors` is what its console complained of."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._back = process, to, back
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Has the browser do something and gives its answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = monotonic() + PATIENCE_S
        while monotonic() < end:
            heard = self._heard(end)
            if heard.get("id") == number:
                assert "error" not in heard, heard
                return heard["result"]
            self._note(heard)
        raise AssertionError(f"the browser did not answer to {method}")

    def _heard(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready = select.select([self._back], [], [], max(0.0, end - monotonic()))[0]
            part = os.read(self._back, 1 << 16) if ready else b""
            assert part, "the browser has ended, or says nothing"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard

    def _note(self, heard: dict[str, Any]) -> None:
        params = heard.get("params", {})
        if heard.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif heard.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    # --- what a person does

    def go(self, address: str) -> None:
        """Opens an address."""
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """Gives the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until an expression is true in the page."""
        wait_until(lambda: self.value(f"Boolean({expression})"), at_most_s=PATIENCE_S)

    def click(self, selector: str) -> None:
        """Clicks on an element, once it is there."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(found)
        self.value(f"{found}.click()")

    def text(self, selector: str) -> str:
        """Gives what an element says."""
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """Starts a browser whose files are all in `folder`, and ends it."""
    its_in, to = os.pipe()
    back, its_out = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _ON_3_AND_4,
            str(its_in),
            str(its_out),
            program,
            *FLAGS,
            f"--user-data-dir={folder / 'browser'}",
        ],
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(its_in, its_out),
        start_new_session=True,
    )
    os.close(its_in)
    os.close(its_out)
    try:
        page = Browser(process, to, back)
        yield page
        page._session = None
        page.call("Browser.close")
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        os.close(to)
        os.close(back)
