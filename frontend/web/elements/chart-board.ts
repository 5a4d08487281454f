// What has charts in it: their values, and how they are drawn, which the tools beside them change.

import type { ChartView, Table } from "../series";
import type { MetricChart } from "./metric-chart";

/** Between two drawings of what comes in, in milliseconds; and where nobody sees them. */
const INTERVAL = 300;
const HIDDEN_INTERVAL = 5_000;

const VIEW = "dtrain.charts";

export abstract class ChartBoard extends HTMLElement {
  view: ChartView = { axis: "step", log: false, smoothing: 0 };
  #redraw: number | undefined;

  /** The axis, then a row for each line of a chart; undefined while there is nothing to draw. */
  abstract table(chart: MetricChart): Table | undefined;

  connectedCallback(): void {
    this.#recall();
    this.addEventListener("htmx:after:swap", this.drawCharts);
    this.addEventListener("change", this.#changeView);
    this.addEventListener("click", this.#resetZoom);
    document.addEventListener("visibilitychange", this.#drawWhatCameHidden);
  }

  disconnectedCallback(): void {
    this.removeEventListener("htmx:after:swap", this.drawCharts);
    this.removeEventListener("change", this.#changeView);
    this.removeEventListener("click", this.#resetZoom);
    document.removeEventListener("visibilitychange", this.#drawWhatCameHidden);
    this.cancelDrawing();
  }

  get charts(): MetricChart[] {
    return [...this.querySelectorAll<MetricChart>("metric-chart")];
  }

  drawCharts = (): void => {
    for (const chart of this.charts) chart.draw();
  };

  /** Called a moment after values have come; draws what has changed. */
  protected showNews(): void {
    this.drawCharts();
  }

  /** Values have come: they are drawn soon, together with those that follow at once. */
  protected drawSoon(): void {
    this.#redraw ??= setTimeout(
      () => {
        this.#redraw = undefined;
        this.showNews();
      },
      document.hidden ? HIDDEN_INTERVAL : INTERVAL,
    );
  }

  /** A chart shows what lies between two places of its axis: more of that may be fetched. */
  async lookInto(_min: number, _max: number): Promise<void> {}

  protected cancelDrawing(): void {
    clearTimeout(this.#redraw);
    this.#redraw = undefined;
  }

  /** Charts are drawn as they were chosen the last time, on whichever page. */
  #recall(): void {
    const kept = localStorage.getItem(VIEW);
    const field = (name: string) => this.querySelector<HTMLInputElement>(`[name=chart-${name}]`);
    const [axis, log, smoothing] = [field("axis"), field("log"), field("smoothing")];
    if (!kept || !axis || !log || !smoothing) return;
    this.view = JSON.parse(kept) as ChartView;
    axis.value = this.view.axis;
    log.checked = this.view.log;
    smoothing.value = String(this.view.smoothing);
  }

  #drawWhatCameHidden = (): void => {
    if (document.hidden || this.#redraw === undefined) return;
    this.cancelDrawing();
    this.showNews();
  };

  #changeView = (event: Event): void => {
    const field = event.target as HTMLInputElement;
    if (field.name === "chart-axis") this.view.axis = field.value === "time" ? "time" : "step";
    else if (field.name === "chart-log") this.view.log = field.checked;
    else if (field.name === "chart-smoothing") this.view.smoothing = Number(field.value);
    else return;
    localStorage.setItem(VIEW, JSON.stringify(this.view));
    for (const chart of this.charts) chart.redraw();
  };

  #resetZoom = (event: Event): void => {
    if (!(event.target as HTMLElement).closest("[data-chart-reset]")) return;
    for (const chart of this.charts) chart.resetZoom();
  };
}
