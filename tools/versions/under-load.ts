/**
 * Changes of versions while fio writes: how long each takes on an open control connection, what guests notice, how long the
 * server's event loop is kept busy, and how long a flush takes under full load.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { ControlClient } from '../../src/server/control-client.ts';
import { Store } from '../../src/volume/store.ts';
import { fillVolumes, measureFio, type Measurement } from '../bench/fio.ts';
import type { FioWork } from '../bench/loads.ts';
import type { Target } from '../bench/peer.ts';

const COPPICE = path.resolve(import.meta.dirname, '../../src/cli/main.js');
/** Loaded into the server: it prints how long its event loop is kept from its timers when it is asked. */
const WATCH = path.resolve(import.meta.dirname, 'loop-watch.js');
const RANDOM_WRITES: FioWork = {
  kind: 'fio',
  rw: 'randwrite',
  blockBytes: 4096,
  depth: 32,
  flushEvery: 0,
  clients: 1,
};

interface LoopDelay {
  p99: number;
  p999: number;
  max: number;
}

/** A server in a process of its own. */
class Served {
  readonly uri: string;
  readonly control: ControlClient;
  readonly #child: ReturnType<typeof spawn>;
  readonly #lines: AsyncIterableIterator<string>;

  private constructor(
    child: ReturnType<typeof spawn>,
    lines: AsyncIterableIterator<string>,
    uri: string,
    control: ControlClient,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.uri = uri;
    this.control = control;
  }

  static async start(store: string): Promise<Served> {
    const child = spawn(process.execPath, ['--import', WATCH, COPPICE, '--store', store, 'serve'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done === true) throw new Error('the server ended before it served');
    const uri = first.value;
    const control = await ControlClient.connect(path.join(store, 'control.sock'));
    return new Served(child, lines, uri, control!);
  }

  /** Since it was asked last. */
  async loopDelay(): Promise<LoopDelay> {
    this.#child.kill('SIGUSR2');
    for (;;) {
      const { value } = await this.#lines.next();
      if ((value as string).startsWith('{')) return JSON.parse(value as string) as LoopDelay;
    }
  }

  async stop(): Promise<void> {
    await this.control.close();
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
  }
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((percent / 100) * sorted.length))] ?? 0;
}

const shown = (ms: number): string => `${ms.toFixed(2)} ms`;

export async function measureUnderLoad(directory: string, gib: number, seconds: number): Promise<void> {
  const store = path.join(directory, 'store');
  await Store.init(store);
  const made = await Store.open(store);
  await made.createVolume('guest', gib * 2 ** 30);
  await made.createVolume('other', 2 ** 30);
  await made.close();
  const served = await Served.start(store);
  try {
    console.log(`filling ${gib} GiB`);
    const targets: Target[] = [{ kind: 'nbd', uri: served.uri }];
    await fillVolumes(targets, directory);
    const common = { targets, volumeBytes: gib * 2 ** 30, seconds, replayLog: '' };
    const run = (seed: number): Promise<Measurement> =>
      measureFio(RANDOM_WRITES, { ...common, seed }, directory);
    await run(1); // warm-up
    for (let round = 1; round <= 3; round++) {
      await served.loopDelay();
      const quiet = await run(2 * round);
      const quietLoop = await served.loopDelay();
      const changes = changing(served.control, seconds * 1000, round);
      const busy = await run(2 * round + 1);
      const taken = await changes;
      const loop = await served.loopDelay();
      console.log(
        `round ${round}: guest ${quiet.iops.toFixed(0)} writes/s alone, ${busy.iops.toFixed(0)}/s with changes`,
      );
      const guest = `p99.9 ${shown(quiet.latency.p999Us / 1000)} alone, ${shown(busy.latency.p999Us / 1000)} with changes`;
      console.log(
        `  guest ${guest}; loop p99.9 ${shown(quietLoop.p999)} and ${shown(loop.p999)}, max ${shown(quietLoop.max)} and ${shown(loop.max)}`,
      );
      for (const [what, ms] of taken) {
        const figures = [50, 99].map((percent) => `p${percent} ${shown(percentile(ms, percent))}`).join(', ');
        console.log(`  ${what}: ${figures}, max ${shown(Math.max(...ms))} (${ms.length})`);
      }
    }
    await measureFlush(served, seconds, run);
  } finally {
    await served.stop();
  }
}

/** Snapshots and clones of the busy volume, deletes of both, rollbacks of another volume, for a while. */
async function changing(control: ControlClient, ms: number, round: number): Promise<Map<string, number[]>> {
  const taken = new Map<string, number[]>();
  const timed = async (what: string, change: () => Promise<unknown>): Promise<void> => {
    const started = performance.now();
    await change();
    const others = taken.get(what) ?? [];
    others.push(performance.now() - started);
    taken.set(what, others);
    await delay(3);
  };
  const end = performance.now() + ms - 500;
  await delay(300);
  if (round === 1) await control.snapshot(['other@start']);
  for (let i = 0; performance.now() < end; i++) {
    const name = `r${round}-${i}`;
    await timed('snapshot', () => control.snapshot([`guest@${name}`]));
    await timed('clone', () => control.clone(`guest@${name}`, name));
    await timed('rollback', () => control.rollback('other@start', {}));
    await timed('delete', () => control.delete([name], {}));
    if (i % 2 === 0) await timed('delete', () => control.delete([`guest@${name}`], {}));
  }
  return taken;
}

async function measureFlush(
  served: Served,
  seconds: number,
  run: (seed: number) => Promise<Measurement>,
): Promise<void> {
  const taken: number[] = [];
  const end = performance.now() + seconds * 1000 - 300;
  const load = run(99);
  await delay(300);
  while (performance.now() < end) {
    const started = performance.now();
    await served.control.flush();
    taken.push(performance.now() - started);
    await delay(50);
  }
  await load;
  console.log(
    `flush under full load: p50 ${shown(percentile(taken, 50))}, p99 ${shown(percentile(taken, 99))}, max ${shown(Math.max(...taken))} (${taken.length})`,
  );
}

/** A thousand clones over one control connection. */
export async function measureClones(directory: string, count: number): Promise<void> {
  const store = path.join(directory, 'store');
  await Store.init(store);
  const made = await Store.open(store);
  await made.createVolume('golden', 20 * 2 ** 30);
  await made.snapshot(['golden@image']);
  await made.close();
  const served = await Served.start(store);
  try {
    const before = (await served.control.status()).logBytes;
    const started = performance.now();
    for (let i = 0; i < count; i++) await served.control.clone('golden@image', `vm${i}`);
    const ms = performance.now() - started;
    const { logBytes } = await served.control.status();
    console.log(
      `${count} clones over one control connection: ${(ms / 1000).toFixed(2)} s, ${((logBytes - before) / count).toFixed(0)} bytes of log each, the catalog of the checkpoint included`,
    );
  } finally {
    await served.stop();
  }
}
