// <list-keys>: the list of jobs by the keyboard, and the dialog that says how, also on a job's page.

const OFF = "dtrain.keys";

/** Whether keys of one letter do something, which is for each to choose. */
export function keysAreOn(): boolean {
  return localStorage.getItem(OFF) !== "off";
}

class ListKeys extends HTMLElement {
  connectedCallback(): void {
    document.addEventListener("keydown", this.#press);
    this.addEventListener("click", this.#click);
    this.addEventListener("change", this.#switch);
    const box = this.querySelector<HTMLInputElement>("[data-on]");
    if (box) box.checked = keysAreOn();
  }

  disconnectedCallback(): void {
    document.removeEventListener("keydown", this.#press);
  }

  get #dialog(): HTMLDialogElement | null {
    return this.querySelector("dialog");
  }

  #switch = (event: Event): void => {
    const on = (event.target as HTMLInputElement).checked;
    if (on) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "off");
  };

  #click = (event: Event): void => {
    const target = event.target as HTMLElement;
    if (target.closest("[data-open]")) this.#dialog?.showModal();
    else if (target.closest("[data-close]")) this.#dialog?.close();
  };

  #press = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!keysAreOn() || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const search = document.getElementById("search");
    const act = {
      "?": () => this.#dialog?.showModal(),
      j: () => move(1),
      k: () => move(-1),
      x: () => current()?.querySelector<HTMLInputElement>("input[name=job]")?.click(),
      ...(search && { "/": () => search.focus() }),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox])");
}

function current(): Element | null {
  return document.activeElement?.closest("tr[data-job]") ?? null;
}

function move(by: 1 | -1): void {
  const rows = [...document.querySelectorAll("#jobs tr[data-job]")];
  const row = current();
  const at = row ? rows.indexOf(row) + by : by > 0 ? 0 : rows.length - 1;
  rows[at]?.querySelector<HTMLElement>(".job-link")?.focus();
}

customElements.define("list-keys", ListKeys);
