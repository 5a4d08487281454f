// <job-usage src="…" live>: what a job used of its worker, as curves over its time.
//
// While it is `live` they grow; the server takes that away, or names another attempt, by a swap.

import { gpuValue } from "../gpus";
import type { JobUsage as Usage } from "../messages";
import type { Table } from "../series";
import { ChartBoard } from "./chart-board";
import type { MetricChart } from "./metric-chart";

/** Samples that are fetched at most. */
const POINTS = 400;
/** Milliseconds; a worker tells what its jobs use about as often. */
const INTERVAL = 10_000;

class JobUsage extends ChartBoard {
  static observedAttributes = ["src", "live"];
  #usage: Usage = { began: null, samples: [] };
  #timer: ReturnType<typeof setInterval> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.view.axis = "time";
    this.#timer = setInterval(() => {
      if (this.hasAttribute("live") && !document.hidden) void this.#read();
    }, INTERVAL);
    void this.#read();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#timer);
  }

  attributeChangedCallback(_name: string, before: string | null): void {
    if (this.isConnected && before !== null) void this.#read();
  }

  override table(chart: MetricChart): Table | undefined {
    const { began, samples } = this.#usage;
    if (began === null || !samples.length) return undefined;
    const axis = samples.map(({ at }) => (Date.parse(at) - Date.parse(began)) / 1000);
    return [axis, ...chart.names.map((name) => samples.map((sample) => valueOf(sample, name)))];
  }

  async #read(): Promise<void> {
    const address = this.getAttribute("src") ?? "";
    try {
      const answer = await fetch(`${address}&points=${POINTS}`);
      if (!answer.ok || address !== this.getAttribute("src")) return;
      this.#usage = (await answer.json()) as Usage;
    } catch {
      return; // the next time brings them
    }
    if (this.#usage.samples.length) this.hidden = false;
    this.drawCharts();
  }
}

/** What a line shows: `cpus`, `memory`, or `gpu <index> <what>`. */
function valueOf(sample: Usage["samples"][number], name: string): number | null {
  if (name === "cpus") return sample.cpus;
  if (name === "memory") return sample.memory / 1024 ** 3;
  return gpuValue(sample.gpus, name);
}

customElements.define("job-usage", JobUsage);
