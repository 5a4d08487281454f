// <bundle-picker>: the file input of the upload form, as a place to drop a ZIP on.
//
// The input itself lies over the whole place and takes the drop, as browsers do; a ZIP dropped
// anywhere else on the page is handed to it.

import { bytes } from "../numbers";

class BundlePicker extends HTMLElement {
  #input: HTMLInputElement | null = null;

  connectedCallback(): void {
    this.#input = this.querySelector("input[type=file]");
    this.#input?.addEventListener("change", this.#show);
    document.addEventListener("dragover", this.#dragOver);
    document.addEventListener("dragleave", this.#dragLeave);
    document.addEventListener("drop", this.#drop);
    this.#show();
  }

  disconnectedCallback(): void {
    this.#input?.removeEventListener("change", this.#show);
    document.removeEventListener("dragover", this.#dragOver);
    document.removeEventListener("dragleave", this.#dragLeave);
    document.removeEventListener("drop", this.#drop);
  }

  #show = (): void => {
    const file = this.#input?.files?.[0];
    const chosen = this.querySelector("[data-chosen]");
    const name = this.#input?.form?.querySelector<HTMLInputElement>("input[name=name]");
    this.toggleAttribute("chosen", file !== undefined);
    if (chosen) chosen.textContent = file ? `${file.name} · ${bytes(file.size)}` : "";
    if (name && file) name.placeholder = file.name.replace(/\.zip$/i, "");
  };

  #dragOver = (event: DragEvent): void => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    this.toggleAttribute("over", true);
    event.preventDefault();
  };

  #dragLeave = (event: DragEvent): void => {
    if (event.relatedTarget === null) this.toggleAttribute("over", false);
  };

  #drop = (event: DragEvent): void => {
    this.toggleAttribute("over", false);
    const files = event.dataTransfer?.files;
    if (!this.#input || !files?.length || event.target === this.#input) return;
    event.preventDefault();
    this.#input.files = files;
    this.#show();
    this.scrollIntoView({ block: "nearest" });
  };
}

customElements.define("bundle-picker", BundlePicker);
