import { log as entry } from "./sys/logging";

/**
 * The app's log (`wasi:logging`): one entry a call, whose text begins with its level, `info: …`. An entry may have several
 * lines. The node keeps 64 KiB of one execution, and says when there was more.
 *
 * Do not log secrets.
 */
export namespace log {
  /** For looking at what a program does. */
  export function debug(text: string): void {
    entry(1, "", text);
  }

  /** What happens. */
  export function info(text: string): void {
    entry(2, "", text);
  }

  /** What should be looked at some day. */
  export function warn(text: string): void {
    entry(3, "", text);
  }

  /** What went wrong. */
  export function error(text: string): void {
    entry(4, "", text);
  }

  /** The same under a name of its own, as `access` or `audit`. */
  export function to(name: string, text: string): void {
    entry(2, name, text);
  }
}
