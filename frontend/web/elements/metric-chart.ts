// <metric-chart>: lines over the steps, with the values under the pointer in the caption.
// At which step, or time, the pointer is stands over the axis.
//
// The server writes the caption with a [data-metric] for each line, inside a .series that has its
// colour; the values come from the board around it. Of times of the day the axis shows the clock.

import uPlot from "uplot";
import { clock, duration, number } from "../numbers";
import type { Table } from "../series";
import { ChartBoard } from "./chart-board";

const HEIGHT = 168;
/** Pixels to the right of the curves: half a label of the last place. */
const LABEL = 24;
/** Pixels beyond the ends of a line within which the pointer still means its end. */
const NEAR = 24;
/** Milliseconds for which a chart shows the same part, before more of that is asked for. */
const SETTLED = 200;
/** Distances between the labels of the steps: there is none between two steps. */
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
/** The same of times, in seconds: up to minutes, to hours, to days, and whole days. */
const TIMES = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3600),
  ...WHOLE.map((days) => days * 86_400),
];

/** What a place of an axis is called. */
const LABELS = { step: number, time: duration, clock };

export class MetricChart extends HTMLElement {
  #plot: uPlot | undefined;
  #drawn: string | undefined;
  #resizes = new ResizeObserver(() => this.#fit());
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #settling: number | undefined;

  connectedCallback(): void {
    this.#resizes.observe(this);
    this.addEventListener("keydown", this.#pressed);
    this.#dark.addEventListener("change", this.#restyle);
    this.draw();
  }

  disconnectedCallback(): void {
    this.#resizes.disconnect();
    this.removeEventListener("keydown", this.#pressed);
    this.#dark.removeEventListener("change", this.#restyle);
    clearTimeout(this.#settling);
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  /** The lines that it shows. */
  get names(): string[] {
    return this.#places.map((place) => place.dataset["metric"] ?? "");
  }

  get #places(): HTMLElement[] {
    return [...this.querySelectorAll<HTMLElement>("[data-metric]")];
  }

  /** What has the values; nothing while the browser has not met its element, which draws when it does. */
  get #board(): ChartBoard | undefined {
    const around = this.closest("job-usage, job-stream, compare-view, worker-history");
    return around instanceof ChartBoard ? around : undefined;
  }

  draw(): void {
    const around = this.#board;
    const place = this.querySelector<HTMLElement>("[data-plot]");
    const names = this.names;
    const table = around?.table(this);
    if (!around || !place || !table?.[0].length) return;
    const drawn = JSON.stringify([names, around.view, this.getAttribute("label")]);
    if (this.#plot && this.#drawn === drawn) {
      this.#setData(table);
    } else {
      this.#plot?.destroy();
      place.replaceChildren();
      this.#plot = new uPlot(this.#options(place, around), table, place);
      place.tabIndex = 0;
      place.role = "group";
      const what = this.getAttribute("label") ?? names.join(", ");
      place.ariaLabel = `Chart of ${what}; plus and minus zoom, arrows move, 0 shows all`;
      this.#drawn = drawn;
    }
    this.#showValues();
  }

  /** Draw anew: how charts are drawn has changed. */
  redraw(): void {
    this.#drawn = undefined;
    this.draw();
  }

  /** Show all steps again. */
  resetZoom(): void {
    const [first, last] = this.#ends;
    this.#plot?.setScale("x", { min: first, max: last });
  }

  #restyle = (): void => this.redraw();

  /** The first and the last place of the axis that there are. */
  get #ends(): [number, number] {
    const axis = this.#plot?.data[0] ?? [];
    return [axis[0] ?? 0, axis[axis.length - 1] ?? 0];
  }

  /** New data; what is zoomed into stays so. */
  #setData(table: Table): void {
    const plot = this.#plot;
    if (!plot) return;
    const isZoomed = this.#part !== undefined;
    plot.setData(table, !isZoomed);
    if (isZoomed) plot.redraw();
  }

  /** The ends of what is zoomed into; undefined while all is shown. */
  get #part(): [number, number] | undefined {
    const [first, last] = this.#ends;
    const { min, max } = this.#plot?.scales["x"] ?? {};
    const [from, to] = [min ?? first, max ?? last];
    return from > first || to < last ? [from, to] : undefined;
  }

  /** There may be more to draw of a part than of the whole, once it is the one that was wanted. */
  #settle(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      const part = this.#part;
      if (part) void this.#board?.lookInto(...part);
    }, SETTLED);
  }

  #pressed = (event: KeyboardEvent): void => {
    const { min, max } = this.#plot?.scales["x"] ?? {};
    if (min == null || max == null || event.ctrlKey || event.metaKey || event.altKey) return;
    const quarter = (max - min) / 4;
    const moves: Record<string, [number, number]> = {
      "+": [quarter, -quarter],
      "-": [-quarter, quarter],
      ArrowLeft: [-quarter, -quarter],
      ArrowRight: [quarter, quarter],
    };
    const move = moves[event.key];
    if (event.key === "0") this.resetZoom();
    else if (move) this.#zoom(min + move[0], max + move[1]);
    else return;
    event.preventDefault();
  };

  #zoom(min: number, max: number): void {
    const [first, last] = this.#ends;
    const width = Math.min(max - min, last - first);
    const from = Math.min(Math.max(min, first), last - width);
    if (width > 0) this.#plot?.setScale("x", { min: from, max: from + width });
  }

  #fit(): void {
    const place = this.querySelector<HTMLElement>("[data-plot]");
    if (place && this.#plot) this.#plot.setSize({ width: place.clientWidth, height: HEIGHT });
  }

  #showPointed(): void {
    this.#showValues();
    this.#showPlace();
  }

  /** Where the pointer is stands over the axis, where it moves nothing. */
  #addPlace(plot: uPlot): void {
    const place = document.createElement("span");
    place.className = "pointed";
    place.hidden = true;
    plot.over.append(place);
  }

  #showPlace(): void {
    const plot = this.#plot;
    const place = plot?.over.querySelector<HTMLElement>(".pointed");
    if (!plot || !place) return;
    const at = plot.cursor.idx == null ? undefined : plot.data[0][plot.cursor.idx];
    place.hidden = at === undefined;
    if (at === undefined) return;
    place.textContent = LABELS[this.#board?.view.axis ?? "step"](at);
    const [width, room] = [place.offsetWidth, plot.over.clientWidth];
    const left = Math.max(0, Math.min(plot.valToPos(at, "x") - width / 2, room - width));
    place.style.translate = `${left}px`;
  }

  /** Each line's value under the pointer, else its last one: where it was thinned out, the nearest. */
  #showValues(): void {
    const cursor = this.#plot?.cursor;
    this.#places.forEach((place, at) => {
      const values = Array.from(this.#plot?.data[at + 1] ?? []);
      const index = cursor?.idxs?.[at + 1];
      const value = cursor?.idx == null ? values.findLast((value) => value != null) : index == null ? null : values[index];
      place.textContent = value == null ? "–" : number(value);
    });
  }

  /** The ends of the upright axis, where they are given as `from="0" to="100"`. */
  get #range(): [number, number] | undefined {
    const [from, to] = [this.getAttribute("from"), this.getAttribute("to")];
    return from === null || to === null ? undefined : [Number(from), Number(to)];
  }

  /** A token as a colour that a canvas understands, for the theme at the moment. */
  #colour(token: string, place: Element = this): string {
    const probe = place.appendChild(document.createElement("i"));
    probe.style.color = `var(${token})`;
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  }

  #options(place: HTMLElement, board: ChartBoard): uPlot.Options {
    const view = board.view;
    const isClock = view.axis === "clock";
    const upright = this.#range;
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
      padding: [8, LABEL, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: board.localName },
        y: false,
        points: { size: 6 },
        hover: { prox: (plot, at, index) => (isWithin(plot.data[at], index) ? null : NEAR) },
      },
      scales: { x: { time: isClock }, y: { distr: view.log ? 3 : 1, ...(upright && { range: upright }) } },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 26,
          gap: 4,
          values: (_: uPlot, at: number[]) => at.map((one) => LABELS[view.axis](one)),
          ...(isClock ? { space: 60 } : { incrs: view.axis === "time" ? TIMES : WHOLE }),
        },
        { ...axis, size: (_, labels) => room(labels), gap: 6, values: (_, at) => at.map((value) => (value == null ? "" : number(value))) },
      ],
      series: [
        {},
        ...this.#places.map((of) => {
          const line = of.closest(".series") ?? this;
          return {
            label: of.dataset["metric"] ?? "",
            stroke: this.#colour("--series", line),
            width: 1.5,
            ...(line.classList.contains("dashed") && { dash: [6, 4] }),
            points: { size: 5 },
          };
        }),
      ],
      hooks: { init: [(plot) => this.#addPlace(plot)], setCursor: [() => this.#showPointed()], setScale: [() => this.#settle()] },
    };
  }
}

/** Whether a line goes on to both sides of an index: beyond its ends it has no value. */
function isWithin(line: ArrayLike<unknown> | undefined, index: number): boolean {
  let [first, last] = [0, (line?.length ?? 0) - 1];
  while (first <= last && line?.[first] === undefined) first += 1;
  while (first <= last && line?.[last] === undefined) last -= 1;
  return first <= index && index <= last;
}

/** Pixels for the labels of the upright axis. */
function room(labels: string[] | null): number {
  return 16 + 6.5 * Math.max(3, ...(labels ?? []).map((label) => label.length));
}

customElements.define("metric-chart", MetricChart);
