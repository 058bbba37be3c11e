// The loads that are measured, in the order they are run in. No I/O.
//
// Sequential loads come first, on a volume that was filled in sequence, random ones after them,
// and loads at snapshots last, so that no peer carries a snapshot into a load without one.

export const LOAD_NAMES = [
  'seqwrite-qd8',
  'seqread-qd8',
  'write-flush-qd1',
  'randwrite-flush32-qd32',
  'randwrite-qd1',
  'randread-qd1',
  'randwrite-qd32',
  'randread-qd32',
  'randwrite-before-snapshot',
  'randwrite-after-snapshot',
  'randwrite-100-snapshots',
  'randread-100-snapshots',
] as const;

export type LoadName = (typeof LOAD_NAMES)[number];

export interface Load {
  readonly name: LoadName;
  readonly title: string;
  /** What fio calls the pattern. */
  readonly rw: 'read' | 'write' | 'randread' | 'randwrite';
  readonly blockBytes: number;
  /** Requests in flight. */
  readonly depth: number;
  /** Writes between two flushes; 0 for no flush at all. */
  readonly flushEvery: number;
  /** Snapshots the volume has when the load starts, the last of them just taken. */
  readonly snapshots: number;
  /** Run immediately before this other load, on the same peers, to be compared with it. */
  readonly baselineOf?: LoadName;
  readonly unit: 'IOPS' | 'MB/s';
}

const RANDOM = { blockBytes: 4096, flushEvery: 0, snapshots: 0, unit: 'IOPS' } as const;
const SEQUENTIAL = { blockBytes: 1 << 20, depth: 8, flushEvery: 0, snapshots: 0, unit: 'MB/s' } as const;
const WRITE_32 = { ...RANDOM, rw: 'randwrite', depth: 32 } as const;
const READ_32 = { ...RANDOM, rw: 'randread', depth: 32 } as const;

const DEFINITIONS: Record<LoadName, Omit<Load, 'name'>> = {
  'seqwrite-qd8': { ...SEQUENTIAL, title: '1 MiB sequential write, QD 8', rw: 'write' },
  'seqread-qd8': { ...SEQUENTIAL, title: '1 MiB sequential read, QD 8', rw: 'read' },
  'write-flush-qd1': {
    ...RANDOM,
    title: '4 KiB write + flush, QD 1',
    rw: 'randwrite',
    depth: 1,
    flushEvery: 1,
  },
  'randwrite-flush32-qd32': { ...WRITE_32, title: '4 KiB write, QD 32, flush every 32', flushEvery: 32 },
  'randwrite-qd1': { ...RANDOM, title: '4 KiB write, QD 1', rw: 'randwrite', depth: 1 },
  'randread-qd1': { ...RANDOM, title: '4 KiB read, QD 1', rw: 'randread', depth: 1 },
  'randwrite-qd32': { ...WRITE_32, title: '4 KiB write, QD 32' },
  'randread-qd32': { ...READ_32, title: '4 KiB read, QD 32' },
  'randwrite-before-snapshot': {
    ...WRITE_32,
    title: '4 KiB write, QD 32, before a snapshot',
    baselineOf: 'randwrite-after-snapshot',
  },
  'randwrite-after-snapshot': { ...WRITE_32, title: '4 KiB write, QD 32, after a snapshot', snapshots: 1 },
  'randwrite-100-snapshots': { ...WRITE_32, title: '4 KiB write, QD 32, 100 snapshots', snapshots: 100 },
  'randread-100-snapshots': { ...READ_32, title: '4 KiB read, QD 32, 100 snapshots', snapshots: 100 },
};

export const LOADS: readonly Load[] = LOAD_NAMES.map((name) => ({ name, ...DEFINITIONS[name] }));

/** The loads of the given names and the baselines they are compared with, in running order. */
export function selectLoads(names: readonly LoadName[]): Load[] {
  return LOADS.filter(
    (load) => names.includes(load.name) || (load.baselineOf !== undefined && names.includes(load.baselineOf)),
  );
}

/** Loads that one peer runs back to back before the next peer has its turn. */
export function groupLoads(loads: readonly Load[]): Load[][] {
  const groups: Load[][] = [];
  for (const load of loads) {
    const group = groups.at(-1);
    if (group?.at(-1)?.baselineOf === load.name) group.push(load);
    else groups.push([load]);
  }
  return groups;
}

/** Snapshots a peer has to be able to hold to take part in a load. */
export function snapshotsRequired(load: Load): number {
  return load.baselineOf === undefined ? load.snapshots : DEFINITIONS[load.baselineOf].snapshots;
}
