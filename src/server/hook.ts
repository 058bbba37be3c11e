/**
 * A command that runs before or after a snapshot, to freeze and thaw a guest.
 *
 * Invariants: while the server runs, it ends, or is killed, within its time, with all that it has started in its process group;
 * what it says on standard error is kept for the complaint, as far as a line is long. One that thaws is never killed by a stop: it is
 * left to end, and then nothing limits its time.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';

export const HOOK_MS_MAX = 60_000;
/** What a command that thaws gets while the server stops. */
const LEAVE_MS = 1_500;
/** What has been said may arrive after the end; what still holds the pipe may never let go of it. */
const LAST_WORDS_MS = 200;
const SAID_CHARACTERS_MAX = 300;

export interface Hook {
  readonly command: string;
  readonly when: 'before' | 'after';
  readonly environment: Readonly<Record<string, string>>;
}

/** Runs it through /bin/sh; `stopping` ends the wait. @throws IO, CLOSED */
export async function runHook(hook: Hook, clock: Clock, stopping: AbortSignal): Promise<void> {
  const { command, when, environment } = hook;
  if (stopping.aborted && when === 'before') throw stopped();
  const child = spawn('/bin/sh', ['-c', command], {
    detached: true, // a process group of its own
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-SAID_CHARACTERS_MAX);
  });
  const ending = await endOf(child, when, clock, stopping);
  child.stderr.destroy();
  const problem = problemOf(ending);
  if (problem === undefined) return;
  if (ending === 'stopped') throw stopped();
  const last = said.trim().split('\n').at(-1)!;
  throw new StoreError('IO', `the hook ${when} the snapshot ${problem}${last === '' ? '' : `: ${last}`}`);
}

type Ending = { code: number | null; signal: string | null } | Error | 'late' | 'stopped' | 'left';

async function endOf(
  child: ChildProcess,
  when: Hook['when'],
  clock: Clock,
  stopping: AbortSignal,
): Promise<Ending> {
  const timers: (() => void)[] = [];
  const stop = new AbortController();
  try {
    return await new Promise<Ending>((resolve) => {
      const stopNow = (): void => {
        if (when === 'after') timers.push(clock.after(LEAVE_MS, () => resolve(leave(child))));
        else resolve(kill(child, 'stopped'));
      };
      child.once('error', resolve);
      child.once('exit', (code, signal) => {
        child.once('close', () => resolve({ code, signal }));
        timers.push(clock.after(LAST_WORDS_MS, () => resolve({ code, signal })));
      });
      timers.push(clock.after(HOOK_MS_MAX, () => resolve(kill(child, 'late'))));
      if (stopping.aborted) stopNow();
      else stopping.addEventListener('abort', stopNow, { once: true, signal: stop.signal });
    });
  } finally {
    stop.abort();
    for (const cancel of timers) cancel();
  }
}

function kill(child: ChildProcess, ending: Ending): Ending {
  try {
    process.kill(-child.pid!, 'SIGKILL');
  } catch {
    // It has just ended.
  }
  return ending;
}

function leave(child: ChildProcess): Ending {
  child.unref();
  return 'left';
}

function problemOf(ending: Ending): string | undefined {
  if (ending instanceof Error) return `could not be started: ${ending.message}`;
  if (ending === 'late') return `did not end in ${HOOK_MS_MAX / 1000} s, and was killed`;
  if (ending === 'left') return 'was left running when the server stopped';
  if (ending === 'stopped') return 'was killed, because the server stops';
  if (ending.signal !== null) return `was ended by ${ending.signal}`;
  return ending.code === 0 ? undefined : `ended with code ${ending.code}`;
}

function stopped(): StoreError {
  return new StoreError('CLOSED', 'the server is stopping');
}
