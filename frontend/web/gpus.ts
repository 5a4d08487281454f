// What a machine says of its GPUs, as the lines of charts name it.

/** The value of a line `gpu <index> <what>`: bytes as GB, all else as it is; null if there is none. */
export function gpuValue(gpus: Record<string, number>[], name: string): number | null {
  const [, index, what = ""] = name.split(" ");
  const value = gpus[Number(index)]?.[what];
  if (value === undefined) return null;
  return what === "memory_used" ? value / 1024 ** 3 : value;
}
