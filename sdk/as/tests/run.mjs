// Runs the tests of what needs no host: each function of `pure.ts`.
//
//   npm test              all
//   npm test -- url       those whose names have `url` in them

import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { test } from '../tools/test.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const passed = await test('tests/pure.ts', process.argv[2]);
process.exitCode = addressesStayInTheirRoom() && passed ? 0 : 1;

// `assembly/sys` is the only room with addresses, allocations and imports.
function addressesStayInTheirRoom() {
  const folder = path.join(root, 'assembly');
  const forbidden = /\b(load|store)<|changetype<usize>|\bdataStart\b|\bmemory\.|\bheap\.|\b__new\b|\b__renew\b|@external/;
  let kept = true;
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts'))) {
    readFileSync(path.join(folder, file), 'utf8').split('\n').forEach((line, index) => {
      if (!forbidden.test(line)) return;
      kept = false;
      console.error(`assembly/${file}:${index + 1}: belongs into assembly/sys: ${line.trim()}`);
    });
  }
  return kept;
}
