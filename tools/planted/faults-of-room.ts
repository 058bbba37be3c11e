/** Planted bugs of how room is used: which segments are emptied for the order alone, full stores. */

import { type Fault, inLog, inVolume } from './fault.ts';

const FULL_STORE = inVolume('full-store');
const COMPACTION = inVolume('compaction');
const BACKGROUND = 'test/compaction/background.test.ts';

export const ROOM_FAULTS: readonly Fault[] = [
  // Which, and where to.
  {
    name: 'what decays fast is emptied as soon as what does not',
    file: 'src/compaction/victims.ts',
    text: 'return (lived + AGE_WEIGHT * sinceWritten) / (died + AGE_WEIGHT);',
    replacement: 'return sinceWritten;',
    tests: ['test/compaction/victims.test.ts'],
  },
  {
    name: 'decay counts from the last look, not from the first',
    file: 'src/compaction/victims.ts',
    text: 'const first = this.#seen.get(use.segment) ?? {',
    replacement: 'const first = {',
    tests: ['test/compaction/victims.test.ts'],
  },
  {
    name: 'bands are cut by age however little room there is',
    file: 'src/compaction/age-bands.ts',
    text: ' && cuts.length < cutsMax; at--',
    replacement: '; at--',
    tests: ['test/compaction/layout.test.ts'],
  },
  {
    name: 'chunks of an age have a band of their own however few they are',
    file: 'src/compaction/age-bands.ts',
    text: 'const BAND_SHARE_MIN = 1 / 4;',
    replacement: 'const BAND_SHARE_MIN = 1 / 400;',
    tests: ['test/compaction/layout.test.ts'],
  },
  {
    name: 'the room of emptied segments comes back when all of them are gone',
    file: 'src/compaction/compactor.ts',
    text: '        onRoom();\n',
    replacement: '',
    tests: ['test/compaction/planted-order.test.ts'],
  },
  {
    name: 'a segment whose removal was not synced is removed once more',
    file: 'src/compaction/compactor.ts',
    text: 'if (this.#unlinked.has(each)) continue;',
    replacement: '',
    tests: ['test/compaction/planted-order.test.ts'],
  },
  {
    name: 'what was removed counts as coming back until that is synced',
    file: 'src/compaction/compactor.ts',
    text: 'if (!this.#unlinked.has(segment)) bytes +=',
    replacement: 'bytes +=',
    tests: ['test/compaction/planted-order.test.ts'],
  },
  {
    name: 'deletes are finished behind a round of which nobody knows whether the log states it',
    file: 'src/volume/index-keeper.ts',
    text: "if (!hasCode(error, 'NO_SPACE')) this.#mayStateMoves = true;",
    replacement: '',
    tests: [inVolume('unfollowed-moves')],
  },
  {
    name: 'no round where most of each victim lives, beside writers who have room',
    file: 'src/compaction/background.ts',
    text: "if (urgency === 'busy' && !isWorthwhile(chosen)) chosen = choose(candidates, 'full');",
    replacement: '',
    tests: [BACKGROUND],
  },
  {
    name: 'no more numbers are reserved than a block of them',
    file: 'src/log/numbers.ts',
    text: '(each === kind ? count : 0)',
    replacement: '0',
    tests: [inLog('superblock')],
  },
  {
    name: 'zeroed extents count as dead',
    file: 'src/compaction/layout.ts',
    text: 'if (zeros.length > 0) this.#zerosBytes +=',
    replacement: 'if (zeros.length < 0) this.#zerosBytes +=',
    tests: ['test/compaction/layout.test.ts'],
  },
  {
    name: 'nobody remembers which segments hold zeroed extents',
    file: 'src/compaction/segment-table.ts',
    text: 'if (bytes > 0) this.#zeros.set(segment, bytes);',
    replacement: '',
    tests: [inVolume('small-stores')],
  },
  {
    name: 'a purge leaves what stands in the last segment of a store that was closed',
    file: 'src/compaction/thorough.ts',
    text: 'if (purge) await this.#around.checkpoint(true);',
    replacement: 'if (purge) await this.#around.checkpoint();',
    tests: [inVolume('small-stores')],
  },
  {
    name: 'a purge answers for what guests have filled since it began',
    file: 'src/compaction/thorough.ts',
    text: `    const before = purge ? this.#sealedSegments() : [];
    if (purge) await this.#around.checkpoint(true);`,
    replacement: `    if (purge) await this.#around.checkpoint(true);
    const before = purge ? this.#sealedSegments() : [];`,
    tests: ['test/compaction/thorough.test.ts'],
  },
  {
    name: 'a store that was just opened refuses before it knows how long its files are',
    file: 'src/log/segment-supply.ts',
    text: 'if (isBeyond()) await this.measured();',
    replacement: '',
    tests: [inVolume('small-stores')],
  },
  {
    name: 'a damaged chunk keeps all others from being compacted',
    file: 'src/compaction/thorough.ts',
    text: "if (hasCode(error, 'CORRUPTION') && this.#vainRoundsLeft-- > 0) {",
    replacement: 'if (false as boolean) {',
    tests: [inVolume('small-stores')],
  },
  {
    name: 'compaction rests behind a damaged chunk, as behind a disk that does not answer',
    file: 'src/compaction/background.ts',
    text: "if (!hasCode(error, 'CORRUPTION') || vainRounds >= VAIN_ROUNDS_MAX) throw error;",
    replacement: 'throw error;',
    tests: ['test/compaction/background.test.ts'],
  },
  {
    name: 'compaction that was asked for fails where guests have used the room',
    file: 'src/compaction/thorough.ts',
    text: "if (!hasCode(error, 'NO_SPACE') || this.#share <= 2 ** -REFUSALS_MAX) throw error;",
    replacement: 'throw error;',
    tests: ['test/compaction/thorough.test.ts'],
  },
  // In order.
  {
    name: 'what is scattered stays where it is, if nothing in it is dead',
    file: 'src/compaction/thorough.ts',
    text: 'candidates.scattered.push(use);',
    replacement: 'candidates.scattered.length = 0;',
    tests: [COMPACTION],
  },
  {
    name: 'sorted sequences are merged by number, not by place',
    file: 'src/compaction/scatter.ts',
    text: 'return one.label - other.label || one.region - other.region || a.segment - b.segment;',
    replacement: 'return a.segment - b.segment;',
    tests: ['test/compaction/scatter.test.ts'],
  },
  // Full stores.
  {
    name: 'a round that moves nothing needs room: a store that has none stays full for ever',
    file: 'src/compaction/moved-size.ts',
    text: 'if (chunkCount === 0) return 0;',
    replacement: '',
    tests: ['test/compaction/layout.test.ts'],
  },
  {
    name: 'data use the reserve of a full store',
    file: 'src/log/append.ts',
    text: 'return RANK_OF_DATA;',
    replacement: 'return RANK_OF_CATALOGS;',
    tests: [inLog('full-log'), FULL_STORE],
  },
  {
    name: 'trims fill the segments that catalogs have begun, as changes do',
    file: 'src/log/append.ts',
    text: 'return RANK_OF_ZEROS;',
    replacement: 'return RANK_OF_CHANGES;',
    tests: [inLog('full-log')],
  },
  {
    name: 'what makes room is refused where recoveries have taken what was left for it',
    file: 'src/log/segment-supply.ts',
    text: 'const OVERDRAFT_SEGMENTS = 2;',
    replacement: 'const OVERDRAFT_SEGMENTS = 0;',
    tests: [inLog('full-log')],
  },
  {
    name: 'data fill the segment that a recovery has begun in a full store',
    file: 'src/log/chunk-log.ts',
    text: '[this.#rewriteDurable, this.#rank] = [undefined, RANK_OF_CATALOGS];',
    replacement: 'this.#rewriteDurable = undefined;',
    tests: ['test/volume/killed-full-store.test.ts'],
  },
  {
    name: 'writers do not wait for compaction',
    file: 'src/compaction/background.ts',
    text: 'return this.#running === undefined || !mustWait(this.#room());',
    replacement: 'return true;',
    tests: [BACKGROUND],
  },
  {
    name: 'the room of removed segments is not given back',
    file: 'src/compaction/compactor.ts',
    text: 'supply.removed(length);',
    replacement: '',
    tests: [FULL_STORE],
  },
  {
    name: 'a purge leaves what a catalog names among chunks that live',
    file: 'src/compaction/segment-table.ts',
    text: 'if (records.some(hasText)) return -1;',
    replacement: '',
    tests: ['test/volume/compaction.test.ts'],
  },
  {
    name: 'who claims memory and sends nothing comes before others because he came first',
    file: 'src/nbd/budget.ts',
    text: 'const rank = this.#movedBytes >= bytes ? 0 : hasPayload ? 2 : 1;',
    replacement: 'const rank = this.#movedBytes + bytes < 0 && hasPayload ? 1 : 0;',
    tests: ['test/nbd/budget-order.test.ts'],
  },
  {
    name: 'who waits for memory loses his place whenever some comes back',
    file: 'src/nbd/budget.ts',
    text: 'if (this.#place === 0) this.#place = this.#server.nextPlace();',
    replacement: 'this.#place = this.#server.nextPlace();',
    tests: ['test/nbd/budget-order.test.ts'],
  },
];
