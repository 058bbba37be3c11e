/** Planted bugs of a repair: what a power cut would find at the switch, and what is lost read as something. */

import { type Fault, inRepair } from './fault.ts';

const DAMAGES = inRepair('damages');
const KILLED = inRepair('killed');
const REPAIR = inRepair('repair');

export const REPAIR_FAULTS: readonly Fault[] = [
  {
    name: 'the catalog that a repaired log begins with is not synced',
    file: 'src/repair/catalog-segment.ts',
    text: 'await file.datasync();',
    replacement: '',
    tests: [KILLED],
  },
  {
    name: 'the names of new segments are not synced before the switch',
    file: 'src/repair/replaced.ts',
    text: "await storage.syncDirectory('log');",
    replacement: '',
    tests: [KILLED],
  },
  {
    name: 'what a repair replaces is not kept on the disk before its other name goes',
    file: 'src/repair/replaced.ts',
    text: 'await storage.syncDirectory(directory);',
    replacement: '',
    tests: [KILLED],
  },
  {
    name: 'segments that nobody has synced stay as they are',
    file: 'src/repair/kept-segments.ts',
    text: '|| !survey.chain.isProven(segment, durable)) continue;',
    replacement: ') continue;',
    tests: [REPAIR],
  },
  {
    name: 'what was switched to is cleared away as if it had not been',
    file: 'src/volume/interrupted-repair.ts',
    text: 'if (segments.length > 0 && !hasSwitched) {',
    replacement: 'if (segments.length > 0 && hasSwitched !== undefined) {',
    tests: [DAMAGES, KILLED],
  },
  {
    name: 'new segments of a repair that was killed stay in the log',
    file: 'src/volume/interrupted-repair.ts',
    text: 'if (await isLinked(storage, segment)) await storage.remove(segmentPath(segment));',
    replacement: '',
    tests: [KILLED, REPAIR],
  },
  {
    name: 'lost chunks become zeros',
    file: 'src/repair/evacuation.ts',
    text: 'list.add(label, chunk, sequence, segment, offset, checksum);',
    replacement:
      'if (isWhole) list.add(label, chunk, sequence, segment, offset, checksum); else this.#zeros.push({ label, first: chunk, count: 1, sequence });',
    tests: [DAMAGES],
  },
  {
    name: 'what a trim hid that is lost comes back with a repair',
    file: 'src/repair/index-proof.ts',
    text: 'await corrections.zeros({ label, first: chunk, count: 1, sequence });',
    replacement: '',
    tests: [DAMAGES],
  },
  {
    name: 'chunks that are to be moved are not looked at first',
    file: 'src/repair/chunk-source.ts',
    text: 'return length === CHUNK_BYTES && crc32c(this.#chunk) === checksum;',
    replacement: 'return length === CHUNK_BYTES || crc32c(this.#chunk) === checksum;',
    tests: [DAMAGES],
  },
  {
    name: 'compaction does not know a chunk that a repair has given up',
    file: 'src/log/lost-chunk.ts',
    text: 'return crc32c(chunk) === checksum || isGivenUp(chunk);',
    replacement: 'return crc32c(chunk) === checksum;',
    tests: [DAMAGES],
  },
  {
    name: 'a repair goes on where nobody knows what is lost',
    file: 'src/repair/repair.ts',
    text: 'if (uncertain.length === 0 || this.#options.acceptsOldData === true) return;',
    replacement: 'if (uncertain.length >= 0) return;',
    tests: [DAMAGES, REPAIR],
  },
  {
    name: 'a damaged segment stays in the log that a repair makes',
    file: 'src/repair/kept-segments.ts',
    text: 'return faults.length === 0 && moreFaults === 0;',
    replacement: 'return faults.length >= 0;',
    tests: [DAMAGES],
  },
  {
    name: 'a repair believes a catalog that changes have not made',
    file: 'src/repair/wanted-state.ts',
    text: 'hasGap || tail.damage.length > 0);',
    replacement: 'hasGap || tail.damage.length >= 0);',
    tests: [DAMAGES],
  },
  {
    name: 'names of new segments go before that of the base, which says that they are the log',
    file: 'src/volume/interrupted-repair.ts',
    text: 'if (segment !== base.segment) await storage.remove(newSegmentPath(segment));',
    replacement: '',
    tests: [KILLED, REPAIR],
  },
  {
    name: 'it is not synced that names of new segments are gone before that of the base goes',
    file: 'src/volume/interrupted-repair.ts',
    text: 'await storage.syncDirectory(NEW_SEGMENTS_PATH);',
    replacement: '',
    tests: [REPAIR],
  },
  {
    name: 'a switch that could not be synced is taken for one that was not made',
    file: 'src/repair/replaced.ts',
    text: 'if (next !== undefined && superblock?.base?.append === next.append) return false;',
    replacement: '',
    tests: [REPAIR],
  },
  {
    name: 'what an earlier repair has kept goes when another one takes its number',
    file: 'src/repair/log-survey.ts',
    text: "raise('segments', segmentOfReplaced(name));",
    replacement: 'segmentOfReplaced(name);',
    tests: [REPAIR],
  },
  {
    name: 'labels of versions that are gone are used again',
    file: 'src/repair/log-survey.ts',
    text: "for (const [, heir] of merged) raise('labels', heir);",
    replacement: 'void merged;',
    tests: [REPAIR],
  },
  {
    name: 'a version that the index has nothing of becomes zeros',
    file: 'src/repair/index-proof.ts',
    text: 'if (isUnknown && should.segment(at) === 0) continue;',
    replacement: 'void isUnknown;',
    tests: [REPAIR],
  },
];
