// What the browser's tab says, and the mark that something was waited for there.

const MARK = "● ";

let title = document.title;
let isMarked = false;

export function setTitle(text: string): void {
  title = text;
  show();
}

/** Marks the tab until it is looked at. */
export function markTitle(): void {
  isMarked = document.hidden;
  show();
}

function show(): void {
  document.title = (isMarked ? MARK : "") + title;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !isMarked) return;
  isMarked = false;
  show();
});
