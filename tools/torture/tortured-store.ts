/**
 * A store that is served, worked on, and struck down, again and again: whatever the blow was, `recover` brings it back
 * and compares all of it with its history.
 */

import fs from 'node:fs';
import { type Cleanup, pause, tail } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import { type LoadOptions, Writer } from './load.ts';
import { NbdClient } from './nbd-client.ts';
import { StoreHistory } from './store-history.ts';
import { StoreServer, type Surroundings } from './store-server.ts';

const DISK_BYTES = 2 << 20;
const FIRST_DISKS = ['left', 'right'];
const DISKS_MAX = 5;
const WRITERS_PER_DISK = 2;
/** What is not answered by then never is. */
const ANSWER_MS_MAX = 30_000;
const READ_BYTES = 256 << 10;
/** Snapshots that are read again after every blow; of those before that, some. */
const SNAPSHOTS_WATCHED = 4;

/** What was done to a store, to be told. */
export type Figures = Record<'writes' | 'flushes' | 'snapshots' | 'clones' | 'indexes made anew', number>;

export interface RecoverOptions {
  /** All snapshots are read, not only new ones and a few others. */
  allSnapshots?: boolean;
  /** The index may be damaged, and is made anew then; the log may not. */
  mayLoseIndex?: boolean;
}

export class TorturedStore {
  readonly server: StoreServer;
  readonly history: StoreHistory;
  readonly figures: Figures = { writes: 0, flushes: 0, snapshots: 0, clones: 0, 'indexes made anew': 0 };
  /** What the clients saw that they may see: how many requests failed, by error. */
  readonly refused = new Map<number, number>();
  /** Errors of the protocol that clients may see from now on. */
  readonly mayFailWith = new Set<number>();
  readonly #random: Random;
  #writers: Writer[] = [];
  #beside: Promise<void> = Promise.resolve();
  #isLoaded = false;
  #nameCount = 0;

  private constructor(server: StoreServer, random: Random, seed: number) {
    this.server = server;
    this.#random = random;
    this.history = new StoreHistory(seed);
  }

  /** A new store with two empty volumes, served. */
  static async make(
    cleanup: Cleanup,
    directory: string,
    random: Random,
    initOptions: readonly string[] = ['--segment-size', '1M'],
    surroundings?: Surroundings,
  ): Promise<TorturedStore> {
    const server = new StoreServer(cleanup, directory);
    const made = new TorturedStore(server, random, random.next());
    await server.coppice('init', ...initOptions);
    await server.start(surroundings);
    const control = await server.control();
    for (const name of FIRST_DISKS) {
      const disk = made.history.addDisk(name, Buffer.alloc(DISK_BYTES));
      await control.create(name, DISK_BYTES);
      await control.flush();
      made.history.promise(disk);
    }
    await control.close();
    return made;
  }

  /** Clients begin their work on all disks, and others take snapshots, make clones and checkpoints beside them. */
  async load(flushPercent = 10): Promise<void> {
    const { history } = this;
    const load = this.#loadOptions(flushPercent);
    this.#isLoaded = true;
    this.#writers = [];
    for (const { history: disk } of history.disks.values()) {
      for (let i = 0; i < WRITERS_PER_DISK; i++) this.#writers.push(await Writer.start(load, disk));
    }
    this.#beside = this.#workBeside();
  }

  #loadOptions(flushPercent: number): LoadOptions {
    const { history, mayFailWith, server } = this;
    return { random: this.#random, history, mayFailWith, flushPercent, socketPath: server.nbdSocket };
  }

  get answered(): number {
    return this.#writers.reduce((sum, { answered }) => sum + answered, 0);
  }

  /** Whatever fails here was not answered, and may or may not have happened. */
  async #workBeside(): Promise<void> {
    const random = this.#random;
    const control = await this.server.control().catch(() => undefined);
    if (control === undefined) return;
    try {
      while (this.#isLoaded) {
        await pause(random.below(120));
        const kind = random.pick(['snapshot', 'snapshot', 'clone', 'checkpoint'] as const);
        if (!this.#isLoaded) break;
        if (kind === 'checkpoint') await control.status();
        else if (kind === 'snapshot') {
          const asked = this.history.addSnapshots(`s${++this.#nameCount}`);
          await control.snapshot([...asked.keys()]);
          await control.flush();
          this.history.answerSnapshots(asked);
          this.figures.snapshots++;
        } else {
          await this.#clone(async (source, name) => {
            await control.clone(source, name);
            await control.flush();
          });
        }
      }
    } catch {
      // What fails when it should not is missing afterwards, or damaged.
    } finally {
      await control.close();
    }
  }

  /** Of a snapshot that has been read: so it is known what the clone begins with. */
  async #clone(make: (source: string, name: string) => Promise<unknown>): Promise<void> {
    const { history } = this;
    const sources = [...history.snapshots].filter(
      ([
        ,
        {
          history: { seen },
        },
      ]) => seen !== undefined,
    );
    if (sources.length === 0 || history.disks.size >= DISKS_MAX) return;
    const [source, { history: snapshot }] = this.#random.pick(sources);
    const name = `c${++this.#nameCount}`;
    const disk = history.addDisk(name, snapshot.seen!);
    await make(source, name);
    history.promise(disk);
    this.figures.clones++;
    if (!this.#isLoaded) return;
    this.#writers.push(await Writer.start(this.#loadOptions(10), disk.history));
  }

  /** How many requests failed since the load began. */
  get refusedCount(): number {
    return this.#writers.reduce((sum, { refused }) => [...refused.values()].reduce((a, b) => a + b, sum), 0);
  }

  /** Waits for `condition` while the server runs; answers whether it came true. */
  async until(condition: () => boolean, waitMs: number): Promise<boolean> {
    const deadline = performance.now() + waitMs;
    while (!condition() && performance.now() < deadline && this.server.result === undefined) await pause(2);
    return condition();
  }

  /** The clients stop, or find that the server is gone. @throws Error if one of them saw what it may not see */
  async unload(): Promise<void> {
    this.#isLoaded = false;
    for (const writer of this.#writers) writer.stop();
    const ended = Promise.all([this.#beside, ...this.#writers.map((writer) => writer.ended)]).then(
      () => true,
    );
    const isInTime = await Promise.race([ended, late(ANSWER_MS_MAX)]);
    if (!isInTime) throw new Error(`requests wait for ever\n${tail(this.server.log)}`);
    for (const { answered, flushed, refused } of this.#writers) {
      this.figures.writes += answered;
      this.figures.flushes += flushed;
      for (const [error, count] of refused) this.refused.set(error, (this.refused.get(error) ?? 0) + count);
    }
    const failures = this.#writers.flatMap((writer) => writer.failures);
    this.#writers = [];
    if (failures.length > 0) throw new Error(`clients saw: ${failures.slice(0, 5).join('; ')}`);
  }

  /** Checks the store, serves it again and compares everything. @throws Error that says what is wrong */
  async recover({ mayLoseIndex = false, ...options }: RecoverOptions = {}): Promise<void> {
    const damage = await this.server.damage();
    const isOfIndex = damage.length > 0 && damage.every(({ code }) => code === 'INDEX_DAMAGED');
    if (damage.length > 0 && !(mayLoseIndex && isOfIndex)) throw new Error(`fsck: ${JSON.stringify(damage)}`);
    await this.server.start();
    // A row in doubt may be noticed only when it is read.
    await this.compare(isOfIndex ? { allSnapshots: true } : options);
    const isMadeAnew = /made anew|index is in doubt/.test(this.server.log);
    if (isOfIndex && !isMadeAnew) throw new Error(`an index in doubt was used: ${JSON.stringify(damage)}`);
    if (isMadeAnew) this.figures['indexes made anew']++;
  }

  /** As recover does, while the store is being served and nobody works on it. */
  async compare({ allSnapshots = false }: RecoverOptions = {}): Promise<void> {
    const { history } = this;
    const control = await this.server.control();
    const present = (await control.list()).map(({ name }) => name);
    await control.close();
    const snapshots = (): string[] => [...history.snapshots.keys()];
    check(history.settleNames(new Set(present)));
    check(history.settle(await this.#read([...history.disks.keys()])));
    const fresh = snapshots().filter((name) => history.snapshots.get(name)!.history.seen === undefined);
    const watched = allSnapshots ? snapshots() : [...fresh, ...this.#some(snapshots(), SNAPSHOTS_WATCHED)];
    for (const name of new Set(watched)) check(history.wrongSnapshots(await this.#read([name])));
    await this.#checkServed();
  }

  async #checkServed(): Promise<void> {
    const control = await this.server.control();
    for await (const { severity, message } of control.check()) {
      if (severity === 'damage') throw new Error(`a check of the served store says: ${message}`);
    }
    await control.close();
  }

  #some(names: readonly string[], count: number): string[] {
    return names.length === 0 ? [] : Array.from({ length: count }, () => this.#random.pick(names));
  }

  async #read(names: readonly string[]): Promise<Map<string, Buffer>> {
    const contents = new Map<string, Buffer>();
    for (const name of names) {
      const client = await NbdClient.connect(this.server.nbdSocket, name);
      const offsets = Array.from({ length: DISK_BYTES / READ_BYTES }, (_, i) => i * READ_BYTES);
      const answers = await Promise.all(offsets.map((offset) => client.read(offset, READ_BYTES)));
      client.close();
      const failed = answers.find(({ error }) => error !== 0);
      if (failed !== undefined)
        throw new Error(`${name} cannot be read: ${failed.error}\n${tail(this.server.log)}`);
      contents.set(name, Buffer.concat(answers.map(({ payload }) => payload)));
    }
    return contents;
  }

  /** Ends the server as users do; then nothing may be lost. */
  async stop(): Promise<void> {
    const result = await this.server.stop();
    if (result !== 0) throw new Error(`the server ended with ${result}\n${tail(this.server.log)}`);
    this.history.keepAll();
  }

  /** The store is not needed any more. */
  async remove(): Promise<void> {
    await this.server.kill();
    fs.rmSync(this.server.directory, { recursive: true, force: true });
  }
}

/** Keeps nobody from ending before. */
function late(ms: number): Promise<false> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), ms).unref();
  });
}

function check(wrong: string | undefined): void {
  if (wrong !== undefined) throw new Error(wrong);
}
