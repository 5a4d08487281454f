// <job-stream src="…">: one job's stream; feeds its log and charts and has the rest fetched again.

import { fetchRecords, Finer } from "../finer";
import type { Job, LogPiece, MetricPage, MetricRecord } from "../messages";
import { fractionOf, showLeft, showProgress } from "../progress";
import { Series, type Table } from "../series";
import { Stream } from "../stream";
import { ended, FINAL } from "../watched";
import { ChartBoard } from "./chart-board";
import type { LogView } from "./log-view";
import type { MetricChart } from "./metric-chart";

/** Milliseconds after which it is asked again what a job waits for. */
const LOOK_AGAIN = 5_000;
/** Values of a series that are fetched at once, however many there are. */
const POINTS = 2_000;

class JobStream extends ChartBoard {
  readonly series = new Series();
  #finer = new Finer(POINTS, (query) => this.#records(query));
  #seq = 0;
  #stream: Stream | undefined;
  #again: number | undefined;
  #told = false;
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
    this.addEventListener("click", this.#showLog);
    this.#again = setInterval(this.#lookAgain, LOOK_AGAIN);
    void this.#begin();
  }

  /** What there is comes at once and thinned, what follows by the stream. */
  async #begin(): Promise<void> {
    const attempt = this.getAttribute("attempt");
    if (attempt !== null) {
      try {
        const page = await this.#records({ attempt: Number(attempt) });
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
    this.removeEventListener("click", this.#showLog);
    clearInterval(this.#again);
    this.#stream?.stop();
  }

  #records(query: Record<string, number>): Promise<MetricPage> {
    return fetchRecords(this.getAttribute("metrics") ?? "", { points: POINTS, ...query });
  }

  override async lookInto(min: number, max: number): Promise<void> {
    if (await this.#finer.bring(this.series, min, max, this.view) && this.isConnected) this.drawCharts();
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
    // What comes after the first is news of the job, also where its state is the same.
    if (this.#told || head?.dataset["state"] !== state) this.#refresh();
    this.#told = true;
    if (FINAL.has(job.status)) ended(job.id, job.status);
  }

  /** What a job waits for changes with other jobs and with workers, of which its stream is silent. */
  #lookAgain = (): void => {
    const waits = this.querySelector(".wait");
    if (waits && !document.hidden) this.#refresh();
  };

  /** With a log that can be looked at here, a link to one leads there. */
  #showLog = (event: Event): void => {
    const link = (event.target as HTMLElement).closest<HTMLElement>("[data-show-log]");
    const choice = this.querySelector<HTMLSelectElement>("log-view [data-attempt]");
    const number = link?.dataset["showLog"] ?? "";
    if (!link || !choice || ![...choice.options].some((option) => option.value === number)) return;
    event.preventDefault();
    if (choice.value !== number) {
      choice.value = number;
      choice.dispatchEvent(new Event("change", { bubbles: true }));
    }
    this.#log?.scrollIntoView({ block: "start" });
    this.#log?.querySelector<HTMLElement>("[data-scroller]")?.focus({ preventScroll: true });
  };

  #addRecord(record: MetricRecord): void {
    this.series.add(record);
    this.drawSoon();
  }

  protected override showNews(): void {
    const known = new Set(this.charts.flatMap((chart) => chart.names));
    this.drawCharts();
    const head = this.querySelector<HTMLElement>("[data-state]");
    const values = this.series.latest?.values ?? null;
    const placed = !head || showProgress(head, values, fractionOf(values));
    if (head) showLeft(head, this.series.latest);
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
