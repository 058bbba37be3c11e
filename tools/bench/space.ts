// How much of a file system a benchmark may take at once. No I/O.

import type { Load } from './loads.ts';
import type { Peer } from './peer.ts';
import { peersFor } from './rounds.ts';
import { type Sizes, STAGES, volumeBytesOf } from './stages.ts';

/** What a volume takes of its size, with what a log has beside it and what snapshots keep. */
const SHARE_OF_VOLUME = 2;
/** What is written behind a snapshot, or where nothing is compacted. */
const WRITTEN_BYTES_PER_SECOND = 250 * 2 ** 20;

/** Bytes of the stage that takes most. */
export function spaceNeeded(
  peers: readonly Peer[],
  loads: readonly Load[],
  { sizes, seconds, pacedSeconds }: { sizes: Sizes; seconds: number; pacedSeconds: number },
): number {
  const ofStages = STAGES.map((stage) => {
    const ofStage = loads.filter((load) => load.stage === stage.name);
    const count = peers.filter((peer) => ofStage.some((load) => peersFor([peer], load).length > 0)).length;
    const filled = ofStage.flatMap(({ work }) =>
      work.kind === 'fio' && work.places ? [work.places] : [],
    )[0];
    const share = filled === undefined ? 1 : filled.runBytes / filled.everyBytes;
    const volumes = count * stage.volumeCount * volumeBytesOf(stage, sizes) * share * SHARE_OF_VOLUME;
    const written = ofStage
      .filter(({ snapshots, paced }) => snapshots > 0 || paced === true)
      .reduce(
        (sum, { paced }) => sum + (paced === true ? pacedSeconds : seconds) * WRITTEN_BYTES_PER_SECOND,
        0,
      );
    return volumes + written;
  });
  return Math.max(...ofStages) + (loads.some(({ stage }) => stage === 'image') ? sizes.imageBytes : 0);
}
