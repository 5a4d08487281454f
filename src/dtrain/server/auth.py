"""Who may do what: every request is refused unless something here lets it in.

open        only this machine reaches the server, and the caller is on it
token       the access token, in the header Authorization
session     the access token, shown on the login page and remembered in a signed cookie
worker      a worker's own credential, for the addresses of workers alone
enrolling   the shared token, for a worker that registers
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, cast
from urllib.parse import unquote, urlencode

from flask import Flask, Request, current_app, g, redirect, render_template, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.wrappers import Response

from dtrain.protocol import routes
from dtrain.protocol.errors import Forbidden, Invalid, Unauthorized

from .origin import Names, before_proxies, check_host, check_origin, is_local
from .services import Services
from .settings import ACCESS_TOKEN, WORKER_TOKEN
from .tries import Tries

PUBLIC = frozenset({"healthz", "static", "login"})
"""The endpoints that anyone may call who can reach the server."""
LOGIN_TRIES = 5
"""Wrong tokens that an address may show within a minute on the login page."""
HEADER_TRIES = 60
"""Wrong tokens that it may show in headers, where the right one is short enough to be guessed."""
LONG = 32
"""Characters of a token that need not be protected from guessing; those made here have 43."""
_LONGEST_NAME = 200
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_FORMS = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
_WORKER_ROUTES = "/api/worker/"
_EXTENSION = "dtrain"
_TRIES = "dtrain.tries"


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


def submitter() -> str | None:
    """Who says to call, by their own word: in a header, else on the login page; None if nobody.

    Raises:
        Invalid: what is said is no name.
    """
    said = unquote(request.headers.get(routes.SUBMITTER_HEADER, "")).strip()
    if not _is_name(said):
        raise Invalid(
            f"The header {routes.SUBMITTER_HEADER} is not acceptable: it holds a name of at most"
            f" {_LONGEST_NAME} printable characters.",
            field=routes.SUBMITTER_HEADER,
        )
    return said or session_name()


def session_name() -> str | None:
    """How the person of the present session calls themselves, if they said so."""
    return str(session.get("name", "")) or None if _in_session() else None


def csrf_token() -> str:
    """What a form must carry as `csrf_token`; empty where the caller has no session."""
    return str(session["csrf"]) if _in_session() else ""


def admission() -> Callable[[], bool]:
    """Tells, also when the present request is over, whether what let it in still holds."""
    token, tokens = g.get("shown_token"), services().tokens
    return lambda: token is None or token in tokens.holding(ACCESS_TOKEN)


class _Sessions(SecureCookieSessionInterface):
    """Sessions in a cookie, which goes by TLS alone and to this host alone where there is TLS."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Without the cookie, as programs come, nothing is made ready to read one."""
        if self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def get_cookie_name(self, app: Flask) -> str:
        """Cookies do not tell ports apart, hence the port; browsers heed the prefix."""
        name = f"dtrain_{services().settings.port}"
        return f"__Host-{name}" if self.get_cookie_secure(app) else name

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002  Flask's own form
        """Whether browsers come by TLS, to us or to a proxy."""
        return request.is_secure or (services().settings.public_url or "").startswith("https:")


def install(app: Flask, parts: Services) -> None:
    """Put every request to the application under these rules."""
    settings = parts.settings
    app.extensions[_EXTENSION] = parts
    app.extensions[_TRIES] = Tries(HEADER_TRIES)
    app.session_interface = _Sessions()
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
    )
    names = Names.of(settings)
    tries = Tries(LOGIN_TRIES)

    def admit() -> Response | None:
        check_host(request.headers.get, names)
        if request.method in _UNSAFE:
            check_origin(request.headers.get, settings.public_url)
        return _admit()

    inner = app.wsgi_app

    def before(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ.update(before_proxies(environ, settings.trusted_proxies))
        return inner(environ, start_response)

    app.wsgi_app = before  # type: ignore[method-assign]  # Flask's own way
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
            " `dtrain token show` prints it on the server's machine."
        )
    return None


def _may_enter() -> bool:
    """Whether a caller who is no worker may go on.

    Raises:
        Forbidden: a session would change something without its CSRF token.
        Unavailable: the caller has shown too many wrong tokens.
    """
    shown = _bearer()
    if shown is not None and request.endpoint not in PUBLIC and _holds(ACCESS_TOKEN, shown):
        g.shown_token = shown
        return True
    token = _session_token()
    if token is not None:
        _check_csrf()
        g.shown_token = token
        return True
    return _is_open() or request.endpoint in PUBLIC


def _is_open() -> bool:
    """Whether the caller needs no token."""
    protocol = request.environ.get("SERVER_PROTOCOL")
    return services().settings.open and is_local(request.headers.get, protocol)


def _is_for_a_page() -> bool:
    """Whether a person asks for a page with a browser, which says outright that it wants HTML."""
    is_page = request.path == routes.DOCS or not request.path.startswith("/api/")
    reads = request.method in {"GET", "HEAD"} and is_page
    return reads and "text/html" in request.accept_mimetypes.values()


def _bearer() -> str | None:
    authorization = request.authorization
    if authorization is None or authorization.type != "bearer":
        return None
    return authorization.token or None


def _holds(name: str, shown: str) -> bool:
    """Whether what a header shows is one of the tokens of a name that hold.

    Raises:
        Unavailable: the right one could be guessed, and too many wrong ones came from the address.
    """
    holding = services().tokens.holding(name)
    tries, address = cast(Tries, current_app.extensions[_TRIES]), request.remote_addr or ""
    guessable = any(len(token) < LONG for token in holding)
    if guessable:
        tries.check(address)
    found = any(_same(shown, token) for token in holding)
    if guessable and not found:
        tries.note(address)
    return found


def _same(one: str, other: str) -> bool:
    """Compare secrets in a time that tells nothing, not even their length."""
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (one, other)]
    return hmac.compare_digest(*digests)


def _worker(rule: str) -> str | None:
    """The worker that calls; None if it is about to be enrolled by the shared token."""
    token = _bearer()
    if token is None:
        raise _wrong_worker_token()
    registers = rule == routes.REGISTER
    found = services().credentials.worker_of(token, is_asked=registers)
    enrols = found is None and registers and _holds(WORKER_TOKEN, token)
    if found is None and not enrols:
        raise _wrong_worker_token()
    return found


def _wrong_worker_token() -> Unauthorized:
    return Unauthorized(
        "The server does not accept this worker's token; set token in the worker's config.json"
        " (or DTRAIN_WORKER_TOKEN) to the server's WORKER_SHARED_TOKEN, which it prints at its"
        " start, as does `dtrain token show` there.",
        code="wrong_worker_token",
    )


def _in_session() -> bool:
    return _session_token() is not None


def _session_token() -> str | None:
    """The access token with which the caller's session was opened, as long as it holds."""
    mark = session.get("access")
    if mark is None:
        return None
    return next((t for t in services().tokens.holding(ACCESS_TOKEN) if _mark(t) == mark), None)


def _mark(token: str) -> str:
    """What ties a session to its token: whoever guesses SECRET_KEY still cannot forge one."""
    key = services().settings.secret_key.encode()
    return hmac.digest(key, f"session {token}".encode(), "sha256").hex()


def _check_csrf() -> None:
    if request.method not in _UNSAFE:
        return
    shown = request.headers.get("X-CSRF-Token")
    if shown is None and request.mimetype in _FORMS:
        shown = request.form.get("csrf_token")
    if shown is None or not _same(shown, csrf_token()):
        raise Forbidden("The form is out of date; reload the page and send it again.", code="csrf")


def _login(tries: Tries) -> Response | str | tuple[str, int]:
    """The one page for people who have no session yet."""
    target = _local_target(request.values.get("next", "/"))
    if _is_open() or _in_session():
        return redirect(target, 303)
    if request.method != "POST":
        return _login_page(target)
    address = request.remote_addr or ""
    tries.check(address)
    token, name = request.form.get("token", "").strip(), request.form.get("name", "").strip()
    if not any(_same(token, holding) for holding in services().tokens.holding(ACCESS_TOKEN)):
        tries.note(address)
        return _login_page(target, field="token"), 401
    if not _is_name(name):
        return _login_page(target, field="name"), 422
    session.clear()
    session.permanent = True
    session.update(access=_mark(token), csrf=secrets.token_urlsafe(32), name=name)
    return redirect(target, 303)


def _login_page(target: str, field: str | None = None) -> str:
    """The page, with a complaint about a field if there is one."""
    name = request.form.get("name", "") if field == "token" else ""
    return render_template("login.html", next=target, name=name, field=field, longest=_LONGEST_NAME)


def _logout() -> Response:
    session.clear()
    return redirect("/login", 303)


def _is_name(text: str) -> bool:
    """Whether a text can be how someone calls themselves; an empty one says nothing."""
    return text.isprintable() and len(text) <= _LONGEST_NAME


def _local_target(target: str) -> str:
    """Where to go after the login: an address of this server, or its first page."""
    local = target.startswith("/") and not target.startswith("//")
    return target if local and "\\" not in target and target.isprintable() else "/"
