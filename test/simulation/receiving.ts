/**
 * A client that receives: it begins below a snapshot or below nothing, or goes on with what another life has begun, writes
 * some extents in order, and keeps how far it is, publishes, ends it, or leaves it.
 *
 * Like a stream it has the same frames each time: what comes behind the position that it goes on from is sent again, so that
 * nothing of a frame that failed is unsure any more when the version can be read.
 */

import { randomUUID } from 'node:crypto';
import { hasCode } from '../../src/base/errors.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { StreamHead } from '../../src/delta/head.ts';
import type { Change } from '../../src/volume/change.ts';
import { bodyOf, type TestExtent } from '../delta/streams.ts';
import type { Attempt, Surroundings } from './clients.ts';
import type { Version } from './versions.ts';

/** What another client may have done meanwhile: deleted, received, or taken over. */
const OVERTAKEN = ['WRONG_BASE', 'IN_USE', 'ALREADY_EXISTS', 'NOT_FOUND', 'CLOSED'] as const;

const RECEIVES_MAX = 4;

export async function receive(
  of: Surroundings,
  attempt: Attempt,
  bases: readonly Version[],
  newName: string,
): Promise<void> {
  const { store, oracle, random, marks } = of;
  const unlessOvertaken: Attempt = async (ask) => {
    let isOvertaken = false;
    const isDone = await attempt(async () => {
      await ask().catch((error: unknown) => {
        if (!OVERTAKEN.some((code) => hasCode(error, code))) throw error;
        isOvertaken = true;
      });
    });
    return isDone && !isOvertaken;
  };
  const answered = (isIt: (change: Change) => boolean, what: string): void => {
    oracle.flushed = Math.max(oracle.flushed, oracle.changed(isIt, what));
  };
  const planned = goOn(of) ?? plan(of, bases, newName);
  if (planned === undefined) return;
  const { head, name } = planned;
  let session = '';
  const isBegun = await unlessOvertaken(async () => {
    const begun = await store.receives.begin(head, name);
    if (begun.state === 'begun') ({ session } = begun);
  });
  const uuid = store.receives.list().find(({ target }) => target === head.target.uuid)?.receive;
  if (!isBegun || session === '' || uuid === undefined) return;
  if (head.position > 0) marks.hit('receive gone on with');
  let at = head.position;
  const frames = framesOf(oracle, uuid);
  const again = frames.filter((extents) => endOf(extents) > at);
  const anew = random.between(0, 3);
  for (let i = 0; i < again.length + anew; i++) {
    const extents = again[i] ?? makeFrame(of, at, head.target.size);
    if (extents.length === 0) continue;
    if (i >= again.length) frames.push(extents);
    if (!(await takeFrame(of, unlessOvertaken, { uuid, session, extents }))) return;
    at = endOf(extents);
    if (!random.chance(40)) continue;
    const before = store.receives.list().find(({ receive: each }) => each === uuid)?.position ?? at;
    if (at <= before || !(await unlessOvertaken(() => store.receives.advance(session, at)))) continue;
    answered((change) => change.op === 'received' && change.receive === uuid, `position of ${name}`);
  }
  if (random.chance(30)) return;
  if (random.chance(15)) {
    if (!(await unlessOvertaken(() => store.receives.abort(uuid)))) return;
    oracle.changed((change) => change.op === 'abort' && change.receive === uuid, `end of ${name}`);
    marks.hit('receive ended');
  } else if (await unlessOvertaken(() => store.receives.publish(session))) {
    answered((change) => change.op === 'publish' && change.receive === uuid, `receive of ${name}`);
    marks.hit('receive published');
  }
}

interface Planned {
  head: StreamHead;
  name: string;
}

/** One that was begun, from anywhere up to where it is known to be. Of one that may not be there nobody knows. */
function goOn({ store, oracle, random }: Surroundings): Planned | undefined {
  const waiting = store.receives.list().filter(({ receive: uuid }) => oracle.live.heads.has(uuid));
  if (waiting.length === 0 || (waiting.length < RECEIVES_MAX && random.chance(50))) return undefined;
  const { name, target, base, size, position } = random.pick(waiting);
  const [volume, snapshot] = name.split('@') as [string, string];
  const replica = store.list().find((version) => version.name === volume);
  const head = {
    store: randomUUID(),
    volume: { uuid: replica?.origin ?? replica?.uuid ?? randomUUID(), name: volume },
    target: { uuid: target, name: snapshot, size, created: 0 },
    base: base === null ? null : { uuid: base, name: 'base', size },
    position: random.pick([0, position]),
  };
  return { head, name };
}

/** A new volume, or what a replica is to become. Nothing is cut off: so all that is written is what was asked for. */
function plan(of: Surroundings, bases: readonly Version[], newName: string): Planned | undefined {
  const { store, oracle, random, profile } = of;
  if (oracle.live.byLabel.size >= profile.versionsMax) return undefined;
  const versions = store.list();
  const replicas = versions.filter(({ replica }) => replica);
  const base = bases.length > 0 && random.chance(70) ? random.pick(bases) : undefined;
  const into =
    base !== undefined && replicas.length > 0 && random.chance(50) ? random.pick(replicas) : undefined;
  if (into === undefined && oracle.live.heads.size > profile.volumesMax + 1) return undefined;
  const found = versions.find(({ name }) => name === base?.name);
  if (base !== undefined && found === undefined) return undefined;
  const size = found?.size ?? profile.volumeChunks * CHUNK_BYTES;
  const volume = into?.name ?? newName;
  const head = {
    store: randomUUID(),
    volume: { uuid: into?.origin ?? into?.uuid ?? randomUUID(), name: volume },
    target: { uuid: randomUUID(), name: newName, size, created: 0 },
    base: found === undefined ? null : { uuid: found.origin ?? found.uuid, name: 'base', size },
    position: 0,
  };
  return { head, name: `${volume}@${newName}` };
}

/** Those that any life has sent, in order. */
function framesOf({ frames }: Surroundings['oracle'], uuid: string): TestExtent[][] {
  const found = frames.get(uuid) ?? [];
  frames.set(uuid, found);
  return found;
}

function endOf(extents: readonly TestExtent[]): number {
  const { offset, bytes } = extents.at(-1)!;
  return offset + bytes.length;
}

/** Some extents behind `at`; none at the end. */
function makeFrame({ random, profile }: Surroundings, at: number, size: number): TestExtent[] {
  const extents: TestExtent[] = [];
  // Together: a frame has neighbours as one extent, and the smallest segments have no room for a larger write.
  let chunksLeft = profile.writeChunksMax;
  let end = Math.ceil(at / CHUNK_BYTES) * CHUNK_BYTES;
  for (let left = random.between(1, 3); left > 0 && chunksLeft > 0 && end < size; left--) {
    const offset = end + CHUNK_BYTES * random.below(3);
    if (offset >= size) break;
    const count = random.between(1, chunksLeft);
    chunksLeft -= count;
    const length = Math.min(size - offset, CHUNK_BYTES * count);
    const zeros = random.chance(20);
    end = offset + length;
    extents.push({ offset, bytes: zeros ? Buffer.alloc(length) : random.bytes(length), zeros });
  }
  return extents;
}

/** Answers whether they were taken. */
async function takeFrame(
  { oracle, store }: Surroundings,
  attempt: Attempt,
  { uuid, session, extents }: { uuid: string; session: string; extents: TestExtent[] },
): Promise<boolean> {
  for (const { offset, bytes, zeros } of extents) {
    const last = Math.ceil((offset + bytes.length) / CHUNK_BYTES) - 1;
    if (zeros && oracle.isZeroing(uuid, offset / CHUNK_BYTES, last)) return false;
  }
  const asked = extents.map(({ offset, bytes, zeros }) =>
    oracle.beginWrite(uuid, offset, bytes.length, zeros ? undefined : bytes),
  );
  const isTaken = await attempt(() => store.receives.apply(session, bodyOf(extents)));
  for (const write of asked) oracle.endWrite(write, isTaken, false);
  return isTaken;
}
