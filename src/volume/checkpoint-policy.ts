/**
 * When a checkpoint of the index begins. Pure.
 *
 * Early enough that memory and replay stay small, late enough that LevelDB writes little: the fewer checkpoints, the
 * more changes of a region share a row.
 */

import type { Overlay } from '../index/overlay.ts';

/** Changes in memory at which a checkpoint begins. */
export const OVERLAY_BYTES_MAX = 48 << 20;
/** Log behind the checkpoint at which one begins: bounds replay. */
export const REPLAY_BYTES_MAX = 2 ** 31;
/** Changes that lie so close together that a checkpoint of them costs next to nothing: it begins early then. */
const DENSE_POINTERS = 32_768;
const DENSE_POINTERS_PER_REGION = 64;

/** True if what is behind the last checkpoint is enough for the next. */
export function isCheckpointDue(overlay: Overlay, replayBytes: number): boolean {
  const { pointerCount, regionCount, usedBytes } = overlay;
  if (pointerCount >= DENSE_POINTERS && pointerCount >= DENSE_POINTERS_PER_REGION * regionCount) return true;
  return usedBytes >= OVERLAY_BYTES_MAX || replayBytes >= REPLAY_BYTES_MAX;
}
