// Makes a ZIP of files. The browser itself deflates, beside the page, and what is stored as it is is
// never copied; the same files make the same ZIP.

import type { Chosen } from "./folder";

/** Unpacked bytes for each packed one above which a server would take a file for a bomb. */
const RATIO = 200;
const RATIO_FREE = 1024 ** 2;
const DENSE =
  /\.(7z|aac|arrow|avi|avif|br|bz2|ckpt|feather|flac|gif|gz|heic|jpe?g|jxl|lz4|m4a|mkv|mov|mp3|mp4|npz|ogg|onnx|parquet|png|pth?|rar|safetensors|tgz|web[mp]|whl|xz|zip|zst)$/i;

const STORED = 0;
const DEFLATED = 8;
const VERSION = 20;
const UNIX = 3 << 8;
const UTF8 = 0x0800;
const EARLIEST = 0x0021; // 1 January 1980
const REGULAR_FILE = 0o100644;
const LARGEST = 2 ** 32 - 1;
const MOST_FILES = 2 ** 16 - 1;

/** The files as one ZIP; `progress` is told how many of their bytes are packed. */
export async function pack(
  files: Chosen[],
  name: string,
  progress: (bytes: number) => void,
): Promise<File> {
  const body: BlobPart[] = [];
  const directory: BlobPart[] = [];
  let at = 0;
  let done = 0;
  for (const { path, file } of files) {
    const { method, content, crc } = await packed(path, file, (bytes) => progress((done += bytes)));
    const title = new TextEncoder().encode(path);
    const facts = `2:${VERSION} 2:${UTF8} 2:${method} 2:0 2:${EARLIEST} 4:${crc} 4:${content.size} 4:${file.size} 2:${title.length} 2:0`;
    const local = fields(`4:${0x04034b50} ${facts}`);
    const mode = (REGULAR_FILE << 16) >>> 0;
    directory.push(
      fields(`4:${0x02014b50} 2:${UNIX + VERSION} ${facts} 2:0 2:0 2:0 4:${mode} 4:${at}`),
      title,
    );
    body.push(local, title, content);
    at += local.length + title.length + content.size;
  }
  const index = new Blob(directory);
  if (at + index.size > LARGEST || files.length > MOST_FILES) {
    throw new RangeError("The folder is too large to be packed by a browser");
  }
  const count = `2:${files.length} 2:${files.length}`;
  const end = fields(`4:${0x06054b50} 2:0 2:0 ${count} 4:${index.size} 4:${at} 2:0`);
  return new File([...body, index, end], name, { type: "application/zip" });
}

async function packed(
  path: string,
  file: File,
  progress: (bytes: number) => void,
): Promise<{ method: number; content: Blob; crc: number }> {
  let crc = ~0;
  const counter = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(piece, controller) {
      crc = checked(crc, piece);
      progress(piece.length);
      controller.enqueue(piece);
    },
  });
  const read = file.stream().pipeThrough(counter);
  let content: Blob = file;
  if (DENSE.test(path)) {
    await read.pipeTo(new WritableStream());
  } else {
    const deflated = read.pipeThrough(new CompressionStream("deflate-raw"));
    content = await new Response(deflated).blob();
  }
  const isBomb = file.size > RATIO_FREE && content.size * RATIO < file.size;
  if (isBomb || content.size >= file.size) content = file;
  return { method: content === file ? STORED : DEFLATED, content, crc: ~crc >>> 0 };
}

/** Numbers as `bytes:value` one after the other, the least byte first. */
function fields(text: string): Uint8Array<ArrayBuffer> {
  const found: number[] = [];
  for (const field of text.split(" ")) {
    const [size = 0, value = 0] = field.split(":").map(Number);
    for (let byte = 0; byte < size; byte += 1) found.push(Math.floor(value / 256 ** byte) % 256);
  }
  return new Uint8Array(found);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function checked(crc: number, piece: Uint8Array): number {
  for (const byte of piece) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 255] ?? 0);
  return crc;
}
