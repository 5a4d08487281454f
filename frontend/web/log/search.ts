// The tools that look through a log: a level that is shown alone, a text that is gone to.

import { Matches } from "./matches";
import type { State } from "../stream";
import type { Line } from "./source";

const TYPING = 250;

export interface Found {
  /** Of the API's log. */
  address: string;
  /** The attempt that is shown. */
  attempt: () => number;
  /** Which lines are shown has changed. */
  filtered: () => void;
  /** The search is at a line. */
  found: (line: number) => void;
  /** The reader wants to see a line. */
  goTo: (line: number) => void;
}

export class LogSearch {
  /** The lines that are shown; undefined if all are. */
  filter: Matches | undefined;
  /** The line that the search is at. */
  current: number | undefined;
  readonly #found: Found;
  readonly #field: HTMLInputElement;
  readonly #level: HTMLSelectElement;
  readonly #word: HTMLElement;
  readonly #steps: HTMLButtonElement[];
  #matches: Matches | undefined;
  #at = -1;
  #typing: number | undefined;

  constructor(view: HTMLElement, found: Found) {
    this.#found = found;
    this.#field = view.querySelector("[data-search]") as HTMLInputElement;
    this.#level = view.querySelector("[data-level-filter]") as HTMLSelectElement;
    this.#word = view.querySelector("[data-found]") as HTMLElement;
    this.#steps = [...view.querySelectorAll<HTMLButtonElement>("[data-step]")];
    for (const button of this.#steps) {
      button.addEventListener("click", () => this.#step(Number(button.dataset["step"])));
    }
    this.#field.addEventListener("input", this.#typed);
    this.#field.addEventListener("keydown", this.#pressed);
    this.#level.addEventListener("change", () => this.#filterAnew());
    document.addEventListener("dtrain:connection", this.#tryAgain);
  }

  /** The text to mark in lines. */
  get marks(): string {
    return this.#matches ? this.#matches.wanted.q : "";
  }

  focus(): void {
    this.#field.focus();
    this.#field.select();
  }

  stop(): void {
    clearTimeout(this.#typing);
    document.removeEventListener("dtrain:connection", this.#tryAgain);
    this.filter?.stop();
    this.#matches?.stop();
  }

  /** Look again, in another attempt. */
  restart(): void {
    this.#filterAnew();
  }

  /** What failed while the server was away is looked for when it is back. */
  #tryAgain = (event: Event): void => {
    if ((event as CustomEvent<State>).detail !== "open") return;
    if (this.filter?.failed) this.#filterAnew();
    else if (this.#matches?.failed) this.#searchAnew();
  };

  /** A line has come. */
  add(number: number, line: Line): void {
    this.filter?.add(number, line);
    this.#matches?.add(number, line);
    if (this.#matches?.complete) this.#tell();
  }

  #filterAnew(): void {
    this.filter?.stop();
    const level = this.#level.value;
    this.filter = level
      ? new Matches(this.#found.address, this.#wanted(""), () => this.#found.filtered())
      : undefined;
    this.#searchAnew();
    this.#found.filtered();
  }

  #wanted(q: string): Matches["wanted"] {
    return { attempt: this.#found.attempt(), level: this.#level.value, q };
  }

  #typed = (): void => {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => {
      if (this.#field.value !== this.marks) this.#searchAnew();
    }, TYPING);
  };

  #pressed = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && this.#field.value) this.#field.value = "";
    else if (event.key !== "Enter") return;
    event.preventDefault();
    clearTimeout(this.#typing);
    const line = /^:(\d{1,15})$/.exec(this.#field.value)?.[1];
    if (line !== undefined) this.#found.goTo(Math.max(Number(line) - 1, 0));
    else if (this.#field.value !== this.marks) this.#searchAnew();
    else this.#step(event.shiftKey ? -1 : 1);
  };

  #searchAnew(): void {
    this.#matches?.stop();
    this.#at = -1;
    this.current = undefined;
    const q = this.#field.value;
    const isText = q !== "" && !/^:\d*$/.test(q);
    this.#matches = isText
      ? new Matches(this.#found.address, this.#wanted(q), () => this.#progress())
      : undefined;
    this.#tell();
    this.#found.filtered();
  }

  /** The server has found some: the last one is gone to first, the log being read from its end. */
  #progress(): void {
    if (this.#matches?.complete && this.#at < 0) this.#step(-1);
    this.#tell();
  }

  #step(by: number): void {
    const matches = this.#matches;
    if (!matches?.count) return;
    const from = this.#at < 0 && by > 0 ? -1 : Math.max(this.#at, 0);
    this.#at = (from + by + matches.count) % matches.count;
    this.current = matches.nth(this.#at);
    this.#found.found(this.current);
    this.#tell();
  }

  #tell(): void {
    const matches = this.#matches;
    for (const button of this.#steps) button.disabled = !matches?.count;
    const count = matches?.count.toLocaleString("en") ?? "";
    if (!matches) this.#word.textContent = "";
    else if (matches.failed) this.#word.textContent = "The search failed";
    else if (!matches.complete) this.#word.textContent = "Searching…";
    else if (!matches.count) this.#word.textContent = "No match";
    else this.#word.textContent = `${(this.#at + 1).toLocaleString("en")} of ${count}`;
  }
}
