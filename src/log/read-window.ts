/**
 * A file read in large pieces, for who goes through it from its beginning to its end: what is asked for next is mostly in
 * memory already. With `readsAhead` the next piece is being read while this one is looked at.
 */

import type { ReadFile } from '../base/storage.ts';

/** Room before a piece that was read ahead, for what of the one before it belongs together with its beginning. */
const JOINT_BYTES = 512 << 10;

/** Buffers of windows that were closed, for the next ones: fresh memory is dear. */
const spares: Buffer[] = [];
const SPARES_MAX = 2;

interface PieceAhead {
  readonly at: number;
  readonly buffer: Buffer;
  readonly reading: Promise<number>;
}

export class ReadWindow {
  readonly #file: ReadFile;
  readonly #capacity: number;
  readonly #jointBytes: number;
  /** Made when something is read: most files are opened for a header only. */
  #buffer: Buffer | undefined;
  /** What the buffer holds: `#bytes` bytes of the file from `#at` on, from `#start` on. */
  #start = 0;
  #at = 0;
  #bytes = 0;
  #ahead: PieceAhead | undefined;

  constructor(file: ReadFile, capacity: number, readsAhead: boolean) {
    this.#file = file;
    this.#capacity = capacity;
    this.#jointBytes = readsAhead ? JOINT_BYTES : 0;
  }

  /** `length` bytes at `offset`, a view that holds until the next call; fewer at the end of the file. */
  async bytes(offset: number, length: number): Promise<Buffer> {
    if (length > this.#capacity) {
      const large = Buffer.alloc(length);
      return large.subarray(0, await this.#file.read(large, 0, length, offset));
    }
    if (offset < this.#at || offset + length > this.#at + this.#bytes) await this.#fill(offset, length);
    const from = this.#start + offset - this.#at;
    return this.#buffer!.subarray(from, Math.min(from + length, this.#start + this.#bytes));
  }

  /** What is in memory from `offset` on; at least `least`, but at the end of the file. */
  async bytesFrom(offset: number, least: number): Promise<Buffer> {
    const head = await this.bytes(offset, least);
    if (head.length < least) return head;
    return this.#buffer!.subarray(this.#start + offset - this.#at, this.#start + this.#bytes);
  }

  async #fill(offset: number, length: number): Promise<void> {
    if (!(await this.#takeAhead(offset, length))) {
      await this.#dropAhead();
      this.#buffer ??= this.#take();
      this.#at = offset;
      this.#start = this.#jointBytes;
      this.#bytes = 0; // if this fails
      this.#bytes = await this.#file.read(this.#buffer, this.#start, this.#capacity, offset);
    }
    // A piece that is not full is the last one.
    const isFull = this.#start + this.#bytes === this.#jointBytes + this.#capacity;
    if (this.#jointBytes > 0 && isFull && this.#ahead === undefined) this.#readAhead();
  }

  /** Goes on with what has been read ahead, if that is what is asked for. */
  async #takeAhead(offset: number, length: number): Promise<boolean> {
    const ahead = this.#ahead;
    if (ahead === undefined) return false;
    const joint = ahead.at - offset;
    const isInReach = joint <= this.#jointBytes && offset >= this.#at && length <= this.#capacity + joint;
    if (!isInReach || joint < 0) return false;
    this.#ahead = undefined;
    const bytes = await ahead.reading;
    const end = this.#start + this.#bytes;
    this.#buffer!.copy(ahead.buffer, this.#jointBytes - joint, end - joint, end);
    give(this.#buffer!);
    this.#buffer = ahead.buffer;
    this.#start = this.#jointBytes - joint;
    this.#at = offset;
    this.#bytes = joint + bytes;
    return true;
  }

  #readAhead(): void {
    const buffer = this.#take();
    const at = this.#at + this.#bytes;
    const reading = this.#file.read(buffer, this.#jointBytes, this.#capacity, at);
    reading.catch(() => undefined); // told to who comes to need it
    this.#ahead = { at, buffer, reading };
  }

  async #dropAhead(): Promise<void> {
    const ahead = this.#ahead;
    if (ahead === undefined) return;
    this.#ahead = undefined;
    await ahead.reading.catch(() => undefined);
    give(ahead.buffer);
  }

  #take(): Buffer {
    const length = this.#capacity + this.#jointBytes;
    const at = spares.findIndex((spare) => spare.length === length);
    return at < 0 ? Buffer.allocUnsafeSlow(length) : spares.splice(at, 1)[0]!;
  }

  /** What has been answered holds no longer. The file can be closed when this resolves. */
  async close(): Promise<void> {
    await this.#dropAhead();
    if (this.#buffer !== undefined) give(this.#buffer);
    this.#buffer = undefined;
    this.#bytes = 0;
  }
}

function give(buffer: Buffer): void {
  spares.push(buffer);
  if (spares.length > SPARES_MAX) spares.shift();
}
