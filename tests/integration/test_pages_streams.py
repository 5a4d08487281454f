"""Tabs that share the streams of a browser: who is told what, from which place on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.frontend import FRONTEND, builder

SCRIPT = """
import { SharedStreams } from "./web/streams/shared";

const sources = [];
globalThis.EventSource = class extends EventTarget {
  static CLOSED = 2;
  readyState = 0;
  constructor(address) { super(); this.address = address; sources.push(this); }
  close() { this.readyState = 2; }
  open() { this.readyState = 1; this.dispatchEvent(new Event("open")); }
  fail() { this.readyState = 0; this.dispatchEvent(new Event("error")); }
  send(kind, lastEventId, data = {}) {
    const event = new Event(kind);
    this.dispatchEvent(Object.assign(event, { data: JSON.stringify(data), lastEventId }));
  }
};
const streams = new SharedStreams();
const tab = () => {
  const told = [];
  const tell = ({ news, state, message }) => told.push(message ? message.kind : state ?? news);
  return { told, tell };
};
const place = (attempt, offset, seq) => ({ attempt, offset, seq });
const open = () => sources.filter(({ readyState }) => readyState < 2).map(({ address }) => address);
const done = {};

{ // all jobs: who comes later is told to look at once, and the first may leave
  const [one, two] = [tab(), tab()];
  streams.follow(one, "/all");
  streams.follow(two, "/all");
  sources[0].open();
  sources[0].send("job", "1");
  const three = tab();
  streams.follow(three, "/all");
  streams.leave(one);
  sources[0].send("worker", "2");
  sources[0].fail();
  sources[0].open(); // with Last-Event-ID: nothing was missed
  done.all = { one: one.told, two: two.told, three: three.told, open: open().length };
  streams.leave(two);
  streams.leave(three);
  done.left = open();
}
{ // a job: an earlier place begins anew there, a later one joins
  sources.length = 0;
  const [one, two, three] = [tab(), tab(), tab()];
  streams.follow(one, "/job", place(1, 10, 2));
  sources[0].open();
  sources[0].send("job", "5.1.10.2");
  sources[0].send("log", "5.1.50.2");
  streams.follow(two, "/job", place(1, 60, 3));
  streams.follow(three, "/job", place(1, 40, 4));
  const addresses = sources.map(({ address }) => address);
  done.job = { two: [...two.told], three: [...three.told], addresses };
  sources[1].open();
  sources[1].send("log", "5.1.60.4");
  const other = tab();
  streams.follow(other, "/job", place(2, 0, 0));
  done.attempts = open();
  sources[1].send("end", "6.1.60.4");
  done.end = { told: one.told.at(-1), open: open() };
  streams.leave(other);
}
{ // a job that waits has no place yet: all join
  sources.length = 0;
  const [one, two] = [tab(), tab()];
  streams.follow(one, "/job", place(0, 0, 0));
  sources[0].open();
  sources[0].send("log", "7.1.20.0");
  streams.follow(two, "/job", place(0, 0, 0));
  done.waiting = open();
}
console.log(JSON.stringify(done));
process.exit();
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tabs of the script were told."""
    folder: Path = tmp_path_factory.mktemp("streams")
    build = builder()
    bundler = FRONTEND / "node_modules" / "esbuild" / "bin" / "esbuild"
    if not bundler.exists():
        build.install()
    source, script = folder / "tabs.ts", folder / "tabs.mjs"
    source.write_text(SCRIPT.replace("./web", str(FRONTEND / "web")))
    build.run(
        bundler, str(source), "--bundle", "--platform=node", "--format=esm", f"--outfile={script}"
    )
    program = build.find_node().program
    run = subprocess.run([program, script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_tabs_share_a_connection_and_are_told_the_same(done: dict[str, Any]) -> None:
    assert done["all"] == {
        "one": ["connecting", "open", "begun", "job"],
        "two": ["connecting", "open", "begun", "job", "worker", "reconnecting", "open"],
        "three": ["open", "begun", "worker", "reconnecting", "open"],
        "open": 1,
    }


def test_connection_ends_with_the_last_tab(done: dict[str, Any]) -> None:
    assert done["left"] == []


def test_tab_that_is_ahead_joins_and_one_that_is_behind_has_the_stream_begin_there(
    done: dict[str, Any],
) -> None:
    assert done["job"] == {
        "two": ["open", "begun", "job"],
        "three": [],
        "addresses": ["/job?offset=10&seq=2&attempt=1", "/job?offset=40&seq=2&attempt=1"],
    }


def test_attempts_have_connections_of_their_own(done: dict[str, Any]) -> None:
    assert done["attempts"] == ["/job?offset=40&seq=2&attempt=1", "/job?offset=0&seq=0&attempt=2"]


def test_stream_that_has_ended_is_given_up(done: dict[str, Any]) -> None:
    assert done["end"] == {"told": "end", "open": ["/job?offset=0&seq=0&attempt=2"]}


def test_tabs_of_a_job_that_waited_begin_at_its_start(done: dict[str, Any]) -> None:
    assert done["waiting"] == ["/job?offset=0&seq=0&attempt=1"]
