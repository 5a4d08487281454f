// Has parts of the page fetched again when what they show has changed; seldom where nobody looks.

const HIDDEN_DELAY = 10_000;

const waiting = new Set<string>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Something of a kind has changed: htmx fetches the fragments that wait for `dtrain:<kind>`. */
export function changed(kind: string): void {
  waiting.add(kind);
  if (!document.hidden) tell();
  else timer ??= setTimeout(tell, HIDDEN_DELAY);
}

function tell(): void {
  clearTimeout(timer);
  timer = undefined;
  for (const kind of waiting) document.body.dispatchEvent(new CustomEvent(`dtrain:${kind}`));
  waiting.clear();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) tell();
});
