// <job-list>: the jobs of a page, of which some can be chosen and acted on together.
//
// Choosing is a matter of checkboxes and works without this; here are ranges, all of a page, the
// number that is chosen, and the question before anything is deleted.

import { changed } from "../changes";
import type { RequestContext } from "../requests";

class JobList extends HTMLElement {
  #last: HTMLInputElement | undefined;

  connectedCallback(): void {
    this.addEventListener("click", this.#click);
    this.addEventListener("change", this.#show);
    document.addEventListener("htmx:after:swap", this.#afterSwap);
    this.#show();
  }

  disconnectedCallback(): void {
    this.removeEventListener("click", this.#click);
    this.removeEventListener("change", this.#show);
    document.removeEventListener("htmx:after:swap", this.#afterSwap);
  }

  get #boxes(): HTMLInputElement[] {
    return [...this.querySelectorAll<HTMLInputElement>("input[name=job]")];
  }

  #click = (event: MouseEvent): void => {
    const target = event.target as HTMLElement;
    if (target instanceof HTMLInputElement && target.name === "job") {
      if (event.shiftKey) this.#chooseRange(target);
      this.#last = target;
    } else if (target instanceof HTMLInputElement && target.id === "pick-all") {
      this.#choose(this.#boxes, target.checked);
    } else if (target.closest("[data-clear]")) {
      this.#choose(this.#boxes, false);
    } else if (target.closest("button[value=delete]")) {
      event.preventDefault();
      this.#dialog?.showModal();
    } else if (target.closest("[data-close], button[value=delete-surely]")) {
      this.#dialog?.close();
    }
  };

  get #dialog(): HTMLDialogElement | null {
    return this.querySelector("dialog");
  }

  #chooseRange(end: HTMLInputElement): void {
    const boxes = this.#boxes;
    const ends = [boxes.indexOf(this.#last ?? end), boxes.indexOf(end)].sort((a, b) => a - b);
    const [from = -1, to = -1] = ends;
    if (from >= 0) this.#choose(boxes.slice(from, to + 1), end.checked);
  }

  #choose(boxes: HTMLInputElement[], chosen: boolean): void {
    for (const box of boxes) box.checked = chosen;
    this.#show();
  }

  #show = (): void => {
    const boxes = this.#boxes;
    const number = boxes.filter((box) => box.checked).length;
    const all = this.querySelector<HTMLInputElement>("#pick-all");
    if (all) {
      all.checked = number > 0 && number === boxes.length;
      all.indeterminate = number > 0 && number < boxes.length;
    }
    const jobs = number === 1 ? "1 job" : `${number} jobs`;
    this.#say("[data-count]", number ? `${jobs} chosen` : "");
    this.#say("[data-question]", `Delete ${jobs}?`);
    const compare = this.querySelector<HTMLButtonElement>("button[value=compare]");
    if (compare) compare.disabled = number < 2;
    this.querySelector("[data-clear]")?.toggleAttribute("hidden", number === 0);
  };

  #say(place: string, text: string): void {
    const element = this.querySelector(place);
    if (element && element.textContent !== text) element.textContent = text;
  }

  #afterSwap = (event: Event): void => {
    const { ctx } = (event as CustomEvent<{ ctx?: RequestContext }>).detail;
    if (ctx?.sourceElement.id === "chosen") this.#choose(this.#boxes, false);
    else this.#show();
  };
}

/** What became of the jobs stands above the list, which may have been scrolled far. */
document.addEventListener("htmx:after:swap", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx?: RequestContext }>).detail;
  const outcome = document.getElementById("outcome");
  if (ctx?.sourceElement.id !== "chosen" || !outcome?.firstElementChild) return;
  outcome.focus({ preventScroll: true });
  outcome.scrollIntoView({ block: "nearest" });
});

/** A list that was narrowed in another way than by its fields has these say so as well. */
document.addEventListener("htmx:after:swap", () => {
  for (const field of document.querySelectorAll<HTMLSelectElement>("#find select")) {
    const index = [...field.options].findIndex((option) => option.defaultSelected);
    if (field !== document.activeElement) field.selectedIndex = Math.max(index, 0);
  }
});

/** Jobs of a view that has been left since: only what became of them is shown, not that view. */
document.addEventListener("htmx:before:response", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  const address = document.getElementById("chosen")?.getAttribute("hx-post");
  if (ctx.sourceElement.id !== "chosen" || ctx.request.action === address) return;
  ctx.target = document.getElementById("outcome");
  ctx.select = "#outcome";
  ctx.selectOOB = null;
  changed("jobs");
});

/** A list that waited with its change for another view to come fetches that view, not its own. */
document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  const view = ctx.sourceElement.getAttribute("hx-get");
  if (ctx.sourceElement.id === "jobs" && view) ctx.request.action = view;
});

/** What is not filled in does not stand in the address. */
document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  if (ctx.sourceElement.id !== "find") return;
  for (const [name, value] of [...ctx.request.body]) {
    if (value === "") ctx.request.body.delete(name);
  }
});

customElements.define("job-list", JobList);
