// <job-stream src="…">: one job's stream; feeds its log and charts and has the rest fetched again.

import type { Job, LogPiece, MetricPage, MetricRecord } from "../messages";
import { fractionOf, showProgress } from "../progress";
import { Series, type Table } from "../series";
import { Stream } from "../stream";
import { ended, FINAL } from "../watched";
import { ChartBoard } from "./chart-board";
import type { LogView } from "./log-view";
import type { MetricChart } from "./metric-chart";

/** Values of a series that are fetched at the beginning, however many there are. */
const POINTS = 2_000;

class JobStream extends ChartBoard {
  readonly series = new Series();
  #seq = 0;
  #stream: Stream | undefined;
  /** The series for which a chart was asked of the server; it may not give one to each. */
  #asked = new Set<string>();

  override connectedCallback(): void {
    super.connectedCallback();
    this.#stream = new Stream({
      address: this.getAttribute("src") ?? "",
      from: () => this.#place,
      handlers: {
        job: (data) => this.#showJob(data as Job),
        log: (data) => this.#log?.add(data as LogPiece),
        metric: (data) => this.#addRecord(data as MetricRecord),
        end: () => this.#end(),
      },
    });
    void this.#begin();
  }

  /** What there is comes at once and thinned, what follows by the stream. */
  async #begin(): Promise<void> {
    const address = this.getAttribute("metrics") ?? "";
    const attempt = this.getAttribute("attempt");
    if (attempt !== null) {
      try {
        const answer = await fetch(`${address}?points=${POINTS}&attempt=${attempt}`);
        const page = (await answer.json()) as MetricPage;
        for (const record of page.records) this.series.add({ ...record, attempt: page.attempt });
        this.#seq = page.next;
        if (page.records.length) this.showNews();
      } catch {
        this.#seq = 0; // then all of it comes by the stream
      }
    }
    if (this.isConnected) this.#stream?.start();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#stream?.stop();
  }

  override table(chart: MetricChart): Table | undefined {
    return this.series.table(chart.names, this.view);
  }

  get #log(): LogView | null {
    return this.querySelector<LogView>("log-view");
  }

  /** How far what the page shows goes. */
  get #place(): { attempt: number; offset: number; seq: number } {
    const attribute = (name: string) => Number(this.getAttribute(name) ?? 0);
    return { attempt: attribute("attempt"), offset: attribute("offset"), seq: this.#seq };
  }

  #showJob(job: Job): void {
    const state = [job.status, job.phase, job.attempt, job.artifacts, job.cancel_requested].join(" ");
    const head = this.querySelector<HTMLElement>("[data-state]");
    if (head?.dataset["state"] !== state) this.#refresh();
    if (FINAL.has(job.status)) ended(job.id, job.status);
  }

  #addRecord(record: MetricRecord): void {
    this.series.add(record);
    this.drawSoon();
  }

  protected override showNews(): void {
    const known = new Set(this.charts.flatMap((chart) => chart.names));
    this.drawCharts();
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
    this.cancelDrawing();
    this.showNews();
    this.#log?.end();
    this.#stream?.stop("ended");
    this.#refresh();
  }
}

customElements.define("job-stream", JobStream);
