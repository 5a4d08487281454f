// <connection-status>: whether what the page shows is live.

import type { State } from "../stream";

const WORDS: Record<State, string> = {
  connecting: "Connecting…",
  open: "Live",
  reconnecting: "Reconnecting…",
  ended: "",
};

class ConnectionStatus extends HTMLElement {
  connectedCallback(): void {
    document.addEventListener("dtrain:connection", this.#show);
  }

  disconnectedCallback(): void {
    document.removeEventListener("dtrain:connection", this.#show);
  }

  #show = (event: Event): void => {
    const state = (event as CustomEvent<State>).detail;
    if (this.dataset["state"] === state) return;
    this.dataset["state"] = state;
    this.textContent = WORDS[state];
  };
}

customElements.define("connection-status", ConnectionStatus);
