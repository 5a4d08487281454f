// Numbers and times as the server renders them (dtrain.server.pages.formats).

/** A metric's value: four significant digits, integers whole. */
export function number(value: unknown): string {
  if (typeof value !== "number") return String(value ?? "");
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const [mantissa = "", exponent = "0"] = value.toExponential(3).split("e");
  const power = Number(exponent);
  if (power < -4 || power >= 6) return `${Number(mantissa)}e${power}`;
  return String(Number(value.toPrecision(4)));
}

/** A value of a record as a number; NaN where it is none. */
export function numeric(value: unknown): number {
  return typeof value === "number" ? value : NaN;
}

export function percent(fraction: number): string {
  return `${Math.floor(fraction * 100)}%`;
}

export function bytes(size: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** The time of the day, given seconds since 1970, as the machine of who looks has it. */
export function clock(seconds: number): string {
  const at = new Date(seconds * 1000);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

/** A length of time in its two largest units. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h ${pad(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86_400)}d ${pad(Math.floor((whole % 86_400) / 3600))}h`;
}

/** How long ago, in one unit. */
export function age(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 5) return "just now";
  if (whole < 60) return `${whole}s ago`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ago`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h ago`;
  return `${Math.floor(whole / 86_400)}d ago`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
