// The numeric values of one attempt's PROGRESS records, as series over the steps.

import type { MetricRecord } from "./messages";
import { numeric } from "./numbers";

/** What counts the steps is an axis, not a series (dtrain.server.pages.formats.AXES). */
const AXES = new Set([
  "step",
  "steps",
  "total_steps",
  "max_steps",
  "epoch",
  "epochs",
  "total_epochs",
  "num_epochs",
  "progress",
]);

/** How charts are drawn. */
export interface ChartView {
  axis: "step" | "time" | "clock";
  log: boolean;
  /** From 0, not at all, to less than 1. */
  smoothing: number;
}

type Row = (number | null | undefined)[];
export type Table = [number[], ...Row[]];

/** A part of an attempt's records, by their numbers: those from `after` to below `before`. */
export interface Part {
  after: number;
  before: number;
}

export class Series {
  #attempt = 0;
  #records: MetricRecord[] = [];
  #names = new Set<string>();
  #rises = true;

  /** The names of the values that were a number at least once. */
  get names(): string[] {
    return [...this.#names];
  }

  /** The record that came last. */
  get latest(): MetricRecord | undefined {
    return this.#records.at(-1);
  }

  add(record: MetricRecord): void {
    if (record.attempt !== this.#attempt) {
      this.#attempt = record.attempt;
      this.#records = [];
      this.#names.clear();
      this.#rises = true;
    }
    const last = this.#records.at(-1);
    if (last && record.seq <= last.seq) return;
    if (last && record.step <= last.step) this.#rises = false;
    this.#records.push(record);
    for (const [name, value] of Object.entries(record.values)) {
      if (!AXES.has(name) && !Number.isNaN(numeric(value))) this.#names.add(name);
    }
  }

  get attempt(): number {
    return this.#attempt;
  }

  /** Take in records of the same attempt that lie between those that there are. */
  merge(records: Omit<MetricRecord, "attempt">[]): void {
    const known = new Map(this.#records.map((record) => [record.seq, record]));
    for (const record of records) {
      const there = known.get(record.seq);
      const values = { ...there?.values, ...record.values };
      known.set(record.seq, { ...record, attempt: this.#attempt, values });
    }
    const sorted = [...known.values()].sort((one, other) => one.seq - other.seq);
    this.#records = this.#rises ? rising(sorted) : sorted;
  }

  /** What to ask for, so that so many records are known between two places of the axis, or all. */
  missing(min: number, max: number, view: ChartView, enough: number): Part | undefined {
    if (!this.#records.length) return undefined;
    const [axis] = this.table([], view);
    const first = this.#records[Math.max(axis.findLastIndex((at) => at <= min), 0)]?.seq ?? 0;
    const end = axis.findIndex((at) => at >= max);
    const last = this.#records.at(end < 0 ? -1 : end)?.seq ?? 0;
    const known = this.#records.filter(({ seq }) => first <= seq && seq <= last).length;
    return known < Math.min(enough, last + 1 - first) ? { after: first, before: last + 1 } : undefined;
  }

  /** The axis, then a row for each name: no value where a record has none, null for no number. */
  table(names: string[], view: ChartView): Table {
    const began = Date.parse(this.#records[0]?.at ?? "");
    const axis = this.#records.map((record) => {
      if (view.axis === "time") return (Date.parse(record.at) - began) / 1000;
      return this.#rises ? record.step : record.seq; // where steps do not rise, records are counted
    });
    const rows = names.map((name) => {
      const values = this.#records.map((record) => drawn(record.values[name], view.log));
      return view.smoothing ? smoothed(values, view.smoothing) : values;
    });
    return [axis, ...rows];
  }
}

/** Records whose steps rise: those of one step as one, none that goes back. The axis stays the same. */
function rising(records: MetricRecord[]): MetricRecord[] {
  const kept: MetricRecord[] = [];
  for (const record of records) {
    const last = kept.at(-1);
    if (last?.step === record.step) kept.splice(-1, 1, { ...last, values: { ...last.values, ...record.values } });
    else if (!last || record.step > last.step) kept.push(record);
  }
  return kept;
}

function drawn(value: unknown, log: boolean): number | null | undefined {
  if (value === undefined) return undefined;
  const found = numeric(value);
  return Number.isFinite(found) && (!log || found > 0) ? found : null;
}

/** A running mean in which each value counts `weight` times as much as the one after it. */
function smoothed(values: Row, weight: number): Row {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    sum = sum * weight + value * (1 - weight);
    share = share * weight + 1 - weight;
    return sum / share;
  });
}
