// Makes a wasi:http program of one that exports `handle(request: Request): Response`: asc's `--transform`.
//
// The host calls a function with handles, under a name that the language has no syntax for. It is written here, as one
// more entry file beside the program's own, and given its name in the compiled module. The program's own exports are none
// of the module's: they have types that only the language knows.

const HANDLER = 'wasi:http/incoming-handler@0.2.6#handle';
const PACKAGE = '@skerry/sdk-as/assembly';
const ENTRY = '~skerry-entry';

// SourceKind of the compiler (src/ast.ts), which it does not export.
const USER = 0;
const USER_ENTRY = 1;

export default class {
  afterParse(parser) {
    // The runtime is an entry, too.
    const isProgram = (source) => source.sourceKind === USER_ENTRY && !source.internalPath.startsWith('~lib/');
    const entries = parser.sources.filter(isProgram);
    if (entries.length !== 1) throw refusal(`one entry file is wanted, that exports handle(); there are ${entries.length}`);
    const [program] = entries;
    program.sourceKind = USER;
    this.handled = program.internalPath;

    const folder = program.internalPath.includes('/') ? program.internalPath.replace(/[^/]*$/, '') : '';
    const name = program.internalPath.slice(folder.length);
    this.entry = `${folder}${ENTRY}`;
    const text = `
      import { handle } from "./${name}";
      import { answer, incoming } from "${PACKAGE}/serve";
      export { cabi_realloc } from "${PACKAGE}/sys/memory";
      export function serve(request: i32, out: i32): void { answer(out, handle(incoming(request))); }
    `;
    parser.parseFile(text, `${this.entry}.ts`, true);
  }

  afterInitialize(program) {
    const file = program.filesByName.get(this.handled);
    if (!file?.exports?.has('handle')) {
      throw refusal(`${this.handled}.ts must export function handle(request: Request): Response`);
    }
  }

  afterCompile(module) {
    module.removeExport('serve');
    module.addFunctionExport(`${this.entry}/serve`, HANDLER);
  }
}

// The compiler prints where an error was thrown, which says nothing about the program.
function refusal(message) {
  return Object.assign(new Error(message), { stack: message });
}
