#!/usr/bin/env node
// What an app's own commands run:
//
//   skerry-as build assembly/index.ts build/core.wasm     a core module, for `skerry component`
//   skerry-as test tests/index.ts [NAME]                  the tests of what needs no host
//
// `build` is asc with the flags of asconfig.json, in two thirds of its time. Where SKERRY_DEV is set, as `skerry dev` sets
// it, the module is not optimized: that takes half the time, and nobody but its author waits for it.

import { build } from './build.mjs';
import { test } from './test.mjs';

const [command, ...args] = process.argv.slice(2);
const isRight = (command === 'build' && args.length === 2) || (command === 'test' && (args.length === 1 || args.length === 2));
if (!isRight) {
  console.error('usage: skerry-as build ENTRY.ts OUTPUT.wasm\n       skerry-as test ENTRY.ts [NAME]');
  process.exitCode = 2;
} else {
  const done = command === 'build' ? await build(...args) : await test(...args);
  process.exitCode = done ? 0 : 1;
}
