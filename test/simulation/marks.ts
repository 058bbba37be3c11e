/**
 * Marks: what a run has come across. A simulation that never reaches a kind of crash, fault or branch proves nothing
 * about it, so the seeds together must have reached all of these.
 */

/** Every mark that enough seeds must hit. */
export const MARKS = [
  // Ends of a life
  'closed',
  'killed',
  'power cut',
  'killed in recovery',
  'power cut in recovery',
  'second crash in recovery',
  'killed while closing',
  'power cut while closing',
  // What a power cut does to sectors, sizes, names
  'sector: kept',
  'sector: lost',
  'sector: zeros',
  'sector: garbage',
  'size: kept',
  'size: lost',
  'name: kept',
  'name: lost',
  'removal: lost',
  // What a kill does to a call under way
  'write under way: lost',
  'write under way: part',
  'write under way: whole',
  // Faults
  'fault: write IO',
  'fault: write NO_SPACE',
  'fault: write short',
  'fault: datasync IO',
  'fault: sync after a failed one says ok',
  'fault: allocate NO_SPACE',
  'fault: create IO',
  'fault: open IO',
  'fault: remove IO',
  'fault: syncDirectory IO',
  'fault: read IO',
  'fault: rename IO',
  'fault: list IO',
  'pages dropped after a failed sync',
  'disk full, and room again',
  // The index
  'index: batches lost',
  'index: batches kept',
  'index: row lost',
  'index: row aged',
  'index: batch failed',
  'index: does not open',
  'index: locked',
  'index: read failed',
  'index: gone',
  // Recovery
  'opened: went on in the same segment',
  'opened: tail written again',
  'opened: an append was cut',
  'opened: index made anew',
  'opened: leftovers removed',
  'open refused because of a fault',
  'cut: nothing was lost',
  'cut: something was lost',
  'cut by a recovery that was interrupted',
  'a failed write did appear',
  'a failed write did not appear',
  // Work
  'force unit access',
  'flush answered while writes were under way',
  'snapshot of a group',
  'snapshot while writes were under way',
  'clone',
  'receive published',
  'receive gone on with',
  'receive ended',
  'promote',
  'demote',
  'demote of what had changed',
  'delete',
  'delete of a volume with its snapshots',
  'delete of what clones inherit from',
  'deletes finished',
  'deletes tried again',
  'rollback',
  'rollback of what had not changed',
  'request of a version that was taken away',
  'shrink',
  'growth',
  'diff',
  'write of part of a chunk',
  'two writes to one chunk at once',
  'zeros',
  'read verified while written',
  'checkpoint',
  'compaction',
  'compaction by itself',
  'compaction to the end',
  'emptied segments removed',
  'check while in use',
  'index made anew while in use',
  'index opened again while in use',
  'poisoned',
  'refused for want of room',
  'segment sealed',
  'closing record in a quiet moment',
  'record of several entries',
] as const;

export type Mark = (typeof MARKS)[number];

export class Marks {
  readonly counts = new Map<string, number>();

  hit(mark: Mark): void {
    this.counts.set(mark, (this.counts.get(mark) ?? 0) + 1);
  }

  add(other: Iterable<readonly [string, number]>): void {
    for (const [mark, count] of other) this.counts.set(mark, (this.counts.get(mark) ?? 0) + count);
  }

  get missing(): Mark[] {
    return MARKS.filter((mark) => !this.counts.has(mark));
  }
}
