// Writes the latest PROGRESS record where the server has left places for it.

import type { MetricRecord, Values } from "./messages";
import { number, numeric, percent } from "./numbers";

const DONE_OF: [string, string[]][] = [
  ["epoch", ["epochs", "total_epochs", "num_epochs"]],
  ["step", ["steps", "total_steps", "max_steps"]],
];

/** How much is done, from 0 to 1, as `dtrain.protocol.progress.fraction_of` tells it. */
export function fractionOf(values: Values | null): number | null {
  if (!values) return null;
  const told = numeric(values["progress"]);
  if (told >= 0 && told <= 1) return told;
  for (const [doneKey, totalKeys] of DONE_OF) {
    const done = numeric(values[doneKey]);
    for (const totalKey of totalKeys) {
      const share = done / numeric(values[totalKey]);
      if (Number.isFinite(share) && numeric(values[totalKey]) > 0) return Math.min(Math.max(share, 0), 1);
    }
  }
  return null;
}

/** Returns whether there was a place for all that is to be shown. */
export function showProgress(
  place: HTMLElement,
  values: Values | null,
  fraction: number | null,
): boolean {
  const bar = place.querySelector("progress");
  const metrics = place.querySelectorAll<HTMLElement>("[data-value]");
  if (bar && fraction !== null) {
    bar.value = fraction;
    place.querySelector("[data-percent]")?.replaceChildren(percent(fraction));
    place.querySelector("tab-state")?.setAttribute("word", percent(fraction));
  }
  for (const metric of metrics) {
    const value = values?.[metric.dataset["value"] ?? ""];
    if (value !== undefined) metric.textContent = number(value);
  }
  return (fraction === null || bar !== null) && (values === null || metrics.length > 0);
}

/** Writes how long it may still take, as `dtrain.server.pages.estimate` tells it. */
export function showLeft(place: HTMLElement, latest: MetricRecord | undefined): void {
  const left = place.querySelector<HTMLElement>("[data-left]");
  const share = fractionOf(latest?.values ?? null);
  if (!left || !latest || share === null) return;
  const before = Number(left.dataset["share"]);
  const took = Date.parse(latest.at) - Date.parse(left.dataset["began"] ?? "");
  const ends = Date.parse(latest.at) + ((1 - share) * took) / (share - before);
  left.hidden = !(before < share && share < 1 && took > 0 && ends < 8e15);
  if (!left.hidden) left.querySelector("live-time")?.setAttribute("since", new Date(ends).toISOString());
}
