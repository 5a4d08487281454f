// <job-stream src="…">: one job's stream; feeds its log and charts and has the rest fetched again.

import type { Job, LogPiece, MetricRecord } from "../messages";
import { fractionOf, showProgress } from "../progress";
import { Series } from "../series";
import { Stream } from "../stream";
import type { LogView } from "./log-view";
import type { MetricChart } from "./metric-chart";

const CHART_INTERVAL = 300;

class JobStream extends HTMLElement {
  readonly series = new Series();
  #stream: Stream | undefined;
  #redraw: number | undefined;
  /** The series for which a chart was asked of the server; it may not give one to each. */
  #asked = new Set<string>();

  connectedCallback(): void {
    this.#stream = new Stream({
      address: (lastId) => this.#address(lastId),
      handlers: {
        job: (data) => this.#showJob(data as Job),
        log: (data) => this.#log?.add(data as LogPiece),
        metric: (data) => this.#addRecord(data as MetricRecord),
        end: () => this.#end(),
      },
    });
    this.addEventListener("htmx:after:swap", this.#drawCharts);
    this.#stream.start();
  }

  disconnectedCallback(): void {
    this.removeEventListener("htmx:after:swap", this.#drawCharts);
    this.#stream?.stop();
    clearTimeout(this.#redraw);
  }

  get #log(): LogView | null {
    return this.querySelector<LogView>("log-view");
  }

  /** From what the page shows, or after the event `<event>.<attempt>.<offset>.<seq>`. */
  #address(lastId: string): string {
    const url = new URL(this.getAttribute("src") ?? "", location.href);
    const [, attempt, offset, seq] = lastId.split(".");
    const from = {
      attempt: attempt ?? this.getAttribute("attempt"),
      offset: offset ?? this.getAttribute("offset"),
      seq: seq ?? "0",
    };
    for (const [name, value] of Object.entries(from)) {
      if (value !== null) url.searchParams.set(name, value);
    }
    return url.href;
  }

  #showJob(job: Job): void {
    const state = [job.status, job.phase, job.attempt, job.artifacts, job.cancel_requested].join(" ");
    const head = this.querySelector<HTMLElement>("[data-state]");
    if (head?.dataset["state"] !== state) this.#refresh();
  }

  #addRecord(record: MetricRecord): void {
    this.series.add(record);
    this.#redraw ??= setTimeout(() => {
      this.#redraw = undefined;
      this.#draw();
    }, CHART_INTERVAL);
  }

  get #charts(): MetricChart[] {
    return [...this.querySelectorAll<MetricChart>("metric-chart")];
  }

  #drawCharts = (): void => {
    for (const chart of this.#charts) chart.draw();
  };

  #draw(): void {
    const known = new Set(this.#charts.flatMap((chart) => chart.names));
    this.#drawCharts();
    const head = this.querySelector<HTMLElement>("[data-state]");
    const latest = this.series.latest ?? null;
    const placed = !head || showProgress(head, latest, fractionOf(latest));
    const unknown = this.series.names.filter((name) => !known.has(name) && !this.#asked.has(name));
    unknown.forEach((name) => this.#asked.add(name));
    if (!placed || unknown.length) this.#refresh();
  }

  #refresh(): void {
    document.body.dispatchEvent(new CustomEvent("dtrain:job"));
  }

  #end(): void {
    clearTimeout(this.#redraw);
    this.#draw();
    this.#log?.end();
    this.#stream?.stop("ended");
    this.#refresh();
  }
}

customElements.define("job-stream", JobStream);
export type { JobStream };
