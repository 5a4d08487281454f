"""What is said of an end: the last words of the job, not how far it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import Finish
from dtrain.server.rules.endings import ending_of
from dtrain.worker.job_log import JobLog

RECORD = 'PROGRESS: {"epoch": 3, "loss": 0.5}'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"no data\n{RECORD}\n", "The job exited with code 3. no data"),
        (RECORD, "The job exited with code 3."),
        (None, "The job exited with code 3."),
        ("PROGRESS: none", "The job exited with code 3. PROGRESS: none"),
    ],
)
def test_reason_of_an_end_is_no_record(said: str | None, expected: str) -> None:
    finish = Finish(cause=Cause.EXITED, exit_code=3, traceback=said)
    assert ending_of(finish, None, None).message == expected


def test_last_lines_of_a_log_hold_no_records(tmp_path: Path) -> None:
    log = JobLog(str(tmp_path / "log"), 1 << 20)
    log.write(f"{RECORD}\nno data\n  {RECORD}\nends\n{RECORD}\n\n".encode())
    assert log.last_lines() == "no data\nends"
