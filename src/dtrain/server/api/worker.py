"""What workers call: enrolment, polls, and reports about attempts."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Literal, cast

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.errors import Forbidden, Invalid
from dtrain.protocol.messages import BundleContents, Count, Sha256
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import (
    AnswerOutcome,
    Finish,
    FinishAnswer,
    Generation,
    GenerationAnswer,
    KeptGenerations,
    Leave,
    LogAnswer,
    OfferAnswer,
    OfferReply,
    PhaseReport,
    Poll,
    PollAnswer,
    Register,
    Registered,
)
from dtrain.server import consent, sessions
from dtrain.server.auth import known_worker, services, worker_id
from dtrain.server.jobs import checkpoints as kept_checkpoints
from dtrain.server.jobs import finish as finishing
from dtrain.server.jobs import report
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.store.logs import MAX_CHUNK

from .download import download
from .endpoint import BYTES, ZIP, Endpoints, reply
from .headers import DOWNLOAD_ASKS, DOWNLOAD_GIVES
from .health import LOG_BYTES
from .held import held
from .reading import Query

api = Endpoints(
    "worker",
    "The worker protocol",
    "What agents call, with their own credential; people need none of it.",
)
_SECRET = routes.SECRET_HEADER
_STALE = (409, 410)
"""The attempt does not count any more, or is none."""


class LogQuery(Query, frozen=True, kw_only=True):
    """Where log bytes belong."""

    offset: Count
    """Where the first byte belongs, in the attempt's log."""
    phase: Literal["executing"] | None = None
    """The phase that the attempt has come to since the server last heard of it."""


class ArtifactQuery(Query, frozen=True, kw_only=True):
    """What a file must turn out to be."""

    sha256: Sha256
    """Of its content."""


@api(
    "POST",
    routes.REGISTER,
    summary="Register",
    message=Register,
    answer=Registered,
    errors=(426, 507),
)
def register(message: Register) -> Registered:
    """Enrol a worker, or begin another session of one."""
    return sessions.register(services(), message, credential_of=known_worker())


@api(
    "POST",
    routes.POLL,
    summary="Report, and ask for work",
    message=Poll,
    answer=PollAnswer,
    errors=(409, 507),
)
def poll(message: Poll) -> PollAnswer:
    """Held until there is something to say, unless too many are held already."""
    gate = held().polls
    if not gate.enter():
        return sessions.poll(services(), worker_id(), msgspec.structs.replace(message, wait=0.0))
    try:
        return sessions.poll(services(), worker_id(), message)
    finally:
        gate.leave()


@api("POST", routes.LEAVE, summary="Leave", message=Leave, status=204, errors=(409, 507))
def leave(message: Leave) -> None:
    """The agent ends."""
    sessions.leave(services(), worker_id(), message)


@api(
    "POST",
    routes.OFFER,
    summary="Answer an offer",
    message=OfferReply,
    answer=OfferAnswer,
    errors=(409, 507),
)
def answer_offer(job_id: int, message: OfferReply) -> OfferAnswer:
    """A yes is the claim."""
    return sessions.answer_offer(services(), worker_id(), job_id, message)


@api(
    "GET",
    routes.OFFER_FILES,
    summary="List what an offered job holds",
    answer=BundleContents,
    errors=(409,),
)
def offer_files(job_id: int) -> BundleContents:
    """The files of the bundle, for the owner to look at."""
    return consent.files(services(), worker_id(), job_id)


@api(
    "POST",
    routes.PAGE_ANSWER,
    summary="Settle an answer from the worker's page",
    message=AnswerOutcome,
    status=204,
    errors=(409, 507),
)
def settle_answer(answer_id: str, message: AnswerOutcome) -> None:
    """The worker says whether it was its owner, and what it did."""
    consent.settle(services(), worker_id(), answer_id, message)


@api(
    "GET",
    routes.ATTEMPT_BUNDLE,
    summary="Fetch the bundle",
    answer=ZIP,
    also=(206, 304),
    errors=(*_STALE, 416),
    asks=(_SECRET, *DOWNLOAD_ASKS),
    gives=DOWNLOAD_GIVES,
)
def bundle(job_id: int, attempt: int) -> Response:
    """The ZIP to run, whole or a range of it."""
    found, file = report.bundle(services(), _attempt(job_id, attempt))
    return download(file, f"job-{job_id}.zip", found.sha256, ZIP)


@api(
    "POST",
    routes.ATTEMPT_PHASE,
    summary="Report a phase",
    message=PhaseReport,
    status=204,
    errors=(*_STALE, 507),
    asks=(_SECRET,),
)
def phase(job_id: int, attempt: int, message: PhaseReport) -> None:
    """The attempt goes on."""
    report.phase(services(), _attempt(job_id, attempt), message)


@api(
    "POST",
    routes.ATTEMPT_LOG,
    summary="Append to the log",
    body=BYTES,
    query=LogQuery,
    answer=LogAnswer,
    errors=(*_STALE, 416, 507),
    asks=(_SECRET, "Content-Encoding"),
)
def append_log(job_id: int, attempt: int, query: LogQuery) -> LogAnswer:
    """Bytes as they are, or deflated with `Content-Encoding: deflate`."""
    data = _log_bytes()
    phase = query.phase and Phase(query.phase)
    answer = report.append_log(services(), _attempt(job_id, attempt), query.offset, data, phase)
    LOG_BYTES.inc(len(data))
    return answer


@api(
    "PUT",
    routes.ATTEMPT_ARTIFACT,
    summary="Store an artifact",
    body=BYTES,
    query=ArtifactQuery,
    status=204,
    errors=(*_STALE, 507),
    asks=(_SECRET,),
)
def put_artifact(job_id: int, attempt: int, path: str, query: ArtifactQuery) -> None:
    """Take the bytes as they come."""
    request.max_content_length = services().settings.max_artifact_bytes
    upload = cast(BinaryIO, request.stream)
    report.put_artifact(services(), _attempt(job_id, attempt), path, query.sha256, upload)


@api(
    "GET",
    routes.ATTEMPT_CHECKPOINTS,
    summary="List what to go on from",
    answer=KeptGenerations,
    errors=_STALE,
    asks=(_SECRET,),
)
def checkpoints(job_id: int, attempt: int) -> KeptGenerations:
    """The generations of the job that are kept, the newest first."""
    return kept_checkpoints.kept(services(), _attempt(job_id, attempt))


@api(
    "POST",
    routes.ATTEMPT_CHECKPOINTS,
    summary="Keep a generation",
    message=Generation,
    answer=GenerationAnswer,
    errors=(*_STALE, 413, 507),
    asks=(_SECRET,),
)
def keep_checkpoint(job_id: int, attempt: int, message: Generation) -> GenerationAnswer:
    """Kept as a whole once nothing is missing; until then the answer says what is."""
    return kept_checkpoints.keep(services(), _attempt(job_id, attempt), message)


@api(
    "PUT",
    routes.ATTEMPT_CHECKPOINT_CONTENT,
    summary="Send a content of a generation",
    body=BYTES,
    status=204,
    errors=(*_STALE, 507),
    asks=(_SECRET,),
)
def put_checkpoint_content(job_id: int, attempt: int, sha256: str) -> None:
    """Take the bytes as they come."""
    request.max_content_length = services().settings.max_checkpoint_bytes
    upload = cast(BinaryIO, request.stream)
    kept_checkpoints.put_content(services(), _attempt(job_id, attempt), sha256, upload)


@api(
    "GET",
    routes.ATTEMPT_CHECKPOINT_CONTENT,
    summary="Fetch a content of a generation",
    answer=BYTES,
    also=(206, 304),
    errors=(*_STALE, 416),
    asks=(_SECRET, *DOWNLOAD_ASKS),
    gives=DOWNLOAD_GIVES,
)
def checkpoint_content(job_id: int, attempt: int, sha256: str) -> Response:
    """The bytes, whole or a range of them."""
    file = kept_checkpoints.content(services(), _attempt(job_id, attempt), sha256)
    return download(file, sha256, sha256)


@api(
    "POST",
    routes.ATTEMPT_FINISH,
    summary="Report the end",
    message=Finish,
    answer=FinishAnswer,
    also=(202,),
    errors=(*_STALE, 507),
    asks=(_SECRET,),
)
def finish(job_id: int, attempt: int, message: Finish) -> Response:
    """200 once the end is applied, 202 while bytes of it are missing."""
    answer = finishing.finish(services(), _attempt(job_id, attempt), message)
    LOG_BYTES.inc(len(message.log_tail))
    return reply(answer, 200 if answer.applied else 202)


def _attempt(job_id: int, attempt: int) -> AttemptRef:
    secret = request.headers.get(routes.SECRET_HEADER)
    if not secret:
        raise Forbidden(
            f"A request about an attempt carries its secret in the header {routes.SECRET_HEADER}.",
            code="no_secret",
        )
    return AttemptRef(worker_id(), job_id, attempt, secret)


def _log_bytes() -> bytes:
    """The body, unpacked; never more than one chunk of it is held.

    Raises:
        Invalid: it is too long, or not what its header says.
    """
    body = request.get_data(cache=False)
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding == "deflate":
        body = _inflated(body)
    elif encoding != "identity":
        raise Invalid("Log bytes come as they are or deflated.", code="encoding", status=415)
    if len(body) > MAX_CHUNK:
        raise Invalid(
            f"Send at most {MAX_CHUNK} bytes of log at once.", code="too_large", status=413
        )
    return body


def _inflated(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(body, MAX_CHUNK + 1)
    except zlib.error:
        data = None
    if data is not None and len(data) > MAX_CHUNK:
        return data
    if data is None or not unpacker.eof or unpacker.unused_data:
        raise Invalid("The body is not whole in zlib's format.", code="not_deflate", status=400)
    return data
