/** Which calls fail: drawn by rate, a call at a time; and for a while the disk may be full. */

import type { Random } from '../support/random.ts';

export type Operation =
  | 'write'
  | 'datasync'
  | 'allocate'
  | 'create'
  | 'open'
  | 'remove'
  | 'rename'
  | 'syncDirectory'
  | 'read'
  | 'list'
  | 'index write'
  | 'index read'
  | 'index open';

/** Thousandths of the calls that fail. */
export type FaultRates = Partial<Record<Operation, number>>;

const NEEDS_ROOM: readonly Operation[] = ['write', 'allocate', 'create', 'index write'];

export class Faults {
  readonly #random: Random;
  readonly #rates: FaultRates;
  /** Percent of writes and allocations that fail while the disk is full. */
  #fullPercent = 0;
  isOn = true;
  /** How many faults this life has seen: without any, nothing may fail. */
  injected = 0;

  constructor(random: Random, rates: FaultRates) {
    this.#random = random;
    this.#rates = rates;
  }

  /** The disk is full from now on, or has room again. */
  fill(isFull: boolean): void {
    this.#fullPercent = isFull ? this.#random.pick([50, 100]) : 0;
  }

  draw(operation: Operation): 'IO' | 'NO_SPACE' | undefined {
    if (!this.isOn) return undefined;
    if (this.#fullPercent > 0 && NEEDS_ROOM.includes(operation) && this.#random.chance(this.#fullPercent)) {
      this.injected += 1;
      return 'NO_SPACE';
    }
    const rate = this.#rates[operation] ?? 0;
    if (rate === 0 || this.#random.below(1000) >= rate) return undefined;
    this.injected += 1;
    return NEEDS_ROOM.includes(operation) && this.#random.chance(40) ? 'NO_SPACE' : 'IO';
  }

  /** A fault that happened without a call: from now on something may fail. */
  note(): void {
    this.injected += 1;
  }
}
