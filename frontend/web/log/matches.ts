// The lines of a log that match: told by the server for what is there, added to as lines come.

import type { Line } from "./source";
import { fold, visible } from "../text";

export interface Wanted {
  attempt: number;
  /** Levels with commas between them; all if it is empty. */
  level: string;
  q: string;
}

interface Answer {
  ranges: [number, number][];
  next: number;
  more: boolean;
}

export class Matches {
  /** How many lines match, of those that were looked at. */
  count = 0;
  /** Whether the server has looked through all that was there. */
  complete = false;
  failed = false;
  readonly wanted: Wanted;
  readonly #changed: () => void;
  readonly #stop = new AbortController();
  #ranges: [number, number][] = [];
  /** How many lines match before each range. */
  #before: number[] = [];
  /** Lines that came while the server was looking. */
  #late: number[] = [];

  constructor(address: string, wanted: Wanted, changed: () => void) {
    this.wanted = wanted;
    this.#changed = changed;
    void this.#look(address);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** A line has come that the server may not have looked at. */
  add(number: number, line: Line): void {
    const { level, q } = this.wanted;
    if (level && !level.split(",").includes(line.level)) return;
    if (q && !visible(fold(line.text)).toLowerCase().includes(q.toLowerCase())) return;
    if (this.complete) this.#append(number, number);
    else this.#late.push(number);
  }

  /** The line that matches after `index` others. */
  nth(index: number): number {
    const at = last(this.#before, index);
    return (this.#ranges[at]?.[0] ?? 0) + index - (this.#before[at] ?? 0);
  }

  /** How many lines match before a line. */
  rank(line: number): number {
    const at = last(this.#ranges.map(([first]) => first), line - 1);
    const range = this.#ranges[at];
    if (!range) return 0;
    return (this.#before[at] ?? 0) + Math.min(line - range[0], range[1] - range[0] + 1);
  }

  async #look(address: string): Promise<void> {
    const { attempt, level, q } = this.wanted;
    let after = 0;
    let more = true;
    try {
      while (more) {
        const query = new URLSearchParams({ attempt: String(attempt), level, q, after: String(after) });
        const answer = await fetch(`${address}/matches?${query}`, { signal: this.#stop.signal });
        if (!answer.ok) throw new Error(`The server answered ${answer.status}`);
        const found = (await answer.json()) as Answer;
        for (const [first, end] of found.ranges) this.#append(first, end);
        ({ more, next: after } = found);
        if (more) this.#changed();
      }
    } catch {
      if (this.#stop.signal.aborted) return;
      this.failed = true;
    }
    this.complete = true;
    for (const number of this.#late) this.#append(number, number);
    this.#changed();
  }

  #append(first: number, end: number): void {
    const range = this.#ranges.at(-1);
    if (range && first <= range[1]) return;
    if (range && first === range[1] + 1) range[1] = end;
    else {
      this.#ranges.push([first, end]);
      this.#before.push(this.count);
    }
    this.count += end - first + 1;
  }
}

/** The index of the last number that is not above a value; 0 if all are. */
function last(numbers: number[], value: number): number {
  let low = 0;
  let high = numbers.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((numbers[middle] ?? 0) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
