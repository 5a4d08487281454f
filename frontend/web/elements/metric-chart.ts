// <metric-chart>: lines over the steps, with the values under the pointer in the caption.
//
// The server writes the caption with a [data-metric] for each series; the values come from the
// <job-stream> around it.

import uPlot from "uplot";
import { number } from "../numbers";
import type { JobStream } from "./job-stream";

const HEIGHT = 168;
/** Distances between the labels of the steps: there is none between two steps. */
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

export class MetricChart extends HTMLElement {
  #plot: uPlot | undefined;
  #drawn: string | undefined;
  #resizes = new ResizeObserver(() => this.#fit());
  #dark = matchMedia("(prefers-color-scheme: dark)");

  connectedCallback(): void {
    this.#resizes.observe(this);
    this.#dark.addEventListener("change", this.#restyle);
    this.draw();
  }

  disconnectedCallback(): void {
    this.#resizes.disconnect();
    this.#dark.removeEventListener("change", this.#restyle);
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  /** The series that it shows. */
  get names(): string[] {
    return [...this.querySelectorAll<HTMLElement>("[data-metric]")].map(
      (place) => place.dataset["metric"] ?? "",
    );
  }

  draw(): void {
    const series = this.closest<JobStream>("job-stream")?.series;
    const place = this.querySelector<HTMLElement>("[data-plot]");
    const names = this.names;
    const table = series?.table(names);
    if (!place || !table?.[0].length) return;
    const drawn = JSON.stringify(names);
    if (this.#plot && this.#drawn === drawn) {
      this.#plot.setData(table);
    } else {
      this.#plot?.destroy();
      place.replaceChildren();
      this.#plot = new uPlot(this.#options(names, place), table, place);
      this.#drawn = drawn;
    }
    this.#showValues(null);
  }

  #restyle = (): void => {
    this.#drawn = undefined;
    this.draw();
  };

  #fit(): void {
    const place = this.querySelector<HTMLElement>("[data-plot]");
    if (place && this.#plot) this.#plot.setSize({ width: place.clientWidth, height: HEIGHT });
  }

  #showValues(index: number | null): void {
    const places = this.querySelectorAll<HTMLElement>("[data-metric]");
    places.forEach((place, at) => {
      const values = Array.from(this.#plot?.data[at + 1] ?? []);
      const value = index === null ? values.findLast((value) => value !== null) : values[index];
      if (value !== undefined) place.textContent = value === null ? "–" : number(value);
    });
  }

  /** A token as a colour that a canvas understands, for the theme at the moment. */
  #colour(token: string): string {
    const probe = this.appendChild(document.createElement("i"));
    probe.style.color = `var(${token})`;
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  }

  #options(names: string[], place: HTMLElement): uPlot.Options {
    const axis: uPlot.Axis = {
      stroke: this.#colour("--chart-text"),
      font: `11px ${getComputedStyle(this).fontFamily}`,
      grid: { stroke: this.#colour("--chart-grid"), width: 1 },
      ticks: { show: false },
      border: { show: false },
    };
    return {
      width: place.clientWidth,
      height: HEIGHT,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "metrics" }, y: false, points: { size: 6 } },
      scales: { x: { time: false } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 4, incrs: WHOLE, values: (_, at) => at.map(number) },
        { ...axis, size: (_, labels) => room(labels), gap: 6, values: (_, at) => at.map(number) },
      ],
      series: [
        {},
        ...names.map((name, at) => ({
          label: name,
          stroke: this.#colour(`--series-${(at % 6) + 1}`),
          width: 1.5,
          points: { size: 5 },
          spanGaps: true,
        })),
      ],
      hooks: { setCursor: [(plot) => this.#showValues(plot.cursor.idx ?? null)] },
    };
  }
}

/** Pixels for the labels of the upright axis. */
function room(labels: string[] | null): number {
  return 16 + 6.5 * Math.max(3, ...(labels ?? []).map((label) => label.length));
}

customElements.define("metric-chart", MetricChart);
