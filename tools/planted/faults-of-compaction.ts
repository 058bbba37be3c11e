/**
 * Planted bugs of compaction: what is moved and when it counts, how the index follows, which zeros and labels are kept, when
 * files go, what a log without its beginning says, full stores.
 */

import { type Fault, inCompaction, inIndex, inLog, inVolume } from './fault.ts';

const MOVER = inCompaction('mover');
const KEPT_ZEROS = inCompaction('kept-zeros');
const DAMAGED_VICTIMS = inCompaction('damaged-victims');
const ORDER = inCompaction('planted-order');
const FOLLOWING = inVolume('compaction-following');
const COMPACTION = inVolume('compaction');
const FULL_STORE = inVolume('full-store');
const BACKGROUND = 'test/compaction/background.test.ts';
const WHOLE_LOG = inVolume('whole-log');
const RELOCATE = inIndex('relocate');

export const COMPACTION_FAULTS: readonly Fault[] = [
  // What is moved.
  {
    name: 'moves are not synced before the log states them',
    file: 'src/compaction/moves-writer.ts',
    text: 'await this.#file.datasync();',
    replacement: '',
    tests: [MOVER],
  },
  {
    name: 'the names of segments of moves are not synced',
    file: 'src/compaction/mover.ts',
    text: "if (layouts.length > 0) await this.#storage.syncDirectory('log');",
    replacement: '',
    tests: [MOVER],
  },
  {
    name: 'what is moved gets another sequence',
    file: 'src/compaction/moves-writer.ts',
    text: 'writeDataEntry(out, ENTRY_CHUNKS, sequences[first]!,',
    replacement: 'writeDataEntry(out, ENTRY_CHUNKS, sequences[first]! + 1,',
    tests: [MOVER],
  },
  {
    name: 'the checksum of a chunk that is moved is not compared',
    file: 'src/compaction/mover.ts',
    text: '(at + 1) * CHUNK_BYTES)) === checksums[chunk]) return;',
    replacement: '(at + 1) * CHUNK_BYTES)) >= 0) return;',
    tests: [MOVER],
  },
  {
    name: 'what was moved is not read back',
    file: 'src/compaction/mover.ts',
    text: 'for (const record of layout.records) await writer.verify(record, chunks);',
    replacement: '',
    tests: [MOVER],
  },
  {
    name: 'records of a victim are moved that a crash has cut off',
    file: 'src/compaction/mover.ts',
    text: 'if (recordEnd(record.header) <= end) yield record;',
    replacement: 'yield record;',
    tests: [MOVER],
  },
  {
    name: 'dead chunks are moved with those that live',
    file: 'src/compaction/compactor.ts',
    text: 'if (block.segment(inRegion) !== segments[c] || block.offset(inRegion) !== offsets[c]) continue;',
    replacement: '',
    tests: [COMPACTION],
  },
  {
    name: 'a segment is emptied whose records are not in the index yet: what lives in it is taken for dead',
    file: 'src/compaction/compactor.ts',
    text: 'return facts.isMoves || segment < checkpoint.segment;',
    replacement: 'return facts.isMoves || segment > 0;',
    tests: [DAMAGED_VICTIMS, FULL_STORE, COMPACTION],
  },
  {
    name: 'moves are taken for dead that an index made anew has in memory only',
    file: 'src/compaction/compactor.ts',
    text: '|| this.stuck.has(segment) || checkpoint.segment === 0) return false;',
    replacement: '|| this.stuck.has(segment)) return false;',
    tests: [inCompaction('planted-unwritten')],
  },
  // Labels of versions that are gone.
  {
    name: 'what is moved keeps the label of a version that is gone',
    file: 'src/compaction/compactor.ts',
    text: 'live.add(label, numbers[c]!,',
    replacement: 'live.add(labels[c]!, numbers[c]!,',
    tests: [FOLLOWING, WHOLE_LOG],
  },
  {
    name: 'a round does not ask who took over what a version had',
    file: 'src/volume/compaction-host.ts',
    text: 'this.#parts.recovered.catalog.holderOf(label);',
    replacement: 'this.#parts.recovered.catalog.tree.get(label);',
    tests: [FOLLOWING],
  },
  {
    name: 'replay does not ask who took over what a version had',
    file: 'src/volume/catalog.ts',
    text: 'const merged = node === undefined ? this.merged.get(at) : undefined;',
    replacement: 'const merged = node === undefined && at < 0 ? this.merged.get(at) : undefined;',
    tests: [WHOLE_LOG],
  },
  {
    name: 'who took over what a version had is not in the catalog',
    file: 'src/volume/catalog-parts.ts',
    text: "yield* inParts('merged', mergedParts(catalog));",
    replacement: '',
    tests: [inVolume('catalog'), WHOLE_LOG],
  },
  {
    name: 'who took over what a version had is forgotten while the log still has something of it',
    file: 'src/volume/catalog-append.ts',
    text: 'this.#catalog.forgetMerged(this.#ledger.lowest);',
    replacement: 'this.#catalog.forgetMerged(Math.max(...this.#ledger.segments));',
    tests: [WHOLE_LOG],
  },
  {
    name: 'pruning goes on during a round',
    file: 'src/volume/compaction-host.ts',
    text: 'this.#parts.turn.run(() => this.#parts.pruner.between(work));',
    replacement: 'this.#parts.turn.run(work);',
    tests: [FOLLOWING],
  },
  {
    name: 'a round begins between two runs of the pruner of which the last failed halfway',
    file: 'src/volume/version-pruner.ts',
    text: "if (this.#isHalfway) throw new StoreError('IN_USE', 'deletes are to be finished first');",
    replacement: '',
    tests: [FOLLOWING],
  },
  // Zeros.
  {
    name: 'a tombstone is dropped early: zeros of victims are not kept',
    file: 'src/compaction/compactor.ts',
    text: 'if (!(await this.#isWrittenOver(each, index))) needed.push(each);',
    replacement: 'await this.#isWrittenOver(each, index);',
    tests: [WHOLE_LOG],
  },
  {
    name: 'a tombstone is dropped early: a write over the first chunk of zeros takes all of them',
    file: 'src/compaction/compactor.ts',
    text: 'if (block!.segment(at) === 0 || block!.sequence(at) <= sequence) return false;',
    replacement: 'if (block!.segment(at) === 0 || block!.sequence(at) <= sequence) return chunk > first;',
    tests: [WHOLE_LOG],
  },
  {
    name: 'a tombstone is dropped early: later zeros over a part take all of the earlier ones',
    file: 'src/compaction/kept-zeros.ts',
    text: 'if (open < end) gaps.push([open, end]);',
    replacement: 'if (open === start) gaps.push([open, end]);',
    tests: [KEPT_ZEROS],
  },
  {
    name: 'zeros of one version cover those of another',
    file: 'src/compaction/kept-zeros.ts',
    text: 'const others = byLabel.get(each.label);',
    replacement: 'const others = byLabel.get(each.label) ?? [...byLabel.values()][0];',
    tests: [KEPT_ZEROS],
  },
  {
    name: 'what a disk lost when it shrank is there again once the segment that said so is gone',
    file: 'src/compaction/mover.ts',
    text: 'if (cut !== undefined) zeros.push({ ...cut, sequence: entry.sequence });',
    replacement: '',
    tests: [WHOLE_LOG],
  },
  // The index follows.
  {
    name: 'a relocation is no compare-and-swap: a write that came meanwhile is lost',
    file: 'src/index/region-relocate.ts',
    text: 'if (block.segment(index) !== segment || block.offset(index) !== offset) return false;',
    replacement: '',
    tests: [RELOCATE],
  },
  {
    name: 'usage does not follow a relocation',
    file: 'src/index/region-relocate.ts',
    text: 'batch.moved(move.segment, move.toSegment);',
    replacement: '',
    tests: [RELOCATE],
  },
  {
    name: 'a relocation adds rows and merges none',
    file: 'src/index/region-relocate.ts',
    text: 'const rewrite = own.length >= VERSION_ROWS_MAX || 2 * changed >= block.count();',
    replacement: 'const rewrite = 2 * changed >= block.count();',
    tests: [RELOCATE],
  },
  {
    name: 'a load that a relocation overtook is not repeated',
    file: 'src/index/pointer-index.ts',
    text: 'if (this.#commits > commits + 1 || this.#relocations > relocations) continue;',
    replacement: 'if (this.#commits > commits + 1) continue;',
    tests: [RELOCATE],
  },
  {
    name: 'pages in memory do not follow',
    file: 'src/volume/compaction-host.ts',
    text: 'this.#parts.onRelocated(moves);',
    replacement: '',
    tests: [FOLLOWING],
  },
  {
    name: 'the index follows before the catalog that states the moves is on the disk',
    file: 'src/volume/compaction-host.ts',
    text: 'await this.#parts.recovered.log.flush();',
    replacement: '',
    tests: [FOLLOWING],
  },
  // Files go.
  {
    name: 'victims are removed before the base has moved',
    file: 'src/compaction/compactor.ts',
    text: 'await numbers.moveBase({ segment, offset, append });',
    replacement:
      'const moving = numbers.moveBase({ segment, offset, append });\n      moving.catch(() => undefined);',
    tests: [ORDER, WHOLE_LOG],
  },
  {
    name: 'the base moves to a checkpoint that does not state the victims as retired',
    file: 'src/compaction/compactor.ts',
    text: 'const gone = [...this.#host.statedRetired].filter(',
    replacement: 'const gone = [...ledger.retired].filter(',
    tests: [ORDER, FULL_STORE],
  },
  {
    name: 'files go while an index is made anew from them',
    file: 'src/compaction/compactor.ts',
    text: 'await this.#host.repaired(); // one that began before reads the log from the old base',
    replacement: '',
    tests: [ORDER],
  },
  {
    name: 'a retired segment is removed though something lives in it again',
    file: 'src/compaction/compactor.ts',
    text: '(segment) => ledger.retired.has(segment) && index.usage.of(segment) === 0,',
    replacement: '(segment) => ledger.retired.has(segment),',
    tests: [ORDER],
  },
  {
    name: 'a victim is retired though something lives in it still',
    file: 'src/compaction/compactor.ts',
    text: 'if (left > 0) {',
    replacement: 'if (left < 0) {',
    tests: [ORDER],
  },
  {
    name: 'a checkpoint is not written for what has been retired alone',
    file: 'src/volume/index-keeper.ts',
    text: 'return [...this.#ledger.retired].some((segment) => !this.#statedRetired.has(segment));',
    replacement: 'return false;',
    tests: [COMPACTION],
  },
  {
    name: 'a segment that only its successor says the end of keeps standing without it',
    file: 'src/compaction/compactor.ts',
    text: 'if (await this.table.isClosed(facts.predecessor)) break;',
    replacement: 'if (facts.predecessor >= 0) break;',
    tests: [DAMAGED_VICTIMS],
  },
  {
    name: 'a segment goes that alone says where one ends that cannot be emptied',
    file: 'src/compaction/compactor.ts',
    text: 'line.length = 0; // what says where that one ends has to stay',
    replacement: '',
    tests: [DAMAGED_VICTIMS],
  },
  {
    name: 'moves of a round that failed are stated as part of the log',
    file: 'src/compaction/compactor.ts',
    text: `for (const segment of segments) {
      ledger.segments.delete(segment);`,
    replacement: 'for (const segment of segments) {',
    tests: [ORDER],
  },
  // A log without its beginning.
  {
    name: 'an index that is older than what is left of the log is used',
    file: 'src/volume/recovery.ts',
    text: 'index.checkpoint.append < (base?.append ?? 0)',
    replacement: 'index.checkpoint.append < 0 * (base?.append ?? 0)',
    tests: [FOLLOWING],
  },
  {
    name: 'moves that nothing states are kept when the store is opened',
    file: 'src/volume/recovery.ts',
    text: '(stated !== undefined || (await isOfMoves(environment, segment))) leftovers.add(segment);',
    replacement:
      '(stated !== undefined || (await isOfMoves(environment, segment))) ledger.segments.add(segment);',
    tests: [WHOLE_LOG],
  },
  {
    name: 'segments that the catalog of a checkpoint states are not known when the store is opened',
    file: 'src/volume/replay.ts',
    text: 'for (const number of stated?.segments ?? []) this.named.add(number);',
    replacement: '',
    tests: [FOLLOWING, WHOLE_LOG],
  },
  {
    name: 'moves that are younger than the base are not read when the index is made anew beside an open store',
    file: 'src/volume/whole-log.ts',
    text: 'const segments = new Set([...stated, ...this.#moves]);',
    replacement: 'const segments = new Set([...stated]);',
    tests: [FOLLOWING, WHOLE_LOG],
  },
  {
    name: 'catalogs of before the base are taken when a log is replayed',
    file: 'src/volume/replay.ts',
    text: 'if (isKept && entry.kind === ENTRY_CATALOG) continue;',
    replacement: '',
    tests: [inCompaction('planted-replay')],
  },
  {
    name: 'the whole log is replayed in the wrong order: the older place of a chunk counts',
    file: 'src/volume/whole-log.ts',
    text: 'return kept.sort((a, b) => a.header.firstAppend - b.header.firstAppend);',
    replacement: 'return kept.sort((a, b) => b.header.firstAppend - a.header.firstAppend);',
    tests: [WHOLE_LOG],
  },
  {
    name: 'moves are replayed before the chain, whenever they were made',
    file: 'src/volume/whole-log.ts',
    text: 'kept[next]!.header.firstAppend < record.header.append',
    replacement: 'record.header.append > 0',
    tests: [WHOLE_LOG],
  },
  // Full stores.
  {
    name: 'data use the reserve of a full store',
    file: 'src/log/append.ts',
    text: 'return kind === ENTRY_CHUNKS ? SPARE_OF_DATA :',
    replacement: 'return kind === ENTRY_CHUNKS ? 0 :',
    tests: [inLog('full-log'), FULL_STORE],
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
];
