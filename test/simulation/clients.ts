/**
 * The clients of one life: several at once, each doing what its profile weighs, one thing after the other, and the
 * oracle told of all that is asked and answered.
 *
 * Invariant: an error is one that a fault of this life explains; a client that is told of a poisoned store stops.
 */

import { AssertionError, hasCode, StoreError } from '../../src/base/errors.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import type { Store } from '../../src/volume/store.ts';
import type { Random } from '../support/random.ts';
import { write } from '../support/stores.ts';
import type { Faults } from './faults.ts';
import type { Marks } from './marks.ts';
import type { ClientWrite } from './client-write.ts';
import type { Oracle } from './oracle.ts';
import { type Action, mayFailToWrite, mayTearFooters, type Profile } from './profile.ts';
import { receive } from './receiving.ts';
import { changeRole } from './roles.ts';
import type { Scheduler } from './scheduler.ts';
import { type Version, ZEROS } from './versions.ts';

const WRITE_BYTES_MIN = 8;

export interface Surroundings {
  store: Store;
  oracle: Oracle;
  random: Random;
  profile: Profile;
  faults: Faults;
  scheduler: Scheduler;
  marks: Marks;
  /** The life is over: nobody hears an answer any more. */
  hasEnded(): boolean;
  /** Something goes wrong with a row of the index in use. */
  spoilIndex(): void;
  /** Something had gone wrong with a row, in this life or an earlier one. */
  wasSpoiled(): boolean;
}

/** Runs a request; answers whether it went well. */
export type Attempt = (ask: () => Promise<unknown>) => Promise<boolean>;

export class Clients {
  readonly #of: Surroundings;
  readonly #devices = new Map<string, BlockDevice>();
  readonly #uses = new Map<string, number>();
  #operationsLeft: number;
  isPoisoned = false;
  static #names = 0;

  constructor(surroundings: Surroundings) {
    this.#of = surroundings;
    this.#operationsLeft = surroundings.profile.operations;
  }

  /** Names are used once in a run. */
  static begin(): void {
    Clients.#names = 0;
  }

  async run(): Promise<void> {
    const { profile, oracle } = this.#of;
    if (oracle.live.heads.size === 0) await this.#create();
    await Promise.all(Array.from({ length: profile.clients }, () => this.#client()));
    this.#releaseAll();
  }

  async #client(): Promise<void> {
    const { oracle } = this.#of;
    while (this.#operationsLeft-- > 0 && !this.isPoisoned && oracle.violation === undefined) {
      await this.#act(this.#draw());
    }
  }

  #draw(): Action {
    const { random, profile } = this.#of;
    let at = random.below(profile.weights.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [action, weight] of profile.weights) {
      at -= weight;
      if (at < 0) return action;
    }
    return 'write';
  }

  async #act(action: Action): Promise<void> {
    const { random, scheduler, faults, marks } = this.#of;
    switch (action) {
      case 'write':
        return await this.#write(false);
      case 'zero':
        return await this.#write(true);
      case 'read':
        return await this.#read();
      case 'flush':
        return await this.#flush();
      case 'snapshot':
        return await this.#snapshot();
      case 'clone':
        return await this.#clone();
      case 'create':
        return await this.#create();
      case 'delete':
        return await this.#delete();
      case 'rollback':
        return await this.#rollback();
      case 'resize':
        return await this.#resize();
      case 'receive':
        return await this.#receive();
      case 'change role':
        return await changeRole(this.#of, (ask) => this.#try(ask));
      case 'diff':
        return await this.#diff();
      case 'checkpoint':
        marks.hit('checkpoint');
        await this.#try(() => this.#of.store.checkpoint());
        return;
      case 'compact':
        return await this.#compact();
      case 'rest':
        return await scheduler.sleep(random.pick([1, 60, 150]));
      case 'check':
        return await this.#check();
      case 'release':
        return this.#release();
      case 'spoil index':
        return this.#of.spoilIndex();
      case 'fill disk':
        faults.fill(true);
        await scheduler.sleep(random.between(1, 30));
        faults.fill(false);
        marks.hit('disk full, and room again');
        return;
    }
  }

  /** Answers whether it went well; an error must have its reason. */
  async #try(ask: () => Promise<unknown>): Promise<boolean> {
    const { oracle, faults, profile, marks } = this.#of;
    try {
      await ask();
      await this.#unlessOver();
      return true;
    } catch (error) {
      await this.#unlessOver();
      const code = error instanceof StoreError ? error.code : String((error as Error).stack);
      const isFull = code === 'NO_SPACE' && profile.capacityBytes > 0;
      if (code === 'NO_SPACE') marks.hit('refused for want of room');
      if (code === 'POISONED') {
        this.isPoisoned = true;
        marks.hit('poisoned');
      }
      // Deleted, rolled back, made smaller or a replica by another client meanwhile.
      const isTaken = ['CLOSED', 'NOT_FOUND', 'IN_USE'].includes(code) && this.#mayTakeAway;
      if (isTaken || (code === 'READ_ONLY' && this.#may(['change role']))) {
        marks.hit('request of a version that was taken away');
        return false;
      }
      const isUsual = code === 'IO' || code === 'NO_SPACE' || code === 'POISONED';
      if (error instanceof AssertionError || !isUsual)
        oracle.fail(`a client was told ${code}: ${(error as Error).message}`);
      else if (faults.injected === 0 && !isFull && !(code === 'NO_SPACE' && this.#mayTakeAway))
        oracle.fail(`nothing failed, and a client was told ${code}: ${(error as Error).stack}`);
      return false;
    }
  }

  /** What comes back after the end never gets to anybody. */
  async #unlessOver(): Promise<void> {
    if (this.#of.hasEnded()) await new Promise(() => undefined);
  }

  async #use<T>(name: string, work: (device: BlockDevice) => Promise<T>): Promise<T> {
    let device = this.#devices.get(name);
    const { size, kind, replica } = this.#of.store.show(name);
    // One that was opened before a resize has the old size, before a promotion it is only read.
    const isOutdated = device?.sizeBytes !== size || (kind === 'volume' && device.readOnly !== replica);
    if (device === undefined || isOutdated) {
      device = this.#of.store.device(name);
      this.#devices.set(name, device);
    }
    this.#uses.set(name, (this.#uses.get(name) ?? 0) + 1);
    try {
      return await work(device);
    } catch (error) {
      // Whoever comes next opens what has the name then.
      if (hasCode(error, 'CLOSED') && this.#devices.get(name) === device) this.#devices.delete(name);
      throw error;
    } finally {
      this.#uses.set(name, this.#uses.get(name)! - 1);
    }
  }

  #release(): void {
    const idle = [...this.#devices.keys()].filter((name) => this.#uses.get(name) === 0);
    if (idle.length === 0) return;
    const name = this.#of.random.pick(idle);
    this.#devices.get(name)!.release();
    this.#devices.delete(name);
  }

  #releaseAll(): void {
    for (const device of this.#devices.values()) device.release();
    this.#devices.clear();
  }

  /** Bytes of a volume: at any place, or whole chunks; mostly where others write as well. */
  #range(sizeBytes: number): [offset: number, lengthBytes: number] {
    const { random, profile } = this.#of;
    const chunks = Math.ceil(sizeBytes / CHUNK_BYTES);
    const count = random.between(1, Math.min(chunks, profile.writeChunksMax));
    const first = this.#hotChunk(chunks);
    if (!random.chance(profile.oddPercent)) {
      const offset = first * CHUNK_BYTES;
      return [offset, Math.min(count * CHUNK_BYTES, sizeBytes - offset)];
    }
    const offset = Math.min(first * CHUNK_BYTES + random.below(CHUNK_BYTES), sizeBytes - WRITE_BYTES_MIN);
    const longest = Math.min(count * CHUNK_BYTES, sizeBytes - offset);
    return [offset, random.between(WRITE_BYTES_MIN, Math.max(WRITE_BYTES_MIN, longest))];
  }

  #hotChunk(chunks: number): number {
    const { random, profile } = this.#of;
    const hot = Math.min(profile.hotChunks, chunks);
    const chunk = random.below(hot);
    // Around the end of the first region, where there is one.
    return chunks > 256 && random.chance(50)
      ? Math.min(chunks - 1, 256 - Math.floor(hot / 2) + chunk)
      : chunk;
  }

  /** As the store knows it: a change on its way to the log has not happened yet. */
  #sizeOf({ name }: Version): number {
    return this.#of.store.show(name).size;
  }

  #head(): Version | undefined {
    const heads = this.#known([...this.#of.oracle.live.heads.values()]);
    return heads.length === 0 ? undefined : this.#of.random.pick(heads);
  }

  /** Those that the store knows: what is on its way to the log has no name yet. Replicas are only received and deleted. */
  #known(versions: readonly Version[], withReplicas = false): Version[] {
    const all = this.#of.store.list().filter(({ replica }) => withReplicas || !replica);
    const names = new Set(all.map(({ name }) => name));
    return versions.filter(({ name }) => names.has(name));
  }

  async #receive(): Promise<void> {
    const { oracle } = this.#of;
    const name = `v${Clients.#names++}`;
    await receive(this.#of, (ask) => this.#try(ask), this.#known(oracle.live.snapshots), name);
  }

  async #write(isZero: boolean): Promise<void> {
    const { random, profile, oracle, marks } = this.#of;
    const version = this.#head();
    if (version === undefined) return;
    const size = this.#sizeOf(version);
    const [offset, lengthBytes] = isZero && random.chance(10) ? [0, size] : this.#range(size);
    const [first, last] = [offset, offset + lengthBytes - 1].map((at) => Math.floor(at / CHUNK_BYTES));
    if (isZero && oracle.isZeroing(version.volume!, first!, last!)) return;
    if (offset % CHUNK_BYTES !== 0 || lengthBytes % CHUNK_BYTES !== 0) marks.hit('write of part of a chunk');
    const isFua = random.chance(profile.fuaPercent);
    const bytes = isZero ? undefined : random.bytes(lengthBytes);
    if (isZero) marks.hit('zeros');
    const asked = oracle.beginWrite(version.volume!, offset, lengthBytes, bytes);
    const ok = await this.#try(() =>
      this.#use(version.name, async (device) => {
        if (device.readOnly) throw new StoreError('IN_USE', 'it was demoted meanwhile');
        if (bytes === undefined) await device.zero(offset, lengthBytes, isFua);
        else await write(device, offset, bytes, isFua);
      }),
    );
    this.#answer(asked, ok, isFua);
  }

  #answer(asked: ClientWrite, ok: boolean, isFua: boolean): void {
    if (ok && isFua) this.#of.marks.hit('force unit access');
    this.#of.oracle.endWrite(asked, ok, isFua);
  }

  async #read(): Promise<void> {
    const { random, oracle } = this.#of;
    const version = random.chance(60) ? this.#head() : random.pick(this.#known(oracle.live.all));
    if (version === undefined) return;
    const { name } = version;
    const size = this.#sizeOf(version);
    const [offset, lengthBytes] = random.chance(20) ? [0, size] : this.#range(size);
    const target = Buffer.alloc(lengthBytes, 0xee);
    const reading = oracle.beginRead(version, offset, lengthBytes);
    const ok = await this.#try(() =>
      this.#use(name, async (device) => {
        if (device.tryRead(target, 0, offset, lengthBytes)) return;
        await device.read(target, 0, offset, lengthBytes);
      }),
    );
    oracle.endRead(reading, ok ? target : undefined);
  }

  async #flush(): Promise<void> {
    const { oracle, marks, store, random } = this.#of;
    const { answered } = oracle;
    const head = this.#head();
    const ok = await this.#try(() =>
      head === undefined || random.chance(50)
        ? store.flush()
        : this.#use(head.name, (device) => device.flush()),
    );
    if (!ok) return;
    if (oracle.hasWrites) marks.hit('flush answered while writes were under way');
    oracle.flushed = Math.max(oracle.flushed, answered);
  }

  async #snapshot(): Promise<void> {
    const { random, profile, oracle, marks, store } = this.#of;
    const heads = this.#known([...oracle.live.heads.values()]);
    if (heads.length === 0 || oracle.live.byLabel.size >= profile.versionsMax) return;
    const chosen = random.chance(40) ? heads : [random.pick(heads)];
    if (chosen.length > 1) marks.hit('snapshot of a group');
    if (oracle.hasWrites) marks.hit('snapshot while writes were under way');
    const snapshot = `s${Clients.#names++}`;
    const names = chosen.map((head) => `${head.name}@${snapshot}`);
    if (await this.#try(() => store.snapshot(names)))
      oracle.changed((change) => change.op === 'snapshot' && change.cuts[0]!.name === snapshot, snapshot);
  }

  async #clone(): Promise<void> {
    const { random, profile, oracle, marks, store } = this.#of;
    const { live } = oracle;
    const sources = this.#known(live.snapshots);
    if (sources.length === 0 || live.byLabel.size >= profile.versionsMax) return;
    const name = `v${Clients.#names++}`;
    marks.hit('clone');
    if (await this.#try(() => store.clone(random.pick(sources).name, name)))
      oracle.changed((change) => change.op === 'clone' && change.name === name, name);
  }

  async #create(): Promise<void> {
    const { random, profile, oracle, store } = this.#of;
    if (oracle.live.heads.size >= profile.volumesMax) return;
    const name = `v${Clients.#names++}`;
    const sizeBytes = profile.volumeChunks * CHUNK_BYTES - 512 * random.below(8);
    if (await this.#try(() => store.createVolume(name, sizeBytes)))
      oracle.changed((change) => change.op === 'create' && change.name === name, name);
  }

  get #mayTakeAway(): boolean {
    return this.#may(['delete', 'rollback', 'resize', 'change role']);
  }

  #may(actions: readonly Action[]): boolean {
    return this.#of.profile.weights.some(([action, weight]) => weight > 0 && actions.includes(action));
  }

  async #delete(): Promise<void> {
    const { random, oracle, marks, store } = this.#of;
    const known = this.#known(oracle.live.all, true);
    const chosen = new Set<Version>();
    for (let i = random.pick([1, 1, 2, 4]); i > 0 && known.length > 0; i--) chosen.add(random.pick(known));
    if (chosen.size === 0) return;
    marks.hit('delete');
    const labels = [...chosen].filter(({ volume }) => volume === undefined).map(({ label }) => label);
    const volumes = [...chosen].flatMap(({ volume }) => volume ?? []);
    for (const { name } of chosen) {
      if (known.some((other) => other.name.startsWith(`${name}@`)))
        marks.hit('delete of a volume with its snapshots');
      if (store.list().some(({ parent, kind }) => parent === name && kind === 'volume'))
        marks.hit('delete of what clones inherit from');
    }
    const names = [...chosen].map(({ name }) => name);
    const ok = await this.#try(() => store.delete(names, { recursive: true, force: true }));
    if (!ok) return;
    oracle.changed(
      (change) =>
        change.op === 'delete' &&
        volumes.every((volume) => change.volumes.includes(volume)) &&
        (volumes.length > 0 || labels.every((label) => change.snapshots.includes(label))),
      names.join(' '),
    );
  }

  async #rollback(): Promise<void> {
    const { random, profile, oracle, marks, store } = this.#of;
    const volumes = new Set(this.#known([...oracle.live.heads.values()]).map(({ name }) => name));
    const snapshots = this.#known(oracle.live.snapshots).filter(({ name }) =>
      volumes.has(name.split('@')[0]!),
    );
    if (snapshots.length === 0 || oracle.live.byLabel.size >= profile.versionsMax) return;
    const snapshot = random.pick(snapshots);
    marks.hit('rollback');
    let saved: string | null = '';
    const ok = await this.#try(async () => {
      ({ saved } = await store.rollback(snapshot.name, { force: true }));
    });
    if (!ok) return;
    if (saved === null) marks.hit('rollback of what had not changed');
    // Meanwhile it may have been deleted, and another one been given its name: saved ones are named by the second.
    const named = oracle.live.snapshots.filter(({ name }) => name === snapshot.name);
    const labels = new Set([snapshot, ...named].map(({ label }) => label));
    oracle.changed((change) => change.op === 'rollback' && labels.has(change.to), snapshot.name);
  }

  /** To whole chunks: what stands behind the end of a chunk that is used in part is no part of the specification. */
  async #resize(): Promise<void> {
    const { random, profile, oracle, marks, store } = this.#of;
    const head = this.#head();
    if (head === undefined || head.sizeBytes % CHUNK_BYTES !== 0) return;
    const { volume, name } = head;
    const size = CHUNK_BYTES * random.between(1, profile.volumeChunks);
    if (size === head.sizeBytes) return;
    marks.hit(size < head.sizeBytes ? 'shrink' : 'growth');
    if (!(await this.#try(() => store.resize(name, size, { shrink: true, force: true })))) return;
    this.#devices.delete(name); // knows the old size
    oracle.changed(
      (change) => change.op === 'resize' && change.volume === volume && change.size === size,
      name,
    );
  }

  /** Of two snapshots: nothing writes to them, whatever else goes on. */
  async #diff(): Promise<void> {
    const { oracle, marks, store, random } = this.#of;
    const snapshots = this.#known(oracle.live.snapshots);
    if (snapshots.length < 2) return;
    const [from, to] = [random.pick(snapshots), random.pick(snapshots)];
    const [a, b] = [new Map(from.chunks), new Map(to.chunks)];
    const listed = new Set<number>();
    marks.hit('diff');
    const ok = await this.#try(async () => {
      for await (const { offset, length } of store.diff(from.name, to.name)) {
        for (let at = offset; at < offset + length; at += CHUNK_BYTES) listed.add(at / CHUNK_BYTES);
      }
    });
    if (!ok) return;
    for (const chunk of new Set([...a.keys(), ...b.keys()])) {
      const isSame = (a.get(chunk) ?? ZEROS).equals(b.get(chunk) ?? ZEROS);
      if (!isSame && !listed.has(chunk))
        oracle.fail(`chunk ${chunk} differs between ${from.name} and ${to.name}, and the diff has it not`);
    }
  }

  async #compact(): Promise<void> {
    const { store, marks, faults, profile, random } = this.#of;
    const all = { target: random.pick([0.5, 0.9, 1]), purge: random.chance(50), bytesPerSecond: undefined };
    const compactAll = async (): Promise<void> => {
      for await (const { movedBytes } of store.compact(all))
        if (movedBytes > 0) marks.hit('compaction to the end');
    };
    const compactOnce = async (): Promise<void> => {
      if ((await store.compactOnce()) !== undefined) marks.hit('compaction');
    };
    const compact = random.chance(profile.thoroughPercent) ? compactAll : compactOnce;
    await this.#try(async () => {
      await compact().catch((error: unknown) => {
        // A delete that failed halfway comes first.
        const isExplained = faults.injected > 0 || this.#of.wasSpoiled();
        if (!hasCode(error, 'IN_USE') || !isExplained) throw error;
      });
    });
  }

  async #check(): Promise<void> {
    const { oracle, marks, store, faults, profile } = this.#of;
    marks.hit('check while in use');
    await this.#try(async () => {
      for await (const { severity, code, message } of store.check()) {
        const isExplained =
          (faults.injected > 0 && code === 'INDEX_DAMAGED') ||
          (code === 'SUPERBLOCK_SLOT_DAMAGED' && mayFailToWrite(profile)) ||
          (code === 'FOOTER_DAMAGED' && mayTearFooters(profile));
        if (severity === 'damage' && !isExplained) oracle.fail(`check while in use: ${code}: ${message}`);
      }
    });
  }
}
