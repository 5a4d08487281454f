// The patterns of a `.gitignore` or `.dtrainignore`, as `dtrain.protocol.ignore` understands them.

interface Pattern {
  matches: RegExp;
  ignored: boolean;
  foldersOnly: boolean;
  wholePath: boolean;
}

/** The lines of one ignore file. */
export class Patterns {
  readonly #patterns: Pattern[];

  constructor(text: string) {
    const lines = text.replace(/^\ufeff/, "").split("\n");
    this.#patterns = lines.map(parsed).filter((pattern) => pattern !== null);
  }

  /** Whether a path below the file's folder is ignored; null if no line is about it. */
  verdict(path: string, folder: boolean): boolean | null {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const found = this.#patterns.findLast(
      ({ matches, foldersOnly, wholePath }) =>
        (folder || !foldersOnly) && matches.test(inBytes(wholePath ? path : name)),
    );
    return found ? found.ignored : null;
  }
}

/** The text with a character for each of its bytes, which is what git compares. */
function inBytes(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

function parsed(line: string): Pattern | null {
  let text = inBytes(line.replace(/\r$/, ""));
  while (text.endsWith(" ") && !/(?<!\\)(?:\\\\)*\\ $/.test(text)) text = text.slice(0, -1);
  if (text.startsWith("#")) return null;
  const ignored = !text.startsWith("!");
  if (!ignored) text = text.slice(1);
  const foldersOnly = text.endsWith("/");
  if (foldersOnly) text = text.slice(0, -1);
  const wholePath = text.includes("/");
  if (text.startsWith("/")) text = text.slice(1);
  const expression = text ? expressionOf(text) : null;
  return expression && { matches: expression, ignored, foldersOnly, wholePath };
}

const TOKEN =
  /(?<folders>(?:^|(?<=\/))\*{2,}\/)|(?<anything>(?:^|(?<=\/))\*{2,}$)|(?<name>\*+)|(?<one>\?)|\[(?<negated>[!^]?)(?<set>(?:\[:[a-z]+:\]|\\.|[^\\])(?:\[:[a-z]+:\]|\\.|[^\]\\])*)\]|\\(?<escaped>.)|(?<plain>[^\\[])/sy;
const MEMBER = /(?<class>\[:[a-z]+:\])|\\?(?<first>.)(?:-\\?(?<last>.))?/gs;
const CLASSES: Record<string, string> = {
  "[:alpha:]": "a-zA-Z",
  "[:digit:]": "0-9",
  "[:alnum:]": "a-zA-Z0-9",
  "[:upper:]": "A-Z",
  "[:lower:]": "a-z",
  "[:space:]": " \\t\\n\\r\\f\\v",
  "[:blank:]": " \\t",
  "[:punct:]": escaped("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
  "[:xdigit:]": "0-9a-fA-F",
};

/** The pattern as a regular expression; null if it can match nothing. */
function expressionOf(text: string): RegExp | null {
  let parts = "";
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const token = TOKEN.exec(text);
    if (!token) return null;
    parts += translated(token.groups ?? {});
  }
  return new RegExp(`^(?:${parts})$`, "s");
}

function translated(token: Record<string, string | undefined>): string {
  if (token["folders"]) return "(?:.*/)?";
  if (token["anything"]) return ".*";
  if (token["name"]) return "[^/]*";
  if (token["one"]) return "[^/]";
  if (token["set"] === undefined) return escaped(token["escaped"] ?? token["plain"] ?? "");
  const members = token["set"].replace(MEMBER, (...found) => member(found.at(-1)));
  if (!members) return token["negated"] ? "[^/]" : "(?!)";
  return `(?!/)[${token["negated"] ? "^" : ""}${members}]`;
}

function member(found: Record<string, string | undefined>): string {
  if (found["class"]) return CLASSES[found["class"]] ?? "";
  const { first = "", last } = found;
  if (last === undefined || last < first) return escaped(first);
  return `${escaped(first)}-${escaped(last)}`;
}

function escaped(text: string): string {
  return text.replace(/[^A-Za-z0-9_]/gs, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(2, "0");
    return `\\x${code}`;
  });
}
