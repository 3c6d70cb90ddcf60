import { asc } from './asc.mjs';
import { warm } from './warm.mjs';

/** Compiles an app, as its asconfig.json says. */
export async function build(entry, output) {
  const args = [entry, '--outFile', output];
  if (!process.env.SKERRY_DEV) return asc(args);
  const debug = [...args, '--target', 'debug'];
  return (await warm(debug)) ?? asc(debug);
}
