// Requests that fio cannot be told to make, in its iolog version 2: flushes at their places in a queue, and random ones to
// the written parts of a volume. The same seed makes the same requests. No I/O.

import { Random } from '../compaction/random.ts';
import type { FioWork, Places } from './loads.ts';

const HEAD = 'fio version 2 iolog\nnbd add\nnbd open\n';
const TAIL = 'nbd close\n';
/** Lines that are made at once. */
const PIECE_LINES = 10_000;

export function isReplayed(work: FioWork): boolean {
  return work.places !== undefined || (work.flushEvery > 0 && work.depth > 1);
}

/** The requests of a load, in pieces of text. */
export function* replayLog(
  work: FioWork,
  volumeBytes: number,
  requests: number,
  seed: number,
): Generator<string> {
  const { blockBytes, flushEvery, places } = work;
  const next =
    places === undefined
      ? anywhere(volumeBytes, blockBytes, seed)
      : someOf(places, volumeBytes, blockBytes, seed);
  const action = work.rw === 'randread' ? 'read' : 'write';
  yield HEAD;
  let lines: string[] = [];
  for (let request = 1; request <= requests; request++) {
    lines.push(`nbd ${action} ${next()} ${blockBytes}\n`);
    if (flushEvery > 0 && request % flushEvery === 0) lines.push('nbd sync 0 0\n');
    if (lines.length < PIECE_LINES) continue;
    yield lines.join('');
    lines = [];
  }
  yield lines.join('') + TAIL;
}

/** One request at the beginning of each stretch, in order: `runBytes` written, or a block read. */
export function* sweepLog(
  action: 'read' | 'write',
  places: Places,
  volumeBytes: number,
  bytes: number,
): Generator<string> {
  yield HEAD;
  for (let at = 0; at + bytes <= volumeBytes; at += places.everyBytes) yield `nbd ${action} ${at} ${bytes}\n`;
  yield TAIL;
}

function anywhere(volumeBytes: number, blockBytes: number, seed: number): () => number {
  const random = new Random(seed);
  const blocks = Math.floor(volumeBytes / blockBytes);
  return () => random.below(blocks) * blockBytes;
}

function someOf(places: Places, volumeBytes: number, blockBytes: number, seed: number): () => number {
  const random = new Random(seed);
  const stretches = Math.floor(volumeBytes / places.everyBytes);
  const blocks = places.runBytes / blockBytes;
  const hotStretches = places.hot === undefined ? stretches : Math.ceil(stretches * places.hot.stretches);
  const hotRequests = places.hot?.requests ?? 1;
  return () => {
    const isHot = hotStretches === stretches || random.unit() < hotRequests;
    const stretch = isHot
      ? random.below(hotStretches)
      : hotStretches + random.below(stretches - hotStretches);
    return stretch * places.everyBytes + random.below(blocks) * blockBytes;
  };
}
