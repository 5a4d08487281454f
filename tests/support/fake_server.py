"""A small real server that stands in for DTrain's towards workers, and fails when it is told to.

It keeps in memory what a worker tells it, and it is strict: a log gap, a wrong secret or a second,
different finish is answered as the real one answers it.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from dtrain.protocol.consent import key_of, prove
from dtrain.protocol.messages import BundleContents, BundleEntry, BundleInfo, encode
from dtrain.protocol.spec import parse_spec
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import (
    AnswerOutcome,
    Assignment,
    Command,
    Finish,
    FinishAnswer,
    KeptGeneration,
    KeptGenerations,
    Leave,
    LogAnswer,
    Offer,
    OfferAnswer,
    OfferReply,
    PageAnswer,
    PhaseReport,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

from .processes import PATIENCE

TOKEN = "the-shared-token"

Fault = Callable[["Exchange"], bool]
"""Spoils a request; True if it has answered it."""


@dataclass
class Waiting:
    """A job that has not been claimed."""

    assignment: Assignment
    content: bytes


@dataclass
class Attempt:
    """What the worker has told about an attempt."""

    assignment: Assignment
    content: bytes
    secret: str
    log: bytearray = field(default_factory=bytearray)
    phases: list[Phase] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    finishes: list[Finish] = field(default_factory=list)
    applied: bool = False
    stale: bool = False
    bundle_reads: int = 0


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error."""

    status: int
    code: str
    members: dict[str, Any] = field(default_factory=dict)


class FakeServer(ThreadingHTTPServer):
    """Listens on a free port of this machine; `polls` and the like are for the test to read."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.changed = threading.Condition()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.session = 0
        self.credentials: set[str] = set()
        self.registered: list[Register] = []
        self.polls: list[Poll] = []
        self.claims: list[str] = []
        """The secrets that jobs were asked for with, together with ends."""
        self.left: list[Leave] = []
        self.requests: list[str] = []
        self.waiting: list[Waiting] = []
        self.offered: list[Offer] = []
        self.replies: list[OfferReply] = []
        self.answers: list[PageAnswer] = []
        self.outcomes: list[AnswerOutcome] = []
        self.commands: list[Command] = []
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.generations: list[KeptGeneration] = []
        """What jobs can go on from; without any, the server knows nothing of checkpoints."""
        self.drain = False
        self.spent: set[str] = set()
        self.forces_assignments = False
        """Whether jobs are assigned to workers that want to be asked."""
        self.faults: list[tuple[str, Fault]] = []
        self.over = False
        self.connections: set[socket.socket] = set()
        self._jobs = 0

    # What a test does.

    def submit(self, files: Mapping[str, str | bytes], **spec: object) -> int:
        """Hand in a job with a bundle of these files; its number."""
        content = zip_of(files)
        digest = hashlib.sha256(content).hexdigest()
        with self.changed:
            self._jobs += 1
            assignment = Assignment(
                job_id=self._jobs,
                attempt=1,
                spec=parse_spec({"name": "a job", "requirements_file": None, **spec}),
                bundle=BundleInfo(sha256=digest, size=len(content), files=len(files)),
                submitter="alice",
            )
            self.waiting.append(Waiting(assignment, content))
            self.changed.notify_all()
            return self._jobs

    def offer(self, job_id: int, *, retry_of: int | None = None) -> None:
        """Put a waiting job before the owner instead of assigning it."""
        with self.changed:
            waiting = self._waiting(job_id)
            assert waiting is not None
            told = waiting.assignment
            self.offered.append(
                Offer(
                    job_id=job_id,
                    spec=told.spec,
                    bundle=told.bundle,
                    submitter=told.submitter,
                    age=75.0,
                    retry_of=retry_of,
                )
            )
            self.changed.notify_all()

    def swap(self, job_id: int, files: Mapping[str, str | bytes]) -> None:
        """Give, for a yes to a job that was offered, something else than was shown."""
        content = zip_of(files)
        digest = hashlib.sha256(content).hexdigest()
        with self.changed:
            waiting = self._waiting(job_id)
            assert waiting is not None
            bundle = BundleInfo(sha256=digest, size=len(content), files=len(files))
            told = msgspec.structs.replace(waiting.assignment, bundle=bundle)
            self.waiting[self.waiting.index(waiting)] = Waiting(told, content)

    def withdraw(self, job_id: int) -> None:
        """Take an offer back."""
        with self.changed:
            self.offered = [offer for offer in self.offered if offer.job_id != job_id]
            self.changed.notify_all()

    def answer_on_page(
        self, job_id: int, code: str, *, accept: bool = True, reason: str | None = None
    ) -> None:
        """Answer an offer on the page of the only worker."""
        with self.changed:
            name = f"answer-{len(self.answers)}-{len(self.outcomes)}"
            key = key_of(code, "worker-1")
            proof = prove(key, name, job_id, accept=accept, reason=reason)
            answer = PageAnswer(id=name, job_id=job_id, accept=accept, reason=reason, proof=proof)
            self.answers.append(answer)
            self.changed.notify_all()

    def command(self, job_id: int, action: str, *, at_once: bool = False) -> None:
        """Have the worker do something about the first attempt of a job."""
        with self.changed:
            told = Command(job_id=job_id, attempt=1, action=action, at_once=at_once)
            self.commands = [other for other in self.commands if other.job_id != job_id] + [told]
            if action == "stale":
                self.attempts[job_id, 1].stale = True
            self.changed.notify_all()

    def supersede(self) -> None:
        """Begin another session of the worker."""
        with self.changed:
            self.session += 1
            self.changed.notify_all()

    def forget_workers(self) -> None:
        """Know no worker's credential any more, as with a new database."""
        with self.changed:
            self.credentials.clear()
            self.changed.notify_all()

    def on(self, path: str, *faults: Fault) -> None:
        """Spoil the next requests whose path contains this, each in one way."""
        with self.changed:
            self.faults += [(path, fault) for fault in faults]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so; AssertionError if it is not in time."""
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"waited {PATIENCE:g} s in vain for {what}"
                self.changed.wait(min(left, 0.1))

    def attempt(self, job_id: int) -> Attempt:
        """The first attempt of a job."""
        return self.attempts[job_id, 1]

    def wait_until_claimed(self, job_id: int) -> Attempt:
        """Wait until a job is claimed."""
        self.wait(lambda: (job_id, 1) in self.attempts, f"job {job_id} to be claimed")
        return self.attempt(job_id)

    def wait_until_ended(self, job_id: int) -> Attempt:
        """Wait until a job's end is applied."""
        attempt = self.wait_until_claimed(job_id)
        self.wait(lambda: attempt.applied, f"job {job_id} to end")
        return attempt

    # What the worker asks.

    def answer(self, asked: Exchange) -> tuple[int, bytes]:
        """The status and body of the answer to a request."""
        match [unquote(part) for part in asked.path_only.split("/")[2:]]:
            case ["worker", "register"]:
                return 200, encode(self._register(asked))
            case ["worker", *rest]:
                self._authorise(asked)
                return self._answer_worker(asked, rest)
        raise Problem(404, "not_found")

    def _answer_worker(self, asked: Exchange, rest: list[str]) -> tuple[int, bytes]:
        match rest:
            case ["poll"]:
                return 200, encode(self._poll(msgspec.json.decode(asked.body, type=Poll)))
            case ["leave"]:
                self.left.append(msgspec.json.decode(asked.body, type=Leave))
                return 204, b""
            case ["offers", job_id]:
                reply = msgspec.json.decode(asked.body, type=OfferReply)
                return 200, encode(self._decide(int(job_id), reply))
            case ["offers", job_id, "files"]:
                return 200, encode(self._files(int(job_id)))
            case ["answers", name]:
                self.answers = [answer for answer in self.answers if answer.id != name]
                self.outcomes.append(msgspec.json.decode(asked.body, type=AnswerOutcome))
                self.changed.notify_all()
                return 204, b""
            case ["attempts", job_id, number, *what]:
                attempt = self._attempt(asked, int(job_id), int(number))
                return self._answer_attempt(asked, attempt, what)
        raise Problem(404, "not_found")

    def _answer_attempt(
        self, asked: Exchange, attempt: Attempt, what: list[str]
    ) -> tuple[int, bytes]:
        match what:
            case ["bundle"]:
                attempt.bundle_reads += 1
                return 200, attempt.content
            case ["phase"]:
                attempt.phases.append(msgspec.json.decode(asked.body, type=PhaseReport).phase)
                return 204, b""
            case ["log"]:
                return 200, encode(self._append(asked, attempt))
            case ["artifacts", *path]:
                if hashlib.sha256(asked.body).hexdigest() != asked.query["sha256"]:
                    raise Problem(422, "invalid")
                attempt.artifacts["/".join(path)] = asked.body
                return 204, b""
            case ["checkpoints"] if self.generations:
                return 200, encode(KeptGenerations(generations=self.generations, limit=0))
            case ["checkpoints", content]:
                return 200, content.encode()
            case ["finish"]:
                answer = self._finish(attempt, msgspec.json.decode(asked.body, type=Finish))
                return (200 if answer.applied else 202), encode(answer)
        raise Problem(404, "not_found")

    def _register(self, asked: Exchange) -> Registered:
        message = msgspec.json.decode(asked.body, type=Register)
        token = asked.token
        if token != TOKEN and token not in self.credentials:
            raise Problem(401, "unauthorized")
        credential = None
        if token == TOKEN:
            credential = message.credential
            assert credential is not None
            self.credentials.add(credential)
        self.registered.append(message)
        self.session += 1
        return Registered(
            worker_id=message.worker_id or f"worker-{len(self.registered)}",
            credential=credential,
            session=self.session,
            lease=60,
        )

    def _poll(self, message: Poll) -> PollAnswer:
        self.polls.append(message)
        deadline = time.monotonic() + message.wait
        self.changed.notify_all()
        while True:
            if message.session != self.session:
                raise Problem(409, "superseded")
            answer, news = self._look(message)
            left = deadline - time.monotonic()
            if news or left <= 0 or self.over:
                return answer
            self.changed.wait(left)

    def _look(self, message: Poll) -> tuple[PollAnswer, bool]:
        listed = {(report.job_id, report.attempt): report for report in message.attempts}
        commands = [one for one in self.commands if (one.job_id, one.attempt) in listed]
        is_spent = message.next_secret in self.spent
        news = self.drain or is_spent
        for command in commands:
            known = listed[command.job_id, command.attempt].phase is Phase.CANCELLING
            news = news or command.action == "stale" or command.at_once or not known
        asks = message.asks and not self.forces_assignments
        assignment = None
        if not (asks or message.draining):
            assignment = self._assign(message.next_secret, message.capacity.slots)
        news = news or assignment is not None
        if message.asks:
            news = news or {offer.job_id for offer in self.offered} != set(message.offers)
        offers = self.offered if message.asks else []
        news = news or not {one.id for one in self.answers} <= set(message.answers)
        answer = PollAnswer(
            assignment=assignment,
            offers=offers,
            commands=commands,
            drain=self.drain,
            secret_spent=is_spent,
            answers=self.answers,
        )
        return answer, news

    def _assign(self, secret: str, slots: int) -> Assignment | None:
        for attempt in self.attempts.values():
            if attempt.secret == secret:
                return None if attempt.finishes else attempt.assignment
        taken = sum(not (attempt.finishes or attempt.stale) for attempt in self.attempts.values())
        if not self.waiting or taken >= slots:
            return None
        return self._claim(self.waiting[0], secret)

    def _claim(self, waiting: Waiting, secret: str) -> Assignment:
        self.waiting.remove(waiting)
        told = waiting.assignment
        self.attempts[told.job_id, told.attempt] = Attempt(told, waiting.content, secret)
        self.changed.notify_all()
        return told

    def _decide(self, job_id: int, reply: OfferReply) -> OfferAnswer:
        self.replies.append(reply)
        self.changed.notify_all()
        waiting = self._waiting(job_id)
        if waiting is None or job_id not in {offer.job_id for offer in self.offered}:
            raise Problem(409, "withdrawn")
        self.offered = [offer for offer in self.offered if offer.job_id != job_id]
        return OfferAnswer(assignment=self._claim(waiting, reply.secret) if reply.accept else None)

    def _files(self, job_id: int) -> BundleContents:
        waiting = self._waiting(job_id)
        if waiting is None or job_id not in {offer.job_id for offer in self.offered}:
            raise Problem(409, "withdrawn")
        with zipfile.ZipFile(io.BytesIO(waiting.content)) as archive:
            found = [(one.filename, one.file_size) for one in archive.infolist()]
        return BundleContents(
            files=[BundleEntry(path=path, size=size) for path, size in found],
            expanded=sum(size for _, size in found),
        )

    def _append(self, asked: Exchange, attempt: Attempt) -> LogAnswer:
        data = asked.body
        if asked.headers.get("Content-Encoding") == "deflate":
            data = zlib.decompress(data)
        assert len(data) <= 1024**2
        offset = int(asked.query["offset"])
        if offset > len(attempt.log):
            raise Problem(416, "log_gap", {"offset": len(attempt.log)})
        attempt.log += data[len(attempt.log) - offset :]
        attempt.phases += [Phase(phase) for name, phase in asked.query.items() if name == "phase"]
        self.changed.notify_all()
        return LogAnswer(offset=len(attempt.log))

    def _finish(self, attempt: Attempt, message: Finish) -> FinishAnswer:
        start, tail = message.log_bytes - len(message.log_tail), message.log_tail
        claim, message = message.claim, msgspec.structs.replace(message, log_tail=b"", claim=None)
        if attempt.finishes and attempt.finishes[0] != message:
            raise Problem(409, "different")
        if not attempt.finishes and start <= len(attempt.log):
            attempt.log += tail[len(attempt.log) - start :]
        attempt.finishes.append(message)
        gap = len(attempt.log) if len(attempt.log) < message.log_bytes else None
        missing = [one.path for one in message.artifacts if one.path not in attempt.artifacts]
        attempt.applied = gap is None and not missing
        brought, is_spent = None, claim is not None and claim.secret in self.spent
        if claim is not None and attempt.applied and claim.session == self.session:
            self.claims.append(claim.secret)
            slots = self.polls[-1].capacity.slots if self.polls else 0
            brought = self._assign(claim.secret, slots)
        self.changed.notify_all()
        return FinishAnswer(
            applied=attempt.applied,
            missing_log_from=gap,
            missing_artifacts=missing,
            assignment=brought,
            secret_spent=is_spent,
        )

    def _attempt(self, asked: Exchange, job_id: int, number: int) -> Attempt:
        attempt = self.attempts.get((job_id, number))
        if attempt is None:
            raise Problem(410, "stale")
        if attempt.stale or asked.headers.get("DTrain-Attempt-Secret") != attempt.secret:
            raise Problem(409, "stale")
        return attempt

    def _authorise(self, asked: Exchange) -> None:
        if asked.token not in self.credentials:
            raise Problem(401, "unauthorized")

    def _waiting(self, job_id: int) -> Waiting | None:
        return next((one for one in self.waiting if one.assignment.job_id == job_id), None)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        self._serve()

    do_GET = do_PUT = do_POST  # noqa: N815 - the base's own names

    @property
    def path_only(self) -> str:
        return urlsplit(self.path).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def reply(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status: int, code: str, members: dict[str, Any] | None = None) -> None:
        problem = {"status": status, "code": code, "title": "x", "detail": f"It is {code}."}
        body = json.dumps({**problem, **(members or {})}).encode()
        self.reply(status, body, "application/problem+json")

    def cut(self) -> None:
        """Reset the connection, as a machine that goes away does."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        pass

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = self.server
        with server.changed:
            server.requests.append(f"{self.command} {self.path_only}")
            fault = next((one for one in server.faults if one[0] in self.path), None)
            if fault is not None:
                server.faults.remove(fault)
        if fault is not None and fault[1](self):
            return
        try:
            with server.changed:
                status, body = server.answer(self)
        except Problem as problem:
            self.problem(problem.status, problem.code, problem.members)
        else:
            self.reply(status, body)


def fails(status: int, code: str = "unavailable") -> Fault:
    """Answer with an error."""

    def fault(exchange: Exchange) -> bool:
        exchange.problem(status, code)
        return True

    return fault


def drops(exchange: Exchange) -> bool:
    """Lose the request."""
    exchange.cut()
    return True


def drops_answer(exchange: Exchange) -> bool:
    """Act on the request, and lose the answer."""
    with suppress(Problem), exchange.server.changed:
        exchange.server.answer(exchange)
    exchange.cut()
    return True


def zip_of(files: Mapping[str, str | bytes]) -> bytes:
    """A ZIP with these files; the same one every time."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return into.getvalue()


@contextmanager
def fake_server(port: int = 0) -> Iterator[FakeServer]:
    """A server that runs until the block ends."""
    with FakeServer(port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            with server.changed:
                server.over = True
                server.changed.notify_all()
            server.shutdown()
            thread.join()
            for connection in list(server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
