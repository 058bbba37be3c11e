/**
 * A store in memory with the surface that doors need, for tests of the doors: names, sizes and refusals as the real
 * one has them, bytes in a map of chunks. Counts what is open and flushed, notes the arguments of changes, and fails when
 * told.
 */

import { StoreError } from '../../src/base/errors.ts';
import type {
  CompactionEstimate,
  CompactionProgress,
  ThoroughOptions,
} from '../../src/compaction/thorough.ts';
import { CHUNK_BYTES, chunkOf, SECTOR_BYTES, VOLUME_BYTES_MAX } from '../../src/base/units.ts';
import type { RolledBack, SpaceReport } from '../../src/server/door.ts';
import type { StreamHead } from '../../src/delta/head.ts';
import type { OpenStore } from '../../src/server/store-door.ts';
import type { AllocationRun, BlockDevice, StatusRun, WriteRequest, Run } from '../../src/volume/device.ts';
import type {
  DiffExtent,
  Finding,
  PruneDecision,
  ReceiveSummary,
  ScheduleSummary,
  ScrubStep,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from '../../src/volume/summary.ts';
import type { ScheduleSettings } from '../../src/schedule/schedule.ts';
import type { ReceiveBegun } from '../../src/volume/receives.ts';
import type { PruneOptions } from '../../src/volume/schedules.ts';
import type { Demoted, DemoteOptions } from '../../src/volume/roles.ts';
import type { ScrubOptions } from '../../src/volume/scrub.ts';
import type { HoldOptions } from '../../src/volume/version-changes.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../../src/volume/version-removal.ts';
import { readEach } from '../support/stores.ts';
import { DECISION, NO_FEEDS, RECEIVE, SCHEDULE } from './summaries.ts';

interface MemoryVersion {
  summary: VersionSummary;
  chunks: Map<number, Buffer>;
}

const NAME = /^[A-Za-z0-9._-]{1,128}$/;

export class MemoryStore implements OpenStore {
  readonly versions = new Map<string, MemoryVersion>();
  /** Every change but create, snapshot and clone, and every question about space: its name and its arguments. */
  readonly calls: unknown[][] = [];
  /** What each of them fails with. */
  failure: StoreError | undefined;
  extents: DiffExtent[] = [];
  /** Thrown by a diff after its extents. */
  diffFailure: StoreError | undefined;
  findings: Finding[] = [];
  /** Thrown by the check after its findings. */
  checkFailure: Error | undefined;
  /** How the last scrub ended. */
  scrubEnd: 'stopped' | 'whole' | undefined;
  /** Given to each write from now on. */
  writeFailure: StoreError | undefined;
  /** Reads that work before one finds a wrong checksum. */
  readsLeft = Infinity;
  /** Awaited by each read and write, which then takes so long. */
  gate: Promise<void> = Promise.resolve();
  requestMs = 0;
  flushes = 0;
  openDevices = 0;
  attachedDevices = 0;
  devicesOpened = 0;
  writes: { offset: number; lengthBytes: number }[] = [];
  zeroed: { offset: number; lengthBytes: number }[] = [];
  requestsRunning = 0;
  requestsRunningMax = 0;
  closed = false;

  async createVolume(name: string, sizeBytes: number): Promise<VersionSummary> {
    checkName(name);
    if (!(sizeBytes > 0) || sizeBytes % SECTOR_BYTES !== 0 || sizeBytes > VOLUME_BYTES_MAX) {
      throw new StoreError('INVALID_ARGUMENT', `${sizeBytes} is no size of a disk; give a multiple of 512`);
    }
    return this.#add(name, 'volume', sizeBytes, null, new Map());
  }

  async snapshot(names: readonly string[]): Promise<VersionSummary[]> {
    const planned = names.map((full) => {
      const [volume, name, ...rest] = full.split('@');
      if (name === undefined || rest.length > 0) {
        throw new StoreError('INVALID_ARGUMENT', `'${full}' is not VOLUME@NAME`);
      }
      checkName(name);
      if (this.versions.has(full)) throw new StoreError('ALREADY_EXISTS', `'${full}' exists`);
      return { full, head: this.#find(volume!) };
    });
    return planned.map(({ full, head }) => {
      const snapshot = this.#add(
        full,
        'snapshot',
        head.summary.size,
        head.summary.parent,
        new Map(head.chunks),
      );
      head.summary = { ...head.summary, parent: full };
      return snapshot;
    });
  }

  async clone(source: string, volume: string): Promise<VersionSummary> {
    const { summary, chunks } = this.#find(source);
    if (summary.kind !== 'snapshot')
      throw new StoreError('INVALID_ARGUMENT', `'${source}' is not a snapshot`);
    checkName(volume);
    return this.#add(volume, 'volume', summary.size, source, new Map(chunks));
  }

  async delete(names: readonly string[], options: DeleteOptions): Promise<string[]> {
    this.#note('delete', names, options);
    const doomed = names.map((name) => this.#find(name).summary.name);
    for (const name of doomed) this.versions.delete(name);
    return doomed;
  }

  async rollback(name: string, options: RollbackOptions): Promise<RolledBack> {
    this.#note('rollback', name, options);
    const [volume] = this.#find(name).summary.name.split('@');
    this.#change(volume!, { parent: name });
    return { volume: this.show(volume!), saved: `${volume}@before-rollback-20200101T000000Z` };
  }

  readonly roles = {
    promote: async (name: string): Promise<VersionSummary> => {
      this.#note('promote', name);
      this.#change(name, { replica: false });
      return this.show(name);
    },
    demote: async (name: string, options: DemoteOptions): Promise<Demoted> => {
      this.#note('demote', name, options);
      this.#change(name, { replica: true });
      return { volume: this.show(name), saved: `${name}@before-demote-20200101T000000Z` };
    },
  };

  async rename(name: string, to: string): Promise<VersionSummary> {
    this.#note('rename', name, to);
    const version = this.#find(name);
    if (this.versions.has(to)) throw new StoreError('ALREADY_EXISTS', `'${to}' exists; choose another name`);
    this.versions.delete(name);
    version.summary = { ...version.summary, name: to };
    this.versions.set(to, version);
    return version.summary;
  }

  async resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<VersionSummary> {
    this.#note('resize', name, sizeBytes, options);
    return this.#change(name, { size: sizeBytes });
  }

  async hold(name: string, options: HoldOptions): Promise<VersionSummary> {
    this.#note('hold', name, options);
    const { owner, reason = null, until } = options;
    const end = until === undefined ? null : new Date(until).toISOString();
    return this.#change(name, { holds: [{ owner, reason, until: end, since: '2020-01-01T00:00:00.000Z' }] });
  }

  async release(name: string, owner: string): Promise<VersionSummary> {
    this.#note('release', name, owner);
    return this.#change(name, { holds: [] });
  }

  async setPriority(name: string, priority: number): Promise<VersionSummary> {
    this.#note('setPriority', name, priority);
    if (!Number.isInteger(priority)) throw new StoreError('INVALID_ARGUMENT', 'that is no priority');
    return this.#change(name, { priority });
  }

  async listWithSpace(options: { ghosts?: boolean | undefined }): Promise<VersionWithSpace[]> {
    this.#note('listWithSpace', options);
    return this.list().map((version, i) => ({ ...version, referenced: i, exclusive: 2 * i, shared: 3 * i }));
  }

  async space(names: readonly string[]): Promise<SpaceReport> {
    this.#note('space', names);
    const versions = names.map((name) => {
      return { name: this.show(name).name, referenced: 4096, exclusive: 1024, shared: 3072 };
    });
    return { versions, reclaimable: 2 ** 53 - 1 };
  }

  diff(from: string, to: string): AsyncGenerator<DiffExtent> {
    this.#note('diff', this.show(from).name, this.show(to).name);
    return this.#extents();
  }

  async *#extents(): AsyncGenerator<DiffExtent> {
    yield* this.extents;
    if (this.diffFailure !== undefined) throw this.diffFailure;
  }

  #note(call: string, ...given: unknown[]): void {
    this.calls.push([call, ...given]);
    if (this.failure !== undefined) throw this.failure;
  }

  #change(name: string, fields: Partial<VersionSummary>): VersionSummary {
    const version = this.#find(name);
    version.summary = { ...version.summary, ...fields };
    return version.summary;
  }

  list(): VersionSummary[] {
    return [...this.versions.values()].map(({ summary }) => summary);
  }

  names(): string[] {
    return this.list().map(({ name }) => name);
  }

  show(name: string): VersionSummary {
    return this.#find(name).summary;
  }

  async status(): Promise<StoreStatus> {
    const kinds = this.list().map(({ kind }) => kind);
    return {
      uuid: '00000000-0000-4000-8000-000000000000',
      formatRevision: 1,
      owner: { pid: process.pid, since: '2020-01-01T00:00:00.000Z' },
      volumes: kinds.filter((kind) => kind === 'volume').length,
      snapshots: kinds.filter((kind) => kind === 'snapshot').length,
      deleting: 0,
      segments: 1,
      segmentBytes: 64 * 2 ** 20,
      capacityBytes: null,
      logBytes: 4096,
      liveBytes: 0,
      room: { state: 'enough', freeBytes: 2 ** 40 },
      compaction: { state: 'idle', rounds: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 },
      scrub: { state: 'idle', readBytes: 0, totalBytes: 0, last: null },
      schedules: [SCHEDULE],
      feeds: [],
      lastCheckpoint: { generation: 1, at: null },
      cache: { usedBytes: 0, boundBytes: 256 * 2 ** 20 },
      state: 'open',
      damage: [],
    };
  }

  device(name: string): BlockDevice {
    const version = this.#find(name);
    this.openDevices++;
    this.devicesOpened++;
    return new MemoryDevice(this, version);
  }

  async flush(): Promise<void> {
    this.flushes++;
  }

  async *check(): AsyncGenerator<Finding> {
    yield* this.findings;
    if (this.checkFailure !== undefined) throw this.checkFailure;
  }

  async *scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep> {
    signal?.throwIfAborted();
    this.#note('scrub', options);
    yield { readBytes: 0, totalBytes: 8192, findings: this.findings };
    // What is asked to be slow waits for its end.
    if (options.bytesPerSecond === 1)
      await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }));
    this.scrubEnd = signal?.aborted === true ? 'stopped' : 'whole';
    signal?.throwIfAborted();
    yield { readBytes: 8192, totalBytes: 8192, findings: [] };
  }

  async estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate> {
    this.#note('estimateCompaction', options);
    return { victims: 3, movedBytes: 4096, freedBytes: 8192 };
  }

  async *compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress> {
    this.#note('compact', options);
    yield { movedBytes: 0, freedBytes: 0, totalBytes: 8192 };
    yield { movedBytes: 8192, freedBytes: 4096, totalBytes: 8192 };
  }

  async pauseCompaction(isPaused: boolean): Promise<void> {
    this.#note('pauseCompaction', isPaused);
  }

  readonly feeds = NO_FEEDS;
  readonly receives = {
    begin: async (head: StreamHead, name: string): Promise<ReceiveBegun> => {
      this.#note('begin', head, name);
      return { state: 'begun', session: 'session', position: 512 };
    },
    apply: async (session: string, body: Buffer): Promise<void> => {
      this.#note('apply', session, body.toString('hex'));
    },
    advance: async (session: string, position: number): Promise<void> => {
      this.#note('advance', session, position);
    },
    publish: async (session: string): Promise<string> => {
      this.#note('publish', session);
      return 'disk@received';
    },
    abort: async (receive: string): Promise<void> => {
      this.#note('abort', receive);
    },
    list: (): ReceiveSummary[] => [RECEIVE],
  };

  readonly schedules = {
    set: async (volume: string, settings: ScheduleSettings | null): Promise<ScheduleSummary | null> => {
      this.#note('setSchedule', volume, settings);
      return settings === null ? null : { ...SCHEDULE, ...settings };
    },
    list: (): ScheduleSummary[] => [SCHEDULE],
    prune: async (options: PruneOptions): Promise<PruneDecision[]> => {
      this.#note('prune', options);
      return [DECISION];
    },
  };

  async close(): Promise<void> {
    this.closed = true;
  }

  /** All bytes of a version. */
  contents(name: string): Buffer {
    const { summary, chunks } = this.#find(name);
    const bytes = Buffer.alloc(summary.size);
    for (const [chunk, content] of chunks) content.copy(bytes, chunk * CHUNK_BYTES);
    return bytes;
  }

  #find(name: string): MemoryVersion {
    const version = this.versions.get(name);
    if (version === undefined) throw new StoreError('NOT_FOUND', `there is no '${name}'; see: coppice list`);
    return version;
  }

  #add(
    name: string,
    kind: VersionSummary['kind'],
    size: number,
    parent: string | null,
    chunks: Map<number, Buffer>,
  ): VersionSummary {
    if (this.versions.has(name))
      throw new StoreError('ALREADY_EXISTS', `'${name}' exists; choose another name`);
    const uuid = `00000000-0000-4000-8000-${String(this.versions.size).padStart(12, '0')}`;
    const created = '2020-01-01T00:00:00.000Z';
    const plain = { origin: null, replica: false, automatic: false, madeBy: null, priority: 0, holds: [] };
    const summary = { name, kind, uuid, size, created, parent, ...plain };
    this.versions.set(name, { summary, chunks });
    return summary;
  }
}

function checkName(name: string): void {
  if (!NAME.test(name))
    throw new StoreError('INVALID_ARGUMENT', `'${name}' is not a name of [A-Za-z0-9._-]{1,128}`);
}

class MemoryDevice implements BlockDevice {
  /** As it was when the device was opened. */
  readonly sizeBytes: number;
  readonly #store: MemoryStore;
  readonly #version: MemoryVersion;
  #attached = false;
  #released = false;

  constructor(store: MemoryStore, version: MemoryVersion) {
    this.#store = store;
    this.#version = version;
    this.sizeBytes = version.summary.size;
  }

  get name(): string {
    return this.#version.summary.name;
  }

  get readOnly(): boolean {
    return this.#version.summary.kind === 'snapshot';
  }

  tryRead(): boolean {
    return false;
  }

  async read(target: Buffer, start: number, offset: number, lengthBytes: number): Promise<void> {
    await this.#request(() => {
      if (this.#store.readsLeft-- <= 0) throw new StoreError('CORRUPTION', 'a checksum did not match');
      target.fill(0, start, start + lengthBytes);
      this.#eachChunk(offset, lengthBytes, (chunk, from, to, done) => {
        this.#version.chunks.get(chunk)?.copy(target, start + done, from, to);
      });
    });
  }

  readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    return readEach(this, target, runs);
  }

  write(request: WriteRequest): void {
    const bytes = Buffer.concat(request.slices);
    this.#request(() => {
      if (this.#store.writeFailure !== undefined) throw this.#store.writeFailure;
      this.#store.writes.push({ offset: request.offset, lengthBytes: request.lengthBytes });
      this.#eachChunk(request.offset, request.lengthBytes, (chunk, from, to, done) => {
        const content = Buffer.from(this.#version.chunks.get(chunk) ?? Buffer.alloc(CHUNK_BYTES));
        bytes.copy(content, from, done, done + to - from);
        this.#version.chunks.set(chunk, content);
      });
    }).then(
      () => request.complete(undefined),
      (error: unknown) => request.complete(error as StoreError),
    );
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#store.zeroed.push({ offset, lengthBytes });
    this.#eachChunk(offset, lengthBytes, (chunk, from, to) => {
      if (to - from === CHUNK_BYTES) this.#version.chunks.delete(chunk);
      else this.#version.chunks.get(chunk)?.fill(0, from, to);
    });
  }

  async flush(): Promise<void> {
    this.#store.flushes++;
  }

  /** A run for each chunk, a few at a time: the least that the interface allows. */
  async allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]> {
    const runs: AllocationRun[] = [];
    this.#eachChunk(offset, Math.min(lengthBytes, 10 * CHUNK_BYTES), (chunk, from, to) => {
      runs.push({ lengthBytes: to - from, allocated: this.#version.chunks.has(chunk) });
    });
    return runs;
  }

  async depth(_offset: number, lengthBytes: number): Promise<StatusRun[]> {
    return [{ lengthBytes, status: 0 }];
  }

  changes(): Promise<StatusRun[]> {
    throw new Error('no door asks for changes');
  }

  attach(): void {
    if (this.#attached || this.#released) throw new Error('attached twice, or too late');
    this.#attached = true;
    this.#store.attachedDevices++;
  }

  release(): void {
    if (this.#released) throw new Error('released twice');
    if (this.#attached) this.#store.attachedDevices--;
    this.#released = true;
    this.#store.openDevices--;
  }

  async #request(work: () => void): Promise<void> {
    if (this.#released) throw new Error('used after it was released');
    const store = this.#store;
    store.requestsRunningMax = Math.max(store.requestsRunningMax, ++store.requestsRunning);
    try {
      await store.gate;
      await new Promise((resolve) => setTimeout(resolve, store.requestMs));
      work();
    } finally {
      store.requestsRunning--;
    }
  }

  #eachChunk(
    offset: number,
    lengthBytes: number,
    visit: (chunk: number, from: number, to: number, done: number) => void,
  ): void {
    for (let done = 0; done < lengthBytes; ) {
      const chunk = chunkOf(offset + done);
      const from = (offset + done) % CHUNK_BYTES;
      const to = Math.min(CHUNK_BYTES, from + lengthBytes - done);
      visit(chunk, from, to, done);
      done += to - from;
    }
  }
}
