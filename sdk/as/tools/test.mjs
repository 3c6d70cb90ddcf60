// Tests of what needs no host: each exported function `test_…` of a file is one, called in an instance of its own.

import { readFileSync } from 'node:fs';
import path from 'node:path';

import { asc } from './asc.mjs';

/** Runs those whose names have `only` in them. True: there was one, and none failed. */
export async function test(entry, only = '') {
  const binary = await compiled(entry);
  return binary !== null && run(new WebAssembly.Module(binary), only);
}

/** Without the app's asconfig.json: what is compiled here has no handler, and keeps the messages of failures. */
async function compiled(entry) {
  let binary = null;
  const isBuilt = await asc([entry, '--runtime', 'stub', '--debug', '--outFile', 'test.wasm'], {
    readFile: (name, folder) => (path.basename(name) === 'asconfig.json' ? null : read(path.resolve(folder, name))),
    writeFile: (name, contents) => {
      if (name === 'test.wasm') binary = contents;
    },
  });
  return isBuilt ? binary : null;
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null; // asc looks in many places
  }
}

function run(module, only) {
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
  imports.env ??= {};
  imports.env.abort = (message, file, line, column) => {
    throw new Error(`${text(message) || 'failed'} (${text(file)}:${line}:${column})`);
  };
  const made = new WebAssembly.Instance(module, imports);
  memory = made.exports.memory;
  return made;
}
