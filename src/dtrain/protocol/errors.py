"""The errors that a person or a program meets.

    DTrainError
    ├── Refused            what was asked cannot be done as asked          (4xx)
    │   ├── Invalid        a field or file is not acceptable               400, 413, 415, 422
    │   ├── Unauthorized   no or a wrong token                             401
    │   ├── Forbidden      known, but not allowed                          403
    │   ├── NotFound       no such job, worker, file                       404
    │   └── Conflict       the state of things does not allow it           409, 410, 416, 426
    ├── Unavailable        try again later                                 429, 5xx
    ├── Unreachable        no answer at all; never on the wire
    └── JobFailed          a job that was waited for; never on the wire

On the wire an error is a problem document (`problem`). Imported by each step that makes an
environment, hence the standard library's quick part alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .messages import Job


class DTrainError(Exception):
    """The root: its text is one sentence that says what to do."""

    status = 500
    code = "internal"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        field: str | None = None,
        offset: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.field = field
        self.offset = offset
        self.retry_after = retry_after
        """Seconds to wait before another try, where the server said so."""


class Refused(DTrainError):
    """What was asked cannot be done as asked."""

    status = 400
    code = "bad_request"


class Invalid(Refused):
    """A field or a file is not acceptable; nothing was stored."""

    status = 422
    code = "invalid"


class Unauthorized(Refused):
    """No token, or a wrong one."""

    status = 401
    code = "unauthorized"


class Forbidden(Refused):
    """Known, but not allowed."""

    status = 403
    code = "forbidden"


class NotFound(Refused):
    """There is no such thing."""

    status = 404
    code = "not_found"


class Conflict(Refused):
    """The present state does not allow it.

    Codes: `stale` (a newer attempt counts), `superseded` (a newer session of the worker),
    `withdrawn` (an offer is gone), `final` (the job has ended), `different` (a second, different
    finish), `log_gap` (bytes before the offset are missing), `version` (upgrade one side).
    """

    status = 409
    code = "conflict"


class Unavailable(DTrainError):
    """The server cannot do it now; the same request may work later."""

    status = 503
    code = "unavailable"


class Unreachable(DTrainError):
    """The server did not answer: it is down, or the address or network is wrong."""

    status = 503
    code = "unreachable"


class JobFailed(DTrainError):
    """A job that was to complete has failed or was cancelled."""

    status = 500
    code = "job_failed"

    def __init__(self, job: Job) -> None:
        said = f"Job {job.id} {'was cancelled' if job.reason == 'user' else job.status}"
        super().__init__(f"{said}: {job.message}" if job.message else f"{said}.")
        self.job = job
        """As it was when it had ended."""
