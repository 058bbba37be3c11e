/**
 * The memory that replies are put together in, and the pool it comes from. No I/O.
 *
 * A buffer belongs to one connection from `take` until every socket write of it has called back: Node does not copy
 * what it is given to write. Buffers are zeroed when they are made and reused from then on, so a reply must overwrite
 * every byte of the range it sends.
 *
 * Sizes are powers of two, with headroom in front, so that the header of a large read can be put before bytes that
 * were read straight to their place.
 */

/** Space before the payload: the longest header (an extended read's, 40) up to a cache line. */
export const HEADROOM_BYTES = 64;

const CLASS_SHIFT_MIN = 12;

/** Who is told that the socket is done with a buffer. */
export interface BufferOwner {
  written(buffer: ReplyBuffer): void;
}

export class ReplyBuffer {
  readonly bytes: Buffer;
  readonly sizeClass: number;
  owner: BufferOwner | undefined;

  // Positions in `bytes`: settled <= sent <= filled.
  /** The socket is done with everything before this. */
  settled = 0;
  /** Handed to the socket up to here. */
  sent = 0;
  /** Complete replies up to here. */
  filled = 0;
  /** Socket writes that have not called back. */
  writes = 0;

  /** The callback of every socket write of this buffer; made once, not for each write. */
  readonly onWritten = (): void => {
    if (--this.writes === 0) this.owner!.written(this);
  };

  constructor(bytes: Buffer, sizeClass: number) {
    this.bytes = bytes;
    this.sizeClass = sizeClass;
  }

  /** Empties it: what comes next starts at `start`. */
  reset(start: number): void {
    this.settled = start;
    this.sent = start;
    this.filled = start;
  }
}

export class ReplyBufferPool {
  readonly #free: ReplyBuffer[][] = [];
  readonly #keptBytesMax: number;
  #keptBytes = 0;

  constructor(keptBytesMax: number) {
    this.#keptBytesMax = keptBytesMax;
  }

  /** An empty buffer that holds at least `payloadBytes` behind its headroom. */
  take(payloadBytes: number, owner: BufferOwner): ReplyBuffer {
    const sizeClass = Math.max(0, 32 - Math.clz32(payloadBytes - 1) - CLASS_SHIFT_MIN);
    let buffer = this.#free[sizeClass]?.pop();
    if (buffer === undefined) {
      buffer = new ReplyBuffer(Buffer.alloc(HEADROOM_BYTES + 2 ** (CLASS_SHIFT_MIN + sizeClass)), sizeClass);
    } else {
      this.#keptBytes -= buffer.bytes.length;
    }
    buffer.owner = owner;
    buffer.reset(0);
    return buffer;
  }

  /** Requires: no write of it is pending. The last one given is the next one taken: it is still in the CPU's cache. */
  give(buffer: ReplyBuffer): void {
    buffer.owner = undefined;
    if (this.#keptBytes + buffer.bytes.length > this.#keptBytesMax) return;
    this.#keptBytes += buffer.bytes.length;
    (this.#free[buffer.sizeClass] ??= []).push(buffer);
  }
}
