/**
 * `coppice send`: a snapshot as a stream on standard output, whole or as what differs from another one (delta/format.ts).
 *
 * Invariants: what is sent is frozen, so a stream that was cut off goes on with the same bytes. A reader that goes away is an
 * error: it did not get all.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Writable } from 'node:stream';
import { StoreError } from '../base/errors.ts';
import { Rate } from '../base/rate.ts';
import { decodeToken, type StreamHead, type StreamVersion } from '../delta/head.ts';
import { StreamWriter } from '../delta/stream-writer.ts';
import type { Disk, Door } from '../server/door.ts';
import type { VersionSummary } from '../volume/summary.ts';
import type { Extent } from '../delta/changes.ts';
import { bodiesOf, bodyBuffers, extentsOf, fromPosition, storedExtents } from '../volume/changes-source.ts';
import { InFlight } from '../base/in-flight.ts';
import { type HashFile, openHashFile } from './hash-file.ts';
import { differingExtents } from './hashed-blocks.ts';
import { Progress } from './progress.ts';
import { writeAll } from './standard-output.ts';

const CONSEQUENCE = 'the stream is not complete';

export interface SendRequest {
  /** VOLUME@NAME, or a token of `receive --status`. */
  readonly what: { readonly name: string; readonly from: string | undefined } | { readonly token: string };
  /** A file of `coppice hashes`: what the receiver has. Requires: no `from`. */
  readonly resync?: string | undefined;
  readonly isCompressed: boolean;
  readonly bytesPerSecond: number | undefined;
}

interface Versions {
  readonly target: VersionSummary;
  readonly base: VersionSummary | HashFile | null;
  readonly position: number;
}

export async function sendStream(
  door: Door,
  { what, resync, isCompressed, bytesPerSecond }: SendRequest,
  stream: Writable,
  signal: AbortSignal,
): Promise<void> {
  const hashes = resync === undefined ? undefined : await openHashFile(resync);
  const versions =
    'token' in what ? await ofToken(door, what.token, hashes) : await ofNames(door, what, hashes);
  const { target, base } = versions;
  const head = await headOf(door, versions);
  const disk = await door.disk(target.name);
  const extents = (): AsyncGenerator<Extent> => extentsToSend(door, disk, versions);
  const pace = bytesPerSecond === undefined ? undefined : new Rate(bytesPerSecond);
  const writes = new InFlight(1);
  const write = async (slices: Buffer[], written?: () => void): Promise<void> => {
    signal.throwIfAborted();
    let bytes = 0;
    for (const slice of slices) bytes += slice.length;
    const waitMs = pace?.take(bytes, performance.now()) ?? 0;
    if (waitMs > 0) await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    // The next frame is made while this one is written.
    await writes.add(async () => {
      await writeAll(stream, slices, CONSEQUENCE);
      written?.();
    });
  };
  const progress = new Progress(`send ${target.name}`, await bytesToSend(base, extents));
  try {
    const writer = new StreamWriter();
    await write(writer.begin(head));
    const bodies = bodiesOf(extents(), disk, base !== null, isCompressed, bodyBuffers());
    for await (const { extentBytes, body, sent } of bodies) {
      if (body === undefined) sent();
      else await write(writer.changes(body), sent);
      progress.add(extentBytes);
    }
    await write(writer.end());
    await writes.settle();
  } finally {
    progress.end();
    disk.release();
  }
}

function extentsToSend(door: Door, disk: Disk, { target, base, position }: Versions): AsyncGenerator<Extent> {
  const sent = { target: target.name, size: target.size, position };
  if (base === null || !('blocks' in base))
    return extentsOf(door, disk, { ...sent, base: base?.name ?? null });
  const stored = storedExtents(disk, position);
  return fromPosition(differingExtents(disk, stored, base.blocks, base.head.target.size, position), sent);
}

/** For who looks on: what there is to send takes a moment to count. */
async function bytesToSend(
  base: Versions['base'],
  extents: () => AsyncGenerator<Extent>,
): Promise<number | undefined> {
  // Hashes are read once.
  if (!process.stderr.isTTY || (base !== null && 'blocks' in base)) return undefined;
  let bytes = 0;
  for await (const { length } of extents()) bytes += length;
  return bytes;
}

export async function headOf(door: Door, { target, base, position }: Versions): Promise<StreamHead> {
  const volume = await door.show(target.name.split('@')[0]!);
  const created = Date.parse(target.created);
  const by = target.madeBy === null ? {} : { by: target.madeBy };
  return {
    store: (await door.status({ atCheckpoint: true })).uuid,
    volume: { uuid: originOf(volume), name: volume.name },
    target: { ...streamVersion(target), created, ...by },
    base: base === null ? null : streamVersion(base),
    position,
  };
}

function streamVersion(version: VersionSummary | HashFile): StreamVersion {
  if ('blocks' in version) {
    const { uuid, name, size } = version.head.target;
    return { uuid, name, size };
  }
  return { uuid: originOf(version), name: version.name.split('@')[1]!, size: version.size };
}

function originOf({ origin, uuid }: VersionSummary): string {
  return origin ?? uuid;
}

async function ofNames(
  door: Door,
  { name, from }: { name: string; from: string | undefined },
  hashes: HashFile | undefined,
): Promise<Versions> {
  const target = await snapshotOf(door, name);
  if (hashes !== undefined) {
    if (hashes.head.target.uuid !== originOf(target)) return { target, base: hashes, position: 0 };
    throw new StoreError('INVALID_ARGUMENT', `the hashes are of ${name} itself: nothing has to be sent`);
  }
  // `@monday` is one of the same volume.
  const baseName = from?.startsWith('@') === true ? `${name.split('@')[0]}${from}` : from;
  const base = baseName === undefined ? null : await snapshotOf(door, baseName);
  if (base !== null && originOf(base) === originOf(target))
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${name} does not differ from itself; name another base with --from`,
    );
  return { target, base, position: 0 };
}

/** @throws NOT_FOUND, INVALID_ARGUMENT for a volume */
export async function snapshotOf(door: Door, name: string): Promise<VersionSummary> {
  const version = await door.show(name);
  if (version.kind === 'snapshot') return version;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `'${name}' is a volume, which changes; make a snapshot of it and send that: VOLUME@NAME`,
  );
}

async function ofToken(door: Door, token: string, hashes: HashFile | undefined): Promise<Versions> {
  const { target, base, position } = decodeToken(token);
  const all = (await door.list()).filter(({ kind }) => kind === 'snapshot');
  const find = (uuid: string): VersionSummary => {
    const found = all.find((version) => originOf(version) === uuid);
    if (found !== undefined) return found;
    throw new StoreError(
      'NOT_FOUND',
      `this store has no snapshot ${uuid}; if what is gone on with was sent with --resync, give that file once more, ` +
        'else send another one, and end that receive with --abort',
    );
  };
  if (hashes !== undefined && hashes.head.target.uuid !== base)
    throw new StoreError('INVALID_ARGUMENT', 'the token and the hashes are of two different bases');
  const found = { target: find(target), base: hashes ?? (base === null ? null : find(base)), position };
  if (position <= found.target.size) return found;
  throw new StoreError('INVALID_ARGUMENT', 'the token is of a longer disk than this store has');
}
