/** The two slots of the superblock: each for itself, and as two generations of one store. */

import type { Storage } from '../base/storage.ts';
import { SLOT_BYTES, SUPERBLOCK_REVISION, type Superblock, unsupported } from '../log/superblock.ts';
import { readSlots, type SuperblockSlot } from '../log/superblock-slots.ts';
import { type Finding, finding } from './finding.ts';

/** What is wrong with the slots. Pure. */
export function* judgeSlots(slots: readonly SuperblockSlot[]): Generator<Finding> {
  const [a, b] = slots.map(({ block }) => block);
  if (a === undefined && b === undefined) {
    const what = 'both copies of the superblock are damaged: nothing says where the log begins';
    yield finding('SUPERBLOCK_LOST', `${what}; segments say which store this is`, { mend: 'repair' });
    return;
  }
  if (a !== undefined && b !== undefined) {
    yield* judgePair(a, b);
    return;
  }
  for (const { slot, state } of slots) {
    // The second copy of a new store is written with its first epoch.
    const isNew = state === 'empty' && (a ?? b)!.generation === 1;
    if (state === 'whole' || isNew) continue;
    const message = `copy ${slot} of the superblock is damaged; the other one is used`;
    yield finding('SUPERBLOCK_SLOT_DAMAGED', message, { offset: (slot - 1) * SLOT_BYTES, mend: 'open' });
  }
}

function* judgePair(a: Superblock, b: Superblock): Generator<Finding> {
  const say = (what: string): Finding =>
    finding('SUPERBLOCK_SLOTS_DIFFER', `the copies of the superblock ${what}`, { mend: 'open' });
  if (!a.uuid.equals(b.uuid)) yield say('are of two stores; the newer one is used');
  else if (a.segmentBytes !== b.segmentBytes) yield say('have two sizes of segments; the newer one is used');
  const [old, young] = a.generation < b.generation ? [a, b] : [b, a];
  const isInPlace = a.generation % 2 === 0 && b.generation % 2 === 1;
  if (young.generation !== old.generation + 1 || !isInPlace)
    yield say(`have the generations ${a.generation} and ${b.generation}, which do not follow each other`);
  else if (young.epoch < old.epoch || (old.base?.append ?? 0) > (young.base?.append ?? 0))
    yield say(`go backwards from generation ${old.generation} to ${young.generation}`);
}

/** @throws UNSUPPORTED_FORMAT if one is of a newer revision and none is known, IO */
export async function* checkSuperblock(
  storage: Storage,
  alone: <T>(read: () => Promise<T>) => Promise<T> = (read) => read(),
): AsyncGenerator<Finding> {
  yield* judgeSlots(await alone(() => slotsOf(storage)));
}

/** @throws UNSUPPORTED_FORMAT, IO */
export async function slotsOf(storage: Storage): Promise<readonly SuperblockSlot[]> {
  const slots = await readSlots(storage);
  const newer = slots.find(({ state }) => state === 'newer');
  if (newer !== undefined) throw unsupported(newer.revision);
  // Where neither is whole, one that says so is rather of a newer release than damaged in just this way.
  const claimed = Math.max(...slots.map(({ revision }) => revision));
  const isLost = slots.every(({ block }) => block === undefined);
  if (isLost && claimed > SUPERBLOCK_REVISION) throw unsupported(claimed);
  return slots;
}
