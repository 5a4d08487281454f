// <compare-view jobs="1 2 3" src="…">: the curves of several jobs in the same charts, while they run.
//
// The server writes a chart for each series, with a [data-metric] of the job's number for each line.

import uPlot from "uplot";
import { changed } from "../changes";
import { fetchRecords, Finer } from "../finer";
import type { Event, MetricPage, Progress } from "../messages";
import { type ChartView, Series, type Table } from "../series";
import { Stream } from "../stream";
import { ChartBoard } from "./chart-board";
import type { MetricChart } from "./metric-chart";

/** Values of each series that are fetched at once, however many there are. */
const POINTS = 1_000;
/** Between two fetches of what a job has reported meanwhile, in milliseconds. */
const PAUSE = 1_000;

class CompareView extends ChartBoard {
  #stream: Stream | undefined;
  #jobs = new Map<number, Compared>();

  override connectedCallback(): void {
    super.connectedCallback();
    for (const id of (this.getAttribute("jobs") ?? "").split(" ").map(Number)) {
      this.#jobs.set(id, new Compared(id, () => this.drawSoon()));
    }
    this.#stream = new Stream({
      address: this.getAttribute("src") ?? "",
      begun: this.#everything,
      handlers: {
        reset: this.#everything,
        job: (data) => this.#changed((data as Event).job_id),
        progress: (data) => this.#jobs.get((data as Progress).job_id)?.read(),
      },
    });
    this.#stream.start();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#stream?.stop();
  }

  override table(chart: MetricChart): Table | undefined {
    const metric = chart.getAttribute("label") ?? "";
    const tables = chart.names.map((id) => {
      const { series } = this.#jobs.get(Number(id)) ?? new Compared(0, () => undefined);
      return series.table([metric], this.view);
    });
    if (!tables.some(([axis]) => axis.length)) return undefined;
    // Steps and times of one job need not be those of another.
    return uPlot.join(tables as uPlot.AlignedData[]) as Table;
  }

  override async lookInto(min: number, max: number): Promise<void> {
    const jobs = [...this.#jobs.values()];
    const came = await Promise.all(jobs.map((job) => job.lookInto(min, max, this.view)));
    if (came.includes(true) && this.isConnected) this.drawCharts();
  }

  protected override showNews(): void {
    this.drawCharts();
    changed("compared");
  }

  #everything = (): void => {
    for (const job of this.#jobs.values()) job.read();
    changed("compared");
  };

  #changed(id: number | null): void {
    if (id === null || !this.#jobs.has(id)) return;
    this.#jobs.get(id)?.read();
    changed("compared");
  }
}

/** One of the jobs, with what is known of its records. */
class Compared {
  series = new Series();
  #finer = new Finer(POINTS, (query) => this.#records(query));
  #attempt = 0;
  #next = 0;
  #reading = false;
  #again = false;

  constructor(
    readonly id: number,
    readonly came: () => void,
  ) {}

  /** Fetch what has come since the last time. */
  read(): void {
    if (this.#reading) this.#again = true;
    else void this.#read();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    do {
      this.#again = false;
      try {
        await this.#fetch();
      } catch {
        this.#again = false; // the stream tells when the server is back
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    } while (this.#again);
    this.#reading = false;
  }

  /** Fetch more of what lies between two places of the axis; whether anything came. */
  lookInto(min: number, max: number, view: ChartView): Promise<boolean> {
    return this.#finer.bring(this.series, min, max, view);
  }

  #records(query: Record<string, number>): Promise<MetricPage> {
    return fetchRecords(`/api/jobs/${this.id}/metrics`, { points: POINTS, ...query });
  }

  async #fetch(): Promise<void> {
    const page = await this.#records({ after: this.#next });
    if (page.attempt !== this.#attempt) {
      this.#attempt = page.attempt;
      this.series = new Series();
      this.#again = this.#next > 0;
      this.#next = 0;
      if (this.#again) return;
    }
    for (const record of page.records) this.series.add({ ...record, attempt: page.attempt });
    this.#next = page.next;
    if (page.records.length) this.came();
  }
}

customElements.define("compare-view", CompareView);
