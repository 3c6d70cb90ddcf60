import { asc } from './asc.mjs';

/** Compiles an app, as its asconfig.json says. */
export async function build(entry, output) {
  const target = process.env.SKERRY_DEV ? ['--target', 'debug'] : [];
  return asc([entry, '--outFile', output, ...target]);
}
