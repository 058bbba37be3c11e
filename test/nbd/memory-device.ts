/**
 * A disk in memory, behind the same contract as a volume, with knobs: reads that must wait, writes that are held
 * back, errors. It checks what the server promises it: ranges, and that nobody touches a payload before completion.
 */

import { assert, StoreError } from '../../src/base/errors.ts';
import type { ExportSource } from '../../src/nbd/export-source.ts';
import type {
  AllocationRun,
  BlockDevice,
  HoleListener,
  StatusRun,
  WriteRequest,
  Run,
} from '../../src/volume/device.ts';
import { readEach } from '../support/stores.ts';

const BLOCK_BYTES = 4096;

export class MemoryDevice implements Omit<BlockDevice, 'attach' | 'release' | 'changes'> {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly bytes: Buffer;
  readonly allocated: Uint8Array;
  /** How deep each block lies, and how it differs from any snapshot; what tests put there. */
  readonly depths: Uint8Array;
  readonly changed: Uint8Array;

  // Knobs.
  /** False: every read goes through `read`. */
  readsAtOnce = true;
  /** False: nothing is said of holes. */
  hasHoles = true;
  /** True: writes, flushes and slow reads wait for `letGo`. */
  holds = false;
  /** What each request fails with. */
  error: StoreError | undefined;

  // What happened.
  readonly log: string[] = [];
  opens = 0;
  /** Who works on it, each with what to call when the device is taken back. */
  readonly attached = new Map<OpenedDevice, () => void>();
  releases = 0;
  #waiting: (() => void)[] = [];

  constructor(name: string, sizeBytes: number, readOnly = false) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.readOnly = readOnly;
    // A disk larger than memory: what lies behind its first 64 MiB reads as zeros.
    this.bytes = Buffer.alloc(Math.min(sizeBytes, 64 * 2 ** 20));
    const blocks = Math.ceil(this.bytes.length / BLOCK_BYTES);
    this.allocated = new Uint8Array(blocks);
    this.depths = new Uint8Array(blocks);
    this.changed = new Uint8Array(blocks);
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Lets everything held go on. */
  letGo(): void {
    this.holds = false;
    for (const action of this.#waiting.splice(0)) action();
  }

  #later(action: () => void): void {
    if (this.holds) this.#waiting.push(action);
    else setImmediate(action);
  }

  async #pass(): Promise<void> {
    await new Promise<void>((resolve) => this.#later(resolve));
    if (this.error !== undefined) throw this.error;
  }

  #requireRange(offset: number, lengthBytes: number): void {
    assert(
      lengthBytes > 0 && offset >= 0 && offset + lengthBytes <= this.sizeBytes,
      'the caller checks the range',
    );
  }

  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean {
    this.#requireRange(offset, lengthBytes);
    assert(start + lengthBytes <= target.length, 'the target has room');
    if (!this.readsAtOnce || this.error !== undefined) {
      // The contract: on false, the contents are undefined. They must never be seen by a client.
      target.fill(0xdb, start, start + lengthBytes);
      holes?.hole(start, lengthBytes);
      return false;
    }
    target.fill(0, start, start + lengthBytes);
    this.bytes.copy(target, start, offset, offset + lengthBytes);
    if (holes !== undefined)
      for (const [at, bytes] of this.#holes(start, offset, lengthBytes)) holes.hole(at, bytes);
    return true;
  }

  /** Blocks that are not allocated, and what is said of them: they read as zeros. */
  #holes(start: number, offset: number, lengthBytes: number): [at: number, bytes: number][] {
    const holes: [number, number][] = [];
    const end = offset + lengthBytes;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / BLOCK_BYTES);
      const next = block >= this.allocated.length ? end : Math.min(end, (block + 1) * BLOCK_BYTES);
      if (this.allocated[block] !== 1 && this.hasHoles) holes.push([start + at - offset, next - at]);
      at = next;
    }
    return holes;
  }

  async read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void> {
    this.#requireRange(offset, lengthBytes);
    await this.#pass();
    target.fill(0, start, start + lengthBytes);
    this.bytes.copy(target, start, offset, offset + lengthBytes);
    // Parts of a read end in any order.
    if (holes !== undefined)
      for (const [at, bytes] of this.#holes(start, offset, lengthBytes).reverse()) holes.hole(at, bytes);
  }

  readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    return readEach(this, target, runs);
  }

  write(request: WriteRequest): void {
    assert(!this.readOnly, 'the caller checks for read-only');
    this.#requireRange(request.offset, request.lengthBytes);
    const payload = Buffer.concat(request.slices);
    assert(payload.length === request.lengthBytes, 'the payload has the length it claims');
    this.#later(() => {
      assert(Buffer.concat(request.slices).equals(payload), 'the payload is not touched before completion');
      if (this.error === undefined) {
        payload.copy(this.bytes, request.offset);
        this.#mark(request.offset, request.lengthBytes, 1);
        this.log.push(request.forceUnitAccess ? 'write fua' : 'write');
      }
      request.complete(this.error);
    });
  }

  async zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
    assert(!this.readOnly, 'the caller checks for read-only');
    this.#requireRange(offset, lengthBytes);
    await this.#pass();
    this.bytes.fill(
      0,
      Math.min(offset, this.bytes.length),
      Math.min(offset + lengthBytes, this.bytes.length),
    );
    const first = Math.ceil(offset / BLOCK_BYTES);
    const end = Math.floor((offset + lengthBytes) / BLOCK_BYTES);
    if (end > first) this.allocated.fill(0, first, end);
    this.log.push(forceUnitAccess ? 'zero fua' : 'zero');
  }

  async flush(): Promise<void> {
    await this.#pass();
    this.log.push('flush');
  }

  async allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    this.#requireRange(offset, lengthBytes);
    await this.#pass();
    const runs = this.#runs(this.allocated, offset, lengthBytes, runsMax);
    return runs.map((run) => ({ lengthBytes: run.lengthBytes, allocated: run.status === 1 }));
  }

  async depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    this.#requireRange(offset, lengthBytes);
    await this.#pass();
    return this.#runs(this.depths, offset, lengthBytes, runsMax);
  }

  async changedSince(
    name: string,
    offset: number,
    lengthBytes: number,
    runsMax: number,
  ): Promise<StatusRun[]> {
    this.#requireRange(offset, lengthBytes);
    this.log.push(`changes since ${name}`);
    await this.#pass();
    return this.#runs(this.changed, offset, lengthBytes, runsMax);
  }

  #runs(of: Uint8Array, offset: number, lengthBytes: number, runsMax: number): StatusRun[] {
    const runs: StatusRun[] = [];
    const end = offset + lengthBytes;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / BLOCK_BYTES);
      const status = of[block] ?? 0;
      const next = at >= this.bytes.length ? end : Math.min(end, (block + 1) * BLOCK_BYTES);
      const last = runs.at(-1);
      if (last?.status === status) last.lengthBytes += next - at;
      else if (runs.length === runsMax) break;
      else runs.push({ lengthBytes: next - at, status });
      at = next;
    }
    return runs;
  }

  /** Takes the device back from all who have it, as a store does with what it deletes. */
  revoke(): void {
    this.error = new StoreError(
      'CLOSED',
      `${this.name} was taken away: it was deleted, or goes on in another version`,
    );
    for (const revoked of this.attached.values()) revoked();
  }

  #mark(offset: number, lengthBytes: number, value: number): void {
    const end = Math.ceil((offset + lengthBytes) / BLOCK_BYTES);
    this.allocated.fill(value, Math.floor(offset / BLOCK_BYTES), end);
  }
}

/** The device as one client has it: attached at most once, released once, and not used afterwards. */
class OpenedDevice implements BlockDevice {
  readonly #device: MemoryDevice;
  #isReleased = false;

  constructor(device: MemoryDevice) {
    this.#device = device;
    device.opens += 1;
  }

  /** The device, for as long as it is this client's. */
  get #held(): MemoryDevice {
    assert(!this.#isReleased, 'a released device is not used');
    return this.#device;
  }

  get name(): string {
    return this.#device.name;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#device.readOnly;
  }

  tryRead(...request: Parameters<BlockDevice['tryRead']>): boolean {
    return this.#held.tryRead(...request);
  }

  read(...request: Parameters<BlockDevice['read']>): Promise<void> {
    return this.#held.read(...request);
  }

  readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    return readEach(this, target, runs);
  }

  write(request: WriteRequest): void {
    this.#held.write(request);
  }

  zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
    return this.#held.zero(offset, lengthBytes, forceUnitAccess);
  }

  flush(): Promise<void> {
    return this.#held.flush();
  }

  allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    return this.#held.allocation(offset, lengthBytes, runsMax);
  }

  depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    return this.#held.depth(offset, lengthBytes, runsMax);
  }

  changes(since: BlockDevice, offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    return this.#held.changedSince(since.name, offset, lengthBytes, runsMax);
  }

  attach(revoked: () => void): void {
    assert(!this.#held.attached.has(this), 'a device is attached once');
    this.#device.attached.set(this, revoked);
  }

  release(): void {
    assert(!this.#isReleased, 'a device is released once');
    this.#isReleased = true;
    this.#device.attached.delete(this);
    this.#device.releases += 1;
  }
}

export class MemoryExports implements ExportSource {
  readonly devices = new Map<string, MemoryDevice>();

  describe(name: string): string {
    return `what ${name} is for`;
  }

  add(device: MemoryDevice): MemoryDevice {
    this.devices.set(device.name, device);
    return device;
  }

  list(): string[] {
    return [...this.devices.keys()];
  }

  open(name: string): BlockDevice {
    const device = this.devices.get(name);
    if (device === undefined) throw new StoreError('NOT_FOUND', `no export ${name}`);
    return new OpenedDevice(device);
  }

  /** Devices that are open now. */
  get openCount(): number {
    return [...this.devices.values()].reduce((count, device) => count + device.opens - device.releases, 0);
  }
}
