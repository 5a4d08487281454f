// <log-view address="…" attempt="…" offset="…" next="…">: the log of a job, however long.
//
// The server writes the last lines as list items and says up to which byte it has read, and which
// number the next line has; an unfinished last line is marked data-open. From there on only the
// lines near the window are in the page. What follows comes by the stream; the rest is fetched.

import { LogSearch } from "../log/search";
import { LogSource, type Line } from "../log/source";
import { fillLine } from "../log/line";
import { Virtual } from "../log/virtual";
import type { LogPiece } from "../messages";
import { fold } from "../text";
import { keysAreOn } from "./list-keys";

const LONGEST_OPEN = 32_768;
const WRAP = "dtrain.wrap";

export class LogView extends HTMLElement {
  #source!: LogSource;
  #list!: Virtual;
  #search!: LogSearch;
  /** Of the attempt that the stream is at. */
  #live!: LogSource;
  #offset = 0;
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();
  #frame: number | undefined;
  #following = true;
  #unseen = 0;
  #marked: number | undefined;

  connectedCallback(): void {
    const attempt = Number(this.getAttribute("attempt"));
    this.#offset = Number(this.getAttribute("offset"));
    this.#live = this.#source = this.#made(attempt, Number(this.getAttribute("next")));
    this.#takeOver();
    this.#list = new Virtual(this.#scroller, this.#rows(), (atEnd) => this.#setFollowing(atEnd));
    this.#search = new LogSearch(this, {
      address: this.#address,
      attempt: () => this.#source.attempt,
      filtered: () => this.#showRows(),
      found: (line) => this.#show(line),
      goTo: (line) => this.#link(line),
    });
    this.#on("[data-follow]", "click", () => this.#follow(!this.#following));
    this.#on("[data-new]", "click", () => this.#follow(true));
    this.#on("[data-wrap]", "click", () => this.#wrap());
    this.#on("[data-attempt]", "change", () => void this.#choose());
    this.#scroller.addEventListener("click", this.#clicked);
    document.addEventListener("keydown", this.#pressed);
    addEventListener("hashchange", this.#goToHash);
    if (localStorage.getItem(WRAP) === "on") this.#wrap();
    this.#follow(true);
    void this.#goToHash();
  }

  disconnectedCallback(): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    document.removeEventListener("keydown", this.#pressed);
    removeEventListener("hashchange", this.#goToHash);
    this.#search.stop();
    this.#list.close();
  }

  add(piece: LogPiece): void {
    if (piece.attempt < this.#live.attempt) return;
    if (piece.attempt > this.#live.attempt) this.#beginAttempt(piece.attempt);
    if (piece.end <= this.#offset) return;
    const known = Math.max(this.#offset - piece.offset, 0); // it may overlap with what is there
    this.#offset = piece.end;
    this.#take(this.#decoder.decode(this.#bytes(piece).subarray(known), { stream: true }));
  }

  /** Nothing follows: an unfinished line is as long as it will be. */
  end(): void {
    this.#take(this.#decoder.decode());
    this.toggleAttribute("ended", true);
  }

  get #address(): string {
    return this.getAttribute("address") ?? "";
  }

  get #scroller(): HTMLElement {
    return this.querySelector("[data-scroller]") as HTMLElement;
  }

  #on(selector: string, event: string, work: () => void): void {
    this.querySelector(selector)?.addEventListener(event, work);
  }

  #made(attempt: number, total: number): LogSource {
    return new LogSource(this.#address, attempt, total, () => this.#later());
  }

  /** The lines that the server has written are shown until they have come with their colours. */
  #takeOver(): void {
    const list = this.#scroller.querySelector("ol");
    for (const item of list?.querySelectorAll<HTMLElement>("[data-line]") ?? []) {
      const text = item.textContent ?? "";
      if (item.dataset["open"] !== undefined) this.#source.open = text;
      else this.#source.put(Number(item.dataset["line"]) - 1, { level: item.dataset["level"] ?? "", text }, true);
    }
    list?.remove();
    this.querySelector("[data-earlier]")?.remove();
  }

  #bytes(piece: LogPiece): Uint8Array<ArrayBuffer> {
    if (piece.base64) return Uint8Array.from(atob(piece.base64), (byte) => byte.charCodeAt(0));
    return this.#encoder.encode(piece.text ?? "");
  }

  #take(text: string): void {
    const [first = "", ...rest] = text.split("\n");
    const parts = [this.#live.open + first, ...rest];
    this.#live.open = shortened(parts.pop() ?? "");
    for (const part of parts) {
      const number = this.#live.total;
      const line = this.#live.add(part);
      if (this.#live === this.#source) this.#search.add(number, line);
    }
    if (this.#live !== this.#source) return;
    if (!this.#following) this.#showUnseen(this.#unseen + parts.length);
    this.#later();
  }

  #beginAttempt(attempt: number): void {
    const wasShown = this.#live === this.#source;
    this.#live = this.#made(attempt, 0);
    this.#decoder = new TextDecoder();
    this.#offset = 0;
    const choice = this.querySelector<HTMLSelectElement>("[data-attempt]");
    if (choice) {
      choice.add(new Option(`Attempt ${attempt}`, String(attempt)));
      choice.hidden = choice.options.length < 2;
    }
    if (wasShown && this.#following) this.#showSource(this.#live);
  }

  async #choose(): Promise<void> {
    const chosen = Number(this.querySelector<HTMLSelectElement>("[data-attempt]")?.value);
    if (chosen === this.#live.attempt) return this.#showSource(this.#live);
    const total = await LogSource.total(this.#address, chosen);
    this.#showSource(this.#made(chosen, total));
  }

  #showSource(source: LogSource): void {
    this.#source = source;
    this.#marked = undefined;
    const choice = this.querySelector<HTMLSelectElement>("[data-attempt]");
    if (choice) choice.value = String(source.attempt);
    for (const link of this.querySelectorAll<HTMLAnchorElement>("[data-raw]")) {
      const url = new URL(link.href);
      url.searchParams.set("attempt", String(source.attempt));
      link.href = url.href;
    }
    this.#search.restart();
    this.#showRows();
    this.#follow(true);
  }

  /** The rows are those of another attempt, or filter. */
  #showRows(): void {
    this.#list.rows = this.#rows();
    this.#list.renew();
    this.#note();
  }

  #rows(): Virtual["rows"] {
    const source = this.#source;
    const filter = this.#search?.filter;
    const line = (index: number): number => (filter ? filter.nth(index) : index);
    return {
      get count() {
        return filter ? filter.count : source.count;
      },
      key: line,
      fill: (row, index) => this.#fill(row, line(index)),
    };
  }

  #fill(row: HTMLLIElement, number: number): void {
    const line: Line | undefined = this.#source.line(number, this.#search?.filter?.wanted.level ?? "");
    fillLine(row, number, line, this.#search.marks, {
      linked: number === this.#marked,
      current: number === this.#search.current,
      address: this.#hash(number + 1),
    });
  }

  #later(): void {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      this.#note();
      this.#list.draw();
    });
  }

  #note(): void {
    const isEmpty = this.#list.rows.count === 0;
    const filter = this.#search.filter;
    this.querySelector("[data-empty]")?.toggleAttribute("hidden", !isEmpty || filter !== undefined);
    const none = this.querySelector<HTMLElement>("[data-none]");
    if (!none) return;
    none.hidden = !isEmpty || !filter;
    none.textContent = filter?.failed ? "The server did not answer." : filter?.complete ? "No such line." : "Searching…";
  }

  /** Brings a line into view. */
  #show(line: number): void {
    const filter = this.#search.filter;
    this.#setFollowing(false);
    this.#list.toRow(filter ? filter.rank(line) : line);
  }

  /** Makes a line the one that the address names. */
  #link(line: number): void {
    history.replaceState(history.state, "", this.#hash(line + 1));
    void this.#goToHash();
  }

  /** The address of a line: of an attempt that is not the latest, with its number. */
  #hash(line: number): string {
    const { attempt } = this.#source;
    return attempt === this.#live.attempt ? `#L${line}` : `#A${attempt}L${line}`;
  }

  #goToHash = async (): Promise<void> => {
    const [, attempt, line] = /^#(?:A(\d{1,9}))?L(\d{1,15})$/.exec(location.hash) ?? [];
    if (line === undefined || Number(line) < 1) return;
    if (!(await this.#goToAttempt(Number(attempt ?? this.#live.attempt)))) return;
    this.#marked = Math.min(Number(line), this.#source.count) - 1;
    this.#show(this.#marked);
    this.#scroller.scrollIntoView({ block: "nearest" });
  };

  /** Shows an attempt's log, unless it is there; false if there is no such attempt. */
  async #goToAttempt(number: number): Promise<boolean> {
    if (number === this.#source.attempt) return true;
    const choice = this.querySelector<HTMLSelectElement>("[data-attempt]");
    if (!choice || ![...choice.options].some((option) => option.value === String(number))) return false;
    choice.value = String(number);
    await this.#choose();
    return this.#source.attempt === number;
  }

  #clicked = (event: Event): void => {
    const link = (event.target as HTMLElement).closest<HTMLElement>("a[data-number]");
    if (!link) return;
    event.preventDefault();
    history.replaceState(history.state, "", this.#hash(Number(link.dataset["number"])));
    this.#marked = Number(link.dataset["number"]) - 1;
    this.#list.draw();
  };

  #pressed = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    const isElsewhere = !this.contains(target) && target !== document.body && target.id !== "main";
    const isTyping = target.matches("input, textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || isElsewhere || isTyping) return;
    if (!keysAreOn() || document.querySelector("dialog[open]")) return;
    if (event.key === "/") this.#search.focus();
    else if (event.key === "f") this.#follow(!this.#following);
    else if (event.key === "w") this.#wrap();
    else return;
    event.preventDefault();
  };

  #wrap(): void {
    const wraps = this.toggleAttribute("wrap");
    localStorage.setItem(WRAP, wraps ? "on" : "off");
    this.querySelector("[data-wrap]")?.setAttribute("aria-pressed", String(wraps));
    this.#list.renew();
  }

  #follow(following: boolean): void {
    this.#setFollowing(following);
    if (following) this.#list.toEnd();
    else this.#list.hold();
  }

  #setFollowing(following: boolean): void {
    if (following) this.#showUnseen(0);
    if (following === this.#following) return;
    this.#following = following;
    this.querySelector("[data-follow]")?.setAttribute("aria-pressed", String(following));
  }

  #showUnseen(count: number): void {
    this.#unseen = count;
    const button = this.querySelector<HTMLElement>("[data-new]");
    if (!button) return;
    button.hidden = count === 0;
    button.textContent = `${count} new line${count === 1 ? "" : "s"}`;
  }
}

/** An unfinished line without what will never be shown, so that it cannot grow for ever. */
function shortened(line: string): string {
  if (line.length < LONGEST_OPEN) return line;
  const folded = fold(line).slice(0, LONGEST_OPEN);
  return line.endsWith("\r") ? `${folded}\r` : folded;
}

customElements.define("log-view", LogView);
