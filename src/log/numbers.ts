/**
 * Hands out the numbers that are never used twice: sequences, append numbers, version labels, segment numbers.
 *
 * Invariant: a number is handed out only below what a synced superblock reserves. A block is reserved ahead in the
 * background, long before it is needed; where it is needed sooner, `reserve` waits for it.
 */

import { assert } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import type { Storage } from '../base/storage.ts';
import { type LogBase, replaceSuperblock, type Superblock, writeSuperblock } from './superblock.ts';

/** How many are reserved at once. Sequences and append numbers: twenty minutes at full speed and more. */
const BLOCK = { sequences: 2 ** 28, appends: 2 ** 28, labels: 2 ** 12, segments: 2 ** 12 };

/** An open store has more append numbers than that ahead; one that was closed has none. */
export const RESERVED_APPENDS_MIN = 2 ** 26;

type Kind = keyof typeof BLOCK;
const KINDS: readonly Kind[] = ['sequences', 'appends', 'labels', 'segments'];

export class Numbers {
  readonly #storage: Storage;
  /** As it stands on the disk. */
  readonly superblock: Superblock;
  readonly #next: Record<Kind, number>;
  readonly #writing = new Mutex();

  private constructor(storage: Storage, superblock: Superblock) {
    this.#storage = storage;
    this.superblock = superblock;
    const { sequences, appends, labels, segments } = superblock;
    this.#next = { sequences, appends, labels, segments };
  }

  /** Begins an epoch: everything from here on is numbered above what was ever reserved, or `seen` in the log. */
  static async begin(storage: Storage, superblock: Superblock, seen: Record<Kind, number>): Promise<Numbers> {
    const numbers = new Numbers(storage, superblock);
    for (const kind of KINDS) numbers.#next[kind] = Math.max(numbers.#next[kind], seen[kind] + 1);
    const next = numbers.#reserved('segments', 0);
    next.epoch += 1;
    await replaceSuperblock(storage, superblock, next);
    Object.assign(superblock, next);
    return numbers;
  }

  /** For who writes nothing: none is ever taken. */
  static asFound(storage: Storage, superblock: Superblock): Numbers {
    return new Numbers(storage, superblock);
  }

  get epoch(): number {
    return this.superblock.epoch;
  }

  /** The next number of a kind, not taken yet. */
  peek(kind: Kind): number {
    return this.#next[kind];
  }

  take(kind: Kind): number {
    const number = this.#next[kind]++;
    assert(number < this.superblock[kind], `${kind} are reserved before they are taken`);
    return number;
  }

  /** Moves on to `next` after a record took its numbers at once. */
  advance(kind: Kind, next: number): void {
    assert(next <= this.superblock[kind], `${kind} are reserved before they are taken`);
    this.#next[kind] = next;
  }

  /** True once half a block is used up: time to call `reserve`. */
  get isLow(): boolean {
    return KINDS.some((kind) => this.superblock[kind] - this.#next[kind] < BLOCK[kind] / 2);
  }

  /** Makes sure that `count` of a kind can be taken. */
  async reserve(kind: Kind, count: number): Promise<void> {
    // Others may take some before the caller does: half a block is left for them.
    const left = this.superblock[kind] - this.#next[kind] - count;
    if (left < BLOCK[kind] / 2 || this.isLow) await this.#write(kind, count);
  }

  /**
   * The superblock with a whole block of each kind ahead, and `count` more of one kind. What is reserved stays so: who has asked
   * for it may not have taken it yet.
   */
  #reserved(kind: Kind, count: number): Superblock {
    const next = { ...this.superblock };
    for (const each of KINDS) {
      const wanted = this.#next[each] + BLOCK[each] + (each === kind ? count : 0);
      next[each] = Math.max(next[each], wanted);
    }
    return next;
  }

  /** Runs `step` while the superblock is not being written. */
  between<T>(step: () => Promise<T>): Promise<T> {
    return this.#writing.run(step);
  }

  async #write(kind: Kind, count: number): Promise<void> {
    await this.#writing.run(async () => {
      const next = this.#reserved(kind, count);
      await writeSuperblock(this.#storage, next);
      Object.assign(this.superblock, next);
    });
  }

  /** A rebuild begins at `base` from now on, on the disk: what is not needed for that may be removed. @throws IO */
  async moveBase(base: LogBase): Promise<void> {
    await this.#writing.run(async () => {
      if (this.superblock.base?.append === base.append) return;
      const next = { ...this.superblock, base };
      await writeSuperblock(this.#storage, next);
      Object.assign(this.superblock, next);
    });
  }

  /** At a clean close nothing is left reserved: the next process goes on where this one stopped. */
  async giveBack(): Promise<void> {
    await this.#writing.run(async () => {
      const next = { ...this.superblock, ...this.#next };
      await writeSuperblock(this.#storage, next);
      Object.assign(this.superblock, next);
    });
  }
}
