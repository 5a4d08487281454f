// Fetches more of the part of an attempt's curves that is zoomed into: of the whole there is a choice.

import type { MetricPage } from "./messages";
import type { ChartView, Part, Series } from "./series";

/** Of what is zoomed into no more is fetched, where so large a part of `points` is known. */
const ENOUGH = 1 / 8;

/** Records of a job, from the address that gives them. */
export async function fetchRecords(address: string, query: Record<string, number>): Promise<MetricPage> {
  const texts = Object.entries(query).map(([name, value]) => `${name}=${value}`);
  const answer = await fetch(`${address}?${texts.join("&")}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()) as MetricPage;
}

export class Finer {
  #attempt = 0;
  #asked: Part[] = [];

  /** `records` gives those that a query names, thinned to about so many `points`. */
  constructor(
    readonly points: number,
    readonly records: (query: Record<string, number>) => Promise<MetricPage>,
  ) {}

  /** See to it that there is enough to draw between two places of the axis; whether more has come. */
  async bring(series: Series, min: number, max: number, view: ChartView): Promise<boolean> {
    const { attempt } = series;
    if (attempt !== this.#attempt) [this.#attempt, this.#asked] = [attempt, []];
    const part = series.missing(min, max, view, this.points * ENOUGH);
    if (!part || this.#asked.some((asked) => covers(asked, part))) return false;
    this.#asked.push(part);
    try {
      const page = await this.records({ attempt, ...part });
      if (page.attempt !== series.attempt) return false; // it has begun anew meanwhile
      series.merge(page.records);
      return true;
    } catch {
      this.#asked = this.#asked.filter((asked) => asked !== part); // it stays as coarse as it is
      return false;
    }
  }
}

/** Whether a part was asked for with another that is hardly larger: that brought as much of it. */
function covers(asked: Part, part: Part): boolean {
  const isInside = asked.after <= part.after && part.before <= asked.before;
  return isInside && 2 * (part.before - part.after) > asked.before - asked.after;
}
