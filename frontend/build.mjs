// Bundles web/ into the folder named on the command line: scripts, styles, fonts and icons,
// and the licences of everything that is built in.

import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const [folder] = process.argv.slice(2);
const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
const buildTools = new Set(["esbuild"]);

await build({
  entryPoints: ["web/main.ts", "web/stream-worker.ts", "web/main.css", "web/favicon.svg", "web/icons/*.svg"],
  outdir: folder,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  loader: { ".woff2": "file", ".svg": "copy" },
  entryNames: "[name]",
  assetNames: "[name]",
  logLevel: "warning",
});

let licences = "";
for (const name of Object.keys(dependencies).filter((name) => !buildTools.has(name))) {
  const home = join("node_modules", name);
  const { version } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
  const file = (await readdir(home)).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} comes without a licence text`);
  licences += `${name} ${version}\n\n${await readFile(join(home, file), "utf8")}\n\n`;
}
await writeFile(join(folder, "licences.txt"), licences);
