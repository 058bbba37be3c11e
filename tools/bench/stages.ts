// What peers are made to be before loads run on them. No I/O.
//
// In every round each stage begins with new servers on empty directories, so that no load meets what another stage
// has left, and ends with all of it removed. Loads of one stage follow each other on the same volume.

import type { PeerName } from './peer.ts';

export const STAGE_NAMES = ['fresh', 'sparse', 'filled', 'four', 'paced', 'wide', 'image', 'guest'] as const;
export type StageName = (typeof STAGE_NAMES)[number];

export interface Stage {
  readonly name: StageName;
  readonly volumeCount: number;
  /** One volume more, on which the server meets the loads first: those that are measured stay untouched. */
  readonly hasSpare?: true;
  /** Which of the sizes that are asked for a volume has. */
  readonly size: 'volume' | 'quarter' | 'wide' | 'image' | 'guest';
  /** `whole` in order, `places` only those that loads of this stage use, `guest` the disk of a machine. */
  readonly fill: 'none' | 'whole' | 'places' | 'guest';
  readonly peers: readonly PeerName[];
}

const SERVERS = ['coppice', 'qemu-raw', 'qemu-qcow2', 'nbdkit-file'] as const;
const OTHERS = ['qcow2-chain-1', 'qcow2-chain-16', 'xfs-reflink', 'nbdkit-memory', 'nbdkit-null'] as const;

const DEFINITIONS: Record<StageName, Omit<Stage, 'name'>> = {
  fresh: { volumeCount: 1, hasSpare: true, size: 'volume', fill: 'none', peers: SERVERS },
  sparse: { volumeCount: 1, hasSpare: true, size: 'volume', fill: 'none', peers: SERVERS },
  filled: { volumeCount: 1, size: 'volume', fill: 'whole', peers: [...SERVERS, ...OTHERS, 'file'] },
  four: { volumeCount: 4, size: 'quarter', fill: 'whole', peers: ['coppice', 'qemu-raw', 'nbdkit-file'] },
  paced: {
    volumeCount: 1,
    size: 'volume',
    fill: 'whole',
    peers: ['coppice', 'coppice-uncompacted', 'qemu-raw'],
  },
  wide: {
    volumeCount: 1,
    size: 'wide',
    fill: 'places',
    peers: ['coppice-cache-1g', 'coppice-cache-16m', 'qcow2-cache-16m'],
  },
  image: { volumeCount: 1, size: 'image', fill: 'none', peers: ['coppice', 'file'] },
  guest: { volumeCount: 1, size: 'guest', fill: 'guest', peers: ['coppice', 'qemu-raw', 'file'] },
};

export const STAGES: readonly Stage[] = STAGE_NAMES.map((name) => ({ name, ...DEFINITIONS[name] }));

/** Of the peers that `--quick` measures. */
export const QUICK_PEERS: readonly PeerName[] = [...SERVERS, 'file'];

export interface Sizes {
  readonly volumeBytes: number;
  readonly wideBytes: number;
  readonly imageBytes: number;
}

export const GUEST_BYTES = 512 * 2 ** 20;

export function volumeBytesOf(stage: Stage, sizes: Sizes): number {
  switch (stage.size) {
    case 'volume':
      return sizes.volumeBytes;
    case 'quarter':
      return sizes.volumeBytes / stage.volumeCount;
    case 'wide':
      return sizes.wideBytes;
    case 'image':
      return sizes.imageBytes;
    case 'guest':
      return GUEST_BYTES;
  }
}
