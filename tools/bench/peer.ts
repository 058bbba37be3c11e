// What is measured: a server that a user could pick, or a limit to hold it against. No I/O.

export const PEER_NAMES = [
  'coppice',
  'qemu-raw',
  'qemu-qcow2',
  'qcow2-chain-1',
  'qcow2-chain-16',
  'xfs-reflink',
  'nbdkit-file',
  'nbdkit-memory',
  'nbdkit-null',
  'file',
  'coppice-uncompacted',
  'coppice-cache-1g',
  'coppice-cache-16m',
  'qcow2-cache-16m',
] as const;
export type PeerName = (typeof PEER_NAMES)[number];

/** Where a peer keeps what it serves: a directory that is empty and its own. */
export interface Place {
  readonly directory: string;
  readonly volumeBytes: number;
  readonly volumeCount: number;
}

/** What a client reads and writes. */
export type Target =
  | { readonly kind: 'nbd'; readonly uri: string }
  | { readonly kind: 'file'; readonly path: string };

/** A peer at work. */
export interface Server {
  /** One for each volume. */
  readonly targets: readonly Target[];
  /** Its processes; none if clients work on files themselves. */
  readonly pids: readonly number[];
  /** A directory of the file system that its files are on. */
  readonly home: string;
  /** Of the first volume. */
  snapshot(name: string): Promise<void>;
  /** Makes the first volume what is in a raw image, as far as that reaches, and syncs it. */
  importImage(image: string): Promise<void>;
  /** Writes the first volume to a file that is not there, and syncs that. */
  exportImage(file: string): Promise<void>;
  /** A disk with the content of the first volume, for a machine to write to; without clones it is the volume itself. */
  branch(name: string): Promise<Target>;
  /** @throws when it had to be killed */
  stop(): Promise<void>;
}

export interface Peer {
  readonly name: PeerName;
  readonly title: string;
  /** What has to be in PATH, besides fio. */
  readonly tools: readonly string[];
  /** Snapshots that it is measured at, at most. */
  readonly snapshotsMax: number;
  /** Taken once the volume is filled, with some writes behind each. */
  readonly snapshotsAtStart: number;
  /** False for those that forget what is written. */
  readonly keepsBytes: boolean;
  /** Measured at the pace of this one, whose settings it has but for one. */
  readonly variantOf?: PeerName;
  /** Says in one line what else is missing for it to be measured, if anything is. */
  missing?(): string | undefined;
  /** Makes empty volumes and serves them. */
  start(place: Place): Promise<Server>;
}
