// stylua over the WebAssembly build that its registry package carries (the command-line package would download a binary).
//
//   stylua [--check] FILE|FOLDER…     formats .lua and .luau files in place; with --check only names those that differ
//
// Reads `.stylua.toml` of the current folder: the plain `key = value` lines that stylua's own command takes, nothing more.
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as stylua from "@johnnymorganz/stylua";

const FIELDS = {
  column_width: Number,
  indent_width: Number,
  indent_type: (name) => stylua.IndentType[name],
  line_endings: (name) => stylua.LineEndings[name],
  quote_style: (name) => stylua.QuoteStyle[name],
  call_parentheses: (name) => stylua.CallParenType[name],
  collapse_simple_statement: (name) => stylua.CollapseSimpleStatement[name],
  syntax: (name) => stylua.LuaVersion[name],
};

function settings() {
  const config = stylua.Config.new();
  config.syntax = stylua.LuaVersion.Luau;
  let text = "";
  try {
    text = readFileSync(".stylua.toml", "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  for (const line of text.split("\n")) {
    const match = /^\s*(\w+)\s*=\s*"?([^"#]*?)"?\s*(#.*)?$/.exec(line);
    if (!match) {
      if (/^\s*(#.*)?$/.test(line)) continue;
      throw new Error(`.stylua.toml: cannot read ${JSON.stringify(line)}`);
    }
    const value = FIELDS[match[1]]?.(match[2]);
    if (value === undefined || Number.isNaN(value)) throw new Error(`.stylua.toml: unknown setting ${line.trim()}`);
    config[match[1]] = value;
  }
  return config;
}

function* files(path) {
  if (!statSync(path).isDirectory()) {
    yield path;
    return;
  }
  for (const name of readdirSync(path).sort()) {
    const below = join(path, name);
    if (statSync(below).isDirectory() || /(?<!\.d)\.luau?$/.test(name)) yield* files(below);
  }
}

const args = process.argv.slice(2);
if (args.includes("--version")) {
  const own = new URL("node_modules/@johnnymorganz/stylua/package.json", import.meta.url);
  console.log(`stylua ${JSON.parse(readFileSync(own, "utf8")).version}`);
  process.exit(0);
}
const check = args.includes("--check");
let bad = 0;
let seen = 0;
for (const root of args.filter((arg) => arg !== "--check")) {
  for (const path of files(root)) {
    seen += 1;
    const before = readFileSync(path, "utf8");
    let after;
    try {
      after = stylua.formatCode(before, settings(), undefined, stylua.OutputVerification.Full);
    } catch (error) {
      console.error(`${path}: ${error}`);
      bad += 1;
      continue;
    }
    if (after === before) continue;
    if (check) {
      console.error(`${path}: not formatted`);
      bad += 1;
    } else {
      writeFileSync(path, after);
    }
  }
}
console.log(`stylua: ${seen} files${check ? `, ${bad} to be formatted` : ""}`);
process.exit(bad > 0 ? 1 : 0);
