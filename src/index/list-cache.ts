/**
 * The list rows that were read last: where many versions share a region, each of them reads the same list, which may be longer
 * than all else that it reads. Pure.
 *
 * Invariant: a list is known by what the leaf says of it, the generation that wrote it included; one that was written again is
 * another one.
 */

const BYTES_MAX = 1 << 20;
const LISTS_MAX = 64;
const REGIONS = 2 ** 26;

/** As a leaf states it. */
export interface StatedList {
  readonly tree: number;
  readonly region: number;
  readonly generation: number;
  readonly checksum: number;
}

export class ListCache {
  /** In order of last use, by region: trees far apart may share a place. */
  readonly #lists = new Map<number, { readonly stated: StatedList; readonly value: Buffer }>();
  #bytes = 0;

  get(stated: StatedList): Buffer | undefined {
    const key = keyOf(stated);
    const found = this.#lists.get(key);
    if (found === undefined || !isSame(found.stated, stated)) return undefined;
    this.#lists.delete(key);
    this.#lists.set(key, found);
    return found.value;
  }

  put(stated: StatedList, value: Buffer): void {
    if (value.length > BYTES_MAX / 4) return;
    this.#drop(keyOf(stated));
    this.#lists.set(keyOf(stated), { stated, value });
    this.#bytes += value.length;
    for (const key of this.#lists.keys()) {
      if (this.#bytes <= BYTES_MAX && this.#lists.size <= LISTS_MAX) return;
      this.#drop(key);
    }
  }

  #drop(key: number): void {
    this.#bytes -= this.#lists.get(key)?.value.length ?? 0;
    this.#lists.delete(key);
  }
}

function keyOf({ tree, region }: StatedList): number {
  return (tree % REGIONS) * REGIONS + region;
}

function isSame(a: StatedList, b: StatedList): boolean {
  return (
    a.tree === b.tree && a.region === b.region && a.generation === b.generation && a.checksum === b.checksum
  );
}
