/**
 * When a checkpoint of the index begins, and when writes wait for one. Pure.
 *
 * Late, so that LevelDB writes little: the more changes of a region come together, the fewer rows there are. But what is
 * behind the checkpoint is held in memory, and is read again when the store is opened after a crash: about 2 us a
 * pointer. The longest replay is POINTERS_MAX and what came while they were being committed, POINTERS_BESIDE_MAX.
 */

import type { Overlay } from '../index/overlay.ts';

/** Changes in memory at which a checkpoint begins. */
export const OVERLAY_BYTES_MAX = 48 << 20;
/** And in the memory of a rebuild, which nobody waits for but to be done: rows that are written once need not be read. */
export const REBUILD_OVERLAY_BYTES_MAX = 96 << 20;
/** Pointers at which one begins: 512 MiB of log, if all of it is data. */
export const POINTERS_MAX = 2 ** 17;
/** Log behind the checkpoint at which one begins, whatever it holds. */
const REPLAY_BYTES_MAX = 2 ** 31;
/** Changes that lie so close together that a checkpoint of them costs next to nothing: it begins early then. */
const DENSE_POINTERS = 32_768;
const DENSE_POINTERS_PER_REGION = 64;

/** Pointers that may come while a checkpoint is being written; then writes wait for its end. */
export const POINTERS_BESIDE_MAX = 2 ** 16;
/** Memory at which they wait for whatever keeps a checkpoint from beginning: a rebuild, a check. */
const OVERLAY_BYTES_LIMIT = 128 << 20;

/** True if what is behind the last checkpoint is enough for the next. */
export function isCheckpointDue(overlay: Overlay, replayBytes: number): boolean {
  const { pointerCount, regionCount, usedBytes } = overlay;
  if (pointerCount >= DENSE_POINTERS && pointerCount >= DENSE_POINTERS_PER_REGION * regionCount) return true;
  return pointerCount >= POINTERS_MAX || usedBytes >= OVERLAY_BYTES_MAX || replayBytes >= REPLAY_BYTES_MAX;
}

/** True if the overlay may take more; `beside` says whether another one is being committed. */
export function hasRoom(overlay: Overlay, beside: boolean): boolean {
  if (beside && overlay.pointerCount >= POINTERS_BESIDE_MAX) return false;
  return overlay.usedBytes < OVERLAY_BYTES_LIMIT;
}
