// A compiler that stays for as long as `skerry dev` does. Loading asc and binaryen takes most of a build's second; a build
// that finds them loaded takes a fifth of it.
//
// `skerry-as build` asks it over a socket in node_modules/.cache, and starts it when there is none. It ends when `skerry dev`
// (the process SKERRY_DEV names) is gone. Whatever goes wrong with it, the build is made without it.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { asc, installed } from './asc.mjs';

const FOLDER = 'node_modules/.cache';
const LOOK_MS = 500; // how often it looks whether `skerry dev` is there
const START_MS = 5000;
const ANSWER_MS = 600_000; // it hangs
const BUILDS_MAX = 500; // then another takes its place: what a compiler leaves behind is bounded

/** Runs asc with these arguments in the compiler that stays. Null: there is none. */
export async function warm(args) {
  const owner = Number(process.env.SKERRY_DEV);
  if (!(owner > 1) || !existsSync(path.dirname(FOLDER))) return null;
  try {
    const socket = name(owner);
    let answer = await ask(socket, args);
    if (answer === null) {
      const child = start(owner, socket);
      for (const until = Date.now() + START_MS; answer === null && !child.hasEnded && Date.now() < until; ) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        answer = await ask(socket, args);
      }
    }
    if (answer === null) return null;
    process.stdout.write(answer.out);
    process.stderr.write(answer.err);
    return answer.done;
  } catch {
    return null;
  }
}

// Relative, since a socket's path may have a hundred bytes and an app's folder more. Another compiler, or other tools, have another.
function name(owner) {
  const files = [installed(), fileURLToPath(import.meta.url), process.execPath];
  const made = files.map((file) => `${file} ${statSync(file).mtimeMs}`).join('\n');
  return `${FOLDER}/skerry-as-${owner}-${createHash('sha256').update(made).digest('hex').slice(0, 8)}`;
}

function start(owner, socket) {
  mkdirSync(FOLDER, { recursive: true, mode: 0o700 });
  const itself = fileURLToPath(import.meta.url);
  // Not of the build's group: that one ends with the build.
  const child = spawn(process.execPath, [itself, String(owner), socket], { detached: true, stdio: 'ignore' });
  const ended = () => { child.hasEnded = true; };
  child.on('exit', ended).on('error', ended).unref();
  return child;
}

/** The answer, or null when nobody answers. */
function ask(socket, args) {
  return new Promise((resolve) => {
    const connection = createConnection(socket);
    let text = '';
    connection.setEncoding('utf8');
    connection.setTimeout(ANSWER_MS, () => connection.destroy());
    connection.on('connect', () => connection.end(JSON.stringify(args)));
    connection.on('data', (piece) => (text += piece));
    connection.on('error', () => resolve(null));
    connection.on('close', () => resolve(parsed(text)));
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // it ended in the middle
  }
}

/** Answers builds, one after the other, until its owner is gone. */
function serve(owner, socket) {
  let builds = 0, last = Promise.resolve();
  const server = createServer({ allowHalfOpen: true }, (connection) => {
    let text = '';
    connection.setEncoding('utf8');
    connection.on('data', (piece) => (text += piece));
    connection.on('error', () => {}); // whoever asked was stopped
    connection.on('end', () => {
      last = last.then(() => (connection.destroyed ? null : compile(parsed(text)))).then((answer) => {
        connection.end(JSON.stringify(answer), () => ++builds >= BUILDS_MAX && leave(socket));
      });
    });
  });
  server.on('error', async () => {
    if (await isAnswered(socket)) process.exit(1); // somebody else was quicker
    rmSync(socket, { force: true }); // of one that was killed
    server.removeAllListeners('error').on('error', () => process.exit(1)).listen(socket);
  });
  server.listen(socket);
  setInterval(() => isThere(owner) || leave(socket), LOOK_MS);
}

function isAnswered(socket) {
  return new Promise((resolve) => {
    const connection = createConnection(socket, () => {
      connection.destroy();
      resolve(true);
    });
    connection.on('error', () => resolve(false));
  });
}

async function compile(args) {
  const said = { out: '', err: '' };
  const into = (key) => ({ write: (text) => { said[key] += text; } });
  try {
    return { done: await asc(args, { stdout: into('out'), stderr: into('err') }), ...said };
  } catch (error) {
    return { done: false, ...said, err: `${said.err}${error.stack}\n` };
  }
}

function isThere(owner) {
  try {
    process.kill(owner, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function leave(socket) {
  rmSync(socket, { force: true });
  process.exit(0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  serve(Number(process.argv[2]), process.argv[3]);
}
