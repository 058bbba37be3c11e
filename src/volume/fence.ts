/**
 * Versions that are taken back from whoever has them, for a change that takes something away.
 *
 * Invariant: while the change is made, nobody has any of the versions open, and their writes are in. They are fenced before
 * the change has its turn, because writes that have to be waited for may wait for a checkpoint, and that for its turn among
 * the changes.
 */

import { StoreError } from '../base/errors.ts';
import { fullName, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import type { OpenDisks } from './open-disks.ts';

/** What a client that has hung up gets to be gone. */
const DETACH_MS_MAX = 1000;
/** Names that a refusal lists before it says how many more there are. */
export const NAMES_SHOWN = 5;

type Version = Volume | Snapshot;

export class Fence {
  readonly #writer: ChangeWriter;
  readonly #disks: OpenDisks;

  constructor(writer: ChangeWriter, disks: OpenDisks) {
    this.#writer = writer;
    this.#disks = disks;
  }

  /**
   * Runs `change` while no other change is under way and nobody has any of the versions open; `force` disconnects whoever
   * has. A `change` that answers undefined found other versions by then, and is tried again. @throws IN_USE
   */
  async run<T>(
    find: () => Version[],
    force: boolean,
    change: (isFenced: (version: Version) => boolean) => Promise<T | undefined>,
  ): Promise<T> {
    for (;;) {
      await this.#disks.detached(find(), force ? 0 : DETACH_MS_MAX);
      const versions = find();
      if (!force) this.#checkDetached(versions);
      const giveBack = await this.#disks.takeBack(versions);
      try {
        const fenced = new Set(versions);
        const result = await this.#writer.run(1, () => change((version) => fenced.has(version)));
        if (result !== undefined) return result;
      } finally {
        giveBack();
      }
    }
  }

  /** @throws IN_USE */
  #checkDetached(versions: readonly Version[]): void {
    const attached = versions.filter((version) => this.#disks.attachedTo(version) > 0);
    if (attached.length === 0) return;
    throw new StoreError(
      'IN_USE',
      `${listed(attached)} ${attached.length === 1 ? 'is' : 'are'} in use; disconnect the clients, or use --force`,
    );
  }
}

export function listed(versions: readonly Version[]): string {
  const names = versions.slice(0, NAMES_SHOWN).map(fullName).join(', ');
  return versions.length > NAMES_SHOWN ? `${names} and ${versions.length - NAMES_SHOWN} more` : names;
}
