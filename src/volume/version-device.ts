/**
 * A handle to a disk: the BlockDevice that a door holds. Refuses writes to what is frozen, and everything once the store
 * has taken it back: the version may be gone then, and its pointers with it.
 */

import { assert, StoreError } from '../base/errors.ts';
import type { AllocationRun, BlockDevice, HoleListener, Run, StatusRun, WriteRequest } from './device.ts';
import type { Disk } from './disk.ts';

export class VersionDevice implements BlockDevice {
  readonly name: string;
  readonly readOnly: boolean;
  /** As it was when the device was opened: a client learns of another size when it connects again. */
  readonly sizeBytes: number;
  readonly #disk: Disk;
  readonly #released: (device: VersionDevice) => void;
  #onRevoked: (() => void) | undefined;
  #isRevoked = false;
  #isReleased = false;

  constructor(disk: Disk, name: string, readOnly: boolean, released: (device: VersionDevice) => void) {
    this.#disk = disk;
    this.name = name;
    this.readOnly = readOnly;
    this.sizeBytes = disk.sizeBytes;
    this.#released = released;
  }

  get isAttached(): boolean {
    return this.#onRevoked !== undefined;
  }

  attach(revoked: () => void): void {
    assert(!this.#isReleased && !this.isAttached, 'a device is attached once');
    this.#onRevoked = revoked;
    if (this.#isRevoked) setImmediate(revoked);
  }

  /** Takes the device back from who holds it. */
  revoke(): void {
    if (this.#isRevoked) return;
    this.#isRevoked = true;
    this.#onRevoked?.();
  }

  #check(offset: number, lengthBytes: number): void {
    assert(!this.#isReleased, 'a released device is not used');
    assert(
      offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes,
      'a request lies in its disk',
    );
  }

  #revocation(): StoreError | undefined {
    return this.#isRevoked
      ? new StoreError('CLOSED', `${this.name} was taken away: it was deleted, or goes on in another version`)
      : undefined;
  }

  #checkHeld(): void {
    const revocation = this.#revocation();
    if (revocation !== undefined) throw revocation;
  }

  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean {
    this.#check(offset, lengthBytes);
    return !this.#isRevoked && this.#disk.tryRead(target, start, offset, lengthBytes, holes);
  }

  async read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void> {
    this.#check(offset, lengthBytes);
    this.#checkHeld();
    if (lengthBytes > 0) await this.#disk.read(target, start, offset, lengthBytes, holes);
    this.#checkHeld(); // what was read meanwhile may lack what the version had
  }

  async readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    for (const [offset, lengthBytes] of runs) this.#check(offset, lengthBytes);
    this.#checkHeld();
    await this.#disk.readRuns(target, runs);
    this.#checkHeld();
  }

  write(request: WriteRequest): void {
    this.#check(request.offset, request.lengthBytes);
    assert(!this.readOnly, 'a snapshot is not written');
    const revocation = this.#revocation();
    if (revocation === undefined) this.#disk.write(request);
    else setImmediate(() => request.complete(revocation));
  }

  async zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
    this.#check(offset, lengthBytes);
    assert(!this.readOnly, 'a snapshot is not written');
    this.#checkHeld();
    await this.#disk.zero(offset, lengthBytes, forceUnitAccess);
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  async allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    this.#check(offset, lengthBytes);
    this.#checkHeld();
    const runs = await this.#disk.allocation(offset, lengthBytes, runsMax);
    this.#checkHeld();
    return runs;
  }

  async depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    this.#check(offset, lengthBytes);
    this.#checkHeld();
    const runs = await this.#disk.depth(offset, lengthBytes, runsMax);
    this.#checkHeld();
    return runs;
  }

  async changes(
    since: BlockDevice,
    offset: number,
    lengthBytes: number,
    runsMax: number,
  ): Promise<StatusRun[]> {
    assert(since instanceof VersionDevice, 'versions of one store are compared');
    this.#check(offset, lengthBytes);
    this.#checkHeld();
    since.#checkHeld();
    const runs = await this.#disk.changes(since.#disk, offset, lengthBytes, runsMax);
    this.#checkHeld();
    since.#checkHeld(); // it may have lost pointers meanwhile
    return runs;
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#released(this);
  }
}
