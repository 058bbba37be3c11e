/** Which parts of the log are lost: places that nothing tells of, and sequences that may have been there. Pure. */

import { DamagedPlaces } from './damaged-places.ts';
import type { LostLog } from './index-comparison.ts';

/** Sequences between two that are there. */
interface Gap {
  readonly after: number;
  readonly before: number;
}

export class LostParts implements LostLog {
  readonly #places = new DamagedPlaces<true>();
  readonly #gaps: Gap[] = [];
  readonly #hasLabel: (label: number) => boolean;

  constructor(hasLabel: (label: number) => boolean) {
    this.#hasLabel = hasLabel;
  }

  get isEmpty(): boolean {
    return this.#places.isEmpty && this.#gaps.length === 0;
  }

  addPlace(segment: number, from: number, until: number): void {
    this.#places.add(segment, from, until, true);
  }

  addGap(after: number, before: number): void {
    this.#gaps.push({ after, before });
  }

  hasPlace(segment: number, offset: number): boolean {
    return this.#places.at(segment, offset) !== undefined;
  }

  hasSequence(sequence: number): boolean {
    return this.#gaps.some(({ after, before }) => after < sequence && sequence < before);
  }

  mayHaveTrimmed(sequence: number): boolean {
    return this.#gaps.some(({ before }) => sequence < before);
  }

  hasLabel(label: number): boolean {
    return this.#hasLabel(label);
  }
}
