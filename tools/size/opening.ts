/** How long `coppice serve` takes over a store with much mapped, what memory it has then, and what it does when idle. */

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { POINTERS_BESIDE_MAX, POINTERS_MAX } from '../../src/volume/checkpoint-policy.ts';
import { MAIN, TOOL } from './built.ts';
import { makeStore, Mapping, onSparseStore, segmentsFor } from './mapped-store.ts';

const WRITE_CHUNKS = 2 ** 14;
const OPEN_TIMEOUT_MS = 60_000;

/** A store with a volume `v` of `gib` GiB, all of it written in order. */
export async function makeMapped(directory: string, gib: number): Promise<void> {
  const chunks = gib * 2 ** 18;
  const uuid = await makeStore(directory, segmentsFor(chunks));
  await onSparseStore(directory, async (store) => {
    await store.createVolume('v', gib * 2 ** 30);
    await store.checkpoint();
  });
  const mapping = await Mapping.begin(directory, uuid);
  for (let chunk = 0; chunk < chunks; chunk += WRITE_CHUNKS) await mapping.write(1, 1, chunk, WRITE_CHUNKS);
  await mapping.end();
}

/**
 * Random writes up to just before the point at which writes would wait for a checkpoint, one that never ends; then
 * kill -9. No more can be behind a checkpoint than this.
 */
export async function afterKill(directory: string, chunks: number, writes = longestReplay()): Promise<void> {
  const args = ['write-and-die', directory, 'v', String(Math.floor(writes)), String(chunks)];
  const { signal } = spawnSync(process.execPath, [TOOL, ...args]);
  if (signal !== 'SIGKILL') throw new Error('the writer did not get as far as to kill itself');
}

export function longestReplay(): number {
  return POINTERS_MAX + POINTERS_BESIDE_MAX - 1000;
}

export interface Opening {
  openMs: number;
  residentMib: number;
  peakMib: number;
  /** Clock ticks used in the idle seconds, of 10 ms. */
  idleTicks: number;
}

/** Starts the server, waits until it serves, watches it idle, and kills it so that it replays the same again. */
export async function measureOpen(directory: string, idleSeconds = 10): Promise<Opening> {
  const started = performance.now();
  const child = spawn(process.execPath, [MAIN, '--store', directory, 'serve'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  try {
    const openMs = await new Promise<number>((resolve, reject) => {
      let text = '';
      child.stderr.on('data', (piece: Buffer) => {
        text += piece.toString();
        if (text.includes('"serving"')) resolve(performance.now() - started);
      });
      child.once('exit', () => reject(new Error(`the server ended: ${text}`)));
      setTimeout(() => reject(new Error(`the server does not serve: ${text}`)), OPEN_TIMEOUT_MS).unref();
    });
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    const mib = (field: string): number =>
      Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)![1]) / 1024);
    await delay(idleSeconds > 0 ? 3000 : 0); // the closing record, and zeros filled ahead
    const before = ticksOf(child.pid!);
    await delay(1000 * idleSeconds);
    const idleTicks = ticksOf(child.pid!) - before;
    return { openMs: Math.round(openMs), residentMib: mib('VmRSS'), peakMib: mib('VmHWM'), idleTicks };
  } finally {
    child.removeAllListeners('exit');
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
  }
}

/** Time of the process in user and system. */
function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
