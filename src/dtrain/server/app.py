"""The server put together: settings → database → streams → use cases → API and pages."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import dtrain_ui
from flask import Flask, render_template, request
from flask import Request as FlaskRequest
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Response

from dtrain.protocol.errors import DTrainError, Invalid
from dtrain.protocol.resources import Request

from . import api, auth, pages
from . import serve as serving
from .api import problems
from .api.number import NumberConverter
from .background import Background
from .blobs import BlobStore
from .consent import CODE_TRIES
from .credentials import Credentials
from .events import EventStream
from .housekeeping import Housekeeping
from .jobs.followed import FollowedJobs
from .mailboxes import Mailboxes
from .polls import HeldPolls
from .services import Clock, Services, SharedClock
from .settings import MEGABYTE, Settings
from .store import jobs as stored_jobs
from .store.database import Database
from .store.migrate import upgrade
from .tries import Tries

_SMALL_BODY = 2 * MEGABYTE
"""Bytes of a request that brings no file: messages of workers, log bytes."""
_SMALL_FILE = MEGABYTE // 4
"""Bytes of an upload at most that is held in memory, which of each form only the first can be."""
_FORM_MEMORY = MEGABYTE
"""Bytes of all the fields of a form that are no file."""
_FORM_PARTS = 1000
_SETTLED = 1.0
"""Seconds after which what would only slow the start is done."""
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send forms with Origin: null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger(__name__)


def serve(home: Path) -> int:
    """Serve the home folder until a signal ends it; the exit status."""
    return serving.run(home, build)


def build(settings: Settings) -> serving.Served:
    """The application with everything that works beside it, started."""
    services = compose(settings)
    services.events.start()
    background, housekeeping = Background(services), Housekeeping(services)
    background.start()
    housekeeping.start()
    app = create_app(services)
    compiling = threading.Timer(_SETTLED, pages.compile_templates, [app])
    compiling.daemon = True
    compiling.start()
    if dtrain_ui.is_stale():
        _log.warning(
            "The styles and scripts of the pages are missing, or older than their sources; build"
            " them with: pip install -e ../frontend"
        )

    def stop() -> None:
        services.stop.set()
        services.mailboxes.wake_all()

    def close() -> None:
        background.stop()
        housekeeping.stop()
        services.events.stop()
        services.database.close()

    return serving.Served(app, stop, close)


def compose(settings: Settings) -> Services:
    """The parts of a server; its database is brought up to date.

    Raises:
        DTrainError: the database or a folder cannot be used.
    """
    for folder in (settings.upload_folder, settings.job_bundles_folder, settings.data):
        _make(folder)
    if settings.database_file is not None:
        _make(settings.database_file.parent)
    stop = threading.Event()
    mailboxes = Mailboxes()
    database = Database(settings.database_url)
    upgrade(database)
    database.on_notice(mailboxes.wake)

    def request_by_key(key: str) -> Request | None:
        with database.read() as connection:
            return stored_jobs.request(connection, key)

    return Services(
        settings=settings,
        tokens=settings.tokens(),
        database=database,
        bundles=BlobStore(settings.job_bundles_folder),
        blobs=BlobStore(settings.upload_folder),
        credentials=Credentials(database, mailboxes),
        events=EventStream(database, mailboxes, stop),
        followed=FollowedJobs(mailboxes),
        mailboxes=mailboxes,
        polls=HeldPolls(mailboxes, request_by_key),
        code_tries=Tries(CODE_TRIES, "codes"),
        clock=Clock() if database.is_sqlite else SharedClock(database.time),
        stop=stop,
    )


def create_app(services: Services) -> Flask:
    """The WSGI application over the parts of a server; starts nothing."""
    app = Flask(
        "dtrain.server", static_folder=str(dtrain_ui.static_folder()), static_url_path="/static"
    )
    app.request_class = _request_class(services.settings)
    app.url_map.merge_slashes = False
    app.url_map.converters["number"] = NumberConverter
    app.config.update(
        MAX_FORM_MEMORY_SIZE=_FORM_MEMORY,
        MAX_FORM_PARTS=_FORM_PARTS,
    )
    auth.install(app, services)
    api.register(app, services)
    pages.register(app)
    app.register_error_handler(DTrainError, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_mistake)
    app.after_request(_secured)
    if services.settings.debug:
        app.after_request(_logged)
    app.wsgi_app = _checking_length(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way
    return app


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(
            f"The folder {folder} cannot be made ({(error.strerror or str(error)).lower()}); make"
            " it, or name another one in the settings."
        ) from error


class _Form(FormDataParser):
    """A parser that complains of a broken form instead of taking it for an empty one."""

    def parse(self, *arguments: Any, **options: Any) -> Any:
        """The fields and files of a form."""
        self.silent = False
        try:
            return super().parse(*arguments, **options)
        except ValueError as error:
            raise Invalid(
                "The form in the request's body is damaged; send it again.",
                code="bad_form",
                status=400,
            ) from error


def _request_class(settings: Settings) -> type[FlaskRequest]:
    """A request that takes what the settings allow, and keeps uploads on the bundles' disk."""

    class BoundedRequest(FlaskRequest):
        form_data_parser_class = _Form

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._uploads = ExitStack()
            self._has_upload = False
            form = self.mimetype == "multipart/form-data"
            self.max_content_length = (
                settings.max_upload_bytes + _SMALL_BODY if form else _SMALL_BODY
            )

        def _get_file_stream(self, *_arguments: Any, **_options: Any) -> IO[bytes]:
            folder = str(settings.job_bundles_folder)
            in_memory = 1 if self._has_upload else _SMALL_FILE
            self._has_upload = True
            return self._uploads.enter_context(
                tempfile.SpooledTemporaryFile(in_memory, mode="w+b", dir=folder)
            )

        def close(self) -> None:
            """Let go of the uploads, also of those in a form that was broken off."""
            super().close()
            self._uploads.close()

    return BoundedRequest


def _checking_length(application: Callable[..., Any]) -> Callable[..., Any]:
    """Have a body that ends before its Content-Length noticed.

    Granian gives a broken-off body an ordinary end, and says that it looks after the end itself.
    """

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH"):
            environ.pop("wsgi.input_terminated", None)
        return cast("Iterable[bytes]", application(environ, start_response))

    return checked


def _answer(error: DTrainError) -> Response:
    """An error as a problem document under `/api`, as a page elsewhere."""
    if error.status >= 500:
        _log.warning("%s %s: %s", request.method, ascii(request.path), error.detail)
    if request.path == "/api" or request.path.startswith("/api/"):
        response: Response = problems.problem(error)
    else:
        page = render_template(
            "error.html",
            status=error.status,
            title=problems.title(error.status),
            detail=error.detail,
        )
        response = Response(page, error.status, mimetype="text/html")
    response.headers.update(problems.headers(error))
    return response


def _answer_http(error: HTTPException) -> Response:
    if error.response is not None or (error.code or 500) < 400:
        return error.get_response()
    response = _answer(problems.from_http(error))
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers.setdefault(name, value)
    return response


def _answer_mistake(error: Exception) -> Response:
    _log.error("%s %s failed.", request.method, ascii(request.path), exc_info=error)
    return _answer(DTrainError("The server could not do this; its log says why."))


def _secured(response: Response) -> Response:
    """What keeps browsers from being misled; workers, which have no use for it, go without."""
    if auth.known_worker() is not None:
        return response
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _logged(response: Response) -> Response:
    path = ascii(request.path)[1:-1]
    _log.debug("%s %s %s %d", request.remote_addr, request.method, path, response.status_code)
    return response
