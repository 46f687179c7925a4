"""Who is let in at the page: a browser of this machine that was given the token.

Every user of a machine can connect to its loopback, and so can every page that the browser shows. So each request needs the token,
which is in the address that is printed and from then on in a cookie that no script can read; its Host must be ours, or a name
of somebody else's that leads here would do (DNS rebinding); and what changes something, or comes from another page, its Origin.

Rules for editing: what is refused is refused before anything is looked at. The token is written nowhere, and compared in constant
time. Nothing may be loaded but from here, and no script stands in the page.
"""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = "/"
_ALWAYS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _ALWAYS.items()]
_NO_MORE = {"Connection": "close"}  # who is refused keeps no place


class Door:
    """An application behind the token, on one port of the loopback."""

    def __init__(self, inside: ASGIApp, token: str, port: int) -> None:
        self._inside = inside
        self._token = token
        self._cookie = f"swarm-{port}"  # a browser sends the cookies of one port to all others
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered inside."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        brought = request.query_params.get("token") if request.url.path == PAGE else None
        why = self._refused(request, brought)
        given = [] if why or brought is None else [(b"set-cookie", self._kept().encode())]

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *given]
            await send(message)

        inside = PlainTextResponse(f"{why}\n", 403, _NO_MORE) if why else self._inside
        await inside(scope, receive, told)

    def _refused(self, request: Request, brought: str | None) -> str:
        """Says why a request is not let in; empty where it is."""
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "This is answered only under the address that swarm web printed."
        if request.method not in ("GET", "HEAD") and not origins:
            return "Who asks for a change must say from where: the Origin is missing."
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return "Another page asked for this, and is not answered."
        if not any(self._is_token(each) for each in (brought, request.cookies.get(self._cookie))):
            return (
                "The token is missing, or is not the one of this swarm web. Open the address that it printed."
            )
        return ""

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _kept(self) -> str:
        return f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
