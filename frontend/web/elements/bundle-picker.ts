// <bundle-picker>: the file input of the upload form, as a place to drop a ZIP or a folder on.
//
// The input itself lies over the whole place and takes a ZIP, as browsers do; one that is dropped
// anywhere else on the page is handed to it. A folder becomes a ZIP here, without what its ignore
// files name, and what is in it is shown before it is sent.

import { chosen, dropped, type Folder } from "../bundle/folder";
import { pack } from "../bundle/pack";
import { contentsOf, looksLikeZip, type Entry } from "../bundle/zip";
import { bytes, percent } from "../numbers";

const SHOWN = 200;
const ENTRY = "main.py";
/** Files that may say what is run instead. */
const SAYING = new Set(["dtrain.yaml", "Dockerfile"]);

class BundlePicker extends HTMLElement {
  #input: HTMLInputElement | null = null;
  #entries: Entry[] | null = null;
  #skipped: string[] = [];
  /** Counts what was chosen: of two, the later one is shown, whichever is ready first. */
  #turn = 0;

  connectedCallback(): void {
    this.#input = this.querySelector("input[type=file]");
    this.#input?.addEventListener("change", this.#change);
    this.#folderInput?.addEventListener("change", this.#chooseFolder);
    this.querySelector("[data-folder]")?.addEventListener("click", this.#askForFolder);
    this.#form?.addEventListener("input", this.#showEntry);
    document.addEventListener("dragover", this.#dragOver);
    document.addEventListener("dragleave", this.#dragLeave);
    document.addEventListener("drop", this.#drop);
    this.#change();
  }

  disconnectedCallback(): void {
    this.#input?.removeEventListener("change", this.#change);
    this.#folderInput?.removeEventListener("change", this.#chooseFolder);
    this.querySelector("[data-folder]")?.removeEventListener("click", this.#askForFolder);
    this.#form?.removeEventListener("input", this.#showEntry);
    document.removeEventListener("dragover", this.#dragOver);
    document.removeEventListener("dragleave", this.#dragLeave);
    document.removeEventListener("drop", this.#drop);
  }

  get #form(): HTMLFormElement | null {
    return this.closest("form");
  }

  get #folderInput(): HTMLInputElement | null {
    return this.querySelector("input[webkitdirectory]");
  }

  #askForFolder = (): void => this.#folderInput?.click();

  #change = (): void => void this.#showFile(this.#input?.files?.[0]);

  async #showFile(file: File | undefined): Promise<void> {
    const turn = ++this.#turn;
    this.#say(file ? `${file.name} · ${bytes(file.size)}` : "", file?.name.replace(/\.zip$/i, ""));
    const entries = file ? await contentsOf(file).catch(() => null) : null;
    const isNone = file && !entries && !(await looksLikeZip(file).catch(() => true));
    if (turn !== this.#turn) return;
    if (isNone) this.#say(`${file.name} is no ZIP; drop a folder, or a ZIP of one.`);
    this.#list(entries, []);
  }

  #chooseFolder = (): void => {
    const files = [...(this.#folderInput?.files ?? [])];
    if (files.length) void this.#pack(chosen(files));
  };

  /** Packs a folder and puts the ZIP into the input, as if it had been chosen. */
  async #pack(reading: Promise<Folder>): Promise<void> {
    const turn = ++this.#turn;
    this.#say("Reading the folder…");
    this.#list(null, []);
    this.#hold(true);
    try {
      const folder = await reading;
      if (turn !== this.#turn) return;
      const entries = folder.files.map(({ path, file }) => ({ path, size: file.size }));
      const total = entries.reduce((sum, { size }) => sum + size, 0);
      this.#list(entries, folder.skipped);
      const zip = await pack(folder.files, `${folder.name}.zip`, (done) => {
        if (turn === this.#turn) this.#say(`Packing, ${percent(total ? done / total : 1)}`);
      });
      if (turn !== this.#turn || !this.#input) return;
      const transfer = new DataTransfer();
      transfer.items.add(zip);
      this.#input.files = transfer.files;
      this.#say(`${folder.name}/ · ${bytes(zip.size)} packed`, folder.name);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#say("The folder cannot be read; choose it again, or drop a ZIP of it.");
      console.info(error);
    } finally {
      if (turn === this.#turn) this.#hold(false);
    }
  }

  /** Nothing can be sent while a folder is being packed. */
  #hold(held: boolean): void {
    if (held && this.#input) this.#input.value = "";
    const button = this.#form?.querySelector<HTMLButtonElement>("button[type=submit]");
    if (button) button.disabled = held;
  }

  #say(text: string, name?: string): void {
    this.toggleAttribute("chosen", text !== "");
    this.querySelector("[data-chosen]")?.replaceChildren(text);
    const field = this.#form?.querySelector<HTMLInputElement>("input[name=name]");
    if (field && name) field.placeholder = name;
  }

  #list(entries: Entry[] | null, skipped: string[]): void {
    this.#entries = entries;
    this.#skipped = skipped;
    const place = this.#form?.querySelector<HTMLElement>("[data-contents]");
    if (!place) return;
    place.hidden = entries === null;
    if (!entries) return;
    const total = entries.reduce((sum, { size }) => sum + size, 0);
    const count = entries.length === 1 ? "1 file" : `${entries.length.toLocaleString("en")} files`;
    place.querySelector("[data-total]")?.replaceChildren(`${count}, ${bytes(total)}`);
    const rows = entries.slice(0, SHOWN).map(({ path, size }) => row(path, bytes(size)));
    if (entries.length > SHOWN) rows.push(row(`and ${entries.length - SHOWN} more`, ""));
    const left = this.#skipped.slice(0, SHOWN).map((path) => row(path, "left out"));
    if (skipped.length > SHOWN) left.push(row(`and ${skipped.length - SHOWN} more`, "left out"));
    place.querySelector("[data-files]")?.replaceChildren(...rows, ...left);
    this.#showEntry();
  }

  #showEntry = (): void => {
    const place = this.#form?.querySelector<HTMLElement>("[data-entry]");
    if (!place) return;
    const paths = new Set(this.#entries?.map(({ path }) => path));
    const field = this.#form?.querySelector<HTMLInputElement>("input[name=main_entry]");
    const entry = field?.value.trim() || ENTRY;
    const says = !field?.value.trim() && [...SAYING].find((name) => paths.has(name));
    const found = paths.has(entry);
    place.dataset["entry"] = found ? "found" : says ? "said" : "missing";
    place.textContent = found
      ? `${entry} is there.`
      : says
        ? `There is no ${entry}; what is run must stand in ${says}.`
        : `There is no ${entry}; say under Entry which file is to run.`;
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
    const entry = event.dataTransfer?.items[0]?.webkitGetAsEntry();
    if (!this.#input || !files?.length) return;
    if (entry?.isDirectory) {
      event.preventDefault();
      void this.#pack(dropped(entry as FileSystemDirectoryEntry));
    } else if (event.target !== this.#input) {
      event.preventDefault();
      this.#input.files = files;
      this.#change();
    }
    this.scrollIntoView({ block: "nearest" });
  };
}

function row(path: string, note: string): HTMLLIElement {
  const item = document.createElement("li");
  const name = document.createElement("bdi");
  name.textContent = path;
  const size = document.createElement("span");
  size.textContent = note;
  item.append(name, size);
  return item;
}

customElements.define("bundle-picker", BundlePicker);
