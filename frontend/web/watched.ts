// The jobs of whose end somebody wants to be told, by all tabs of the browser.

import { markTitle } from "./title";

const KEY = "dtrain-watched";
export const FINAL = new Set(["completed", "failed", "cancelled"]);

/** Those that this tab has shown as watched: it is marked, whichever tab shows the notification. */
const here = new Set<number>();

/** The watched jobs, and what they are called. */
export function watched(): Map<number, string> {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Record<string, string>;
    return new Map(Object.entries(found).map(([id, name]) => [Number(id), name]));
  } catch {
    return new Map();
  }
}

export function watch(id: number, name: string): void {
  here.add(id);
  keep(watched().set(id, name));
}

export function unwatch(id: number): void {
  const all = watched();
  if (all.delete(id)) keep(all);
}

export function isWatched(id: number): boolean {
  const found = watched().has(id);
  if (found) here.add(id);
  return found;
}

/** A job has come to an end: say so, if somebody has asked for it. */
export function ended(id: number, status: string): void {
  const name = watched().get(id);
  if (name !== undefined || here.delete(id)) markTitle();
  if (name === undefined) return; // another tab has said it
  unwatch(id);
  if (!canNotify() || Notification.permission !== "granted") return;
  const notification = new Notification(`Job #${id} ${status}`, { body: name, tag: `dtrain-${id}` });
  notification.addEventListener("click", () => {
    notification.close();
    window.focus();
    if (location.pathname !== `/jobs/${id}`) location.assign(`/jobs/${id}`);
  });
}

/** Look whether a watched job has ended while nobody could tell. */
export async function lookAfterWatched(): Promise<void> {
  for (const id of watched().keys()) {
    const answer = await fetch(`/api/jobs/${id}`).catch(() => undefined);
    if (answer?.status === 404) unwatch(id);
    if (!answer?.ok) continue;
    const { status } = (await answer.json()) as { status: string };
    if (FINAL.has(status)) ended(id, status);
  }
}

/** Browsers show notifications of sites that they take for secure alone. */
export function canNotify(): boolean {
  return "Notification" in globalThis;
}

function keep(all: Map<number, string>): void {
  localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(all)));
}
