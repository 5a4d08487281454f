// The lines of one attempt's log: fetched in blocks as they are looked at, and taken from the stream.

import { fold, levelOf } from "../text";

export interface Line {
  level: string;
  text: string;
  isMakeshift?: boolean;
}

interface Page {
  lines: { number: number; level: string; text: string }[];
  total_lines: number;
}

const BLOCK = 500;
/** Lines of one level that are fetched at once; the server may have to look far for them. */
const FILTERED = 120;
/** Lines that are kept; others can always be fetched again. */
const MOST_LINES = 30_000;
const AGAIN_AFTER = 2_000;

export class LogSource {
  /** Lines that have ended. */
  total: number;
  /** The line that has begun; empty if there is none. */
  open = "";
  readonly attempt: number;
  readonly #address: string;
  readonly #changed: () => void;
  readonly #lines = new Map<number, Line>();
  /** Lines with which what is on its way begins. */
  readonly #asked = new Set<number>();

  /** `changed` is called when lines have come that were looked at before they were there. */
  constructor(address: string, attempt: number, total: number, changed: () => void) {
    this.#address = address;
    this.attempt = attempt;
    this.total = total;
    this.#changed = changed;
  }

  /** How many lines there are to show. */
  get count(): number {
    return this.total + (this.open ? 1 : 0);
  }

  /** How many lines an attempt of which nothing is known has. */
  static async total(address: string, attempt: number): Promise<number> {
    return (await ask(address, { attempt, limit: 1, tail: "true" })).total_lines;
  }

  /** A line; undefined while it is on its way. `level` says which ones are looked at, if not all. */
  line(number: number, level: string): Line | undefined {
    if (number === this.total) return told(this.open);
    const found = this.#lines.get(number);
    if (found && !found.isMakeshift) return found;
    const first = Math.floor(number / BLOCK) * BLOCK;
    if (!level && !this.#asked.has(first)) void this.#fetch(first, { limit: BLOCK });
    if (level && !this.#asked.size) void this.#fetch(number, { limit: FILTERED, level });
    return found;
  }

  /** Put in a line that is known; a makeshift one is shown until it has been fetched. */
  put(number: number, line: Line, isMakeshift = false): void {
    this.#lines.delete(number);
    this.#lines.set(number, isMakeshift ? { ...line, isMakeshift } : line);
    for (const oldest of this.#lines.keys()) {
      if (this.#lines.size <= MOST_LINES) break;
      this.#lines.delete(oldest);
    }
  }

  /** A line has ended. */
  add(text: string): Line {
    const line = told(text);
    this.put(this.total, line);
    this.total += 1;
    return line;
  }

  async #fetch(first: number, query: Record<string, string | number>): Promise<void> {
    this.#asked.add(first);
    const ended = this.total;
    try {
      const page = await ask(this.#address, { attempt: this.attempt, after: first, ...query });
      for (const { number, level, text } of page.lines) {
        if (number < ended) this.put(number, { level, text });
      }
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER));
    }
    this.#asked.delete(first);
    this.#changed();
  }
}

function told(text: string): Line {
  return { level: levelOf(fold(text)), text };
}

async function ask(address: string, query: Record<string, string | number>): Promise<Page> {
  const parameters = new URLSearchParams(Object.entries(query).map(([k, v]) => [k, String(v)]));
  const answer = await fetch(`${address}?${parameters}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`The server answered ${answer.status}`);
  return (await answer.json()) as Page;
}
