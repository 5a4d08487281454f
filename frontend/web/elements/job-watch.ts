// <job-watch job="42" name="…">: a switch by which the browser tells when the job has ended.

import { canNotify, isWatched, unwatch, watch } from "../watched";

class JobWatch extends HTMLElement {
  #button = document.createElement("button");
  #word = document.createElement("span");

  connectedCallback(): void {
    this.#button.type = "button";
    this.#button.className = "button";
    this.#button.textContent = "Tell me when it ends";
    this.#word.role = "status";
    this.#word.className = "hint";
    this.#button.addEventListener("click", () => void this.#switch());
    this.replaceChildren(this.#button, this.#word);
    this.#show("");
  }

  get #id(): number {
    return Number(this.getAttribute("job"));
  }

  async #switch(): Promise<void> {
    if (isWatched(this.#id)) {
      unwatch(this.#id);
      this.#show("");
      return;
    }
    watch(this.#id, this.getAttribute("name") ?? "");
    this.#show("");
    const permission = canNotify() ? await Notification.requestPermission() : "denied";
    if (permission !== "granted") this.#show("This browser notifies of nothing here; the tab is marked instead.");
  }

  #show(word: string): void {
    this.#button.ariaPressed = String(isWatched(this.#id));
    this.#word.textContent = word;
  }
}

customElements.define("job-watch", JobWatch);
