/**
 * The memory that requests arrive in: slabs that are used again, in the place of the buffer that Node would allocate
 * for each read of a socket. Those count against V8's bound of external memory, and have it mark the whole heap many
 * times a second (measured: a quarter of the server's time under random writes).
 *
 * Invariant: a slab is used again only when nobody uses it: neither the connection that reads into it, nor the parser,
 * nor a write whose payload lies in it.
 */

import { assert } from '../base/errors.ts';

export const SLAB_BYTES = 256 << 10;
/** Less room than this is not worth a read: the next slab is begun. */
const ROOM_BYTES_MIN = 32 << 10;

export class Slab {
  readonly bytes = Buffer.allocUnsafeSlow(SLAB_BYTES);
  readonly #pool: SlabPool;
  #users = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  retain(): void {
    this.#users += 1;
  }

  release(): void {
    assert(this.#users > 0, 'a slab is released as often as it is retained');
    this.#users -= 1;
    if (this.#users === 0) this.#pool.give(this);
  }
}

export class SlabPool {
  readonly #free: Slab[] = [];
  readonly #keptMax: number;

  constructor(keptBytesMax: number) {
    this.#keptMax = Math.floor(keptBytesMax / SLAB_BYTES);
  }

  /** A slab that is retained once. */
  take(): Slab {
    const slab = this.#free.pop() ?? new Slab(this);
    slab.retain();
    return slab;
  }

  give(slab: Slab): void {
    if (this.#free.length < this.#keptMax) this.#free.push(slab);
  }
}

/** What all connections read into before they have an export: what is read there is looked at, or copied, at once. */
const SHARED = Buffer.allocUnsafeSlow(16 << 10);

/** What one connection reads into: slabs of its own once it has an export. */
export class SlabReader {
  readonly #pool: SlabPool;
  #usesSlabs = false;
  #slab: Slab | undefined;
  #position = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  /** From the next read on slabs are used. */
  useSlabs(): void {
    this.#usesSlabs = true;
  }

  /** The slab that `taken` last answered a piece of; undefined before slabs are used. */
  get slab(): Slab | undefined {
    return this.#slab;
  }

  /** Where the next bytes go. */
  room(): Buffer {
    if (!this.#usesSlabs) return SHARED;
    if (this.#slab === undefined || SLAB_BYTES - this.#position < ROOM_BYTES_MIN) {
      this.#slab?.release();
      this.#slab = this.#pool.take();
      this.#position = 0;
    }
    return this.#slab.bytes.subarray(this.#position);
  }

  /** The bytes that have come. They hold as long as the slab is retained; before slabs are used, until this turn ends. */
  taken(bytes: number): Buffer {
    if (this.#slab === undefined) {
      const shared = SHARED.subarray(0, bytes);
      // Slabs were asked for after the room for this read was given: what came may stay in a write, as in a slab.
      return this.#usesSlabs ? Buffer.from(shared) : shared;
    }
    const start = this.#position;
    this.#position += bytes;
    return this.#slab.bytes.subarray(start, this.#position);
  }

  close(): void {
    this.#slab?.release();
    this.#slab = undefined;
  }
}
