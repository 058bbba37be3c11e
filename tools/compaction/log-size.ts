/** How much room a store's log takes, and the most that it took while somebody watched. */

import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Guest } from './guest.ts';

const SAMPLE_MS = 250;

/** Lengths of all segment files, those made ahead and those about to go included. */
export function logFileBytes(directory: string): number {
  const log = path.join(directory, 'log');
  let bytes = 0;
  for (const name of readdirSync(log))
    bytes += statSync(path.join(log, name), { throwIfNoEntry: false })?.size ?? 0;
  return bytes;
}

/** Watches the log of a store that a guest writes to. */
export class LogWatch {
  readonly #directory: string;
  readonly #guest: Guest;
  readonly #timer: NodeJS.Timeout;
  /** The most of log bytes over live bytes. */
  shareMax = 0;
  logBytesMax = 0;
  /** The most of what the log took beyond `allowedShare` times what lives. */
  beyondBytesMax = Number.NEGATIVE_INFINITY;
  readonly #allowedShare: number;

  constructor(directory: string, guest: Guest, allowedShare = 1) {
    this.#directory = directory;
    this.#guest = guest;
    this.#allowedShare = allowedShare;
    this.#timer = setInterval(() => this.sample(), SAMPLE_MS);
    this.sample();
  }

  /** Log bytes over live bytes, now. */
  sample(): number {
    const { liveBytes } = this.#guest;
    const bytes = logFileBytes(this.#directory);
    const share = bytes / liveBytes;
    this.logBytesMax = Math.max(this.logBytesMax, bytes);
    this.shareMax = Math.max(this.shareMax, share);
    this.beyondBytesMax = Math.max(this.beyondBytesMax, bytes - this.#allowedShare * liveBytes);
    return share;
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
