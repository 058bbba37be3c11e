/**
 * One run, from one seed: a store lives, crashes, recovers, is held against the oracle and checked, and lives again.
 *
 * The same seed gives the same run. A run that finds something wrong throws, and says how to run it alone.
 */

import type { Logger } from '../../src/base/logger.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { hasCode, StoreError } from '../../src/base/errors.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { createSuperblock, readSuperblock, SUPERBLOCK_REVISION } from '../../src/log/superblock.ts';
import { checkClosedStore } from '../../src/volume/check-offline.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { Random } from '../support/random.ts';
import { Clients } from './clients.ts';
import { makeScratch, SimulatedDisk } from './disk.ts';
import { Faults } from './faults.ts';
import { type End, Machine } from './machine.ts';
import type { Marks } from './marks.ts';
import { Oracle, Violation } from './oracle.ts';
import { drawProfile, mayTearFooters, type Profile } from './profile.ts';
import { type Found, ZEROS } from './versions.ts';
import { hashOf, Scheduler } from './scheduler.ts';

const UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const OPENINGS_MAX = 6;
const REPAIR_RETRY_MS = 1001;
const CACHE_BYTES = 1 << 20;
/** Read at once where all is read. */
const READ_BYTES = 256 << 10;
/** What a check may find of a store that has crashed and has not been opened since. */
const SPOILED = ['INDEX_DAMAGED', 'SUPERBLOCK_SLOT_DAMAGED'];
const BEGINNING_MS = 1_700_000_000_000;

export interface RunResult {
  seed: number;
  /** Recoveries from a crash that were verified. */
  crashStates: number;
  traceHash: number;
}

/** `Store.open`, or what a test of the simulation has in its place. */
export type StoreOpener = typeof Store.open;

/** What the store says to its log that a run must know of. */
const SAID: readonly [pattern: RegExp, mark: Parameters<Marks['hit']>[0]][] = [
  [/writing the unproven tail/, 'opened: tail written again'],
  [/an interrupted append was cut/, 'opened: an append was cut'],
  [/cannot be trusted and is made anew/, 'opened: index made anew'],
  [/^deletes finished/, 'deletes finished'],
  [/could not be taken out of the index/, 'deletes tried again'],
  [/^emptied segments removed/, 'emptied segments removed'],
];

const NEVER_SAID =
  /part of the log is damaged|its records do not explain|of the log are missing|that the log does not state/;

class Run {
  readonly #seed: number;
  readonly #marks: Marks;
  readonly #openStore: StoreOpener;
  readonly #random: Random;
  readonly #profile: Profile;
  readonly #disk = new SimulatedDisk();
  readonly #oracle: Oracle;
  #nowMs = BEGINNING_MS;
  #machine!: Machine;
  #store: Store | undefined;
  #isCrashed = false;
  #isSound = false;
  /** Rows of the index were lost, or are older than they should be. */
  #isSpoiled = false;
  crashStates = 0;
  traceHash = 0;

  constructor(seed: number, marks: Marks, openStore: StoreOpener) {
    this.#seed = seed;
    this.#marks = marks;
    this.#openStore = openStore;
    this.#random = new Random(seed);
    this.#profile = drawProfile(this.#random);
    this.#oracle = new Oracle(UUID, marks);
    Clients.begin();
  }

  async run(): Promise<void> {
    const { segmentBytes, capacityBytes, lives } = this.#profile;
    this.#boot(false);
    const first = { sequences: 1, appends: 1, labels: 1, segments: 1 };
    const superblock = {
      ...first,
      revision: SUPERBLOCK_REVISION,
      generation: 1,
      uuid: UUID,
      segmentBytes,
      epoch: 0,
      capacityBytes,
      created: 0,
      base: undefined,
    };
    await createSuperblock(this.#machine, superblock);
    this.#disk.settle();
    this.#halt('kill');
    for (let life = 0; life < lives; life++) {
      await this.#recover();
      await this.#live();
    }
    await this.#recover();
    await this.#close();
    await this.#check(false);
  }

  /** A new process; the planned end of the life comes with one of its calls. */
  #boot(isFaulty: boolean): void {
    const { schedule, rates, coldPercent } = this.#profile;
    const scheduler = new Scheduler(this.#random, schedule, this.#nowMs);
    const faults = new Faults(this.#random, isFaulty ? rates : {});
    this.#machine = new Machine(
      this.#disk,
      scheduler,
      faults,
      this.#marks,
      this.#random,
      this.#oracle,
      coldPercent,
    );
  }

  /** The process is gone. */
  #halt(how: End | 'close'): void {
    const { scheduler } = this.#machine;
    const hasPowerCut = how === 'close' && this.#random.chance(40);
    if (how !== 'close') this.#machine.end(how);
    else {
      scheduler.halt();
      if (hasPowerCut) this.#disk.powerCut(this.#random, this.#marks);
    }
    this.#oracle.crashed(how);
    this.#isSound = how === 'close' && !hasPowerCut && this.#machine.faults.injected === 0;
    if (how === 'kill' && this.#disk.hasLied && this.#random.chance(25)) {
      // What the failed sync was about, and was answered, may be gone from memory by now.
      if (this.#disk.dropClean()) this.#marks.hit('pages dropped after a failed sync');
      this.#oracle.answered = this.#oracle.flushed;
    }
    this.#nowMs = scheduler.now();
    this.traceHash = hashOf(`${scheduler.traceHash} ${scheduler.steps}`, this.traceHash);
    this.#store = undefined;
    this.#isCrashed = how !== 'close';
    this.#throwIfWrong();
  }

  #throwIfWrong(): void {
    if (this.#oracle.violation !== undefined) throw this.#oracle.violation;
  }

  /**
   * Waits for `work` or for the end of the life, whichever is first; what it came to, if it is done. Work goes on for a few
   * turns of promises behind the end: what is to outlast it is answered, never left somewhere by the work itself.
   */
  async #within<T>(work: () => Promise<T>): Promise<{ result: T } | undefined> {
    const { ended, scheduler } = this.#machine;
    const done = await Promise.race([
      work().then((result) => ({ result })),
      ended.then(() => undefined),
      scheduler.stuck.then(() => this.#oracle.fail('the store waits for ever')),
    ]);
    this.#throwIfWrong();
    return this.#machine.hasEnded ? undefined : (done ?? undefined);
  }

  /** Behind a sync that failed mostly a kill: a power cut would take what makes the next one lie. */
  #drawCrash(): End {
    const { killPercent } = this.#profile;
    const percent = this.#disk.hasLied ? Math.max(killPercent, 75) : killPercent;
    return this.#random.chance(percent) ? 'kill' : 'power cut';
  }

  /** Opens the store, through any number of crashes on the way, and holds it against the oracle. */
  async #recover(): Promise<void> {
    const { crashInRecoveryPercent, spoilPercent } = this.#profile;
    let crashes = 0;
    for (let opening = 1; ; opening++) {
      const isLast = opening >= OPENINGS_MAX;
      if (this.#isCrashed && this.#random.chance(spoilPercent)) this.#spoilIndexOnDisk();
      this.#boot(!isLast);
      if (!isLast && this.#random.chance(crashInRecoveryPercent))
        this.#machine.endAfter(this.#random.between(1, 40));
      const opened = await this.#within(() => this.#open());
      this.#store = opened?.result;
      if (this.#store !== undefined) break;
      const how = this.#drawCrash();
      if (opened === undefined) {
        this.#marks.hit(how === 'kill' ? 'killed in recovery' : 'power cut in recovery');
        if (++crashes === 2) this.#marks.hit('second crash in recovery');
      }
      this.#halt(how);
    }
    this.#machine.endAfter(Number.POSITIVE_INFINITY);
    if (this.#isCrashed) this.crashStates += 1;
    await this.#within(() => this.#verify());
  }

  /** undefined if a fault has it refused. */
  async #open(): Promise<Store | undefined> {
    const { faults, openDatabase, scheduler } = this.#machine;
    try {
      return await this.#openStore('.', {
        storage: this.#machine,
        openDatabase,
        clock: scheduler,
        cacheBytes: this.#profile.cacheBytes,
        logger: this.#logger(),
        acquireLock: () => ({ owner: { pid: 0, since: '' }, release: () => undefined }),
        makeScratch: makeScratch,
        compacts: this.#profile.compacts,
        replayBytesMax: this.#profile.replayBytesMax,
      });
    } catch (error) {
      const code = error instanceof StoreError ? error.code : 'no code';
      if (faults.injected === 0 || !['IO', 'NO_SPACE', 'POISONED'].includes(code))
        this.#oracle.fail(`the store does not open: ${code}: ${(error as Error).stack}`);
      this.#marks.hit('open refused because of a fault');
      return undefined;
    }
  }

  #logger(): Logger {
    const note = (what: object, message: string): void => {
      for (const [pattern, mark] of SAID) if (pattern.test(message)) this.#marks.hit(mark);
      if (message === 'compaction' && (what as { urgency?: string }).urgency !== 'full')
        this.#marks.hit('compaction by itself');
      if (message === 'the index is whole again') this.#marks.hit('index made anew while in use');
      if (NEVER_SAID.test(message))
        this.#oracle.fail(`nothing was damaged, and the store says: ${message} ${JSON.stringify(what)}`);
    };
    return { ...silentLogger, debug: note, info: note, warn: note, error: note };
  }

  async #verify(): Promise<void> {
    const { faults, scheduler } = this.#machine;
    const store = this.#store!;
    faults.isOn = false;
    this.#machine.isServing = true;
    // Deletes go on as soon as the store is open: a repair of the index that failed for them is tried again in a second.
    if (faults.injected > 0) await scheduler.sleep(REPAIR_RETRY_MS);
    const found = new Map<string, Found>();
    for (const { name, size } of store.list()) {
      const device = store.device(name);
      found.set(name, { sizeBytes: size, chunks: await chunksOf(device) });
      device.release();
    }
    this.#oracle.recovered(store.cut, found);
    this.#throwIfWrong();
    if (this.#isIncomplete) await this.#haveMended(store);
    // Extents are read by nobody who reads a disk: if they were spoiled, it is noticed here.
    await this.#askForSpace(store);
    await scheduler.paused(() => this.#check(true));
    faults.isOn = true;
  }

  /** True if rows are missing that nobody may have noticed. */
  get #isIncomplete(): boolean {
    return this.#isSpoiled || this.#disk.index?.hasHole === true;
  }

  /**
   * Rows of chunks behind the ends of all disks are read by none: a check finds that they are gone, and has the index made
   * anew, which whoever asks for space next waits for.
   */
  async #haveMended(store: Store): Promise<void> {
    const findings = store.check();
    for (;;) {
      const next = await findings.next().catch((error: unknown) => {
        if (!hasCode(error, 'POISONED')) throw error;
        return undefined;
      });
      if (next === undefined || next.done === true) return;
    }
  }

  async #askForSpace(store: Store): Promise<void> {
    // Where a full store has no room for a checkpoint, what is told is of the last one, and disks may be smaller since.
    const isCurrent = await store.checkpoint().then(
      () => true,
      (error: unknown) => {
        if (!hasCode(error, 'NO_SPACE') && !hasCode(error, 'POISONED')) throw error;
        return false;
      },
    );
    // A sync that began when the store was opened may have failed: it goes on being read, without checkpoints.
    const listed = await store.listWithSpace().catch((error: unknown) => {
      if (!hasCode(error, 'POISONED')) throw error;
      return [];
    });
    for (const { name, referenced, exclusive, shared, size } of listed) {
      const isBounded = referenced <= size + CHUNK_BYTES || !isCurrent;
      const isPossible = referenced === exclusive + shared && isBounded;
      if (!isPossible)
        this.#oracle.fail(`${name} reads ${referenced} bytes, ${exclusive} alone, ${shared} not`);
    }
  }

  /** The checker, over the disk as it is: log, footers, and the index against one that is made from the log alone. */
  async #check(isOpen: boolean): Promise<void> {
    const environment = {
      storage: this.#disk.still,
      uuid: UUID,
      cacheBytes: CACHE_BYTES,
      openDatabase: this.#disk.openStill,
      logger: silentLogger,
      clock: this.#machine.scheduler,
      makeScratch: makeScratch,
      replayBytesMax: this.#profile.replayBytesMax,
    };
    const findings: Finding[] = [];
    const superblock = await readSuperblock(this.#disk.still);
    for await (const finding of checkClosedStore(environment, superblock, superblock.base))
      findings.push(finding);
    // Rows of versions that nobody can read are looked at when their delete goes on.
    const isUnread = this.#isIncomplete && findings.some(({ code }) => code === 'UNFINISHED_DELETE');
    for (const { severity, code, message } of findings) {
      if (isUnread && code === 'INDEX_DAMAGED') continue;
      // What a life or its end has spoiled stays spoiled until the next one opens it.
      if (!isOpen && !this.#isSound && SPOILED.includes(code)) continue;
      if (code === 'FOOTER_DAMAGED' && mayTearFooters(this.#profile)) continue;
      if (severity === 'damage')
        this.#oracle.fail(`check ${isOpen ? 'after recovery' : 'at the end'}: ${code}: ${message}`);
    }
    this.#throwIfWrong();
  }

  #spoilIndexOnDisk(): void {
    const index = this.#disk.index;
    const kind = this.#random.below(4);
    if (index === undefined) return;
    this.#isSpoiled = true;
    if (kind === 0) {
      this.#disk.folders.get('.')!.names.delete('index');
      this.#marks.hit('index: gone');
    } else if (kind === 1) index.isUnreadable = true;
    else index.spoil(this.#random, this.#marks);
  }

  async #live(): Promise<void> {
    const machine = this.#machine;
    const { faults, scheduler } = machine;
    const { operations, closePercent } = this.#profile;
    const closes = this.#random.chance(closePercent);
    if (!closes && this.#random.chance(80)) this.#machine.endAfter(this.#random.between(1, operations * 4));
    const clients = new Clients({
      store: this.#store!,
      oracle: this.#oracle,
      random: this.#random,
      profile: this.#profile,
      faults,
      scheduler,
      marks: this.#marks,
      hasEnded: () => machine.hasEnded,
      spoilIndex: () => {
        faults.note();
        this.#isSpoiled = true;
        this.#disk.index?.spoil(this.#random, this.#marks);
      },
      wasSpoiled: () => this.#isSpoiled,
    });
    const lived = await this.#within(() => clients.run());
    if (lived !== undefined && closes && !clients.isPoisoned) {
      await this.#close();
      return;
    }
    const how = this.#drawCrash();
    this.#marks.hit(how === 'kill' ? 'killed' : 'power cut');
    this.#halt(how);
  }

  /** Closes the store; at times the process ends before it is done. */
  async #close(): Promise<void> {
    if (this.#random.chance(20)) this.#machine.endAfter(this.#random.between(1, 12));
    this.#oracle.phase = 'closing';
    const closed = await this.#within(async () => {
      try {
        await this.#store!.close();
        return true;
      } catch (error) {
        if (this.#machine.faults.injected === 0)
          this.#oracle.fail(`closing failed: ${(error as Error).stack}`);
        return false;
      }
    });
    if (closed?.result === true) {
      this.#marks.hit('closed');
      this.#halt('close');
      return;
    }
    const how = this.#drawCrash();
    if (closed === undefined)
      this.#marks.hit(how === 'kill' ? 'killed while closing' : 'power cut while closing');
    this.#halt(how);
  }

  dispose(): void {
    this.#disk.dispose();
  }

  describe(error: unknown): Error {
    const what = error instanceof Violation ? error.message : String((error as Error).stack);
    return new Error(`SEED=${this.#seed} finds: ${what}\nprofile: ${JSON.stringify(this.#profile)}`, {
      cause: error,
    });
  }
}

/** All that is not zeros. */
async function chunksOf(device: BlockDevice): Promise<Map<number, Buffer>> {
  const chunks = new Map<number, Buffer>();
  const target = Buffer.alloc(Math.min(READ_BYTES, device.sizeBytes));
  for (let offset = 0; offset < device.sizeBytes; offset += READ_BYTES) {
    const bytes = Math.min(READ_BYTES, device.sizeBytes - offset);
    target.fill(0xee);
    if (!device.tryRead(target, 0, offset, bytes)) await device.read(target, 0, offset, bytes);
    target.fill(0, bytes);
    for (let at = 0; at < bytes; at += CHUNK_BYTES) {
      const chunk = target.subarray(at, at + CHUNK_BYTES);
      const isZero = ZEROS.compare(chunk, 0, chunk.length, 0, chunk.length) === 0;
      if (!isZero) chunks.set((offset + at) / CHUNK_BYTES, Buffer.concat([chunk], CHUNK_BYTES));
    }
  }
  return chunks;
}

/** @throws what is wrong, and the seed that shows it */
export async function runSeed(
  seed: number,
  marks: Marks,
  openStore: StoreOpener = (directory, options) => Store.open(directory, options),
): Promise<RunResult> {
  const run = new Run(seed, marks, openStore);
  try {
    await run.run();
  } catch (error) {
    throw run.describe(error);
  } finally {
    run.dispose();
  }
  return { seed, crashStates: run.crashStates, traceHash: run.traceHash };
}
