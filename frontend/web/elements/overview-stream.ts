// <overview-stream src="…">: keeps the lists of jobs and workers on a page current.
//
// A change makes htmx fetch the list's fragment again, seldom and only as much as is seen. The
// progress of a job is written into its row, where the row has a place for it; what is drawn of it
// comes with the fragment now and then.

import { changed } from "../changes";
import type { Event, Progress } from "../messages";
import { showProgress } from "../progress";
import { Stream } from "../stream";
import { ended, FINAL, lookAfterWatched } from "../watched";

class OverviewStream extends HTMLElement {
  #stream: Stream | undefined;

  connectedCallback(): void {
    const everything = () => {
      changed("jobs");
      changed("workers");
      void lookAfterWatched();
    };
    this.#stream = new Stream({
      address: this.getAttribute("src") ?? "",
      begun: everything,
      handlers: {
        job: (data) => this.#jobChanged(data as Event),
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

  #jobChanged({ job_id, kind }: Event): void {
    changed("jobs");
    if (job_id !== null && FINAL.has(kind)) ended(job_id, kind);
  }

  #showProgress({ job_id, progress, fraction }: Progress): void {
    const row = this.querySelector<HTMLElement>(`[data-job="${job_id}"]`);
    if (!row) return;
    changed(showProgress(row, progress, fraction) ? "progress" : "jobs");
  }
}

customElements.define("overview-stream", OverviewStream);
