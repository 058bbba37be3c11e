/**
 * A socket in memory, as far as a connection uses one: what is written is taken some turns later, or never; reading stops
 * while it is paused. Its other side is the fuzzer.
 */

import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

/** What Node calls full. */
const HIGH_WATER_BYTES = 16 << 10;

export class MemorySocket extends EventEmitter {
  isPaused = false;
  isDestroyed = false;
  /** The server has said its last word. */
  isEnded = false;
  writableNeedDrain = false;
  /** False: nothing that is written is ever taken. */
  takes = true;
  /** Told of what the server sent, when it is taken. */
  readonly #taken: (bytes: Buffer) => void;
  #pending: { bytes: Buffer; done: (() => void) | undefined }[] = [];
  #pendingBytes = 0;

  constructor(taken: (bytes: Buffer) => void) {
    super();
    this.#taken = taken;
  }

  get asSocket(): Socket {
    return this as unknown as Socket;
  }

  /** Bytes from the client; false while the server does not read. */
  feed(bytes: Buffer): boolean {
    if (this.isDestroyed || this.isPaused) return false;
    this.emit('data', bytes);
    return true;
  }

  write(bytes: Buffer, done?: () => void): boolean {
    if (this.isDestroyed) {
      if (done !== undefined) setImmediate(done);
      return false;
    }
    this.#pending.push({ bytes, done });
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes > HIGH_WATER_BYTES) this.writableNeedDrain = true;
    return !this.writableNeedDrain;
  }

  /** Takes what was written so far; true if that was anything. */
  take(): boolean {
    if (!this.takes || this.isDestroyed) return false;
    const pending = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    for (const { bytes, done } of pending) {
      this.#taken(bytes);
      done?.();
    }
    if (this.writableNeedDrain) {
      this.writableNeedDrain = false;
      this.emit('drain');
    }
    if (this.isEnded && this.#pending.length === 0) this.emit('finish');
    return pending.length > 0;
  }

  cork(): void {}
  uncork(): void {}

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.isEnded = true;
  }

  destroySoon(): void {
    this.isEnded = true;
    setImmediate(() => this.destroy());
  }

  destroy(): void {
    if (this.isDestroyed) return;
    if (this.isEnded) this.take();
    this.isDestroyed = true;
    const pending = this.#pending;
    this.#pending = [];
    setImmediate(() => {
      for (const { done } of pending) done?.();
      this.emit('close');
    });
  }
}
