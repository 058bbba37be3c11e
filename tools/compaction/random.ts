/** Seeded chance, a fixed permutation, and Zipf's law. No I/O. */

import { Random as Chance } from '../../test/support/random.ts';

export class Random extends Chance {
  /** A number of [0, 1). */
  unit(): number {
    return this.next() / 2 ** 32;
  }

  /** Fills `bytes` with what hardly compresses. */
  fill(bytes: Buffer): void {
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(this.next(), at);
  }
}

/** The numbers below `count` in an order that only `seed` decides. */
export function permutation(count: number, seed: number): Uint32Array {
  const random = new Random(seed);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = random.below(i + 1);
    const kept = order[i]!;
    order[i] = order[other]!;
    order[other] = kept;
  }
  return order;
}

/** Ranks from 0, rank r with a chance that falls as 1 / (r + 1). */
export class Zipf {
  readonly #sums: Float64Array;

  constructor(count: number) {
    this.#sums = new Float64Array(count);
    let sum = 0;
    for (let rank = 0; rank < count; rank++) {
      sum += 1 / (rank + 1);
      this.#sums[rank] = sum;
    }
  }

  pick(random: Random): number {
    const sums = this.#sums;
    const wanted = random.unit() * sums[sums.length - 1]!;
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle]! > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
