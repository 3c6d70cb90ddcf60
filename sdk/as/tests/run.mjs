// Runs the tests of what needs no host: compiles `pure.ts` and calls each of its functions.
//
//   npm test              all
//   npm test -- url       those whose names have `url` in them

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const only = process.argv[2] ?? '';
const scratch = mkdtempSync(path.join(tmpdir(), 'sdk-as-'));
try {
  const file = path.join(scratch, 'pure.wasm');
  const asc = path.join(root, 'node_modules/assemblyscript/bin/asc.js');
  const flags = ['--config', 'tests/asconfig.json', '--runtime', 'stub', '--debug', '--outFile', file];
  execFileSync(process.execPath, [asc, 'tests/pure.ts', ...flags], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  const passed = run(new WebAssembly.Module(readFileSync(file)));
  process.exitCode = addressesStayInTheirRoom() && passed ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true });
}

function run(module) {
  let failed = 0, passed = 0;
  for (const { name, kind } of WebAssembly.Module.exports(module)) {
    if (kind !== 'function' || !name.startsWith('test_') || !name.includes(only)) continue;
    try {
      instance(module).exports[name]();
      passed++;
    } catch (error) {
      failed++;
      console.error(`${name}: ${error.message}`);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0;
}

// One for each test, as a request has one.
function instance(module) {
  let memory;
  const text = (at) => {
    if (!at) return '';
    const length = new Uint32Array(memory.buffer)[(at - 4) >>> 2];
    return new TextDecoder('utf-16le').decode(new Uint8Array(memory.buffer, at, length));
  };
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = () => {
      throw new Error(`called the host: ${from} ${name}`);
    };
  }
  imports.env.abort = (message, file, line, column) => {
    throw new Error(`${text(message) || 'failed'} (${text(file)}:${line}:${column})`);
  };
  const made = new WebAssembly.Instance(module, imports);
  memory = made.exports.memory;
  return made;
}

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
