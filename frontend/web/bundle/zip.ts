// What a ZIP holds, as the directory at its end says it.

export interface Entry {
  path: string;
  size: number;
}

const END = 0x06054b50;
/** Of a file in it, or at once of the end. */
const STARTS = new Set([0x04034b50, END]);
const END_SIZE = 22;
const RECORD = 0x02014b50;
const RECORD_SIZE = 46;
const LONGEST_COMMENT = 65_535;
const LARGEST_DIRECTORY = 32 * 1024 ** 2;

/** Whether a file begins as a ZIP does, also one that is empty. */
export async function looksLikeZip(file: Blob): Promise<boolean> {
  const start = new DataView(await file.slice(0, 4).arrayBuffer());
  return start.byteLength === 4 && STARTS.has(start.getUint32(0, true));
}

/** The files in a ZIP; null if that cannot be told here: the server will look closely. */
export async function contentsOf(zip: Blob): Promise<Entry[] | null> {
  const tail = new DataView(await zip.slice(-END_SIZE - LONGEST_COMMENT).arrayBuffer());
  let at = tail.byteLength - END_SIZE;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) return null;
  const size = tail.getUint32(at + 12, true);
  const start = tail.getUint32(at + 16, true);
  if (size > LARGEST_DIRECTORY || start + size > zip.size) return null; // as with more than 4 GB
  return entriesOf(new DataView(await zip.slice(start, start + size).arrayBuffer()));
}

function entriesOf(directory: DataView<ArrayBuffer>): Entry[] | null {
  const found: Entry[] = [];
  const text = new TextDecoder();
  let at = 0;
  while (at + RECORD_SIZE <= directory.byteLength) {
    if (directory.getUint32(at, true) !== RECORD) return null;
    const length = directory.getUint16(at + 28, true);
    const end = at + RECORD_SIZE + length;
    if (end > directory.byteLength) return null;
    const path = text.decode(directory.buffer.slice(at + RECORD_SIZE, end));
    if (!path.endsWith("/")) found.push({ path, size: directory.getUint32(at + 24, true) });
    at = end + directory.getUint16(at + 30, true) + directory.getUint16(at + 32, true);
  }
  return found;
}
