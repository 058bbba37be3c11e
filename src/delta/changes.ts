/**
 * The body of a frame of changes: extents, and the bytes of those that have any. See format.ts for its layout. Pure.
 *
 * Invariants: what is read has been checked whole; what is built has no chunk of data that is zeros.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import { CHUNK_BYTES, SECTOR_BYTES, VOLUME_BYTES_MAX } from '../base/units.ts';
import { damaged, EXTENT_BYTES, EXTENTS_MAX, isSectors, PAYLOAD_BYTES_MAX, ZEROS_BIT } from './format.ts';

/** A run of a disk, in bytes. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  /** It reads as zeros. */
  readonly zeros: boolean;
}

const COUNT_BYTES = 4;
/** Each may fall into two more than it has chunks, and a frame has 256 chunks: so all of them have room. */
const PLANNED_EXTENTS_MAX = EXTENTS_MAX / 4;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** Changes as they came. */
export class Changes {
  readonly body: Buffer;
  readonly count: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
  /** Where the last extent ends. */
  readonly end: number;

  /** @throws CORRUPTION */
  constructor(body: Buffer) {
    this.body = body;
    const input = new ByteReader(body);
    this.count = body.length < COUNT_BYTES ? 0 : input.u32();
    if (this.count < 1 || this.count > EXTENTS_MAX) throw damaged(`a frame has ${this.count} extents`);
    if (this.count * EXTENT_BYTES > input.remaining) throw damaged('a frame is shorter than its extents');
    input.skip(this.count * EXTENT_BYTES);
    const payloadBytes = input.remaining;
    let [end, dataBytes, zeroBytes] = [0, 0, 0];
    for (let i = 0; i < this.count; i++) {
      const [offset, length] = [this.offset(i), this.length(i)];
      if (length === 0 || offset < end || offset + length > VOLUME_BYTES_MAX)
        throw damaged('extents are empty, or not in order');
      end = offset + length;
      if (this.isZeros(i)) zeroBytes += length;
      else dataBytes += length;
    }
    if (dataBytes !== payloadBytes || dataBytes > PAYLOAD_BYTES_MAX)
      throw damaged(`extents have ${dataBytes} bytes, and there are ${payloadBytes}`);
    [this.end, this.dataBytes, this.zeroBytes] = [end, dataBytes, zeroBytes];
  }

  offset(i: number): number {
    return this.body.readUIntBE(COUNT_BYTES + i * EXTENT_BYTES, 6) * SECTOR_BYTES;
  }

  length(i: number): number {
    const sectors = this.body.readUIntBE(COUNT_BYTES + i * EXTENT_BYTES + 6, 6);
    return (sectors >= ZEROS_BIT ? sectors - ZEROS_BIT : sectors) * SECTOR_BYTES;
  }

  isZeros(i: number): boolean {
    return this.body.readUInt8(COUNT_BYTES + i * EXTENT_BYTES + 6) >= 0x80;
  }

  /** Where the bytes of the first extent that has any stand in the body; those of the others follow. */
  get payloadStart(): number {
    return COUNT_BYTES + this.count * EXTENT_BYTES;
  }
}

/** What goes into one frame: as many extents as there is room for. */
export class ChangesPlan {
  readonly extents: Extent[] = [];
  dataBytes = 0;

  get isFull(): boolean {
    return this.extents.length === PLANNED_EXTENTS_MAX || this.dataBytes === PAYLOAD_BYTES_MAX;
  }

  /** Takes of an extent what there is room for, from its beginning; answers how many bytes. Requires: it is not full. */
  take({ offset, length, zeros }: Extent): number {
    assert(!this.isFull && isSectors(offset) && isSectors(length) && length > 0, 'whole sectors into room');
    const taken = zeros ? length : Math.min(length, PAYLOAD_BYTES_MAX - this.dataBytes);
    this.extents.push({ offset, length: taken, zeros });
    if (!zeros) this.dataBytes += taken;
    return taken;
  }
}

/** A body as it was built: parts of it, which belong together in this order. */
export interface BuiltChanges {
  readonly slices: readonly Buffer[];
  readonly bytes: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
}

/**
 * The body of a planned frame, over the bytes that are given, without a copy. `payload` has the bytes of the plan's data, in order; chunks of zeros in it become extents of
 * zeros, or are left out where the base has nothing. undefined if nothing is left.
 */
export function buildChanges(plan: ChangesPlan, payload: Buffer, hasBase: boolean): BuiltChanges | undefined {
  assert(payload.length === plan.dataBytes, 'a plan gets its bytes');
  const extents = new ExtentTable();
  const kept = new KeptRuns(payload);
  let at = 0;
  for (const { offset, length, zeros } of plan.extents) {
    if (zeros) {
      if (hasBase) extents.add(offset, length, true);
      continue;
    }
    for (let done = 0; done < length; ) {
      const isZero = isZeroChunk(payload, at + done, chunkLeft(offset + done, length - done));
      let next = done;
      do next += chunkLeft(offset + next, length - next);
      while (
        next < length &&
        isZeroChunk(payload, at + next, chunkLeft(offset + next, length - next)) === isZero
      );
      if (!isZero) {
        extents.add(offset + done, next - done, false);
        kept.add(at + done, at + next);
      } else if (hasBase) extents.add(offset + done, next - done, true);
      done = next;
    }
    at += length;
  }
  return extents.count === 0 ? undefined : extents.body(kept.slices());
}

export function joined(slices: readonly Buffer[], bytes: number): Buffer {
  const whole = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const slice of slices) at += slice.copy(whole, at);
  return whole;
}

/** Bytes up to the end of the chunk, or of what there is. */
function chunkLeft(offset: number, length: number): number {
  return Math.min(length, CHUNK_BYTES - (offset % CHUNK_BYTES));
}

function isZeroChunk(bytes: Buffer, start: number, length: number): boolean {
  return bytes.compare(ZEROS, 0, length, start, start + length) === 0;
}

/** What is kept of a payload, in order; neighbours are one. */
class KeptRuns {
  readonly #payload: Buffer;
  readonly #slices: Buffer[] = [];
  #start = 0;
  #end = 0;

  constructor(payload: Buffer) {
    this.#payload = payload;
  }

  add(start: number, end: number): void {
    if (start !== this.#end) {
      this.#close();
      this.#start = start;
    }
    this.#end = end;
  }

  slices(): Buffer[] {
    this.#close();
    return this.#slices;
  }

  #close(): void {
    if (this.#end > this.#start) this.#slices.push(this.#payload.subarray(this.#start, this.#end));
  }
}

/** Extents on their way into a body; neighbours of one kind are one. */
class ExtentTable {
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  readonly #zeros: boolean[] = [];

  get count(): number {
    return this.#offsets.length;
  }

  add(offset: number, length: number, zeros: boolean): void {
    const last = this.count - 1;
    if (last >= 0 && this.#zeros[last] === zeros && this.#offsets[last]! + this.#lengths[last]! === offset) {
      this.#lengths[last]! += length;
      return;
    }
    this.#offsets.push(offset);
    this.#lengths.push(length);
    this.#zeros.push(zeros);
  }

  body(payload: readonly Buffer[]): BuiltChanges {
    assert(this.count <= EXTENTS_MAX, 'a frame has room for its extents');
    const out = new ByteWriter(Buffer.allocUnsafe(COUNT_BYTES + this.count * EXTENT_BYTES));
    let [dataBytes, zeroBytes] = [0, 0];
    out.u32(this.count);
    for (let i = 0; i < this.count; i++) {
      const length = this.#lengths[i]!;
      const sectors = length / SECTOR_BYTES;
      out.u48(this.#offsets[i]! / SECTOR_BYTES).u48(this.#zeros[i]! ? sectors + ZEROS_BIT : sectors);
      if (this.#zeros[i]!) zeroBytes += length;
      else dataBytes += length;
    }
    return { slices: [out.buffer, ...payload], bytes: out.position + dataBytes, dataBytes, zeroBytes };
  }
}
