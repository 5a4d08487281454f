// <worker-history src="…">: how busy a machine was in the last day, as curves over the clock.

import type { WorkerSample } from "../messages";
import type { Table } from "../series";
import { ChartBoard } from "./chart-board";
import type { MetricChart } from "./metric-chart";

/** Samples that are fetched; a day has three times as many. */
const POINTS = 480;
const MINUTE = 60_000;
/** Between two samples of a worker that was there meanwhile, in seconds: more is a gap. */
const LONGEST = 600;

class WorkerHistory extends ChartBoard {
  #samples: WorkerSample[] = [];
  #timer: ReturnType<typeof setInterval> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.view.axis = "clock";
    this.#timer = setInterval(() => {
      if (!document.hidden) void this.#read();
    }, MINUTE);
    void this.#read();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#timer);
  }

  override table(chart: MetricChart): Table | undefined {
    if (this.#samples.length < 2) return undefined;
    const axis: number[] = [];
    const rows: (number | null)[][] = chart.names.map(() => []);
    for (const sample of this.#samples) {
      const at = Date.parse(sample.at) / 1000;
      const before = axis.at(-1);
      if (before !== undefined && at - before > LONGEST) {
        axis.push(before + 1); // it was away: the curve has a gap
        for (const row of rows) row.push(null);
      }
      axis.push(at);
      chart.names.forEach((name, index) => rows[index]?.push(valueOf(sample, name)));
    }
    return [axis, ...rows];
  }

  async #read(): Promise<void> {
    try {
      const answer = await fetch(`${this.getAttribute("src")}?points=${POINTS}`);
      if (!answer.ok) return;
      this.#samples = ((await answer.json()) as { samples: WorkerSample[] }).samples;
    } catch {
      return; // the next minute brings them
    }
    this.querySelector<HTMLElement>("[data-none]")?.toggleAttribute("hidden", this.#samples.length > 1);
    this.drawCharts();
  }
}

/** What a line shows: `cpu`, `memory`, `disk`, or `gpu <index> <what>`. */
function valueOf({ metrics }: WorkerSample, name: string): number | null {
  if (name === "cpu") return metrics.cpu_percent;
  if (name === "memory") return metrics.memory_used / 1024 ** 3;
  if (name === "disk") return metrics.disk_used / 1e9;
  const [, index, what = ""] = name.split(" ");
  const value = metrics.gpus[Number(index)]?.[what];
  if (value === undefined) return null;
  return what === "memory_used" ? value / 1024 ** 3 : value;
}

customElements.define("worker-history", WorkerHistory);
