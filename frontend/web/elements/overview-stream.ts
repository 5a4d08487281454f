// <overview-stream src="…">: keeps the lists of jobs and workers on a page current.
//
// A change makes htmx fetch the list's fragment again, seldom and only as much as is seen. The
// progress of a job is written into its row, where the row has a place for it; what is drawn of it
// comes with the fragment now and then.

import type { Progress } from "../messages";
import { showProgress } from "../progress";
import { Stream } from "../stream";

class OverviewStream extends HTMLElement {
  #stream: Stream | undefined;

  connectedCallback(): void {
    const source = this.getAttribute("src") ?? "";
    const everything = () => {
      changed("jobs");
      changed("workers");
    };
    this.#stream = new Stream({
      address: () => source,
      begun: everything,
      handlers: {
        job: () => changed("jobs"),
        worker: () => changed("workers"),
        reset: everything,
        progress: (data) => this.#showProgress(data as Progress),
      },
    });
    this.#stream.start();
  }

  disconnectedCallback(): void {
    this.#stream?.stop();
  }

  #showProgress({ job_id, progress, fraction }: Progress): void {
    const row = this.querySelector<HTMLElement>(`[data-job="${job_id}"]`);
    if (!row) return;
    changed(showProgress(row, progress, fraction) ? "progress" : "jobs");
  }
}

function changed(what: "jobs" | "workers" | "progress"): void {
  document.body.dispatchEvent(new CustomEvent(`dtrain:${what}`));
}

customElements.define("overview-stream", OverviewStream);
