/** Seeded chance for tests: xorshift128, and the seed that a run uses. SEED in the environment replays one. */

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
    for (let i = 0; i < 20; i++) this.next();
  }

  /** An unsigned 32-bit number. */
  next(): number {
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

  /** An integer of [0, end). */
  below(end: number): number {
    return this.next() % end;
  }

  /** An integer of [first, last]. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** Bytes that hardly occur twice: a stretch of a random pool with a number of its own in front. */
  bytes(length: number): Buffer {
    const start = this.below(POOL.length - length);
    const bytes = Buffer.from(POOL.subarray(start, start + length));
    if (length >= 4) bytes.writeUInt32LE(this.next(), 0);
    return bytes;
  }
}

const POOL_BYTES = 4 << 20;

function makePool(): Buffer {
  const random = new Random(1);
  const words = new Uint32Array(POOL_BYTES / 4).map(() => random.next());
  return Buffer.from(words.buffer);
}

const POOL = makePool();

/** The seeds of a test: `count` fresh ones, or the one in SEED. */
export function seeds(count: number): number[] {
  if (process.env.SEED !== undefined) return [Number(process.env.SEED)];
  return Array.from({ length: count }, () => Math.floor(Math.random() * 2 ** 31));
}
