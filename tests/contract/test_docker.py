"""Jobs in containers, on a real engine."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import ended, new_attempt, wait_for_log
from support.contained import COUNTS, OWNERS, Bench
from support.containers import DOCKERFILE, TestEngine, left_containers
from support.packages import make_wheel
from support.processes import PATIENCE, wait_for

from dtrain.protocol.states import Cause
from dtrain.worker.docker_settings import Volume
from dtrain.worker.executors.base import PrepareFailed
from dtrain.worker.image_keeper import ImageKeeper
from dtrain.worker.images import buildkit
from dtrain.worker.launcher import adopt, launch, resume
from dtrain.worker.spool import AttemptFolder, WorkerFolder
from dtrain.worker.usage import usage_of

CLASSIC = "/usr/sbin:/sbin"
"""A PATH without `docker`, whose client brings BuildKit."""


@pytest.fixture
def bench(tmp_path: Path, container_engine: TestEngine) -> Iterator[Bench]:
    bench = Bench(WorkerFolder(tmp_path / "worker"), container_engine.engine, tmp_path.name)
    yield bench
    bench.close()


def test_container_is_as_confined_as_it_can_be(bench: Bench, container_engine: TestEngine) -> None:
    code = (
        "import os\n"
        "status = open('/proc/self/status').read()\n"
        "for name in ('CapEff', 'CapBnd', 'NoNewPrivs'):\n"
        "    print(next(line for line in status.splitlines() if line.startswith(name)))\n"
        "print(os.getuid(), os.getgid(), os.path.exists('/var/run/docker.sock'))\n"
        "for name in ('.', '/dtrain/output', '/dtrain/checkpoints', '/dtrain/home', '/tmp'):\n"
        "    open(f'{name}/mine', 'w').close()\n"
        "print(os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_bsize)\n"
    )
    folder, record, log = bench.run(code, memory_gb=0.25)
    assert record.exit_code == 0, log
    *kept, who, shared = log.split("\n")[:-1]
    assert kept == ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    assert who == "1000 1000 False"
    assert int(shared) == 2**28
    assert (folder.output / "mine").exists()


def test_volumes_and_variables_are_the_owners(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "numbers").write_text("1 2 3")
    bench.executor = bench.make(
        volumes=[Volume(source=str(data), target="/container/data", read_only=True)],
        environment={"CUDA_VISIBLE_DEVICES": "0", "LR": "1"},
    )
    code = (
        "import os\n"
        "print(open('/container/data/numbers').read(), os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "print(os.environ['LR'], os.access('/container/data', os.W_OK))\n"
    )
    _, record, log = bench.run(code, env={"LR": "2"})
    assert record.exit_code == 0, log
    assert log == "1 2 3 0\n2 False\n"


def test_memory_hog_is_ended_and_named(bench: Bench) -> None:
    bench.executor = bench.make(memory=64 * 2**20)
    _, record, _ = bench.run("print('begins')\nx = bytearray(500 * 2**20)\nprint('no')")
    assert record.cause is Cause.OUT_OF_MEMORY
    assert record.peak_memory is not None
    assert 2**20 < record.peak_memory <= 65 * 2**20  # what was seen last, now and then


def test_fork_bomb_is_held_and_leaves_nothing(bench: Bench) -> None:
    bench.executor = bench.make(processes=50)
    running = bench.start(
        "import os, time\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: print('held', flush=True); time.sleep(3600)\n"
    )
    wait_for_log(running.folder, b"held\n")
    running.stop(Cause.CANCELLED, at_once=True)
    record = ended(running)
    assert record.cause is Cause.CANCELLED
    bench.executor.clean(running.folder)
    assert left_containers(bench.engine, bench.key) == []


def test_image_that_cannot_be_had_ends_the_attempt(bench: Bench) -> None:
    _, record, log = bench.run("print('never')", image="127.0.0.1:9/lab/nothing:1")
    assert record.cause is Cause.IMAGE_FAILED
    assert "127.0.0.1:9/lab/nothing:1 cannot be fetched" in log
    assert "refused" in log
    assert "never" not in log


def test_image_without_python_says_so(bench: Bench) -> None:
    files = {"main.py": "", "Dockerfile": "FROM python:3.9-slim\nRUN rm /usr/bin/python*\n"}
    _, record, log = bench.run(files)
    assert record.exit_code == 127
    assert "The image has no Python" in log


def test_python_of_the_image_must_be_the_one_that_is_asked_for(bench: Bench) -> None:
    code = "import sys; print('runs', *sys.version_info[:2])"
    assert bench.run(code, python="3.11")[2] == "runs 3 11\n"
    _, record, log = bench.run(code, python="3.1")
    assert record.exit_code == 127
    assert "The image has Python 3.11." in log
    assert "not 3.1; name another image" in log


def test_requirements_are_installed_once_and_shared(bench: Bench) -> None:
    make_wheel(bench.links, "parrot", "2.0", script="squawk")
    files = {
        "main.py": "import os, parrot; print(parrot.__file__); os.system('squawk')",
        "requirements.txt": "parrot>=1  # any\n",
        # What all jobs share is not made by what one of them calls pip.
        **dict.fromkeys(("pip/__init__.py", "pip/__main__.py", "venv.py"), "raise SystemExit(3)"),
    }
    _, record, log = bench.run(files)
    assert record.exit_code == 0, log
    assert "Successfully installed parrot-2.0" in log
    assert "\n/dtrain/environment/lib/python3" in log
    assert log.endswith("parrot 2.0\n")
    folder, record, log = bench.run(files)
    assert record.exit_code == 0, log
    assert "installed here already" in log
    (place,) = bench.worker.environments.glob("containers-*")
    assert str(place) in (folder.path / "in_use").read_text()
    assert not place.stat().st_mode & 0o222


def test_requirements_that_name_a_place_stay_with_the_attempt(bench: Bench) -> None:
    wheel = make_wheel(bench.links, "kipper")
    target = bench.worker.path / "other"
    target.mkdir()
    files = {"main.py": "import kipper; print('has')", "requirements.txt": f"./{wheel.name}"}
    folder = new_attempt(bench.worker, {**files, wheel.name: wheel.read_bytes()})
    record = ended(launch(folder, bench.executor.prepare(folder)))
    assert record.exit_code == 0, folder.log.read_text()
    assert folder.log.read_text().endswith("has\n")
    assert list(bench.worker.environments.glob("containers-*")) == []


@pytest.mark.parametrize("project", ["no toml", 'project = "x"\n'])
def test_project_that_says_nothing_costs_the_job_alone(bench: Bench, project: str) -> None:
    files = {"main.py": "print('runs')", "pyproject.toml": project}
    folder = new_attempt(bench.worker, files, requirements_file="pyproject.toml")
    if project == "no toml":
        with pytest.raises(PrepareFailed, match=r"pyproject\.toml cannot be read") as caught:
            bench.executor.prepare(folder)
        assert caught.value.cause is Cause.ENVIRONMENT_FAILED
    else:
        record = ended(launch(folder, bench.executor.prepare(folder)))
        assert record.exit_code == 0, folder.log.read_text()


def test_dependencies_of_a_project_are_installed(bench: Bench) -> None:
    make_wheel(bench.links, "parrot", "2.0")
    project = '[project]\nname = "x"\nversion = "1"\ndependencies = ["parrot>=1"]\n'
    files = {"main.py": "import parrot; print(parrot.__version__)", "pyproject.toml": project}
    _, record, log = bench.run(files, requirements_file="pyproject.toml")
    assert record.exit_code == 0, log
    assert log.endswith("\n2.0\n")


def test_requirements_that_cannot_be_had_end_the_attempt(bench: Bench) -> None:
    files = {"main.py": "print('never')", "requirements.txt": "no-such-parrot\n"}
    _, record, log = bench.run(files)
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "No matching distribution found for no-such-parrot" in log
    assert "never\n" not in log
    assert list(bench.worker.environments.glob("containers-*")) == []


@pytest.mark.parametrize("path", [CLASSIC, "/usr/bin:/bin"], ids=["classic", "buildkit"])
def test_dockerfile_of_the_manual_is_built_once_and_run(bench: Bench, path: str) -> None:
    bench.executor = bench.make(path)
    files = {
        "Dockerfile": DOCKERFILE,
        "requirements.txt": "# nothing\n",
        "main.py": "import os, sys; open('model', 'w').write('x'); print(os.getcwd(), sys.argv)",
        "another.txt": secrets.token_hex(),
        "secret.txt": path,
        ".dockerignore": "secret*\n",
    }
    _, record, log = bench.run(files, args=["--fast"])
    assert record.exit_code == 0, log
    assert log.endswith("/app ['main.py', '--fast']\n")
    assert "RUN pip install -r requirements.txt" in log
    has_buildkit = buildkit({"PATH": path}) is not None
    assert ("by BuildKit" in log) == has_buildkit
    assert not (has_buildkit and path == CLASSIC)
    files["secret.txt"] = "another"
    _, record, log = bench.run(files)
    assert record.exit_code == 0, log
    assert log == "The image of this Dockerfile is here already.\n/app ['main.py']\n"


@pytest.mark.parametrize("path", [CLASSIC, "/usr/bin:/bin"], ids=["classic", "buildkit"])
def test_dockerfile_that_fails_says_why(bench: Bench, path: str) -> None:
    bench.executor = bench.make(path)
    dockerfile = "FROM python:3.9-slim\nARG SOURCE_DATE_EPOCH\nARG AWS_SECRET_ACCESS_KEY\n"
    dockerfile += "RUN env; echo the reason $SOURCE_DATE_EPOCH && exit 3\n"
    _, record, log = bench.run({"main.py": "", "Dockerfile": dockerfile})
    assert OWNERS["AWS_SECRET_ACCESS_KEY"] not in log
    assert "the reason\n" in log, "and no time of the machine's"
    assert record.cause is Cause.IMAGE_FAILED
    assert "the reason" in log
    assert "3" in log.splitlines()[-1] or "code: 3" in log


def test_dockerfile_without_a_command_makes_the_environment_alone(bench: Bench) -> None:
    dockerfile = "FROM python:3.9-slim\nRUN echo made >/made\n"
    files = {"main.py": "import os; print(os.getcwd(), open('/made').read())"}
    _, record, log = bench.run({**files, "Dockerfile": dockerfile, "requirements.txt": "none"})
    assert record.exit_code == 0, log
    assert log.endswith("/dtrain/work made\n\n")


@pytest.mark.parametrize(
    "command",
    ['ENTRYPOINT ["python", "main.py"]', "ENTRYPOINT python main.py", "CMD python main.py"],
    ids=["entrypoint", "entrypoint-shell", "command-shell"],
)
def test_arguments_are_behind_the_command_of_the_image(bench: Bench, command: str) -> None:
    files = {
        "Dockerfile": f"FROM python:3.9-slim\nWORKDIR /app\nCOPY . .\nUSER nobody\n{command}\n",
        "main.py": "import os, sys; open('x', 'w'); print(os.getuid(), sys.argv[1:])",
    }
    _, record, log = bench.run(files, args=["--fast", "a b"])
    assert record.exit_code == 0, log
    assert log.endswith("\n1000 ['--fast', 'a b']\n")


@pytest.mark.parametrize(
    ("command", "number"), [('CMD ["python3", "main.py"]', 2), ("", 15)], ids=["own", "ours"]
)
def test_image_says_how_its_command_is_asked_to_end(
    bench: Bench, command: str, number: int
) -> None:
    code = (
        "import signal, sys, time\n"
        "for n in (2, 15): signal.signal(n, lambda n, _: sys.exit(f'by {n}'))\n"
        "print('ready', flush=True)\n"
        "time.sleep(3600)\n"
    )
    dockerfile = f"FROM python:3.9-slim\nCOPY . .\nSTOPSIGNAL SIGINT\n{command}\n"
    running = bench.start({"main.py": code, "Dockerfile": dockerfile})
    wait_for_log(running.folder, b"ready\n")
    running.stop(Cause.CANCELLED)
    assert ended(running).exit_code == 1
    assert running.folder.log.read_text().endswith(f"ready\nby {number}\n")


def test_words_of_a_build_need_not_be_text(bench: Bench) -> None:
    bench.executor = bench.make(CLASSIC)
    dockerfile = "FROM python:3.9-slim\nRUN printf 'caf\\303\\251 \\377\\n'\n"
    _, record, log = bench.run({"main.py": "print('runs')", "Dockerfile": dockerfile})
    assert record.exit_code == 0, log
    assert "café \N{REPLACEMENT CHARACTER}" in log
    assert log.endswith("runs\n")


def test_image_that_goes_before_the_start_costs_another_try(bench: Bench) -> None:
    image = f"gone-{bench.key.lower().replace('_', '-')}:1"
    name, tag = image.split(":")
    query = {"repo": name, "tag": tag, "container": "gone", "changes": "LABEL gone=1"}
    made = bench.engine.call("POST", "/containers/create", {"Image": "python:3.9-slim"})
    query["container"] = made["Id"]
    bench.engine.call("POST", "/commit", {}, query=query)
    bench.engine.remove(made["Id"])
    folder = new_attempt(bench.worker, {"main.py": ""}, image=image)
    plan = bench.executor.prepare(folder)
    bench.engine.call("DELETE", f"/images/{image}")
    record = ended(launch(folder, plan))
    assert record.cause is Cause.START_FAILED
    assert "No such image" in str(record.message)


def test_container_of_the_same_name_is_not_taken_for_the_jobs(bench: Bench) -> None:
    """As an earlier attempt has left it that had the same numbers with another server."""
    folder = new_attempt(bench.worker, {"main.py": "print('runs')"})
    name = f"dtrain-{bench.key}-{folder.path.name}"
    body = {"Image": "python:3.9-slim", "Cmd": ["sleep", "600"], "Labels": bench.executor.labels}
    bench.engine.call("POST", "/containers/create", body, query={"name": name})
    bench.engine.call("POST", f"/containers/{name}/start")
    record = ended(launch(folder, bench.executor.prepare(folder)))
    assert record.exit_code == 0
    assert folder.log.read_text() == "runs\n"


def test_volume_that_vanishes_costs_another_try(bench: Bench, tmp_path: Path) -> None:
    data = str(tmp_path / "gone")
    volume = Volume(source=data, target="/container/data", read_only=True)
    bench.executor = bench.make(volumes=[volume])
    _, record, _ = bench.run("print('never')")
    assert record.cause is Cause.START_FAILED
    assert data in str(record.message)


def test_what_a_container_uses_is_counted_by_its_group(bench: Bench) -> None:
    running = bench.start("held = b'x' * (60 * 2**20)\nprint('has it')\nwhile True: pass")
    wait_for_log(running.folder, b"has it\n")

    def counts() -> bool:
        used = usage_of(running.folder, running, {})
        return used is not None and used.memory > 60 * 2**20 and used.cpu_time > 0.5

    wait_for(counts, "what the container uses")
    running.stop(Cause.CANCELLED, at_once=True)
    ended(running)
    assert usage_of(running.folder, running, {}) is None


def test_container_outlives_its_shim(bench: Bench) -> None:
    running = bench.start(COUNTS % 150 + "raise SystemExit(7)")
    folder = running.folder
    wait_for_log(folder, b"line 20\n")
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(PATIENCE)
    again = resume(folder, bench.executor)
    assert again is not None
    record = ended(again)
    assert record.exit_code == 7
    assert folder.log.read_text() == "".join(f"line {n}\n" for n in range(150))


def test_both_streams_of_an_image_are_taken_up_where_they_were(bench: Bench) -> None:
    """What is written of a line that has not ended, too."""
    code = (
        "import sys, time\n"
        "for n in range(150):\n"
        "    print('line', n, flush=True)\n"
        "    print('half', end=' ', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    command = 'CMD ["python3", "main.py"]'
    dockerfile = f"FROM python:3.9-slim\nWORKDIR /app\nCOPY . .\n{command}\n"
    running = bench.start({"main.py": code, "Dockerfile": dockerfile})
    wait_for_log(running.folder, b"line 20\nhalf ")
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(PATIENCE)
    again = resume(running.folder, bench.executor)
    assert again is not None
    assert ended(again).exit_code == 0
    expected = "half ".join(f"line {n}\n" for n in range(150)) + "half "
    log = running.folder.log.read_text()
    assert log[log.index("line 0\n") :] == expected


@pytest.mark.parametrize("args", [[], ["b c"]], ids=["alone", "arguments"])
def test_image_without_a_shell_runs_its_command_all_the_same(bench: Bench, args: list[str]) -> None:
    dockerfile = (
        "FROM python:3.9-slim\nCOPY main.py /\n"
        'RUN ["/usr/bin/python3", "-c", "import os; os.unlink(\'/bin/sh\')"]\n'
        'ENTRYPOINT ["python3", "/main.py"]\nCMD ["a"]\n'
    )
    files = {"main.py": "import sys; print(sys.argv[1:])", "Dockerfile": dockerfile}
    _, record, log = bench.run(files, args=args)
    assert record.exit_code == 0, log
    assert log.endswith(f"\n{['a', *args]}\n")


def test_nothing_is_resumed_of_an_attempt_without_a_container(bench: Bench) -> None:
    folder = bench.run("")[0]
    assert adopt(folder) is None
    assert resume(folder, bench.executor) is None
    bench.executor.clean(folder)
    for name in ("exit.json", "outcome.json"):
        (folder.path / name).unlink()
    assert resume(folder, bench.executor) is None


def test_end_of_a_container_outlives_its_shim(bench: Bench) -> None:
    """All that is kept of it is the container."""
    folder, record, log = bench.run("print('runs', end=''); raise SystemExit(7)")
    for name in ("exit.json", "outcome.json"):
        (folder.path / name).unlink()
    folder.log.write_text(log[:2])
    again = resume(folder, bench.executor)
    assert again is not None
    assert ended(again).exit_code == record.exit_code == 7
    assert folder.log.read_text() == "runs"


@pytest.mark.parametrize("step", ["image", "environment"])
def test_stop_while_it_is_prepared_leaves_nothing(bench: Bench, step: str) -> None:
    if step == "image":
        bench.executor = bench.make(CLASSIC)
        files = {"main.py": "", "Dockerfile": "FROM python:3.9-slim\nRUN echo ready; sleep 60\n"}
    else:
        backend = "import time; print('ready', flush=True); time.sleep(3600)"
        project = '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
        files = {
            "main.py": "",
            "b.py": backend,
            "pyproject.toml": f'{project}[project]\nname="x"\n',
        }
        files["requirements.txt"] = "-v --no-build-isolation .\n"
    running = bench.start(files, requirements_file="requirements.txt")
    wait_for(lambda: running.phase == step, "the step")
    wait_for(lambda: _is_at_work(bench, step, running.folder), "something to be at work")
    running.stop(Cause.CANCELLED)
    record = ended(running)
    assert record.cause is Cause.CANCELLED
    assert left_containers(bench.engine, bench.key) == []
    assert running.folder.exit is not None


def _is_at_work(bench: Bench, step: str, folder: AttemptFolder) -> bool:
    if step == "image":
        return b"ready" in folder.log.read_bytes()
    return any(one["State"] == "running" for one in bench.engine.containers(bench.executor.labels))


def test_images_that_were_built_are_kept_to_a_limit(bench: Bench) -> None:
    bench.executor = bench.make(CLASSIC)
    labels, folder = bench.executor.labels, bench.worker.path
    for number in range(2):
        dockerfile = f"FROM python:3.9-slim\nRUN head -c {3_000_000 + number} /dev/zero >/x\n"
        attempt, record, log = bench.run({"main.py": "", "Dockerfile": dockerfile})
        assert record.exit_code == 0, log
        bench.executor.clean(attempt)  # what a container uses stays

    def built() -> int:
        return len(list((folder / "images").iterdir()))

    ImageKeeper(bench.engine, labels, folder, 10 * 2**20, 3600).look()
    assert built() == 2
    ImageKeeper(bench.engine, labels, folder, 4 * 2**20, 3600).look()
    assert built() == 1
    ImageKeeper(bench.engine, labels, folder, None, 0).look()
    assert built() == 0
    assert bench.engine.image("python:3.9-slim") is not None
