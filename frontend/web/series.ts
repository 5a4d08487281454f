// The numeric values of one attempt's PROGRESS records, as series over the steps.

import type { MetricRecord, Values } from "./messages";
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

export class Series {
  #attempt = 0;
  #records: MetricRecord[] = [];
  #names = new Set<string>();
  #rises = true;

  /** The names of the values that were a number at least once. */
  get names(): string[] {
    return [...this.#names];
  }

  /** The values of the record that came last. */
  get latest(): Values | undefined {
    return this.#records.at(-1)?.values;
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

  /** The axis, then a row for each name; where steps do not rise, records are counted instead. */
  table(names: string[]): [number[], ...(number | null)[][]] {
    const axis = this.#records.map((record) => (this.#rises ? record.step : record.seq));
    const rows = names.map((name) =>
      this.#records.map((record) => {
        const value = numeric(record.values[name]);
        return Number.isFinite(value) ? value : null;
      }),
    );
    return [axis, ...rows];
  }
}
