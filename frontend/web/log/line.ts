// One line of a log as a list item: its number, which is a link to it, and its text in colours.

import { pieces, type Piece } from "../ansi";
import { fold } from "../text";
import type { Line } from "./source";

const filled = new WeakMap<HTMLElement, string>();

export interface Place {
  /** The address names it. */
  linked: boolean;
  /** The search is at it. */
  current: boolean;
  /** What the address is then. */
  address: string;
}

/** Fills in a row, unless it shows all this already; `marks` is a text to mark in it. */
export function fillLine(
  row: HTMLLIElement,
  number: number,
  line: Line | undefined,
  marks: string,
  place: Place,
): void {
  const state = JSON.stringify([number, line?.level, line?.text, marks, place]);
  if (filled.get(row) === state) return;
  filled.set(row, state);
  row.dataset["line"] = String(number + 1);
  row.dataset["level"] = line?.level ?? "INFO";
  row.toggleAttribute("data-linked", place.linked);
  row.toggleAttribute("data-current", place.current);
  const link = document.createElement("a");
  link.href = place.address;
  link.tabIndex = -1;
  link.dataset["number"] = String(number + 1);
  link.ariaLabel = `Line ${number + 1}`;
  const text = document.createElement("span");
  if (line) text.append(...marked(pieces(fold(line.text)), marks).map(element));
  row.replaceChildren(link, text);
}

interface Marked extends Piece {
  isMark: boolean;
}

function element({ text, classes, isMark }: Marked): Node {
  if (!classes && !isMark) return document.createTextNode(text);
  const found = document.createElement(isMark ? "mark" : "span");
  found.className = classes;
  found.textContent = text;
  return found;
}

/** The pieces, cut where a text begins and ends that is to be marked, whatever its case. */
function marked(found: Piece[], sought: string): Marked[] {
  const whole = lowered(found.map(({ text }) => text).join(""));
  const part = lowered(sought);
  const edges: [number, number][] = [];
  for (let at = part ? whole.indexOf(part) : -1; at >= 0; at = whole.indexOf(part, at + part.length)) {
    edges.push([at, at + part.length]);
  }
  const cut: Marked[] = [];
  let place = 0;
  for (const { text, classes } of found) {
    const end = place + text.length;
    let from = place;
    for (const [first, last] of edges) {
      if (last <= from || first >= end) continue;
      if (first > from) cut.push({ text: text.slice(from - place, first - place), classes, isMark: false });
      const to = Math.min(last, end);
      cut.push({ text: text.slice(Math.max(first, from) - place, to - place), classes, isMark: true });
      from = to;
    }
    if (from < end) cut.push({ text: text.slice(from - place), classes, isMark: false });
    place = end;
  }
  return cut;
}

/** In small letters, each where it was: letters that would become two are left. */
function lowered(text: string): string {
  const small = text.toLowerCase();
  if (small.length === text.length) return small;
  return [...text].map((letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join("");
}
