/**
 * A handle to a disk: the BlockDevice that a door holds. Refuses writes to what is frozen, and everything once it
 * has been released.
 */

import { assert } from '../base/errors.ts';
import type { AllocationRun, BlockDevice, WriteRequest } from './device.ts';
import type { Disk } from './disk.ts';

export class VersionDevice implements BlockDevice {
  readonly name: string;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  readonly #disk: Disk;
  readonly #released: () => void;
  #isReleased = false;

  constructor(disk: Disk, name: string, readOnly: boolean, released: () => void) {
    this.#disk = disk;
    this.name = name;
    this.readOnly = readOnly;
    this.sizeBytes = disk.sizeBytes;
    this.#released = released;
  }

  #check(offset: number, lengthBytes: number): void {
    assert(!this.#isReleased, 'a released device is not used');
    assert(
      offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes,
      'a request lies in its disk',
    );
  }

  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number): boolean {
    this.#check(offset, lengthBytes);
    return this.#disk.tryRead(target, start, offset, lengthBytes);
  }

  async read(target: Buffer, start: number, offset: number, lengthBytes: number): Promise<void> {
    this.#check(offset, lengthBytes);
    if (lengthBytes > 0) await this.#disk.read(target, start, offset, lengthBytes);
  }

  write(request: WriteRequest): void {
    this.#check(request.offset, request.lengthBytes);
    assert(!this.readOnly, 'a snapshot is not written');
    this.#disk.write(request);
  }

  async zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
    this.#check(offset, lengthBytes);
    assert(!this.readOnly, 'a snapshot is not written');
    await this.#disk.zero(offset, lengthBytes, forceUnitAccess);
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  async allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    this.#check(offset, lengthBytes);
    return await this.#disk.allocation(offset, lengthBytes, runsMax);
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#released();
  }
}
