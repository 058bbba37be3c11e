/** Seeded chance (xorshift128), a fixed permutation, and Zipf's law. No I/O. */

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    this.#a = seed | 1;
    this.#b = 0x9e3779b9 ^ seed;
    this.#c = 0x243f6a88;
    this.#d = 0xb7e15162;
    for (let i = 0; i < 20; i++) this.#next();
  }

  /** An unsigned 32-bit number. */
  #next(): number {
    let t = this.#d;
    const s = this.#a;
    this.#d = this.#c;
    this.#c = this.#b;
    this.#b = s;
    t ^= t << 11;
    t ^= t >>> 8;
    this.#a = t ^ s ^ (s >>> 19);
    return this.#a >>> 0;
  }

  /** A number of [0, 1). */
  unit(): number {
    return this.#next() / 2 ** 32;
  }

  /** An integer of [0, end). */
  below(end: number): number {
    return Math.floor(this.unit() * end);
  }

  /** An integer of [first, last]. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  /** Fills `bytes` with what hardly compresses. */
  fill(bytes: Buffer): void {
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(this.#next(), at);
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
