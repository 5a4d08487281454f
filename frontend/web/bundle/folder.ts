// What of a folder goes into a bundle, as `dtrain.protocol.packing` decides it.

import { Patterns } from "./ignore";

export interface Chosen {
  path: string;
  file: File;
}

export interface Folder {
  name: string;
  files: Chosen[];
  /** Paths of what is left out; a folder's ends with a slash. */
  skipped: string[];
}

interface Item {
  name: string;
  /** The file, or what a folder holds. */
  open: () => Promise<File | Item[]>;
  isFolder: boolean;
}

type Rules = [prefix: string, patterns: Patterns][];

const NEVER_PACKED = new Set([".git", "__pycache__", ".venv", "node_modules", ".DS_Store"]);
const IGNORE_FILES = [".dtrainignore", ".gitignore"];
const ENVIRONMENT = "pyvenv.cfg";

/** A folder that was dropped. */
export async function dropped(entry: FileSystemDirectoryEntry): Promise<Folder> {
  return packed(entry.name, await itemsOf(entry));
}

/** A folder that was chosen: all its files, with their paths in it. */
export async function chosen(files: File[]): Promise<Folder> {
  const top = new Map<string, Tree>();
  for (const file of files) {
    const parts = file.webkitRelativePath.split("/");
    const name = parts.pop() ?? file.name;
    let place: Map<string, Tree> = top;
    for (const part of parts) {
      const below = place.get(part);
      const folder = below instanceof Map ? below : new Map<string, Tree>();
      place.set(part, folder);
      place = folder;
    }
    place.set(name, file);
  }
  const [name = "", tree] = [...top][0] ?? [];
  return packed(name, tree instanceof Map ? branches(tree) : []);
}

type Tree = File | Map<string, Tree>;

function branches(tree: Map<string, Tree>): Item[] {
  return [...tree].map(([name, below]) => ({
    name,
    isFolder: below instanceof Map,
    open: async () => (below instanceof Map ? branches(below) : below),
  }));
}

async function itemsOf(folder: FileSystemDirectoryEntry): Promise<Item[]> {
  const reader = folder.createReader();
  const entries: FileSystemEntry[] = [];
  for (;;) {
    // A browser gives a hundred at a time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (!some.length) break;
    entries.push(...some);
  }
  return entries.map((entry) => ({
    name: entry.name,
    isFolder: entry.isDirectory,
    open: () =>
      entry.isDirectory
        ? itemsOf(entry as FileSystemDirectoryEntry)
        : new Promise<File>((resolve, reject) =>
            (entry as FileSystemFileEntry).file(resolve, reject),
          ),
  }));
}

async function packed(name: string, items: Item[]): Promise<Folder> {
  const found: Folder = { name, files: [], skipped: [] };
  const names = new Set(items.filter((item) => !item.isFolder).map((item) => item.name));
  const ignoreFile = IGNORE_FILES.find((one) => names.has(one)) ?? ".gitignore";
  await take(found, items, "", [], ignoreFile);
  return found;
}

async function take(
  found: Folder,
  items: Item[],
  prefix: string,
  outer: Rules,
  ignoreFile: string,
): Promise<void> {
  let rules = outer;
  const own = items.find((item) => item.name === ignoreFile && !item.isFolder);
  if (own) rules = [...outer, [prefix, new Patterns(await ((await own.open()) as File).text())]];
  for (const item of items.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = prefix + item.name + (item.isFolder ? "/" : "");
    if (NEVER_PACKED.has(item.name) || isIgnored(path, item.isFolder, rules)) {
      found.skipped.push(path);
      continue;
    }
    const content = await item.open();
    if (content instanceof File) found.files.push({ path, file: content });
    else if (content.some((below) => below.name === ENVIRONMENT)) found.skipped.push(path);
    else await take(found, content, path, rules, ignoreFile);
  }
}

function isIgnored(path: string, folder: boolean, rules: Rules): boolean {
  for (const [prefix, patterns] of rules.toReversed()) {
    const below = path.slice(prefix.length).replace(/\/$/, "");
    const verdict = patterns.verdict(below, folder);
    if (verdict !== null) return verdict;
  }
  return false;
}
