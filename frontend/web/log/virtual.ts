// A list of which only the rows near the window are in the page, however many there are.
//
// The scroll bar is over all rows, taken to be of one height. Where it stands at a share f of its
// way, the row at f of the list stands at f of the window: so both ends are reached exactly and
// nothing jumps, also where rows that wrap are higher, and where all rows together would be higher
// than a browser can make an element. Between two movements of the bar a row and its place count.

export const ROW = 20;
const TALLEST = 12_000_000;
const BEYOND = 12;

export interface Rows {
  count: number;
  /** What tells a row from others, whatever its index. */
  key(index: number): number;
  /** Fills in a row, anew or again. */
  fill(row: HTMLLIElement, index: number): void;
}

export class Virtual {
  rows: Rows;
  readonly #scroller: HTMLElement;
  readonly #moved: (atEnd: boolean) => void;
  readonly #space = document.createElement("div");
  readonly #window = document.createElement("div");
  readonly #list = document.createElement("ol");
  readonly #shown = new Map<number, HTMLLIElement>();
  readonly #resizes = new ResizeObserver(() => this.draw());
  /** Which row, with a fraction, stands how many pixels below the window's upper edge. */
  #anchor = { row: 0, below: 0 };
  #atEnd = false;
  #expected = -1;
  #widest = 0;

  /** `moved` is called when the reader has moved the list. */
  constructor(scroller: HTMLElement, rows: Rows, moved: (atEnd: boolean) => void) {
    this.#scroller = scroller;
    this.rows = rows;
    this.#moved = moved;
    this.#space.className = "log-space";
    this.#window.className = "log-window";
    this.#window.append(this.#list);
    this.#space.append(this.#window);
    scroller.append(this.#space);
    scroller.addEventListener("scroll", this.#scrolled, { passive: true });
    this.#resizes.observe(scroller);
  }

  close(): void {
    this.#resizes.disconnect();
    this.#scroller.removeEventListener("scroll", this.#scrolled);
    this.#space.remove();
  }

  /** The row at the window's upper edge. */
  get first(): number {
    return Math.max(0, Math.floor(this.#anchor.row - this.#anchor.below / ROW));
  }

  toEnd(): void {
    this.#atEnd = true;
    this.draw();
  }

  /** Stay where it is when rows are added. */
  hold(): void {
    this.#atEnd = false;
  }

  toRow(row: number): void {
    this.#atEnd = false;
    this.#anchor = { row, below: Math.floor(this.#scroller.clientHeight / 3) };
    this.draw();
  }

  /** Forget what the rows were: others are in their place. */
  renew(): void {
    this.#list.replaceChildren();
    this.#shown.clear();
    this.#widest = 0;
    this.#list.style.minWidth = "";
    this.draw();
  }

  draw(): void {
    const { count } = this.rows;
    this.#space.hidden = count === 0;
    this.#space.style.height = `${Math.min(count * ROW, TALLEST)}px`;
    const height = this.#scroller.clientHeight;
    this.#window.style.height = `${height}px`;
    if (this.#atEnd) this.#anchor = { row: count, below: height };
    this.#fill(height);
    this.#place(height);
    this.#moveBar(height);
  }

  #fill(height: number): void {
    const { count } = this.rows;
    const at = Math.min(this.#anchor.row, count);
    const above = Math.ceil(Math.max(this.#anchor.below, 0) / ROW) + BEYOND;
    const below = Math.ceil(Math.max(height - this.#anchor.below, 0) / ROW) + BEYOND;
    const from = Math.max(0, Math.floor(Math.min(at, count - height / ROW)) - above);
    const to = Math.min(count, Math.ceil(Math.max(at, height / ROW)) + below);
    const wanted = new Set<number>();
    let place: ChildNode | null = this.#list.firstChild;
    for (let index = from; index < to; index++) {
      const key = this.rows.key(index);
      wanted.add(key);
      const row = this.#shown.get(key) ?? document.createElement("li");
      this.#shown.set(key, row);
      row.dataset["index"] = String(index);
      this.rows.fill(row, index);
      while (place && place !== row && !this.#isWanted(place, from, to)) {
        const gone: ChildNode = place;
        place = place.nextSibling;
        gone.remove();
      }
      if (place === row) place = place.nextSibling;
      else this.#list.insertBefore(row, place);
    }
    for (const [key, row] of this.#shown) {
      if (wanted.has(key)) continue;
      row.remove();
      this.#shown.delete(key);
    }
  }

  #isWanted(row: ChildNode, from: number, to: number): boolean {
    const index = Number((row as HTMLElement).dataset["index"]);
    return index >= from && index < to;
  }

  /** Puts the anchor in its place, and leaves no room above the first row or below the last. */
  #place(height: number): void {
    const { count } = this.rows;
    const rows = this.#list.children;
    const first = rows[0] as HTMLElement | undefined;
    if (!first) return;
    const from = Number(first.dataset["index"]);
    const index = Math.min(Math.floor(this.#anchor.row), count - 1);
    const row = rows[index - from] as HTMLElement;
    const share = this.#anchor.row - index;
    let up = this.#anchor.below - row.offsetTop - share * row.offsetHeight;
    const reachesEnd = from + rows.length === count;
    if (reachesEnd) up = Math.max(up, height - this.#list.offsetHeight);
    if (from === 0) up = Math.min(up, 0);
    this.#list.style.transform = `translateY(${up}px)`;
    this.#widest = Math.max(this.#widest, this.#list.scrollWidth);
    if (this.#list.scrollWidth > this.#scroller.clientWidth) this.#list.style.minWidth = `${this.#widest}px`;
  }

  #moveBar(height: number): void {
    const { count } = this.rows;
    const way = this.#scroller.scrollHeight - height;
    const share = (this.#anchor.row - this.#anchor.below / ROW) / (count - height / ROW);
    this.#scroller.scrollTop = this.#atEnd ? way : Math.min(Math.max(share, 0), 1) * way;
    this.#expected = this.#scroller.scrollTop;
  }

  #scrolled = (): void => {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (Math.abs(scrollTop - this.#expected) < 1) return;
    const way = scrollHeight - clientHeight;
    const share = way > 0 ? Math.min(Math.max(scrollTop / way, 0), 1) : 1;
    this.#atEnd = way - scrollTop < 1;
    this.#anchor = { row: share * this.rows.count, below: share * clientHeight };
    this.#fill(clientHeight);
    this.#place(clientHeight);
    this.#expected = scrollTop;
    this.#moved(way - scrollTop < ROW);
  };
}
