// `wasi:logging/logging`, a draft.

import { addressOf } from "./memory";
import { wellFormed } from "./text";

@external("wasi:logging/logging@0.1.0-draft", "log")
declare function logLog(level: i32, context: usize, contextUnits: usize, message: usize, messageUnits: usize): void;

/** One entry. Levels are 0 to 5: trace, debug, info, warn, error, critical. */
export function log(level: i32, context: string, message: string): void {
  context = wellFormed(context);
  message = wellFormed(message);
  logLog(level, addressOf(context), context.length, addressOf(message), message.length);
}
