/**
 * What is sent, from which base, and from where on: decided by who receives, of what who sends has. Pure.
 *
 *     offer {"volume": {"uuid", "name"}, "as": name at the other end, "target": {"uuid", "name"}, "have": [[UUID, bytes], ...]}
 *
 * UUIDs are those of the first store that had a version. `have` lists snapshots of who sends, oldest first: all that could be
 * a base, and all that could be sent. An unfinished receive of one of them goes on before anything newer is begun.
 *
 * Invariants: a base is one that both ends have, by UUID and size, and older than what is sent; nothing that is older than
 * what there is already is sent.
 */

import { StoreError } from '../base/errors.ts';
import { isUuid, type StreamHead } from '../delta/head.ts';
import { isName } from '../volume/names.ts';
import type { ReceiveSummary, VersionSummary } from '../volume/summary.ts';
import { garbled } from './messages.ts';

/** Snapshots that an offer lists: it has to fit into a message. */
export const HAVE_MAX = 2000;

export type OfferedVersion = Pick<StreamHead['target'], 'uuid' | 'name'>;

export interface Offer {
  readonly volume: { readonly uuid: string; readonly name: string };
  readonly as: string;
  readonly target: OfferedVersion;
  readonly have: readonly (readonly [uuid: string, size: number])[];
}

/** What who receives has of the volume, and of others. */
export interface Holdings {
  readonly volume: VersionSummary | undefined;
  /** Of the volume, oldest first. */
  readonly snapshots: readonly VersionSummary[];
  /** Where there is no volume: snapshots of others, below which a clone could be received. */
  readonly others: readonly VersionSummary[];
  /** Unfinished ones of this volume. */
  readonly receives: readonly ReceiveSummary[];
}

/** `there`: the other end has this one, which is as new as what is offered, or newer. */
export type Choice = (
  | { readonly there: string }
  | { readonly target: string; readonly base: string | null; readonly goesOn: ReceiveSummary | undefined }
) & {
  /** Receives that nobody can go on with. */
  readonly useless: readonly string[];
};

export const originOf = ({ origin, uuid }: VersionSummary): string => origin ?? uuid;

/** @throws CORRUPTION */
export function checkOffer(fields: Record<string, unknown>): Offer {
  const { volume, as, target, have } = fields as unknown as Offer;
  const isRight =
    isUuid(volume?.uuid) &&
    isNameOf(volume.name) &&
    isNameOf(as) &&
    isUuid(target?.uuid) &&
    isNameOf(target.name) &&
    Array.isArray(have) &&
    have.length <= HAVE_MAX &&
    have.every((each) => Array.isArray(each) && isUuid(each[0]) && Number.isSafeInteger(each[1])) &&
    have.some(([uuid]) => uuid === target.uuid);
  // The rest of `target` comes again in the head of the stream, and is judged there.
  if (!isRight) throw garbled('an offer lacks what belongs into one');
  return { volume: { uuid: volume.uuid, name: volume.name }, as, target, have };
}

/** UUIDs of what is to be sent, and from what. @throws WRONG_BASE if there is a volume, and nothing that both ends have */
export function choose({ target, have, as, volume }: Offer, holdings: Holdings): Choice {
  const { snapshots, others, receives } = holdings;
  const isNew = holdings.volume === undefined;
  const order = new Map(have.map(([uuid], i) => [uuid, i]));
  const sizes = new Map(have);
  const orderOf = (uuid: string): number => order.get(uuid) ?? -1;
  const offeredAt = orderOf(target.uuid);
  let common = '';
  for (const each of isNew ? others : snapshots) {
    const uuid = originOf(each);
    if (sizes.get(uuid) !== each.size || orderOf(uuid) <= orderOf(common)) continue;
    // What is there as a part of another volume is no reason to leave it out of this one.
    if (!isNew || orderOf(uuid) < offeredAt) common = uuid;
  }
  const allReceives = receives.map(({ receive }) => receive);
  if (!isNew && common === '')
    throw new StoreError(
      'WRONG_BASE',
      `${as} has no snapshot that ${volume.name} has too: receive it under another name, or delete ${as} and begin anew`,
    );
  const newestHere = isNew ? -1 : orderOf(common);
  if (newestHere >= offeredAt) return { there: common, useless: allReceives };
  const goesOn = receives.find(
    (each) =>
      !each.volumeGone &&
      orderOf(each.target) > newestHere &&
      (each.base === null ? isNew : sizes.has(each.base)),
  );
  const useless = allReceives.filter((each) => each !== goesOn?.receive);
  if (goesOn !== undefined) return { target: goesOn.target, base: goesOn.base, goesOn, useless };
  return { target: target.uuid, base: common === '' ? null : common, goesOn, useless };
}

/** The name for a snapshot that is received: its own, or if another one has that, with a part of its UUID. */
export function freeName(target: OfferedVersion, taken: readonly VersionSummary[]): string {
  const isTaken = taken.some(({ name }) => name.slice(name.indexOf('@') + 1) === target.name);
  return isTaken ? `${target.name.slice(0, 119)}-${target.uuid.slice(0, 8)}` : target.name;
}

const isNameOf = (value: unknown): value is string => typeof value === 'string' && isName(value);
