/**
 * The slots of the superblock as they stand, whatever state they are in: for who looks at a store that may be damaged.
 */

import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import {
  claimedRevision,
  decodeSuperblock,
  SLOT_BYTES,
  SUPERBLOCK_PATH,
  SUPERBLOCK_REVISION,
  type Superblock,
} from './superblock.ts';

export interface SuperblockSlot {
  /** 1 or 2. */
  readonly slot: number;
  /** `empty`: not written yet; `newer`: of a revision that this program does not know; `missing`: there is no file. */
  readonly state: 'whole' | 'empty' | 'damaged' | 'newer' | 'missing';
  /** What the slot claims; 0 if it claims nothing. */
  readonly revision: number;
  readonly block: Superblock | undefined;
  /** It is the valid one with the higher generation. */
  readonly counts: boolean;
}

type SlotContent = Omit<SuperblockSlot, 'slot' | 'counts'>;

/** Both slots. @throws IO */
export async function readSlots(storage: Storage): Promise<SuperblockSlot[]> {
  const contents = await readContents(storage);
  const generations = contents.map(({ block }) => block?.generation ?? 0);
  const newest = Math.max(...generations);
  return contents.map((content, i) => {
    return { slot: i + 1, ...content, counts: newest > 0 && generations.indexOf(newest) === i };
  });
}

async function readContents(storage: Storage): Promise<SlotContent[]> {
  const file = await storage.open(SUPERBLOCK_PATH, 'read').catch((error: unknown) => {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  });
  if (file === undefined) {
    const missing: SlotContent = { state: 'missing', revision: 0, block: undefined };
    return [missing, missing];
  }
  try {
    const bytes = Buffer.alloc(2 * SLOT_BYTES);
    const length = await file.read(bytes, 0, bytes.length, 0);
    return [0, SLOT_BYTES].map((at) =>
      contentOf(bytes.subarray(at, Math.max(at, Math.min(at + SLOT_BYTES, length)))),
    );
  } finally {
    await file.close();
  }
}

function contentOf(bytes: Buffer): SlotContent {
  const revision = claimedRevision(bytes);
  if (bytes.every((byte) => byte === 0)) return { state: 'empty', revision, block: undefined };
  try {
    const block = decodeSuperblock(bytes);
    return { state: block === undefined ? 'damaged' : 'whole', revision, block };
  } catch (error) {
    if (!hasCode(error, 'UNSUPPORTED_FORMAT')) throw error;
    return { state: revision > SUPERBLOCK_REVISION ? 'newer' : 'damaged', revision, block: undefined };
  }
}
