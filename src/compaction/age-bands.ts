/**
 * Which moved chunks share a segment, by how long they have not been written over. Pure.
 *
 * In the order of age they are cut into bands of a segment each, about as long as each other. Where ages go up by a step a band ends
 * too, if it is long enough: what is four times as old is likely to live four times as long, and next to something younger it
 * would be copied each time that goes (SepBIT, Wang and others 2022, who have such steps for chunks that survived).
 */

import { byDisk, type ChunkArrays, orderOf } from './chunk-list.ts';
import { bandCountOf, BESIDE_BYTES, MOVED_CHUNK_BYTES } from './moved-size.ts';

/** Between one age and the next. */
const AGE_STEP = 4;
/** Of a segment, what chunks of an age fill at least to have bands of their own. */
const BAND_SHARE_MIN = 1 / 4;

export interface Ages {
  /** Of the segment that each chunk comes from: higher is younger. */
  readonly ages: Float64Array;
  /** That of what would be written now. */
  readonly now: number;
  /** How often a band may begin for the age alone: each takes some room. */
  readonly cutsMax: number;
}

/** Positions of the chunks, in bands that share a segment, each in the order of the disk; the oldest first. */
export function ageBands(moved: ChunkArrays, ages: Ages, segmentBytes: number): Uint32Array[] {
  const count = moved.labels.length;
  const inDisk = byDisk(moved);
  const byAge = orderOf(count, (a, b) => ages.ages[a]! - ages.ages[b]! || inDisk(a, b));
  const bands: Uint32Array[] = [];
  let from = 0;
  for (const to of [...cutsOf(byAge, ages, segmentBytes), count]) {
    const bandCount = bandCountOf(to - from, segmentBytes);
    for (let band = 0; band < bandCount; band++) {
      const begin = from + Math.floor(((to - from) * band) / bandCount);
      const end = from + Math.floor(((to - from) * (band + 1)) / bandCount);
      bands.push(byAge.subarray(begin, end).sort(inDisk));
    }
    from = to;
  }
  return bands;
}

/** Positions in `byAge` at which chunks begin that are younger by a step. What is too little for a band goes with what is older. */
function cutsOf(byAge: Uint32Array, { ages, now, cutsMax }: Ages, segmentBytes: number): number[] {
  const countMin = Math.ceil((BAND_SHARE_MIN * (segmentBytes - BESIDE_BYTES)) / MOVED_CHUNK_BYTES);
  const stepOf = (at: number): number =>
    Math.floor(Math.log(Math.max(1, now - ages[byAge[at]!]!)) / Math.log(AGE_STEP));
  const cuts: number[] = [];
  let end = byAge.length;
  // The oldest get none of their own unless they are enough.
  for (let at = byAge.length - 1; at >= countMin && cuts.length < cutsMax; at--) {
    if (end - at < countMin || stepOf(at - 1) === stepOf(at)) continue;
    cuts.unshift(at);
    end = at;
  }
  return cuts;
}
