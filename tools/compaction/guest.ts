/**
 * Who writes to a volume, and knows afterwards what has to be in it.
 *
 * Every chunk that is written carries its number and that of its request. Where requests overlapped in flight, or one was
 * refused, either content is right, and only the chunk's number is compared.
 */

import { StoreError } from '../../src/base/errors.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { type GuestRequest, WRITE_CHUNKS_MAX } from './loads.ts';
import { Random } from './random.ts';

export const QUEUE_DEPTH = 32;
const READ_CHUNKS = 256;

/** A request on its way has one, and the payload in it. */
export interface Slot {
  readonly payload: Buffer;
}

export class Guest {
  /** Changes when the store is opened again. */
  device: BlockDevice;
  readonly chunks: number;
  readonly slots: readonly Slot[];
  /** Number of the request that wrote a chunk last; 0: it reads as zeros. */
  readonly #writers: Uint32Array;
  readonly #inFlight: Uint16Array;
  readonly #isUncertain: Uint8Array;
  #requests = 0;
  #liveChunks = 0;
  /** Payload of writes that were answered. */
  writtenBytes = 0;
  trimmedBytes = 0;
  answered = 0;
  /** Requests that were refused, by code. */
  readonly refusals = new Map<string, number>();

  constructor(device: BlockDevice, chunks: number) {
    this.device = device;
    this.chunks = chunks;
    this.#writers = new Uint32Array(chunks);
    this.#inFlight = new Uint16Array(chunks);
    this.#isUncertain = new Uint8Array(chunks);
    const random = new Random(7);
    this.slots = Array.from({ length: QUEUE_DEPTH }, () => {
      const payload = Buffer.alloc(WRITE_CHUNKS_MAX * CHUNK_BYTES);
      random.fill(payload);
      return { payload };
    });
  }

  get liveBytes(): number {
    return this.#liveChunks * CHUNK_BYTES;
  }

  get refused(): number {
    return [...this.refusals.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Sends a request; `done` is called once, never from within. Requires: no other request has the slot. */
  issue(request: GuestRequest, { payload }: Slot, done: (isAnswered: boolean) => void): void {
    const { kind, first, count } = request;
    const isWrite = kind === 'write';
    this.#begin(request, payload);
    const offset = first * CHUNK_BYTES;
    const lengthBytes = count * CHUNK_BYTES;
    const complete = (error: StoreError | undefined): void => {
      this.#end(request, error);
      if (error === undefined && isWrite) this.writtenBytes += lengthBytes;
      else if (error === undefined) this.trimmedBytes += lengthBytes;
      done(error === undefined);
    };
    if (isWrite) {
      const slices = [payload.subarray(0, lengthBytes)];
      this.device.write({ offset, lengthBytes, slices, forceUnitAccess: false, complete });
    } else {
      this.device.zero(offset, lengthBytes, false).then(
        () => complete(undefined),
        (error: unknown) => complete(error as StoreError),
      );
    }
  }

  #begin({ kind, first, count }: GuestRequest, payload: Buffer): void {
    this.#requests += 1;
    const writer = kind === 'write' ? this.#requests : 0;
    for (let i = 0; i < count; i++) {
      const chunk = first + i;
      if (writer > 0) {
        payload.writeUInt32LE(chunk, i * CHUNK_BYTES);
        payload.writeUInt32LE(writer, i * CHUNK_BYTES + 4);
      }
      if (this.#writers[chunk] === 0) this.#liveChunks += 1;
      if (writer === 0) this.#liveChunks -= 1;
      this.#writers[chunk] = writer;
      this.#isUncertain[chunk] = this.#inFlight[chunk]! > 0 ? 1 : 0;
      this.#inFlight[chunk]! += 1;
    }
  }

  #end({ first, count }: GuestRequest, error: StoreError | undefined): void {
    this.answered += 1;
    if (error !== undefined) {
      const code = error instanceof StoreError ? error.code : String(error);
      this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
    }
    for (let chunk = first; chunk < first + count; chunk++) {
      this.#inFlight[chunk]! -= 1;
      if (error !== undefined) this.#isUncertain[chunk] = 1;
    }
  }

  /** Reads the whole volume; answers how many chunks are not what they have to be. Requires: nothing is in flight. */
  async countWrongChunks(): Promise<number> {
    let wrong = 0;
    const target = Buffer.alloc(READ_CHUNKS * CHUNK_BYTES);
    for (let first = 0; first < this.chunks; first += READ_CHUNKS) {
      const count = Math.min(READ_CHUNKS, this.chunks - first);
      await readInto(this.device, target, first * CHUNK_BYTES, count * CHUNK_BYTES);
      for (let i = 0; i < count; i++) {
        const number = target.readUInt32LE(i * CHUNK_BYTES);
        const writer = target.readUInt32LE(i * CHUNK_BYTES + 4);
        if (!this.#isRight(first + i, number, writer)) wrong += 1;
      }
    }
    return wrong;
  }

  #isRight(chunk: number, number: number, writer: number): boolean {
    if (writer === 0 ? number !== 0 : number !== chunk) return false;
    return this.#isUncertain[chunk] === 1 || writer === this.#writers[chunk];
  }
}

/** Reads by the fast way where it goes, else by the other. */
export async function readInto(
  device: BlockDevice,
  target: Buffer,
  offset: number,
  lengthBytes: number,
): Promise<void> {
  if (!device.tryRead(target, 0, offset, lengthBytes)) await device.read(target, 0, offset, lengthBytes);
}
