/**
 * A server that is killed at random moments under real clients: whatever it has answered is there when it is started
 * again. SEED replays a run as far as chance can be replayed; COPPICE_KILL_ROUNDS asks for more rounds.
 */

import fs from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { ok } from '../cli/command.ts';
import { DiskModel, type SnapshotModel } from '../support/disk-model.ts';
import { Cleanup, pause, tool } from '../support/programs.ts';
import { QemuIoClient } from '../support/qemu-io-client.ts';
import { Random, seeds } from '../support/random.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 5 * MIB;
const DISKS = ['left', 'right'];
const CLIENTS = 3;
const ROUNDS = Number(process.env.COPPICE_KILL_ROUNDS ?? 12);
const ROUND_MS_MAX = 30_000;
/** Snapshots that are read again in every round; older ones only at the end. */
const SNAPSHOTS_WATCHED = 4;

const cleanup = new Cleanup();
afterEach(() => cleanup.run(), 60_000);

/** Two disks, what they must hold, and the snapshots of them. */
class Rounds {
  readonly store: ServedStore;
  readonly random: Random;
  readonly models = new Map<string, DiskModel>();
  readonly snapshots = new Map<string, SnapshotModel>();
  /** Their names without the disk. */
  readonly answeredSnapshots = new Set<string>();
  clients: QemuIoClient[] = [];
  #round = 0;

  private constructor(store: ServedStore, seed: number) {
    this.store = store;
    this.random = new Random(seed);
  }

  static async make(seed: number): Promise<Rounds> {
    const store = await ServedStore.make(cleanup, ['--segment-size', '4M']);
    const rounds = new Rounds(store, seed);
    for (const disk of DISKS) {
      await store.coppice('create', disk, '--size', String(DISK_BYTES));
      rounds.models.set(disk, new DiskModel(DISK_BYTES));
    }
    await store.start();
    return rounds;
  }

  get answered(): number {
    return this.clients.reduce((sum, { answered }) => sum + answered, 0);
  }

  /** Clients at work, and in some rounds a snapshot of both disks at once; returns at a random moment amid that. */
  async work(): Promise<Promise<void>[]> {
    this.#round++;
    const { random } = this;
    this.clients = Array.from({ length: CLIENTS }, (_, i) => this.#client(DISKS[i % DISKS.length]!));
    const answered = random.between(20, 300);
    const snapshotAt = random.chance(60) ? random.below(answered) : Number.POSITIVE_INFINITY;
    const snapshots: Promise<void>[] = [];
    await this.clients[0]!.program.until(() => {
      if (this.answered >= snapshotAt && snapshots.length === 0) snapshots.push(this.#snapshot());
      return this.answered >= answered;
    }, `${answered} answers: the server is too slow, or gone`);
    if (random.chance(50)) await Promise.all(snapshots);
    await pause(random.below(snapshots.length > 0 ? 1_200 : 40));
    return snapshots;
  }

  #client(disk: string): QemuIoClient {
    const { store, random, models } = this;
    const options = { uri: store.uri(disk), random, model: models.get(disk)!, sizeBytes: DISK_BYTES };
    const client = new QemuIoClient(options);
    cleanup.add(() => client.program.kill());
    return client;
  }

  /** The server may be killed before this has its answer: then the snapshot may be there, of both disks, or not. */
  async #snapshot(): Promise<void> {
    const name = `round${this.#round}`;
    const asked = DISKS.map((disk) => [disk, this.models.get(disk)!.beginSnapshot()] as const);
    for (const [disk, snapshot] of asked) this.snapshots.set(`${disk}@${name}`, snapshot);
    try {
      await ok(this.store.directory, ['snapshot', ...DISKS.map((disk) => `${disk}@${name}`)]);
      this.answeredSnapshots.add(name);
      for (const [disk, snapshot] of asked) this.models.get(disk)!.endSnapshot(snapshot);
    } catch {
      // What fails when it should not is missing afterwards, and counted.
    }
  }

  async endClients(): Promise<void> {
    for (const client of this.clients) client.stop();
    await Promise.all(this.clients.map(({ program }) => program.kill()));
    expect(this.clients.map(({ failure }) => failure)).toEqual(this.clients.map(() => undefined));
  }

  async check(isLast: boolean): Promise<void> {
    const { store } = this;
    const round = `round ${this.#round}`;
    expect(await store.damage(), round).toBeUndefined();
    if (this.random.chance(25)) await store.startAndKill(this.random.below(1_000));
    await store.start();
    for (const disk of DISKS)
      expect(this.models.get(disk)!.adopt(await this.#read(disk)), `${round}, ${disk}`).toBeUndefined();

    const listed = await tool('nbdinfo', ['--list', '--json', store.uri('')]);
    const { exports } = JSON.parse(listed) as { exports: { 'export-name': string }[] };
    const names = new Set(exports.map((each) => each['export-name']));
    for (const name of this.answeredSnapshots)
      for (const disk of DISKS) expect(names).toContain(`${disk}@${name}`);
    for (const name of this.snapshots.keys()) {
      const [, snapshot] = name.split('@');
      expect(
        DISKS.filter((disk) => names.has(`${disk}@${snapshot}`)).length % DISKS.length,
        `${name}, half`,
      ).toBe(0);
      if (!names.has(name)) this.snapshots.delete(name);
    }
    for (const [name, snapshot] of isLast
      ? [...this.snapshots]
      : [...this.snapshots].slice(-SNAPSHOTS_WATCHED)) {
      expect(snapshot.wrong(await this.#read(name)), `${round}, ${name}`).toBeUndefined();
    }
  }

  /** Through a client or through the command line, as chance has it. */
  async #read(name: string): Promise<Buffer> {
    const file = this.store.file('read.raw');
    fs.rmSync(file, { force: true });
    if (this.random.chance(20)) await this.store.coppice('export', name, file);
    else await tool('nbdcopy', [this.store.uri(name), file]);
    return fs.readFileSync(file);
  }
}

describe.skipIf(!requireTools(['qemu-io', 'stdbuf', 'nbdcopy', 'nbdinfo']))('a server under clients', () => {
  it.each(seeds(1))(
    `loses nothing that it answered when it is killed, ${ROUNDS} times over (SEED=%i)`,
    async (seed) => {
      const rounds = await Rounds.make(seed);
      for (let round = 1; round <= ROUNDS; round++) {
        const snapshots = await rounds.work();
        await rounds.store.kill();
        await Promise.all(snapshots);
        await rounds.endClients();
        await rounds.check(round === ROUNDS);
      }
      expect((await rounds.store.stop()).code).toBe(0);
      expect(await rounds.store.damage()).toBeUndefined();
    },
    60_000 + ROUNDS * ROUND_MS_MAX,
  );

  it.each(seeds(1))(
    'ends with 0 within five seconds of SIGTERM under clients at work and idle ones, and loses nothing (SEED=%i)',
    async (seed) => {
      const rounds = await Rounds.make(seed);
      for (let round = 1; round <= 2; round++) {
        const snapshots = await rounds.work();
        await Promise.all(snapshots);
        rounds.clients[0]!.stop();
        const { code, tookMs, err } = await rounds.store.stop();
        expect(code, err).toBe(0);
        expect(tookMs).toBeLessThan(5_000);
        await rounds.endClients();
        await rounds.check(round === 2);
      }
    },
    120_000,
  );
});
