/**
 * One stream of two that follow each other: of A to B and B to C, A to C, without what B had and C has written over. Pure.
 *
 * Invariants: memory is bounded by a frame of each; extents are in order. What C has is taken from the second stream where
 * it says anything, and from the first elsewhere. Where B was shorter than A, what A had behind that end is gone: it reads
 * as zeros in C, if C is longer again.
 */

import { StoreError } from '../base/errors.ts';
import {
  buildChanges,
  type BuiltChanges,
  type Changes,
  ChangesPlan,
  type Extent,
  joined,
} from './changes.ts';
import type { StreamHead } from './head.ts';
import type { Frame } from './stream-reader.ts';

/** A run of a disk with its bytes, which zeros have none of. */
interface Piece extends Extent {
  readonly bytes: Buffer | undefined;
}

/** The frames of a stream behind its head. */
export type Frames = AsyncIterator<Frame, unknown>;

/** @throws INVALID_ARGUMENT if the second does not go on where the first ends */
export function composedHead(first: StreamHead, second: StreamHead): StreamHead {
  if (second.base?.uuid !== first.target.uuid) {
    const base = second.base === null ? 'is of a whole version' : `builds on ${second.base.name}`;
    throw new StoreError(
      'INVALID_ARGUMENT',
      `the second stream ${base}, and the first ends with ${first.target.name}; give them in their order`,
    );
  }
  if (first.position > 0 || second.position > 0)
    throw new StoreError(
      'INVALID_ARGUMENT',
      'one of them goes on where another was cut off; only whole streams can be put together',
    );
  return { ...second, base: first.base };
}

/** The bodies of changes of the composed stream. */
export async function* composedBodies(
  heads: readonly [StreamHead, StreamHead],
  frames: readonly [Frames, Frames],
): AsyncGenerator<BuiltChanges> {
  const [first, second] = heads;
  const before = clipped(withCut(pieces(frames[0]), first), second.target.size);
  const hasBase = first.base !== null;
  let plan = new ChangesPlan();
  let payload: Buffer[] = [];
  const body = (): BuiltChanges | undefined => buildChanges(plan, joined(payload, plan.dataBytes), hasBase);
  for await (const piece of overlaid(before, pieces(frames[1]))) {
    for (let done = 0; done < piece.length; ) {
      if (plan.isFull) {
        const whole = body();
        if (whole !== undefined) yield whole;
        [plan, payload] = [new ChangesPlan(), []];
      }
      const { offset, length, zeros, bytes } = piece;
      const taken = plan.take({ offset: offset + done, length: length - done, zeros });
      if (bytes !== undefined) payload.push(bytes.subarray(done, done + taken));
      done += taken;
    }
  }
  const last = plan.extents.length === 0 ? undefined : body();
  if (last !== undefined) yield last;
}

async function* pieces(frames: Frames): AsyncGenerator<Piece> {
  for (let next = await frames.next(); next.done !== true; next = await frames.next())
    if (next.value.kind === 'changes') yield* piecesOf(next.value.changes);
}

export function* piecesOf(changes: Changes): Generator<Piece> {
  let at = changes.payloadStart;
  for (let i = 0; i < changes.count; i++) {
    const [offset, length, zeros] = [changes.offset(i), changes.length(i), changes.isZeros(i)];
    yield { offset, length, zeros, bytes: zeros ? undefined : changes.body.subarray(at, at + length) };
    if (!zeros) at += length;
  }
}

/** What a shorter version has cut off of its base, behind all that it has itself. */
async function* withCut(all: AsyncGenerator<Piece>, { base, target }: StreamHead): AsyncGenerator<Piece> {
  yield* all;
  const length = (base?.size ?? 0) - target.size;
  if (length > 0) yield { offset: target.size, length, zeros: true, bytes: undefined };
}

async function* clipped(all: AsyncGenerator<Piece>, end: number): AsyncGenerator<Piece> {
  for await (const piece of all)
    if (piece.offset < end) yield part(piece, piece.offset, Math.min(end, endOf(piece)));
}

/** `above` where there is any, `below` elsewhere; both in order. */
async function* overlaid(below: AsyncGenerator<Piece>, above: AsyncGenerator<Piece>): AsyncGenerator<Piece> {
  let low = await taken(below);
  let high = await taken(above);
  while (low !== undefined || high !== undefined) {
    if (high === undefined || (low !== undefined && endOf(low) <= high.offset)) {
      yield low!;
      low = await taken(below);
    } else if (low !== undefined && low.offset < high.offset) {
      yield part(low, low.offset, high.offset);
      low = part(low, high.offset, endOf(low));
    } else {
      yield high;
      const end = endOf(high);
      while (low !== undefined && endOf(low) <= end) low = await taken(below);
      if (low !== undefined && low.offset < end) low = part(low, end, endOf(low));
      high = await taken(above);
    }
  }
}

async function taken(pieces: AsyncGenerator<Piece>): Promise<Piece | undefined> {
  const next = await pieces.next();
  return next.done === true ? undefined : next.value;
}

const endOf = ({ offset, length }: Piece): number => offset + length;

function part({ offset, zeros, bytes }: Piece, start: number, end: number): Piece {
  return { offset: start, length: end - start, zeros, bytes: bytes?.subarray(start - offset, end - offset) };
}
