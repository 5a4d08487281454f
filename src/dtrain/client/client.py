"""`Client`: a DTrain server's jobs and workers, from Python."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack
from urllib.parse import quote

from dtrain.protocol import routes
from dtrain.protocol.messages import Job

from . import logins
from .fields import Fields
from .jobs import Jobs
from .transport import Progress, Transport
from .workers import Workers

if TYPE_CHECKING:
    from .submission import Packed

LONGEST_SUBMITTER = 200
"""Characters of the name that is sent where nobody has chosen one."""


class Client:
    """A server, as a person uses it. Threads may share a client; processes may not.

    As a context manager it is closed at the end.

    Args:
        url: where it is; else what DTRAIN_SERVER_URL says, else where `dtrain login` has been
            last, else http://localhost:5000.
        token: the access token, for a server that wants one; else what DTRAIN_TOKEN says, else
            what `dtrain login` keeps for this server.
        ca_file: a file with the CAs to trust; else as DTRAIN_CA_FILE or `dtrain login` says, else
            those of the system.

    Raises:
        Invalid: the address, the token or the file cannot be one.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, ca_file: str | None = None
    ) -> None:
        found = logins.place(url, token, ca_file)
        self.transport = Transport(
            found.url, found.token, ca_file=found.ca_file, headers=_introduction()
        )
        self.jobs = Jobs(self.transport)
        self.workers = Workers(self.transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.transport.base_url

    def close(self) -> None:
        """Close the connections that lie idle."""
        self.transport.close()

    def page(self, job_id: int) -> str:
        """The address of a job's page, for a browser."""
        return f"{self.url}/jobs/{job_id}"

    def submit(
        self,
        folder_or_zip: str | os.PathLike[str],
        *,
        name: str | None = None,
        packed: Packed | None = None,
        progress: Progress | None = None,
        **spec: Unpack[Fields],
    ) -> Job:
        """Hand in a folder, or a ZIP file of one, as a new job.

        Args:
            folder_or_zip: what is to run.
            name: what the job is called; else as its dtrain.yaml says, else as the folder or file.
            packed: called with what of a folder went into the bundle, before it is sent.
            progress: called with the bytes sent and the bytes in all.
            **spec: the other fields of `dtrain.protocol.spec.JobSpec`; they win over dtrain.yaml.

        Raises:
            Invalid: there is no such folder or ZIP, or a field is not acceptable.
            DTrainError: the server refuses it, or cannot be reached.
        """
        from .submission import hand_in  # noqa: PLC0415  ZIPs and YAML, for few calls

        given = {"name": name, **spec}
        path = Path(folder_or_zip)
        return hand_in(self.transport, path, given, packed=packed, progress=progress)


def _introduction() -> dict[str, str]:
    """The header that says who asks; none where DTRAIN_SUBMITTER is empty."""
    said = os.environ.get("DTRAIN_SUBMITTER")
    if said is None:
        said = _user_at_host()
    return {routes.SUBMITTER_HEADER: quote(said, errors="replace")} if said.strip() else {}


def _user_at_host() -> str:
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run under a number without a name
        return ""
    said = f"{user}@{socket.gethostname()}"
    return "".join(filter(str.isprintable, said))[:LONGEST_SUBMITTER]
