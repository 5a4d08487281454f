"""The environment variables of steps: an allow-list of the agent's, and what the job is told.

The agent's own settings, its token among them, and everything else that happens to be set where
it runs stay away from jobs.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from dtrain.worker.package_settings import package_settings
from dtrain.worker.spool import AttemptFolder

from .base import Host

_NAMES = {
    *("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
}
_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "ROCM_", "ROCR_", "HIP_", "HSA_")


def job_variables(host: Host, folder: AttemptFolder) -> dict[str, str]:
    """The variables of a job, those of its environment aside.

    What the spec says wins, but for what tells the job where it is and which GPUs are its own.
    """
    assignment = folder.assignment
    gpus = {"CUDA_VISIBLE_DEVICES": ",".join(folder.gpus)} if folder.gpus else {}
    return {
        **_allowed(host.variables),
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(folder.home),
        "USER": _user(host.variables),
        "TMPDIR": str(folder.tmp),
        **assignment.spec.env,
        "DTRAIN_JOB_ID": str(assignment.job_id),
        "DTRAIN_ATTEMPT": str(assignment.attempt),
        "DTRAIN_WORKER_NAME": host.worker_name,
        "DTRAIN_OUTPUT_DIR": str(folder.output),
        "DTRAIN_CHECKPOINT_DIR": str(folder.checkpoints),
        **gpus,
    }


def preparation_variables(host: Host, folder: AttemptFolder) -> dict[str, str]:
    """The variables of a step that fetches and builds packages: with the machine's settings."""
    return {
        **_allowed(host.variables),
        **package_settings(host.variables),
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",
        "HOME": host.variables.get("HOME") or str(folder.home),
        "USER": _user(host.variables),
        "TMPDIR": str(folder.tmp),
    }


def own_variables(host: Host, folder: AttemptFolder) -> dict[str, str]:
    """The variables of a step that runs nothing of a job's: all of the agent's but its settings.

    Programs that keep credentials for registries are set up by whatever their makers thought of.
    """
    kept = {name: text for name, text in host.variables.items() if not name.startswith("DTRAIN_")}
    return {**kept, **preparation_variables(host, folder)}


def _allowed(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }


def _user(variables: Mapping[str, str]) -> str:
    """The name of the user, also where the system has none for the number."""
    if variables.get("USER"):
        return variables["USER"]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
