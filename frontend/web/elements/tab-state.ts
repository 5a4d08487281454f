// <tab-state word="34%" name="…" icon="…">: has the browser's tab say how things stand.

import { setTitle } from "../title";

class TabState extends HTMLElement {
  static readonly observedAttributes = ["word", "name", "icon"];

  attributeChangedCallback(): void {
    const [word, name, icon] = TabState.observedAttributes.map((one) => this.getAttribute(one));
    setTitle([word, name, "DTrain"].filter(Boolean).join(" · "));
    const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
    if (link && icon && link.getAttribute("href") !== icon) link.href = icon;
  }
}

customElements.define("tab-state", TabState);
