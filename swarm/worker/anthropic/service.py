"""The Messages API: one request in, one whole answer out, or one of three things that can be wrong.

Hides the anthropic package, which alone is imported here and costs a second: streams, retries, and what its errors mean. The
package tries again by itself before an answer has begun; one that breaks off in its middle is asked for again here. What the API
wants waited for longer than `wait_s_max` is not sat out: `Later` says how long, so that the slot is free meanwhile.

Rules for editing: an answer without a stop reason was cut off, whatever it holds: its calls may be incomplete and are never used.
What the API says may hold anything; nothing of the package's own types leaves this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic

from swarm.worker.anthropic.conversation import Answer, Usage
from swarm.worker.anthropic.tools import Stop

LIMITED = frozenset({429, 529})
PASSING = frozenset({408, 409, 429})  # and all from 500 on: says nothing about the request
PASSING_KINDS = frozenset({"rate_limit_error", "overloaded_error", "api_error", "timeout_error"})
TOO_LARGE = 413
BACKOFF_S = 0.5
BACKOFF_MAX_S = 8.0
CONNECT_S = 10.0
UNREADABLE_CALL = (
    "tool parameter JSON"  # what the package says of a call that is no JSON in an answer that came to its end
)


class Later(Exception):
    """The API does not answer now. `after_s` is when it says that it will; `limited` tells a rate limit or overload from trouble on
    the way there."""

    def __init__(self, text: str, after_s: float | None = None, *, limited: bool = False) -> None:
        super().__init__(text)
        self.after_s = after_s
        self.limited = limited


class Refused(Exception):
    """The API, or what answers in its place, will never answer this."""


class TooLarge(Refused):
    """The request may be refused for its size alone."""


class _Broken(Exception):
    """An answer that did not come to its end, or is none."""

    def __init__(self, text: str, *, malformed: bool = False, limited: bool = False) -> None:
        super().__init__(text)
        self.malformed = malformed
        self.limited = limited


class Service:
    """Asks the API. `tell` is given a sentence whenever something has to be waited for."""

    def __init__(
        self,
        stop: Stop,
        tell: Callable[[str], None],
        *,
        retries_max: int,
        wait_s_max: float,
        silence_s: float,
    ) -> None:
        self._stop, self._tell = stop, tell
        self._retries_max, self._wait_s_max = retries_max, wait_s_max
        try:
            self._client = anthropic.Anthropic(
                max_retries=retries_max,
                timeout=anthropic.Timeout(silence_s, connect=CONNECT_S),
                middleware=[self._look_at],
            )
        except Exception as error:  # of the HTTP client's: an address that it can't read
            raise Refused(
                f"the API can't be asked: {error}: see ANTHROPIC_BASE_URL, and the proxies"
            ) from error
        self._check_address()

    def _check_address(self) -> None:
        """Raises `Refused` for an address at which nothing can ever answer."""
        address = self._client.base_url
        if address.scheme not in ("http", "https") or not address.host:
            found = str(address).rstrip("/")
            raise Refused(
                f"the API is asked at {found!r}, which is no http(s) address: see ANTHROPIC_BASE_URL"
            )

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Gives the answer to a request. Raises `Later`, `Refused`, `TooLarge`, and `Stopped` where the worker was asked to end."""
        for tried in range(self._retries_max + 1):
            with self._stop.waiting():
                try:
                    return self._answer(request)
                except _Broken as broken:
                    if tried == self._retries_max:
                        if broken.malformed:
                            raise Refused(str(broken)) from broken
                        raise Later(str(broken), limited=broken.limited) from broken
                    self._tell(f"{broken}; asking again")
                time.sleep(min(BACKOFF_S * 2**tried, BACKOFF_MAX_S))
        raise AssertionError("the last try raises")

    def _answer(self, request: Mapping[str, Any]) -> Answer:
        try:
            stream = self._client.messages.stream(**request).__enter__()
        except anthropic.APIStatusError as error:
            raise _meaning(error) from error
        except anthropic.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Later(f"the API can't be reached: {cause}") from error
        except (anthropic.AnthropicError, TypeError) as error:  # no key was found, or none that can be used
            raise Refused(str(error)) from error
        try:
            for _ in stream:
                pass
            message = stream.get_final_message()
        except anthropic.APIStatusError as error:  # its status is that of the stream, which began well
            if error.type in PASSING_KINDS:
                limited = error.type in ("rate_limit_error", "overloaded_error")
                raise _Broken(f"the answer broke off: {_said(error)}", limited=limited) from error
            raise Refused(_said(error)) from error
        except (ValueError, AssertionError, AttributeError, TypeError, LookupError, RuntimeError) as error:
            raise _Broken(_odd(error)[:500], malformed=True) from error
        except Exception as error:  # of the HTTP client's, which has no one class for them
            raise _Broken(f"the answer broke off: {type(error).__name__}: {error}") from error
        finally:
            stream.close()
        return _read(message)

    def _look_at(self, request: Any, call_next: Callable[[Any], Any]) -> Any:
        """Looks at every response, before the package waits and tries again by itself."""
        response = call_next(request)
        status = response.status_code
        if status in PASSING or status >= 500:
            after_s = wait_of(response.headers, time.time())
            said = f"the API answers {status}"
            if after_s is not None and after_s > self._wait_s_max:
                raise Later(
                    f"{said} and is to be asked again in {after_s:.0f} s", after_s, limited=status in LIMITED
                )
            self._tell(said)
        return response


def _meaning(error: anthropic.APIStatusError) -> Exception:
    status = error.status_code
    if status in PASSING or status >= 500:
        after_s = wait_of(error.response.headers, time.time())
        return Later(_said(error), after_s, limited=status in LIMITED)
    return TooLarge(_said(error)) if status in (400, TOO_LARGE) else Refused(_said(error))


def _odd(error: Exception) -> str:
    """Says what is wrong with an answer that the package can't read."""
    said = str(error)
    if UNREADABLE_CALL in said:
        return f"the model called a tool with what is no JSON: {said.partition('Error: ')[2] or said}"
    what = f"{type(error).__name__}: {said}" if said else "nothing of a message is in it"
    return f"what answers is no Messages API: {what}"


def _said(error: anthropic.APIStatusError) -> str:
    kind = f" ({error.type})" if error.type else ""
    return f"the API answers {error.status_code}{kind}: {error.api_message or error.message}"[:500]


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """Gives how many seconds the API wants waited: as it says outright, else until the last of the limits that are used up is
    reset; None where it does not say."""
    reads: tuple[tuple[str, Callable[[str], float]], ...] = (
        ("retry-after-ms", lambda text: float(text) / 1000),
        ("retry-after", float),
        ("retry-after", lambda text: parsedate_to_datetime(text).timestamp() - now),
    )
    for name, read in reads:
        try:
            return max(0.0, read(headers[name]))
        except (KeyError, ValueError):
            continue
    head, resets = "anthropic-ratelimit-", []
    for name, value in headers.items():
        what = name.lower().removeprefix(head).removesuffix("-reset")
        if name.lower() == f"{head}{what}-reset" and headers.get(f"{head}{what}-remaining", "0") == "0":
            try:
                resets.append(datetime.fromisoformat(value).timestamp() - now)
            except ValueError:
                continue
    return max(0.0, *resets) if resets else None


def _read(message: Any) -> Answer:
    """Takes the answer out of the package's object, which is not held against any schema."""
    if not isinstance(message.stop_reason, str):
        raise _Broken("the answer broke off before its end")
    try:
        content = [
            _block(block) for block in message.content if block.type != "text" or str(block.text).strip()
        ]
        usage = message.usage
        counts = (
            usage.input_tokens,
            usage.cache_creation_input_tokens,
            usage.cache_read_input_tokens,
            usage.output_tokens,
        )
        return Answer(content, message.stop_reason, Usage(*(int(count or 0) for count in counts)))
    except (AttributeError, TypeError, ValueError) as error:
        raise _Broken(f"what answers is no Messages API: {error}", malformed=True) from error


def _block(block: Any) -> dict[str, Any]:
    """Gives a block as the API takes it back, which is nowhere empty and has an object for an input."""
    if block.type == "text":
        return {"type": "text", "text": str(block.text)}
    if block.type == "tool_use":
        given = block.input if isinstance(block.input, dict) else {}
        return {"type": "tool_use", "id": str(block.id), "name": str(block.name), "input": given}
    found: dict[str, Any] = block.to_dict(mode="json")
    return {name: value for name, value in found.items() if value is not None}
