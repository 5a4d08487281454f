// How text of a job is shown: the same as the server renders it (dtrain.server.pages.formats).

const ANSI = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;
/** Control characters, and those that turn the direction of what follows. */
export const UNSHOWN = /[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g;
export const LONGEST = 10_000;

const COLOUR = /\x1b\[[0-9;]*m/g;
const WORDS = "DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL";
const W = "[^\\p{L}\\p{N}_]"; // what Python calls \W
const LEVEL = new RegExp(
  `(?:^${W}{0,3}|\\d\\d:\\d\\d:\\d\\d\\S{0,16}${W}{1,4}|\\]${W}{0,3})(?<first>${WORDS})(?![\\p{L}\\p{N}_])` +
    `|(?:[:|]|\\s-)\\s*(?<apart>${WORDS})\\s*(?:[:|\\]]|-\\s)`,
  "u",
);
const EXCEPTION =
  /^(?:\[[\p{L}\p{N}_]+\]:\s*)?(?:Traceback \(most recent call last\)|(?:[A-Za-z_][\p{L}\p{N}_.]*)?(?:Error(?!: [-+\d.e]+\s*$)|Exception|Interrupt|Exit)(?::|\s*$))/u;
const WARNING_CLASS = /(?<![\p{L}\p{N}_])[\p{L}\p{N}_]*Warning: /u;
const LEVELS: Record<string, string> = {
  WARN: "WARNING",
  CRITICAL: "ERROR",
  FATAL: "ERROR",
  DEBUG: "INFO",
};

/** What is left of a line that a carriage return began anew: its last version with any text. */
export function fold(line: string): string {
  if (!line.includes("\r")) return line;
  return line.split("\r").findLast((version) => version !== "") ?? "";
}

/** A line as it can be shown: no escape sequences, nothing that steers a reader, not endless. */
export function visible(line: string): string {
  const shown = line.replace(ANSI, "").replace(UNSHOWN, "\ufffd");
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST)} \u2026` : shown;
}

/** `PROGRESS`, `ERROR`, `WARNING` or `INFO`, as `dtrain.protocol.progress.level_of` tells it. */
export function levelOf(line: string): string {
  if (line.trimStart().startsWith("PROGRESS:")) return "PROGRESS";
  const head = line.slice(0, 200).replace(COLOUR, "");
  const found = LEVEL.exec(head)?.groups;
  const level = found?.["first"] ?? found?.["apart"];
  if (level) return LEVELS[level] ?? level;
  if (EXCEPTION.test(head)) return "ERROR";
  return WARNING_CLASS.test(head) ? "WARNING" : "INFO";
}
