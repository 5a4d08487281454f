// <log-view attempt="…" offset="…" next="…">: a log that goes on.
//
// The server writes the last lines as list items and says up to which byte it has read, and which
// number the next line has; an unfinished last line is marked data-open. What follows is decoded,
// folded and appended here, once for each frame. Only the newest lines are kept in the page.

import type { LogPiece } from "../messages";
import { fold, levelOf, visible } from "../text";

const MOST_LINES = 5_000;
const LONGEST_OPEN = 32_768;
/** Pixels from the end within which the reader counts as being there. */
const AT_END = 24;

export class LogView extends HTMLElement {
  #attempt = 0;
  #offset = 0;
  #next = 0;
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();
  #open = "";
  #lines: string[] = [];
  #frame: number | undefined;
  #following = true;
  #unseen = 0;

  connectedCallback(): void {
    this.#attempt = Number(this.getAttribute("attempt"));
    this.#offset = Number(this.getAttribute("offset"));
    this.#next = Number(this.getAttribute("next"));
    this.#open = this.querySelector("[data-open]")?.textContent ?? "";
    this.#scroller.addEventListener("scroll", this.#noteScroll, { passive: true });
    this.#button?.addEventListener("click", this.#toggle);
    this.#follow(true);
  }

  disconnectedCallback(): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
  }

  add(piece: LogPiece): void {
    if (piece.attempt < this.#attempt) return;
    if (piece.attempt > this.#attempt) this.#beginAttempt(piece.attempt);
    if (piece.end <= this.#offset) return;
    this.#offset = piece.end;
    this.#take(this.#decoder.decode(this.#bytes(piece), { stream: true }));
  }

  /** Nothing follows: an unfinished line is as long as it will be. */
  end(): void {
    this.#take(this.#decoder.decode());
    this.toggleAttribute("ended", true);
  }

  get #list(): HTMLElement {
    return this.querySelector("ol") as HTMLElement;
  }

  get #scroller(): HTMLElement {
    return this.querySelector("[data-scroller]") as HTMLElement;
  }

  get #button(): HTMLButtonElement | null {
    return this.querySelector("[data-follow]");
  }

  #bytes(piece: LogPiece): Uint8Array<ArrayBuffer> {
    if (piece.base64) return Uint8Array.from(atob(piece.base64), (byte) => byte.charCodeAt(0));
    return this.#encoder.encode(piece.text ?? "");
  }

  #take(text: string): void {
    const [first = "", ...rest] = text.split("\n");
    const parts = [this.#open + first, ...rest];
    this.#open = shortened(parts.pop() ?? "");
    for (const part of parts) this.#lines.push(part);
    const surplus = this.#lines.length - MOST_LINES;
    if (surplus > 0) {
      this.#lines.splice(0, surplus);
      this.#next += surplus;
      this.#list.replaceChildren();
    }
    this.#frame ??= requestAnimationFrame(this.#draw);
  }

  #beginAttempt(attempt: number): void {
    this.#draw();
    this.#list.querySelector("[data-open]")?.removeAttribute("data-open");
    const divider = document.createElement("li");
    divider.className = "log-divider";
    divider.textContent = `Attempt ${attempt}`;
    if (this.#attempt > 0) this.#list.append(divider);
    this.#attempt = attempt;
    this.#decoder = new TextDecoder();
    this.#open = "";
    this.#offset = this.#next = 0;
  }

  #draw = (): void => {
    this.#frame = undefined;
    const added = document.createDocumentFragment();
    for (const line of this.#lines) added.append(this.#item(line, this.#next++));
    const count = this.#lines.length;
    this.#lines = [];
    this.#list.querySelector("[data-open]")?.remove();
    if (this.#open) {
      const item = this.#item(this.#open, this.#next);
      item.dataset["open"] = "";
      added.append(item);
    }
    if (!added.childElementCount) return;
    this.querySelector("[data-empty]")?.remove();
    this.#list.append(added);
    this.#trim();
    if (this.#following) this.#scrollToEnd();
    else this.#showUnseen(this.#unseen + count);
  };

  #item(line: string, at: number): HTMLLIElement {
    const text = visible(fold(line));
    const item = document.createElement("li");
    item.dataset["level"] = levelOf(text);
    item.dataset["line"] = String(at + 1);
    item.textContent = text;
    return item;
  }

  #trim(): void {
    for (let surplus = this.#list.childElementCount - MOST_LINES; surplus > 0; surplus--) {
      this.#list.firstElementChild?.remove();
    }
    const first = this.#list.querySelector<HTMLElement>("[data-line]")?.dataset["line"];
    this.querySelector("[data-earlier]")?.toggleAttribute("hidden", first === "1");
  }

  #noteScroll = (): void => {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const atEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    if (atEnd !== this.#following) this.#follow(atEnd);
  };

  #toggle = (): void => this.#follow(!this.#following);

  #follow(following: boolean): void {
    this.#following = following;
    this.#showUnseen(0);
    if (following) this.#scrollToEnd();
  }

  #showUnseen(count: number): void {
    this.#unseen = count;
    if (!this.#button) return;
    this.#button.setAttribute("aria-pressed", String(this.#following));
    const place = this.#button.querySelector("[data-unseen]");
    place?.replaceChildren(count ? `${count} new` : "");
  }

  #scrollToEnd(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }
}

/** An unfinished line without what will never be shown, so that it cannot grow for ever. */
function shortened(line: string): string {
  if (line.length < LONGEST_OPEN) return line;
  const folded = fold(line).slice(0, LONGEST_OPEN);
  return line.endsWith("\r") ? `${folded}\r` : folded;
}

customElements.define("log-view", LogView);
