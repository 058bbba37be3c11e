/**
 * What guests write. Deterministic: the same seed makes the same requests. No I/O.
 *
 * Popular chunks are scattered over the volume by a fixed permutation, so that no load is helped by where they lie.
 */

import { CHUNK_BYTES } from '../../src/base/units.ts';
import { permutation, Random, Zipf } from './random.ts';

export const LOAD_NAMES = ['uniform', 'zipf', 'hot', 'vm'] as const;
export type LoadName = (typeof LOAD_NAMES)[number];

export interface GuestRequest {
  readonly kind: 'write' | 'trim';
  /** Chunks. */
  readonly first: number;
  readonly count: number;
}

/** Answers the next request of a load that never ends. */
export type NextRequest = () => GuestRequest;

/** The longest write of any load. */
export const WRITE_CHUNKS_MAX = 64;
const PERMUTATION_SEED = 20_110;

export function makeLoad(name: LoadName, chunks: number, seed: number): NextRequest {
  const random = new Random(seed);
  if (name === 'uniform') return () => oneChunk(random.below(chunks));
  const order = permutation(chunks, PERMUTATION_SEED);
  if (name === 'hot') return hot(order, random);
  const zipf = new Zipf(chunks);
  const popular = (): GuestRequest => oneChunk(order[zipf.pick(random)]!);
  return name === 'zipf' ? popular : virtualMachine(chunks, random, popular);
}

/** Of a volume that is filled: small enough for small segments to be filled to the end. */
const FILL_CHUNKS = 16;

/** All of a volume in order, once. */
export function inOrder(chunks: number): NextRequest {
  let at = 0;
  return () => {
    const first = at % chunks;
    const count = Math.min(FILL_CHUNKS, chunks - first);
    at = first + count;
    return { kind: 'write', first, count };
  };
}

function oneChunk(first: number): GuestRequest {
  return { kind: 'write', first, count: 1 };
}

/** Nine tenths of the writes go to a tenth of the chunks. */
function hot(order: Uint32Array, random: Random): NextRequest {
  const hotCount = Math.max(1, Math.floor(order.length / 10));
  return () => {
    const isHot = random.below(10) > 0;
    const at = isHot ? random.below(hotCount) : hotCount + random.below(order.length - hotCount);
    return oneChunk(order[at]!);
  };
}

/** Parts of a virtual machine's traffic: of a hundred bytes, how many; and the shortest and longest request in chunks. */
const PARTS = {
  popular: { share: 60, least: 1, most: 1 },
  run: { share: 20, least: 16, most: 64 },
  log: { share: 10, least: 1, most: 4 },
  trim: { share: 10, least: 16, most: 256 },
} as const;
type Part = keyof typeof PARTS;

/** Of the volume, what the log area takes, and its largest size. */
const LOG_SHARE = 1 / 128;
const LOG_CHUNKS_MAX = (16 << 20) / CHUNK_BYTES;
/** Of the volume, what is trimmed and not written again yet. */
const TRIMMED_SHARE = 1 / 50;
/** Chunks of a write that fills again what was trimmed. */
const REWRITE_CHUNKS = 32;

/**
 * Shares are of bytes: single popular chunks, files written in runs, a journal written round and round, and files that are
 * removed, whose room is written again in order once a fiftieth of the volume is trimmed.
 */
function virtualMachine(chunks: number, random: Random, popular: NextRequest): NextRequest {
  const logChunks = Math.max(PARTS.log.most, Math.min(LOG_CHUNKS_MAX, Math.floor(chunks * LOG_SHARE)));
  const parts = (Object.keys(PARTS) as Part[]).map((part) => {
    const { share, least, most } = PARTS[part];
    return { part, weight: share / ((least + most) / 2) };
  });
  const weights = parts.reduce((sum, { weight }) => sum + weight, 0);
  const pickPart = (): Part => {
    let left = random.unit() * weights;
    for (const { part, weight } of parts) {
      left -= weight;
      if (left < 0) return part;
    }
    return 'popular';
  };
  const trimmed: { first: number; count: number }[] = [];
  let trimmedChunks = 0;
  let logAt = 0;

  /** The next piece of what was trimmed first. */
  const rewrite = (): GuestRequest => {
    const oldest = trimmed[0]!;
    const { first } = oldest;
    const count = Math.min(REWRITE_CHUNKS, oldest.count);
    oldest.first += count;
    oldest.count -= count;
    if (oldest.count === 0) trimmed.shift();
    trimmedChunks -= count;
    return { kind: 'write', first, count };
  };

  return () => {
    if (trimmedChunks > chunks * TRIMMED_SHARE) return rewrite();
    const part = pickPart();
    if (part === 'popular') return popular();
    const { least, most } = PARTS[part];
    const count = random.between(least, most);
    if (part === 'log') {
      const first = logAt + count > logChunks ? 0 : logAt;
      logAt = first + count;
      return { kind: 'write', first, count };
    }
    const first = random.below(chunks - count + 1);
    if (part === 'run') return { kind: 'write', first, count };
    trimmed.push({ first, count });
    trimmedChunks += count;
    return { kind: 'trim', first, count };
  };
}
