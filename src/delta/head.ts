/**
 * The head of a stream: which version it makes, and of which. JSON, because it is read once, by people too, and gets new
 * fields without a new layout:
 *
 *     {"store": UUID, "volume": {"uuid", "name"}, "target": {"uuid", "name", "size", "created", "by"},
 *      "base": {"uuid", "name", "size"} or null, "position": bytes}
 *
 * UUIDs are those of the first store that had the version: a replica that is sent on keeps them. Times are milliseconds
 * since 1970, sizes bytes. A stream that goes on where another one was cut off has the position from which on it has
 * changes; others have 0. `by` is who made a snapshot that no person made, else it is missing. A name is at most 128 characters. Pure.
 */

import { StoreError } from '../base/errors.ts';
import { SECTOR_BYTES, SNAPSHOT_MAKERS, type SnapshotMaker, VOLUME_BYTES_MAX } from '../base/units.ts';
import { damaged, HEAD_BYTES_MAX, isSectors } from './format.ts';

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const NAME = /^[A-Za-z0-9._-]{1,128}$/;
const TIME_MS_MAX = 8.64e15;

export interface StreamVersion {
  readonly uuid: string;
  /** Of the snapshot, without its volume. */
  readonly name: string;
  readonly size: number;
}

export interface StreamHead {
  /** Who sends it. */
  readonly store: string;
  readonly volume: { readonly uuid: string; readonly name: string };
  readonly target: StreamVersion & { readonly created: number; readonly by?: SnapshotMaker };
  readonly base: StreamVersion | null;
  readonly position: number;
}

export function encodeHead(head: StreamHead): Buffer {
  const { store, volume, target, base, position } = head;
  return Buffer.from(JSON.stringify({ store, volume, target, base, position }));
}

/** @throws CORRUPTION */
export function decodeHead(body: Buffer): StreamHead {
  if (body.length > HEAD_BYTES_MAX) throw damaged('its head is too long');
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    throw damaged('its head is no JSON');
  }
  return checkHead(value);
}

/** A head with nothing but what belongs into one. @throws CORRUPTION */
export function checkHead(value: unknown): StreamHead {
  const head = fields(value);
  const volume = fields(head.volume);
  const target = fields(head.target);
  const { created, by } = target;
  if (!isWhole(created) || created > TIME_MS_MAX) throw damaged('its head has no time');
  if (by !== undefined && !isMaker(by)) throw damaged('its head does not say who made it');
  const base = head.base === null ? null : versionOf(fields(head.base));
  const checked = {
    store: uuidOf(head.store),
    volume: { uuid: uuidOf(volume.uuid), name: nameOf(volume.name) },
    target: { ...versionOf(target), created, ...(by === undefined ? {} : { by }) },
    base,
    position: head.position,
  };
  if (!isPosition(checked.position, checked.target.size)) throw damaged('its head has no position');
  return { ...checked, position: checked.position };
}

export function isUuid(text: unknown): text is string {
  return typeof text === 'string' && UUID.test(text);
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  throw damaged('its head lacks what belongs into one');
}

function versionOf(value: Record<string, unknown>): StreamVersion {
  const { size } = value;
  if (!isWhole(size) || size < SECTOR_BYTES || size > VOLUME_BYTES_MAX || size % SECTOR_BYTES !== 0)
    throw damaged('its head has a size that no disk can have');
  return { uuid: uuidOf(value.uuid), name: nameOf(value.name), size };
}

function uuidOf(value: unknown): string {
  if (isUuid(value)) return value;
  throw damaged('its head has a UUID that is none');
}

function nameOf(value: unknown): string {
  if (typeof value === 'string' && NAME.test(value)) return value;
  throw damaged('its head has a name that is none');
}

function isMaker(value: unknown): value is SnapshotMaker {
  return SNAPSHOT_MAKERS.some((each) => each === value);
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function isPosition(value: unknown, size: number): value is number {
  return isWhole(value) && isSectors(value) && value <= size;
}

/** Where a receive stands, in a word that survives any shell: what, from what, and how far it is there. */
export function encodeToken(target: string, base: string | null, position: number): string {
  return `${target}:${base ?? 'nothing'}:${position}`;
}

/** @throws INVALID_ARGUMENT */
export function decodeToken(token: string): { target: string; base: string | null; position: number } {
  const [target, base, position = '', ...rest] = token.split(':');
  const isRight = isUuid(target) && (base === 'nothing' || isUuid(base)) && /^\d{1,15}$/.test(position);
  if (!isRight || rest.length > 0 || !isSectors(Number(position)))
    throw new StoreError(
      'INVALID_ARGUMENT',
      'that is no token; `coppice receive --status` of the store that receives shows it',
    );
  return { target, base: base === 'nothing' ? null : base!, position: Number(position) };
}
