/**
 * Where `coppice dump` finds what it prints: a store that is not opened, not locked, and perhaps damaged.
 *
 * Invariant: nothing is written. What is wrong with the store is said on standard error, and is no reason to stop as long as
 * what was asked for can be printed.
 */

import path from 'node:path';
import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import type { Storage } from '../base/storage.ts';
import { segmentOfName } from '../log/format.ts';
import { uuidOfSegments } from '../log/segment-summary.ts';
import { type LogBase, unsupported } from '../log/superblock.ts';
import { readSlots, type SuperblockSlot } from '../log/superblock-slots.ts';
import { LOCK_PATH } from '../volume/init-store.ts';

/** Says what is wrong, on standard error. */
export type Complain = (sentence: string) => void;

export interface DumpPlace {
  readonly storage: Storage;
  readonly slots: readonly SuperblockSlot[];
  /** Numbers of the segment files there are, in order. */
  readonly segments: readonly number[];
  /** Who has the store open; undefined if nobody has. */
  readonly owner: string | undefined;
}

/** A place whose log can be told from others. */
export interface LogToDump extends DumpPlace {
  readonly uuid: Buffer;
  readonly base: LogBase | undefined;
}

/** @throws NOT_A_STORE, IO */
export async function openPlace(directory: string, complain: Complain): Promise<DumpPlace> {
  const storage = new NodeStorage(directory);
  const slots = await readSlots(storage);
  const segments: number[] = [];
  for (const name of await storage.list('log')) {
    const segment = segmentOfName(name);
    if (segment !== undefined) segments.push(segment);
  }
  if (segments.length === 0 && slots.every(({ state }) => state === 'missing'))
    throw new StoreError('NOT_A_STORE', `${directory} holds no store; name one with --store`);
  if (!(await storage.list('.')).includes('log')) complain(`${directory} has no log/, where all data are`);
  const owner = OwnerLock.holderOf(path.join(directory, LOCK_PATH));
  if (owner !== undefined)
    complain(`the store is in use by ${owner}; what is printed may be in the middle of a change`);
  return { storage, slots, segments: segments.sort((a, b) => a - b), owner };
}

/** @throws CORRUPTION if nothing says which store this is, UNSUPPORTED_FORMAT */
export async function findLog(place: DumpPlace, complain: Complain): Promise<LogToDump> {
  const newer = place.slots.find(({ state }) => state === 'newer');
  if (newer !== undefined) throw unsupported(newer.revision);
  const block = place.slots.find(({ counts }) => counts)?.block;
  if (block !== undefined) return { ...place, uuid: block.uuid, base: block.base };
  const uuid = await uuidOfSegments(place.storage, place.segments);
  if (uuid === undefined) {
    const what = 'neither the superblock nor any segment says which store this is';
    throw new StoreError('CORRUPTION', `${what}; \`coppice dump superblock\` shows what is there`);
  }
  complain('both copies of the superblock are damaged; segments say which store this is');
  return { ...place, uuid, base: undefined };
}

export function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}

export function orDash(value: string | number | null): string {
  return value === null ? '-' : String(value);
}
