/**
 * A map from regions to numbers above 0 in flat memory: half of what a `Map` takes, and nothing for the collector. Pure.
 *
 * Open addressing in slots of {region + 1, value}; nothing is ever taken out.
 */

const FIRST_SLOTS = 16;
/** Knuth's multiplicative hash: regions that follow each other spread. */
const MULTIPLIER = 0x9e3779b1;

export class RegionMap {
  #slots = new Uint32Array(2 * FIRST_SLOTS);
  #mask = FIRST_SLOTS - 1;
  #shift = 32 - Math.log2(FIRST_SLOTS);
  size = 0;

  get usedBytes(): number {
    return this.#slots.byteLength;
  }

  /** 0 if there is none. */
  get(region: number): number {
    return this.#slots[this.#find(region) + 1]!;
  }

  set(region: number, value: number): void {
    let at = this.#find(region);
    if (this.#slots[at] === 0) {
      if (3 * this.size >= 2 * (this.#mask + 1)) {
        this.#grow();
        at = this.#find(region);
      }
      this.size += 1;
      this.#slots[at] = region + 1;
    }
    this.#slots[at + 1] = value;
  }

  /** The regions, in order. */
  sorted(): number[] {
    const regions = new Uint32Array(this.size);
    let count = 0;
    for (let at = 0; at < this.#slots.length; at += 2)
      if (this.#slots[at] !== 0) regions[count++] = this.#slots[at]! - 1;
    return [...regions.sort()];
  }

  /** Where the region's slot begins, or the empty one that it would take. */
  #find(region: number): number {
    let slot = Math.imul(region, MULTIPLIER) >>> this.#shift;
    for (;;) {
      const key = this.#slots[2 * slot]!;
      if (key === 0 || key === region + 1) return 2 * slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(2 * old.length);
    this.#mask = old.length - 1;
    this.#shift -= 1;
    for (let at = 0; at < old.length; at += 2) {
      if (old[at] === 0) continue;
      const to = this.#find(old[at]! - 1);
      this.#slots[to] = old[at]!;
      this.#slots[to + 1] = old[at + 1]!;
    }
  }
}
