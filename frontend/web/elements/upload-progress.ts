// <upload-progress>: how much of the form around it has been sent.

import { send, type RequestContext } from "../requests";
import { percent } from "../numbers";

class UploadProgress extends HTMLElement {
  #form: HTMLFormElement | null = null;

  connectedCallback(): void {
    this.#form = this.closest("form");
    this.#form?.addEventListener("htmx:config:request", this.#begin);
    this.#form?.addEventListener("htmx:finally:request", this.#end);
  }

  disconnectedCallback(): void {
    this.#form?.removeEventListener("htmx:config:request", this.#begin);
    this.#form?.removeEventListener("htmx:finally:request", this.#end);
  }

  #begin = (event: Event): void => {
    const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
    ctx.fetch = (address, request) => send(address, request, this.#show);
    this.#show(0);
    this.hidden = false;
  };

  #end = (): void => {
    this.hidden = true;
  };

  #show = (fraction: number): void => {
    const bar = this.querySelector("progress");
    if (bar) bar.value = fraction;
    this.querySelector("[data-percent]")?.replaceChildren(percent(fraction));
    this.querySelector("[data-doing]")?.replaceChildren(fraction < 1 ? "Uploading" : "Checking");
  };
}

customElements.define("upload-progress", UploadProgress);
