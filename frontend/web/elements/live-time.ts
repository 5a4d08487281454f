// <live-time since="…" mode="age|duration|left">: a time that passes while one looks at it.
//
// The server's clock counts, not the browser's: the page says when it was made.

import { age, duration } from "../numbers";

const made = document.querySelector<HTMLMetaElement>('meta[name="dtrain-now"]')?.content;
const ahead = made ? Date.parse(made) - Date.now() : 0;
const shown = new Set<LiveTime>();

class LiveTime extends HTMLElement {
  connectedCallback(): void {
    shown.add(this);
  }

  disconnectedCallback(): void {
    shown.delete(this);
  }

  tick(): void {
    const seconds = (Date.now() + ahead - Date.parse(this.getAttribute("since") ?? "")) / 1000;
    if (Number.isNaN(seconds)) return;
    const mode = this.getAttribute("mode");
    const text =
      mode === "left" ? duration(-seconds) : mode === "duration" ? duration(seconds) : age(seconds);
    const place = this.firstElementChild ?? this;
    if (place.textContent !== text) place.textContent = text;
  }
}

setInterval(() => {
  if (!document.hidden) for (const element of shown) element.tick();
}, 1000);

customElements.define("live-time", LiveTime);
