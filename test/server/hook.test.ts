/** Commands before and after snapshots, as real processes. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import type { StoreError } from '../../src/base/errors.ts';
import { type Hook, HOOK_MS_MAX, runHook } from '../../src/server/hook.ts';
import { temporaryDirectory } from './served.ts';

const directory = temporaryDirectory();
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const hook = (command: string, when: Hook['when'] = 'before'): Hook => {
  return { command, when, environment: { COPPICE_VOLUME: 'db', COPPICE_SNAPSHOT: 'db@s' } };
};
const never = new AbortController().signal;
/** A clock whose minute is over in a moment. */
const hasty: Clock = {
  now: () => systemClock.now(),
  after: (delayMs, action) => systemClock.after(delayMs >= HOOK_MS_MAX ? 200 : delayMs, action),
};

async function complaint(running: Promise<void>): Promise<string> {
  return await running.then(
    () => 'none',
    (error: StoreError) => `${error.code}: ${error.message}`,
  );
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !fs.readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

async function pidIn(file: string): Promise<number> {
  for (;;) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    if (text.endsWith('\n')) return Number(text);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

it('know the volume and the snapshot', async () => {
  const file = path.join(directory, 'said');
  await runHook(hook(`echo "$COPPICE_VOLUME $COPPICE_SNAPSHOT" > ${file}`), systemClock, never);
  expect(fs.readFileSync(file, 'utf8')).toBe('db db@s\n');
});

it('that fail are told with their code and last words', async () => {
  const ended = complaint(
    runHook(hook('echo first >&2; echo no guest agent >&2; exit 3'), systemClock, never),
  );
  expect(await ended).toBe('IO: the hook before the snapshot ended with code 3: no guest agent');
  expect(await complaint(runHook(hook('kill -TERM $$', 'after'), systemClock, never))).toBe(
    'IO: the hook after the snapshot was ended by SIGTERM',
  );
  expect(await complaint(runHook(hook('/no/such/command 2>/dev/null'), systemClock, never))).toContain(
    'code 127',
  );
});

it('may say as much as they like', async () => {
  const much = 'head -c 10000000 /dev/zero | tr "\\0" x >&2; echo >&2; echo end >&2; exit 1';
  expect(await complaint(runHook(hook(much), systemClock, never))).toMatch(/code 1: end$/);
});

it('that do not end are killed with all that they have started', async () => {
  const file = path.join(directory, 'late');
  const late = runHook(hook(`sleep 1000 & echo $! > ${file}; wait`), hasty, never);
  const pid = await pidIn(file);
  expect(await complaint(late)).toBe('IO: the hook before the snapshot did not end in 60 s, and was killed');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isAlive(pid)).toBe(false);
});

it('that leave something behind are over when they end themselves', async () => {
  const file = path.join(directory, 'behind');
  await runHook(hook(`sleep 1000 & echo $! > ${file}`), systemClock, never);
  process.kill(await pidIn(file), 'SIGKILL');
});

it('that freeze are killed when the server stops', async () => {
  const stopping = new AbortController();
  const file = path.join(directory, 'frozen');
  const running = runHook(hook(`echo $$ > ${file}; exec sleep 1000`), systemClock, stopping.signal);
  const pid = await pidIn(file);
  stopping.abort();
  expect(await complaint(running)).toBe('CLOSED: the server is stopping');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isAlive(pid)).toBe(false);
  expect(await complaint(runHook(hook(`echo > ${file}-again`), systemClock, stopping.signal))).toContain(
    'CLOSED',
  );
  expect(fs.existsSync(`${file}-again`)).toBe(false);
});

it('that thaw run though the server stops, and are left to end', async () => {
  const stopping = AbortSignal.abort();
  const file = path.join(directory, 'thawed');
  await runHook(hook(`echo > ${file}`, 'after'), systemClock, stopping);
  expect(fs.existsSync(file)).toBe(true);
  const slow = path.join(directory, 'slow');
  const running = runHook(hook(`echo $$ > ${slow}; exec sleep 1000`, 'after'), systemClock, stopping);
  expect(await complaint(running)).toBe(
    'IO: the hook after the snapshot was left running when the server stopped',
  );
  const pid = await pidIn(slow);
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, 'SIGKILL');
});
