// The loads that are measured, in the order they are run in. No I/O.
//
// In a stage, sequential loads come first, on a volume that was filled in sequence, random ones after them, and loads
// at snapshots last, so that no peer carries a snapshot into a load without one.

import type { PeerName } from './peer.ts';
import { type StageName, STAGES } from './stages.ts';

export const LOAD_NAMES = [
  'seqwrite-fresh',
  'write-flush-sparse',
  'seqread-qd8',
  'seqwrite-qd8',
  'write-flush-qd1',
  'write-flush-32-clients',
  'randwrite-flush32-qd32',
  'randwrite-qd1',
  'randread-qd1',
  'randwrite-qd32',
  'randread-qd32',
  'mixed-qd16',
  'randwrite-before-snapshot',
  'randwrite-after-snapshot',
  'randwrite-1000-snapshots',
  'randread-1000-snapshots',
  'four-randwrite-qd32',
  'four-mixed-qd16',
  'paced-maximum',
  'paced-half',
  'wide-randread',
  'wide-randread-90-10',
  'wide-randwrite',
  'wide-randwrite-90-10',
  'import',
  'export',
  'boot',
  'untar',
] as const;
export type LoadName = (typeof LOAD_NAMES)[number];

export type Unit = 'IOPS' | 'MB/s' | 's';

/** Where a load goes on a volume of which only a part is written. */
export interface Places {
  /** So many bytes at the beginning of each stretch. */
  readonly runBytes: number;
  readonly everyBytes: number;
  /** So much of the requests goes to so much of the stretches; all to all of them if there is none. */
  readonly hot?: { readonly requests: number; readonly stretches: number };
}

export interface FioWork {
  readonly kind: 'fio';
  /** What fio calls the pattern; `randrw` reads seven times of ten. */
  readonly rw: 'read' | 'write' | 'randread' | 'randwrite' | 'randrw';
  readonly blockBytes: number;
  /** Requests in flight, of each client. */
  readonly depth: number;
  /** Writes between two flushes; 0 for no flush at all. */
  readonly flushEvery: number;
  readonly clients: number;
  /** Ends with the volume, if the time has not come before. */
  readonly once?: true;
  readonly places?: Places;
  /** At half the rate that this load has had in this round. */
  readonly halfOf?: LoadName;
}

export interface Load {
  readonly name: LoadName;
  readonly title: string;
  readonly stage: StageName;
  /** fio for a while, or something whole that is timed. */
  readonly work: FioWork | { readonly kind: 'import' | 'export' | 'boot' | 'untar' };
  readonly unit: Unit;
  /** Of the stage's; all of them if there is none. */
  readonly peers?: readonly PeerName[];
  /** Snapshots the volume has when the load starts, the last of them just taken. */
  readonly snapshots: number;
  /** A load of the same stage that runs before this one, and that this one is compared with or goes on from. */
  readonly baseline?: LoadName;
  /** A peer runs its baseline and this load before the next peer has its turn. */
  readonly backToBack?: true;
  readonly secondsMax?: number;
  /** For as long as `--paced-seconds` says. */
  readonly paced?: true;
  /** How many times as often as there are rounds. */
  readonly repeats?: number;
  /** Part of `--quick`. */
  readonly core?: true;
}

type Definition = Omit<Load, 'name' | 'snapshots'> & { snapshots?: number };

const FIO = { kind: 'fio', blockBytes: 4096, depth: 32, flushEvery: 0, clients: 1 } as const;
const WRITE_32: FioWork = { ...FIO, rw: 'randwrite' };
const READ_32: FioWork = { ...FIO, rw: 'randread' };
const MIXED: FioWork = { ...FIO, rw: 'randrw', blockBytes: 16384, depth: 16 };
const LARGE = { ...FIO, blockBytes: 2 ** 20, depth: 8 } as const;
const FLUSH_EACH: FioWork = { ...FIO, rw: 'write', depth: 1, flushEvery: 1 };
const EVERYWHERE: Places = { runBytes: 2 ** 16, everyBytes: 2 ** 20 };
const MOSTLY_HOT: Places = { ...EVERYWHERE, hot: { requests: 0.9, stretches: 0.1 } };

// All but the file without a server, which is there for its fdatasync.
const SERVERS = STAGES.find(({ name }) => name === 'filled')!.peers.filter((peer) => peer !== 'file');
const WITH_SNAPSHOTS: readonly PeerName[] = ['coppice', 'qemu-qcow2', 'xfs-reflink'];

const filled = { stage: 'filled', unit: 'IOPS', peers: SERVERS } as const;
const wide = { stage: 'wide', unit: 'IOPS' } as const;

const DEFINITIONS: Record<LoadName, Definition> = {
  'seqwrite-fresh': {
    title: '1 MiB sequential write to fresh space, QD 8',
    stage: 'fresh',
    unit: 'MB/s',
    work: { ...LARGE, rw: 'write', once: true },
    core: true,
  },
  'write-flush-sparse': {
    title: '4 KiB write + flush, QD 1, fresh space',
    stage: 'sparse',
    unit: 'IOPS',
    work: FLUSH_EACH,
    core: true,
  },
  'seqread-qd8': {
    ...filled,
    title: '1 MiB sequential read, QD 8',
    unit: 'MB/s',
    work: { ...LARGE, rw: 'read' },
    core: true,
  },
  'seqwrite-qd8': {
    ...filled,
    title: '1 MiB sequential overwrite, QD 8',
    unit: 'MB/s',
    work: { ...LARGE, rw: 'write' },
    core: true,
  },
  'write-flush-qd1': {
    ...filled,
    title: '4 KiB write + flush, QD 1',
    work: FLUSH_EACH,
    peers: [...SERVERS, 'file'],
    core: true,
  },
  'write-flush-32-clients': {
    ...filled,
    title: '4 KiB write + flush, 32 clients, QD 1',
    work: { ...FLUSH_EACH, clients: 32 },
    baseline: 'write-flush-qd1',
  },
  'randwrite-flush32-qd32': {
    ...filled,
    title: '4 KiB random write, QD 32, flush every 32',
    work: { ...WRITE_32, flushEvery: 32 },
    core: true,
  },
  'randwrite-qd1': {
    ...filled,
    title: '4 KiB random write, QD 1',
    work: { ...WRITE_32, depth: 1 },
    core: true,
  },
  'randread-qd1': {
    ...filled,
    title: '4 KiB random read, QD 1',
    work: { ...READ_32, depth: 1 },
    core: true,
  },
  'randwrite-qd32': {
    ...filled,
    title: '4 KiB random write, QD 32',
    work: WRITE_32,
    core: true,
  },
  'randread-qd32': { ...filled, title: '4 KiB random read, QD 32', work: READ_32, core: true },
  'mixed-qd16': {
    ...filled,
    title: '16 KiB random, 70 % reads, QD 16',
    work: MIXED,
    core: true,
  },
  'randwrite-before-snapshot': {
    ...filled,
    title: '4 KiB random write, QD 32, before a snapshot',
    work: WRITE_32,
    peers: WITH_SNAPSHOTS,
    secondsMax: 2,
    core: true,
  },
  'randwrite-after-snapshot': {
    ...filled,
    title: '4 KiB random write, QD 32, right after a snapshot',
    work: WRITE_32,
    peers: WITH_SNAPSHOTS,
    snapshots: 1,
    baseline: 'randwrite-before-snapshot',
    backToBack: true,
    secondsMax: 2,
    core: true,
  },
  'randwrite-1000-snapshots': {
    ...filled,
    title: '4 KiB random write, QD 32, 1,000 snapshots',
    work: WRITE_32,
    snapshots: 1000,
    baseline: 'randwrite-qd32',
  },
  'randread-1000-snapshots': {
    ...filled,
    title: '4 KiB random read, QD 32, 1,000 snapshots deep',
    work: READ_32,
    snapshots: 1000,
    baseline: 'randread-qd32',
  },
  'four-randwrite-qd32': {
    title: '4 KiB random write, QD 32, four volumes at once',
    stage: 'four',
    unit: 'IOPS',
    work: WRITE_32,
  },
  'four-mixed-qd16': {
    title: '16 KiB random, 70 % reads, QD 16, four volumes at once',
    stage: 'four',
    unit: 'IOPS',
    work: MIXED,
  },
  'paced-maximum': {
    title: '4 KiB random write, QD 32, as fast as it goes',
    stage: 'paced',
    unit: 'IOPS',
    work: WRITE_32,
  },
  'paced-half': {
    title: '4 KiB random write at half of that rate',
    stage: 'paced',
    unit: 'IOPS',
    work: { ...WRITE_32, halfOf: 'paced-maximum' },
    baseline: 'paced-maximum',
    paced: true,
  },
  'wide-randread': {
    ...wide,
    title: '4 KiB random read, QD 32, all of a wide volume',
    work: { ...READ_32, places: EVERYWHERE },
  },
  'wide-randread-90-10': {
    ...wide,
    title: '4 KiB random read, QD 32, 90 % to a tenth of a wide volume',
    work: { ...READ_32, places: MOSTLY_HOT },
  },
  'wide-randwrite': {
    ...wide,
    title: '4 KiB random write, QD 32, all of a wide volume',
    work: { ...WRITE_32, places: EVERYWHERE },
  },
  'wide-randwrite-90-10': {
    ...wide,
    title: '4 KiB random write, QD 32, 90 % to a tenth of a wide volume',
    work: { ...WRITE_32, places: MOSTLY_HOT },
  },
  import: { title: 'import of an image, synced', stage: 'image', unit: 'MB/s', work: { kind: 'import' } },
  export: {
    title: 'export to an image, synced',
    stage: 'image',
    unit: 'MB/s',
    work: { kind: 'export' },
    baseline: 'import',
  },
  boot: {
    title: 'clone, attach, boot, read all files, power off',
    stage: 'guest',
    unit: 's',
    work: { kind: 'boot' },
    repeats: 4,
  },
  untar: {
    title: 'in a guest: untar a tree, sync, delete it, sync',
    stage: 'guest',
    unit: 's',
    work: { kind: 'untar' },
  },
};

export const LOADS: readonly Load[] = LOAD_NAMES.map((name) => ({
  name,
  snapshots: 0,
  ...DEFINITIONS[name],
}));

/** The loads of the given names and the baselines they are compared with, in running order. */
export function selectLoads(names: readonly LoadName[]): Load[] {
  return LOADS.filter(
    ({ name }) =>
      names.includes(name) || LOADS.some((load) => load.baseline === name && names.includes(load.name)),
  );
}

/** Loads that one peer runs back to back before the next peer has its turn. */
export function groupLoads(loads: readonly Load[]): Load[][] {
  const groups: Load[][] = [];
  for (const load of loads) {
    const group = groups.at(-1);
    if (load.backToBack === true && group?.at(-1)?.name === load.baseline) group?.push(load);
    else groups.push([load]);
  }
  return groups;
}
