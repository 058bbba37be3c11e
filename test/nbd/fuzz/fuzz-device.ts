/** A disk without contents, quick enough for millions of requests: it answers at once, later, out of order, or fails. */

import { assert, StoreError } from '../../../src/base/errors.ts';
import type { ExportSource } from '../../../src/nbd/export-source.ts';
import {
  type AllocationRun,
  type BlockDevice,
  type HoleListener,
  type Run,
  type StatusRun,
  type WriteRequest,
} from '../../../src/volume/device.ts';
import type { Random } from '../../support/random.ts';
import { readEach } from '../../support/stores.ts';

const CODES = ['IO', 'NO_SPACE', 'CORRUPTION', 'CLOSED', 'POISONED'] as const;

class FuzzDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #exports: FuzzExports;
  readonly #random: Random;
  #isReleased = false;

  constructor(exports: FuzzExports, name: string, sizeBytes: number) {
    this.#exports = exports;
    this.#random = exports.random;
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.readOnly = name.includes('@');
  }

  #check(offset: number, lengthBytes: number): void {
    assert(!this.#isReleased, 'a released device is not used');
    assert(
      lengthBytes > 0 && offset >= 0 && offset + lengthBytes <= this.sizeBytes,
      'a range lies in its disk',
    );
  }

  #failure(): StoreError | undefined {
    if (!this.#random.chance(3)) return undefined;
    const error = new StoreError(this.#random.pick(CODES), 'on purpose');
    if (this.#random.chance(50)) error.diskOffset = this.#random.below(this.sizeBytes);
    return error;
  }

  async #pass(): Promise<void> {
    const failure = this.#failure();
    if (this.#random.chance(50)) await new Promise<void>((resolve) => this.#exports.later.push(resolve));
    if (failure !== undefined) throw failure;
  }

  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean {
    this.#check(offset, lengthBytes);
    assert(start + lengthBytes <= target.length, 'the target has room');
    if (this.#random.chance(30)) return false;
    if (this.#random.chance(50)) this.#tellHoles(start, lengthBytes, holes);
    return true;
  }

  async read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void> {
    this.#check(offset, lengthBytes);
    await this.#pass();
    assert(start + lengthBytes <= target.length, 'the target has room');
    this.#tellHoles(start, lengthBytes, holes);
  }

  #tellHoles(start: number, lengthBytes: number, holes: HoleListener | undefined): void {
    for (let at = this.#random.below(5000); at < lengthBytes; at += 1 + this.#random.below(20_000)) {
      const bytes = Math.min(lengthBytes - at, 1 + this.#random.below(9000));
      holes?.hole(start + at, bytes);
      at += bytes;
    }
  }

  readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    return readEach(this, target, runs);
  }

  write(request: WriteRequest): void {
    assert(!this.readOnly, 'a snapshot is not written');
    this.#check(request.offset, request.lengthBytes);
    const bytes = request.slices.reduce((sum, slice) => sum + slice.length, 0);
    assert(bytes === request.lengthBytes, 'the payload has the length it claims');
    const failure = this.#failure();
    this.#exports.later.push(() => request.complete(failure));
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    assert(!this.readOnly, 'a snapshot is not written');
    this.#check(offset, lengthBytes);
    await this.#pass();
  }

  async flush(): Promise<void> {
    await this.#pass();
  }

  async allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    const runs = await this.depth(offset, lengthBytes, runsMax);
    return runs.map((run) => ({ lengthBytes: run.lengthBytes, allocated: run.status === 1 }));
  }

  async depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    this.#check(offset, lengthBytes);
    await this.#pass();
    const runs: StatusRun[] = [];
    for (let left = lengthBytes; left > 0 && runs.length < Math.min(runsMax, 20); ) {
      const bytes = Math.min(left, 1 + this.#random.below(lengthBytes));
      runs.push({ lengthBytes: bytes, status: this.#random.below(4) });
      left -= bytes;
    }
    return runs;
  }

  async changes(
    since: BlockDevice,
    offset: number,
    lengthBytes: number,
    runsMax: number,
  ): Promise<StatusRun[]> {
    assert(since instanceof FuzzDevice && !since.#isReleased, 'a device is compared while it is open');
    return await this.depth(offset, lengthBytes, runsMax);
  }

  attach(): void {
    assert(!this.#isReleased, 'a device is attached while it is open');
  }

  release(): void {
    assert(!this.#isReleased, 'a device is released once');
    this.#isReleased = true;
    this.#exports.openCount -= 1;
  }
}

/** `disk` of 4 MiB, its snapshots `disk@a` and `disk@b`, and `huge`. */
export class FuzzExports implements ExportSource {
  readonly random: Random;
  openCount = 0;
  /** What the device does when it is let go on. */
  readonly later: (() => void)[] = [];

  constructor(random: Random) {
    this.random = random;
  }

  list(): string[] {
    return ['disk', 'disk@a', 'disk@b', 'huge'];
  }

  open(name: string): BlockDevice {
    if (!this.list().includes(name)) throw new StoreError('NOT_FOUND', `no export ${name}`);
    this.openCount += 1;
    return new FuzzDevice(this, name, name === 'huge' ? 2 ** 46 : 4 << 20);
  }

  describe(name: string): string {
    return name;
  }

  /** Lets some of what waits go on, in any order. */
  letGo(all: boolean): void {
    const { later } = this;
    for (let count = all ? later.length : this.random.below(later.length + 1); count > 0; count--) {
      const at = this.random.below(later.length);
      const action = later[at]!;
      later[at] = later.at(-1)!;
      later.pop();
      action();
    }
  }
}
