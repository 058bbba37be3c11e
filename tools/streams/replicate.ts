/**
 * Replication held against kills: two served processes, TLS, a volume under write load that is replicated every few seconds, and
 * kill -9 of either end at random. Every snapshot that the replica ever showed is compared in full with the source's.
 *
 * Both ends' snapshots are held when they are first seen, so that there is something to compare; and no session begins before
 * all that the one before it left has been seen, or the source might delete what it has sent unseen.
 */

import { randomFillSync } from 'node:crypto';
import net from 'node:net';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { hasCode, StoreError } from '../../src/base/errors.ts';
import { ControlClient } from '../../src/server/control-client.ts';
import type { Disk } from '../../src/server/door.ts';
import type { AllocationRun } from '../../src/volume/device.ts';
import { type Cleanup, pause } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import { ServedStore } from '../../test/support/served-store.ts';
import { makeSharedKeys } from '../../test/support/tls-files.ts';
import { openGate } from './gate.ts';

const OWNER = 'comparison';
const PIECE_BYTES = 4 << 20;
const LOOK_EVERY_MS = 150;
/** Between two writes of the load. */
const WRITE_EVERY_MS = 5;
const SETTLE_MS_MAX = 120_000;

export interface Replication {
  readonly volumeBytes: number;
  /** The load writes within so many bytes, in places all over the volume. */
  readonly setBytes: number;
  readonly seconds: number;
  readonly everySeconds: number;
  readonly random: Random;
}

export interface Outcome {
  /** Snapshots that the replica showed, and that were equal to the source's. */
  published: number;
  kills: number;
  writtenBytes: number;
}

/** An end that is killed and comes back, and a client of it that outlives that. */
class End {
  readonly store: ServedStore;
  readonly #args: readonly string[];
  #client: ControlClient | undefined;
  isUp = false;

  constructor(store: ServedStore, args: readonly string[]) {
    this.store = store;
    this.#args = args;
  }

  async start(): Promise<void> {
    await this.store.start(...this.#args);
    this.isUp = true;
  }

  async kill(): Promise<void> {
    this.isUp = false;
    await this.store.kill();
    await this.#forget();
  }

  /** What `use` answers; undefined if the end was killed meanwhile. */
  async ask<T>(use: (client: ControlClient) => Promise<T>): Promise<T | undefined> {
    try {
      this.#client ??= await ControlClient.connect(path.join(this.store.directory, 'control.sock'));
      return this.#client === undefined ? undefined : await use(this.#client);
    } catch (error) {
      if (!(error instanceof StoreError) || !(hasCode(error, 'IO') || hasCode(error, 'CLOSED'))) throw error;
      await this.#forget();
      return undefined;
    }
  }

  /** The same, until there is an answer. */
  async insist<T>(use: (client: ControlClient) => Promise<T>): Promise<T> {
    for (;;) {
      const answer = await this.ask(use);
      if (answer !== undefined) return answer;
      await pause(50);
    }
  }

  async #forget(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.close();
  }

  close(): Promise<void> {
    return this.#forget();
  }
}

/** @throws Error if the replica has shown anything that the source did not have */
export async function replicate(
  { volumeBytes, setBytes, seconds, everySeconds, random }: Replication,
  cleanup: Cleanup,
  say: (line: string) => void,
): Promise<Outcome> {
  const stores = [await ServedStore.make(cleanup), await ServedStore.make(cleanup)] as const;
  const keys = makeSharedKeys(stores[0].file('keys'), 'replica');
  const port = await freePort();
  const from = new End(stores[0], ['--replication-tls-psk', keys, '--replication-tls-name', 'replica']);
  const to = new End(stores[1], [
    '--tls',
    'off',
    '--tls-psk',
    keys,
    '--replication-listen',
    `127.0.0.1:${port}`,
  ]);
  const ends = [from, to] as const;
  cleanup.add(() => Promise.all(ends.map((end) => end.close())));
  for (const end of ends) await end.start();
  await stores[0].coppice('create', 'disk', '--size', String(volumeBytes));
  const outcome: Outcome = { published: 0, kills: 0, writtenBytes: 0 };
  const seen = new Seen(from, to, outcome);
  const gate = await openGate(port, (isThere) => seen.all(isThere), cleanup);
  await stores[0].coppice('target', 'add', 'disk', `127.0.0.1:${gate}`, '--every', `${everySeconds}s`);
  const deadline = performance.now() + 1000 * seconds;
  const isOver = (): boolean => performance.now() >= deadline;
  await Promise.all([
    writeUntil(isOver, from, { volumeBytes, setBytes, random, outcome }),
    killUntil(isOver, ends, random, outcome),
    lookUntil(isOver, seen),
  ]);
  for (const end of ends) if (!end.isUp) await end.start();
  await arrive(from, seen);
  await seen.compareAll(say);
  say(
    `${outcome.published} snapshots published, all equal; ${outcome.kills} kills; ${outcome.writtenBytes} bytes written`,
  );
  for (const store of stores) await store.stop();
  for (const store of stores) {
    const damage = await store.damage();
    if (damage !== undefined) throw new Error(damage);
  }
  return outcome;
}

/** Writes at the same places again and again, each of them some of a set that lies all over the volume. */
async function writeUntil(
  isOver: () => boolean,
  from: End,
  {
    volumeBytes,
    setBytes,
    random,
    outcome,
  }: { volumeBytes: number; setBytes: number; random: Random; outcome: Outcome },
): Promise<void> {
  const lengthBytes = 64 << 10;
  const places = Math.max(1, Math.floor(setBytes / lengthBytes));
  const apart = Math.floor(volumeBytes / places / lengthBytes) * lengthBytes;
  const bytes = Buffer.allocUnsafe(lengthBytes);
  while (!isOver()) {
    randomFillSync(bytes);
    const offset = random.below(places) * apart;
    const part = bytes.subarray(0, 512 * random.between(1, lengthBytes / 512));
    await from.ask(async (client) => {
      const disk = await client.disk('disk');
      await disk.write(offset, [part]);
      outcome.writtenBytes += part.length;
    });
    await pause(WRITE_EVERY_MS);
  }
}

async function killUntil(
  isOver: () => boolean,
  ends: readonly End[],
  random: Random,
  outcome: Outcome,
): Promise<void> {
  while (!isOver()) {
    await pause(random.between(1000, 6000));
    const end = random.pick([...ends]);
    await end.kill();
    outcome.kills += 1;
    await pause(random.below(1500));
    await end.start();
  }
}

async function lookUntil(isOver: () => boolean, seen: Seen): Promise<void> {
  while (!isOver()) {
    await seen.look();
    await pause(LOOK_EVERY_MS);
  }
}

/** Waits until the last that was written has arrived. */
async function arrive(from: End, seen: Seen): Promise<void> {
  const { id, direction } = (await from.insist((client) => client.feeds.list()))[0]!;
  const deadline = performance.now() + SETTLE_MS_MAX;
  for (let quiet = 0; quiet < 2; ) {
    if (performance.now() > deadline) throw new Error('the replica has not caught up');
    const before = (await from.insist((client) => client.feeds.list()))[0]!.last?.snapshot;
    await from.insist((client) => client.feeds.run(id, direction));
    let feed;
    do {
      await pause(100);
      await seen.look();
      [feed] = await from.insist((client) => client.feeds.list());
    } while (feed!.state !== 'idle' && feed!.state !== 'failing');
    if (feed!.state === 'failing') await pause(1000);
    else if (feed!.last?.snapshot === before) quiet += 1;
  }
}

/** What either end has ever shown. */
class Seen {
  readonly #from: End;
  readonly #to: End;
  readonly #outcome: Outcome;
  /** By UUID: the name at the source; and the name at the replica by UUID of the source's. */
  readonly #sources = new Map<string, string>();
  readonly #replicas = new Map<string, string>();

  constructor(from: End, to: End, outcome: Outcome) {
    [this.#from, this.#to, this.#outcome] = [from, to, outcome];
  }

  /** Resolves when both ends have been looked at, or nobody is there any more who waits for it. */
  async all(isThere: () => boolean): Promise<void> {
    while (isThere() && !(await this.look())) await pause(LOOK_EVERY_MS);
  }

  /** Answers whether all was seen that either end had when this was called. */
  async look(): Promise<boolean> {
    const looks = await Promise.all([
      this.#hold(this.#from, this.#sources, (each) => each.uuid),
      this.#hold(this.#to, this.#replicas, (each) => each.origin!),
    ]);
    return looks.every(Boolean);
  }

  async #hold(
    end: End,
    known: Map<string, string>,
    identityOf: (each: { uuid: string; origin: string | null }) => string,
  ): Promise<boolean> {
    const versions = await end.ask((client) => client.list());
    for (const each of versions ?? []) {
      if (each.kind !== 'snapshot' || known.has(identityOf(each))) continue;
      const isHeld = await end.ask(async (client) => {
        await client.hold(each.name, { owner: OWNER }).catch((error: unknown) => {
          if (!hasCode(error, 'NOT_FOUND')) throw error;
        });
        return true;
      });
      if (isHeld !== true) return false;
      known.set(identityOf(each), each.name);
    }
    return versions !== undefined;
  }

  async compareAll(say: (line: string) => void): Promise<void> {
    for (const [origin, name] of this.#replicas) {
      const source = this.#sources.get(origin);
      if (source === undefined) throw new Error(`the replica has shown ${name}, which the source never had`);
      const difference = await this.#from.insist(
        async (from) =>
          await this.#to.insist(
            async (to) => await differenceOf(await from.disk(source), await to.disk(name)),
          ),
      );
      if (difference >= 0) throw new Error(`${name} differs from ${source} at byte ${difference}`);
      this.#outcome.published += 1;
      say(`${name}: equal`);
    }
  }
}

/** Where two disks first differ, in pieces; -1 if they do not. */
async function differenceOf(one: Disk, other: Disk): Promise<number> {
  if (one.sizeBytes !== other.sizeBytes) return 0;
  for (let at = 0; at < one.sizeBytes; ) {
    const runs = await Promise.all([one, other].map((disk) => disk.allocation(at, one.sizeBytes - at)));
    const end = at + Math.min(...runs.map(lengthOf));
    for (const list of isDeepStrictEqual(runs[0], runs[1]) ? runs.slice(1) : runs) {
      let from = at;
      for (const { lengthBytes, allocated } of list) {
        const to = Math.min(end, from + lengthBytes);
        for (let piece = from; allocated && piece < to; piece += PIECE_BYTES) {
          const length = Math.min(PIECE_BYTES, to - piece);
          const [a, b] = await Promise.all([one, other].map((disk) => disk.read(piece, length)));
          if (!a!.equals(b!)) return piece;
        }
        from = to;
      }
    }
    at = end;
  }
  return -1;
}

function lengthOf(runs: readonly AllocationRun[]): number {
  return runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
