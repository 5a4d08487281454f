"""Who may do what: every request is refused unless something here lets it in.

open        the server is bound to loopback, and so is the caller
token       the access token, in the header Authorization
session     the access token, shown on the login page and remembered in a signed cookie
worker      a worker's own credential, for the addresses of workers alone
enrolling   the shared token, for a worker that registers
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from datetime import timedelta
from typing import cast
from urllib.parse import urlencode

from flask import Flask, current_app, g, redirect, render_template, request, session
from werkzeug.wrappers import Response

from dtrain.protocol import routes
from dtrain.protocol.errors import Forbidden, Unauthorized, Unavailable

from . import workers
from .origin import Names, check_host, check_origin, is_local
from .services import Services

PUBLIC = frozenset({"healthz", "static", "login"})
"""The endpoints that anyone may call who can reach the server."""
LOGIN_TRIES = 5
"""Wrong tokens that an address may show within a minute."""
_MINUTE = 60.0
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_FORMS = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
_WORKER_ROUTES = "/api/worker/"
_EXTENSION = "dtrain"


def services() -> Services:
    """The parts of the server that handles the present request."""
    return cast(Services, current_app.extensions[_EXTENSION])


def known_worker() -> str | None:
    """The worker whose own credential the present request shows, if it shows one."""
    return cast("str | None", g.get("worker_id"))


def worker_id() -> str:
    """The worker that calls.

    Raises:
        Unauthorized: the present request does not show a worker's own credential.
    """
    found = known_worker()
    if found is None:
        raise _wrong_worker_token()
    return found


def csrf_token() -> str:
    """What a form must carry as `csrf_token`; empty where the caller has no session."""
    return str(session.get("csrf", ""))


def install(app: Flask, parts: Services) -> None:
    """Put every request to the application under these rules."""
    settings = parts.settings
    app.extensions[_EXTENSION] = parts
    # Whoever guesses SECRET_KEY still cannot forge a session without the access token.
    key = hmac.digest(settings.secret_key.encode(), settings.access_token.encode(), "sha256")
    app.config.update(
        SECRET_KEY=key,
        SESSION_COOKIE_NAME=f"dtrain_{settings.port}",  # cookies do not tell ports apart
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
    )
    names = Names.of(settings)
    tries = _Tries()

    def admit() -> Response | None:
        check_host(request.headers.get, names)
        if request.method in _UNSAFE:
            check_origin(request.headers.get)
        return _admit()

    app.before_request(admit)
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.add_url_rule("/login", "login", lambda: _login(tries), methods=["GET", "POST"])
    app.add_url_rule("/logout", "logout", _logout, methods=["POST"])


def _admit() -> Response | None:
    """Let the caller in or raise; a response instead sends a browser to the login page."""
    rule = request.url_rule.rule if request.url_rule else ""
    if rule.startswith(_WORKER_ROUTES):
        g.worker_id = _worker(rule)
    elif not _may_enter():
        if _is_for_a_page():
            return redirect(f"/login?{urlencode({'next': request.full_path.rstrip('?')})}", 303)
        raise Unauthorized(
            "This server wants its access token, in the header Authorization: Bearer …;"
            " the server printed it when it started."
        )
    return None


def _may_enter() -> bool:
    """Whether a caller who is no worker may go on.

    Raises:
        Forbidden: a session would change something without its CSRF token.
    """
    settings = services().settings
    if _bears(settings.access_token):
        return True
    if _in_session():
        _check_csrf()
        return True
    return (settings.open and is_local(request.headers.get)) or request.endpoint in PUBLIC


def _is_for_a_page() -> bool:
    reads = request.method in {"GET", "HEAD"}
    return reads and request.accept_mimetypes.accept_html and not request.path.startswith("/api/")


def _bearer() -> str | None:
    authorization = request.authorization
    if authorization is None or authorization.type != "bearer":
        return None
    return authorization.token or None


def _bears(expected: str) -> bool:
    token = _bearer()
    return token is not None and _same(token, expected)


def _same(one: str, other: str) -> bool:
    """Compare secrets in a time that tells nothing, not even their length."""
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (one, other)]
    return hmac.compare_digest(*digests)


def _worker(rule: str) -> str | None:
    """The worker that calls; None if it is about to be enrolled by the shared token."""
    token = _bearer()
    if token is None:
        raise _wrong_worker_token()
    if rule == routes.REGISTER and _same(token, services().settings.worker_shared_token):
        return None
    found = workers.authenticate(services(), token)
    if found is None:
        raise _wrong_worker_token()
    return found


def _wrong_worker_token() -> Unauthorized:
    return Unauthorized(
        "The server does not accept this worker's token; set token in the worker's config.json"
        " (or DTRAIN_WORKER_TOKEN) to the server's WORKER_SHARED_TOKEN, which it prints at its"
        " start.",
        code="wrong_worker_token",
    )


def _in_session() -> bool:
    return session.get("access") == _mark()


def _mark() -> str:
    """What ties a session to the access token with which it was opened."""
    token = services().settings.access_token
    return hashlib.sha256(f"session {token}".encode()).hexdigest()


def _check_csrf() -> None:
    if request.method not in _UNSAFE:
        return
    shown = request.headers.get("X-CSRF-Token")
    if shown is None and request.mimetype in _FORMS:
        shown = request.form.get("csrf_token")
    if shown is None or not _same(shown, csrf_token()):
        raise Forbidden("The form is out of date; reload the page and send it again.", code="csrf")


class _Tries:
    """The wrong tokens of the last minute, by address."""

    def __init__(self) -> None:
        self._by_address: dict[str, deque[float]] = {}

    def wait(self, address: str) -> float:
        """Seconds until the address may try again."""
        now = time.monotonic()
        tries = self._by_address.get(address, deque())
        recent = [moment for moment in tries if moment > now - _MINUTE]
        return recent[0] + _MINUTE - now if len(recent) >= LOGIN_TRIES else 0.0

    def note(self, address: str) -> None:
        """A wrong token came from the address."""
        if len(self._by_address) >= 10_000:
            self._by_address.clear()
        self._by_address.setdefault(address, deque(maxlen=LOGIN_TRIES)).append(time.monotonic())


def _login(tries: _Tries) -> Response | str | tuple[str, int]:
    """The one page for people who have no session yet."""
    target = _local_target(request.values.get("next", "/"))
    if services().settings.open or _in_session():
        return redirect(target, 303)
    if request.method != "POST":
        return render_template("login.html", next=target, complaint=None)
    address = request.remote_addr or ""
    wait = tries.wait(address)
    if wait > 0:
        raise Unavailable(
            "Too many wrong tokens from this address; wait a minute and try again.",
            code="too_many_tries",
            status=429,
            retry_after=wait,
        )
    if not _same(request.form.get("token", "").strip(), services().settings.access_token):
        tries.note(address)
        complaint = "This is not the access token; the server printed it when it started."
        return render_template("login.html", next=target, complaint=complaint), 401
    session.clear()
    session.permanent = True
    session.update(access=_mark(), csrf=secrets.token_urlsafe(32))
    return redirect(target, 303)


def _logout() -> Response:
    session.clear()
    return redirect("/login", 303)


def _local_target(target: str) -> str:
    """Where to go after the login: an address of this server, or its first page."""
    local = target.startswith("/") and not target.startswith("//")
    return target if local and "\\" not in target and target.isprintable() else "/"
