// The compiler of the app whose folder this is run in.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import v8 from 'node:v8';

// asc lives for a second. V8's optimizing compiler would spend more on binaryen's ten megabytes of wasm than that brings:
// 1.7 s for a hello on two cores, 1.1 s without it.
v8.setFlagsFromString('--liftoff-only');

/** Runs asc with these arguments; `hooks` are those of its API. True: it compiled. */
export async function asc(args, hooks = {}) {
  const file = installed();
  if (!file) {
    console.error('skerry-as: no assemblyscript in this folder; run: npm install');
    return false;
  }
  const { default: compiler } = await import(pathToFileURL(file).href);
  const { error } = await compiler.main(args, { stdout: process.stdout, stderr: process.stderr, ...hooks });
  return !error;
}

/** The file of the app's compiler, if it has one. Not looked for from here: a package that is linked (`file:`) has none, and the app says which version it wants. */
export function installed() {
  const folders = createRequire(path.join(process.cwd(), 'package.json')).resolve.paths('assemblyscript');
  return folders.map((folder) => path.join(folder, 'assemblyscript/dist/asc.js')).find(existsSync);
}
