// Colours of a terminal: a line with SGR sequences as pieces of text, each with its classes.

import { LONGEST, UNSHOWN } from "./text";

export interface Piece {
  text: string;
  classes: string;
}

const SEQUENCE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;
/** The switches that SGR has besides colours: the code that sets one, and its class. */
const STYLES: Record<number, string> = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 9: "struck" };
/** Codes that take styles away. */
const ENDS: Record<number, string[]> = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 29: ["struck"] };

class State {
  styles = new Set<string>();
  colour = "";
  ground = "";

  apply(codes: number[]): void {
    for (let at = 0; at < codes.length; at++) {
      const code = codes[at] ?? 0;
      const style = STYLES[code];
      if (code === 0) this.clear();
      else if (style) this.styles.add(style);
      else if (ENDS[code]) for (const ended of ENDS[code]) this.styles.delete(ended);
      else if (code === 38 || code === 48) at = this.#extended(codes, at);
      else this.#plain(code);
    }
  }

  clear(): void {
    this.styles.clear();
    this.colour = this.ground = "";
  }

  get classes(): string {
    const found = [...this.styles].map((style) => `ansi-${style}`);
    if (this.colour) found.push(`ansi-${this.colour}`);
    if (this.ground) found.push(`ansi-on-${this.ground}`);
    return found.join(" ");
  }

  #plain(code: number): void {
    if (code >= 30 && code <= 37) this.colour = String(code - 30);
    else if (code >= 90 && code <= 97) this.colour = String(code - 90);
    else if (code === 39) this.colour = "";
    else if (code >= 40 && code <= 47) this.ground = String(code - 40);
    else if (code >= 100 && code <= 107) this.ground = String(code - 100);
    else if (code === 49) this.ground = "";
  }

  /** `38;5;n` and `38;2;r;g;b`: the nearest of the eight. Returns the place of the last number. */
  #extended(codes: number[], at: number): number {
    const kind = codes[at + 1];
    const length = kind === 5 ? 2 : kind === 2 ? 4 : 1;
    const values = codes.slice(at + 2, at + 1 + length);
    const found = String(kind === 5 ? ofPalette(values[0] ?? 0) : nearest(values));
    if (codes[at] === 38) this.colour = found;
    else this.ground = found;
    return at + length;
  }
}

/** A line as it can be shown: nothing that steers a reader, and not endless. */
export function pieces(line: string): Piece[] {
  const state = new State();
  const found: Piece[] = [];
  let place = 0;
  let left = LONGEST;
  const add = (text: string): void => {
    const shown = text.slice(0, left).replace(UNSHOWN, "\ufffd");
    left -= shown.length;
    if (shown) found.push({ text: shown, classes: state.classes });
  };
  for (const sequence of line.matchAll(SEQUENCE)) {
    add(line.slice(place, sequence.index));
    place = sequence.index + sequence[0].length;
    if (sequence[2] === "m") state.apply((sequence[1] ?? "").split(/[;:]/).map(Number));
  }
  const rest = line.slice(place);
  const isCut = rest.length > left;
  add(rest);
  if (isCut) found.push({ text: " \u2026", classes: "" });
  return found;
}

/** The eight colours that stand for one of the 256. */
function ofPalette(index: number): number {
  if (index < 16) return index % 8;
  if (index >= 232) return index < 244 ? 0 : 7;
  const steps = index - 16;
  return nearest([Math.floor(steps / 36), Math.floor(steps / 6) % 6, steps % 6].map((step) => step * 51));
}

function nearest(channels: number[]): number {
  const most = Math.max(...channels, 96);
  return channels.reduce((sum, value, bit) => sum + (value > most * 0.6 ? 1 << bit : 0), 0);
}
