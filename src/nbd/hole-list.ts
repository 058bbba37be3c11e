/**
 * The parts of one read that are not stored, as the device names them. No I/O.
 *
 * Invariant, after `settle`: holes are in order, apart from each other, each worth a chunk of its own; so what replaces
 * one in a reply is shorter than the zeros that it stands for.
 */

import type { HoleListener } from '../volume/device.ts';

/** Shorter ones are sent as zeros. The specification wants chunks in multiples of this where that is possible. */
const HOLE_BYTES_MIN = 512;
/** More of them are sent as zeros: a reply has few chunks. */
const HOLES_MAX = 64;
/** Before they are put in order, parts of one hole may be as many as this. */
const PARTS_MAX = 1024;

export class HoleList implements HoleListener {
  count = 0;
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  #isInOrder = true;

  clear(): void {
    this.count = 0;
    this.#isInOrder = true;
  }

  /** Where in the buffer that was read into. */
  start(index: number): number {
    return this.#starts[index]!;
  }

  lengthBytes(index: number): number {
    return this.#lengths[index]!;
  }

  hole(start: number, lengthBytes: number): void {
    const last = this.count - 1;
    if (last >= 0) {
      const end = this.#starts[last]! + this.#lengths[last]!;
      if (end === start) {
        this.#lengths[last]! += lengthBytes;
        return;
      }
      if (end > start) this.#isInOrder = false;
    }
    if (this.count === PARTS_MAX) return;
    this.#starts[this.count] = start;
    this.#lengths[this.count] = lengthBytes;
    this.count += 1;
  }

  /** Called when the read is done. */
  settle(): void {
    if (!this.#isInOrder) this.#sort();
    let kept = 0;
    for (let i = 0; i < this.count && kept < HOLES_MAX; i++) {
      if (this.#lengths[i]! < HOLE_BYTES_MIN) continue;
      this.#starts[kept] = this.#starts[i]!;
      this.#lengths[kept] = this.#lengths[i]!;
      kept += 1;
    }
    this.count = kept;
  }

  /** Parts of a read end in any order. What lies together is one hole. */
  #sort(): void {
    const holes = Array.from(
      { length: this.count },
      (_, i) => [this.#starts[i]!, this.#lengths[i]!] as const,
    );
    holes.sort(([a], [b]) => a - b);
    this.clear();
    for (const [start, lengthBytes] of holes) this.hole(start, lengthBytes);
  }
}
