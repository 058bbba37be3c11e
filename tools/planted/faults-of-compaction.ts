/**
 * Planted bugs of compaction: what is moved and when it counts, how the index follows, which zeros and labels are kept, when
 * files go, what a log without its beginning says.
 */

import { type Fault, inCompaction, inIndex, inLog, inVolume } from './fault.ts';

const MOVER = inCompaction('mover');
const KEPT_ZEROS = inCompaction('kept-zeros');
const DAMAGED_VICTIMS = inCompaction('damaged-victims');
const ORDER = inCompaction('planted-order');
const FOLLOWING = inVolume('compaction-following');
const COMPACTION = inVolume('compaction');
const FULL_STORE = inVolume('full-store');
const WHOLE_LOG = inVolume('whole-log');
const RELOCATE = inIndex('relocate');
const MOVES_REPLAY = inVolume('moves-replay');

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
    text: 'coder.write(out, false, sequences[first]!,',
    replacement: 'coder.write(out, false, sequences[first]! + 1,',
    tests: [MOVER],
  },
  {
    name: 'the checksum of a chunk that is moved is not compared',
    file: 'src/compaction/mover.ts',
    text: 'if (mayBeMoved(payload.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES), checksums[chunk]!)) return;',
    replacement: 'if (checksums[chunk]! >= 0) return;',
    tests: [MOVER],
  },
  {
    name: 'what was moved is not read back',
    file: 'src/compaction/mover.ts',
    text: '        await writer.verify(record, chunks);\n',
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
    file: 'src/compaction/live-chunks.ts',
    text: '      if (!isHere(c)) continue;',
    replacement: '',
    tests: [COMPACTION],
  },
  {
    name: 'what has been written over since the checkpoint is copied',
    file: 'src/compaction/live-chunks.ts',
    text: 'this.#addOverlays(block, tree, region, label);',
    replacement: '',
    tests: [ORDER],
  },
  {
    name: 'a segment is emptied whose records are not in the index yet: what lives in it is taken for dead',
    file: 'src/compaction/compactor.ts',
    text: ': segment < checkpoint.segment;',
    replacement: ': segment > 0;',
    tests: [DAMAGED_VICTIMS, FULL_STORE, COMPACTION],
  },
  {
    name: 'a segment of moves is emptied before a checkpoint leads to it',
    file: 'src/compaction/compactor.ts',
    text: 'return facts.isMoves ? this.#isSettled(segment) : segment < checkpoint.segment;',
    replacement: 'return facts.isMoves || segment < checkpoint.segment;',
    tests: [ORDER],
  },
  {
    name: 'a segment of moves that recovery has followed is emptied before a checkpoint leads to it',
    file: 'src/compaction/compactor.ts',
    text: 'for (const segment of followed) this.#settling.set(segment, host.freezes);',
    replacement: '',
    tests: [ORDER],
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
    file: 'src/compaction/live-chunks.ts',
    text: 'live.add(label, chunks[c]!,',
    replacement: 'live.add(from, chunks[c]!,',
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
    file: 'src/compaction/live-chunks.ts',
    text: 'if (!(await this.#isWrittenOver(each, index))) needed.push(each);',
    replacement: 'await this.#isWrittenOver(each, index);',
    tests: [WHOLE_LOG],
  },
  {
    name: 'pointers of the region that was looked up before in its place stay',
    file: 'src/index/pinned-index.ts',
    text: '      block.reset();\n',
    replacement: '',
    tests: [WHOLE_LOG, inIndex('lost-rows')],
  },
  {
    name: 'a tombstone is dropped early: a write over the first chunk of zeros takes all of them',
    file: 'src/compaction/live-chunks.ts',
    text: 'if (block.segment(at) === 0 || block.sequence(at) <= sequence) return false;',
    replacement: 'if (block.segment(at) === 0 || block.sequence(at) <= sequence) return chunk > first;',
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
    name: 'pages of other versions follow',
    file: 'src/index/move.ts',
    text: 'if (block.segment(index) !== segment || block.offset(index) !== offset) return;',
    replacement: '',
    tests: [FOLLOWING],
  },
  {
    name: 'what was moved wins over newer writes: sequences are not compared',
    file: 'src/index/change-table.ts',
    text: 'if (sequenceOf(piece, at) <= run.sequence) fill(piece, at, run, i);',
    replacement: 'fill(piece, at, run, i);',
    tests: [inIndex('change-table'), RELOCATE],
  },
  {
    name: 'what has left the index comes back: a round does not ask whether rows are as they were',
    file: 'src/volume/index-keeper.ts',
    text: 'if (index.moment !== moment) {',
    replacement: 'if (index.moment === undefined) {',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'rows that a batch has changed are taken for what they were',
    file: 'src/index/pointer-index.ts',
    text: `      this.#batches += 1;
      this.#moment = Symbol('moment');`,
    replacement: '      this.#batches += 1;',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'a commit adds rows and merges none',
    file: 'src/index/region-merge.ts',
    text: 'const rewrite = cleared > 0 || own.length >= VERSION_ROWS_MAX ||',
    replacement: 'const rewrite = cleared > 0 ||',
    tests: [RELOCATE],
  },
  {
    name: 'pages in memory do not follow',
    file: 'src/volume/compaction-host.ts',
    text: 'announce, onRelocated);',
    replacement: 'announce, () => undefined);',
    tests: [FOLLOWING],
  },
  {
    name: 'pointers follow before the catalog that states the moves is on the disk',
    file: 'src/volume/compaction-host.ts',
    text: 'await recovered.log.flush();',
    replacement: '',
    tests: [FOLLOWING],
  },
  {
    name: 'a checkpoint begins between the catalog that states the moves and the pointers that follow',
    file: 'src/volume/index-keeper.ts',
    text: `      await announce().catch((error: unknown) => {
        // Recovery would look for what was moved where rows had it.
        if (!hasCode(error, 'NO_SPACE')) this.#mayStateMoves = true;
        throw error;
      });
      // What a checkpoint that failed has left is committed first, and takes rows away: what it trims must not come back.
      const { active, frozen } = this.overlays;
      if (frozen !== undefined) still = frozen.withoutNewer(still);
      // Chunks are found where they were, or where they are now: both are there as long as this is not over.
      for (const part of partsOf(still, MOVES_AT_ONCE)) {
        active.putMoves(part);
        onLed(part);
        await othersFirst();
      }
    });
`,
    replacement: `    });
    await announce();
    this.overlays.active.putMoves(moves);
    onLed(moves);
`,
    tests: [MOVES_REPLAY],
  },
  {
    name: 'a round begins with a base that does not know who has taken over what versions had',
    file: 'src/volume/compaction-host.ts',
    text: 'if (keeper.catalogChanged()) await keeper.checkpoint();',
    replacement: '',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'what a checkpoint that failed has trimmed comes back with the moves',
    file: 'src/volume/index-keeper.ts',
    text: 'if (frozen !== undefined) still = frozen.withoutNewer(still);',
    replacement: 'if (frozen === undefined) still = active.withoutNewer(still);',
    tests: [inVolume('trims-beside-rounds')],
  },
  {
    name: 'moves are stated before the catalog that says so is in the log',
    file: 'src/log/segment-ledger.ts',
    text: 'const ledger = this.copy();',
    replacement: 'const ledger: SegmentLedger = this;',
    tests: [inLog('segment-ledger')],
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
    name: 'files go while an index is made anew from them',
    file: 'src/compaction/compactor.ts',
    text: 'await this.#host.repaired(); // one that began before reads the log from the old base',
    replacement: '',
    tests: [ORDER],
  },
  {
    name: 'a retired segment is removed though rows lead to it and nothing stands above them',
    file: 'src/compaction/compactor.ts',
    text: '(segment) => this.#emptied.has(segment) || index.usage.of(segment) === 0,',
    replacement: '(segment) => ledger.retired.has(segment),',
    tests: [ORDER],
  },
  {
    name: 'files of retired segments stay until a checkpoint leads elsewhere',
    file: 'src/compaction/compactor.ts',
    text: 'for (const segment of live.explained) this.#emptied.add(segment);',
    replacement: '',
    tests: [ORDER],
  },
  {
    name: 'removed segments are forgotten before their names are off the disk',
    file: 'src/compaction/compactor.ts',
    text: "await storage.syncDirectory('log');",
    replacement: '',
    tests: [ORDER],
  },
  {
    name: 'a victim is retired though rows lead to more of it than its records explain',
    file: 'src/compaction/live-chunks.ts',
    text: 'if (is === stated) explained.add(segment);',
    replacement: 'if (is <= stated) explained.add(segment);',
    tests: [ORDER],
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
    name: 'moves may be victims while pointers follow',
    file: 'src/compaction/compactor.ts',
    text: 'for (const segment of moves) this.#settling.set(segment, Number.POSITIVE_INFINITY);',
    replacement: '',
    tests: [inCompaction('planted-order')],
  },
  {
    name: 'a round that waited takes moves for victims that pointers have just followed',
    file: 'src/compaction/compactor.ts',
    text: ' && this.isEligible(each)',
    replacement: '',
    tests: [inCompaction('planted-order')],
  },
  {
    name: 'moves are removed though the catalog that states them may be in the log',
    file: 'src/compaction/compactor.ts',
    text: "if (hasCode(error, 'NO_SPACE')) await this.#abandon(moves);",
    replacement: 'await this.#abandon(moves);',
    tests: [ORDER],
  },
  {
    name: 'moves of a round that a full log has refused stay',
    file: 'src/compaction/compactor.ts',
    text: "if (hasCode(error, 'NO_SPACE')) await this.#abandon(moves);",
    replacement: '',
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
    text: '(newest !== undefined || (await isOfMoves(environment, segment))) leftovers.add(segment);',
    replacement: `(newest !== undefined || (await isOfMoves(environment, segment)))
      ledger.segments.add(segment);`,
    tests: [WHOLE_LOG],
  },
  {
    name: 'retired segments are removed when the store is opened: the chain goes through them',
    file: 'src/volume/recovery.ts',
    text: 'if (newest?.retired.has(segment)) ledger.retired.add(segment);',
    replacement: 'if (newest?.retired.has(segment)) leftovers.add(segment);',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'segments that the newest catalog states are not known when the store is opened',
    file: 'src/volume/recovery.ts',
    text: 'const named = new Set([...(newest?.segments ?? []), ...tail.segments]);',
    replacement: 'const named = new Set(tail.segments);',
    tests: [FOLLOWING, WHOLE_LOG],
  },
  {
    name: 'the catalog of the base says which segments there are when the index is made anew, not the newest',
    file: 'src/volume/whole-log.ts',
    text: 'const segments = this.newest?.segments ?? [];',
    replacement: 'const segments = this.stated?.segments ?? [];',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'segments that were begun when the catalog of the base was on its way are not read',
    file: 'src/volume/whole-log.ts',
    text: 'const begun = await unstatedUpTo(place, base.segment, newest.segments);',
    replacement: 'const begun: number[] = [];',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'segments that were begun when the catalog of the checkpoint was on its way are strangers when the store is opened',
    file: 'src/volume/recovery.ts',
    text: 'if (stated !== undefined && catalogCount === 1)',
    replacement: 'if (stated !== undefined && catalogCount === 0)',
    tests: [MOVES_REPLAY],
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
  // Recovery behind a round.
  {
    name: 'recovery does not follow what was moved behind the checkpoint',
    file: 'src/volume/moves-replay.ts',
    text: 'return [...(newest?.segments ?? [])].filter(',
    replacement: 'return [...(stated?.segments ?? [])].filter(',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'recovery follows only the first of several segments of moves',
    file: 'src/volume/moves-replay.ts',
    text: 'followed.add(segment);',
    replacement: `followed.add(segment);
      break;`,
    tests: [MOVES_REPLAY],
  },
  {
    name: 'recovery follows what has left the index since it was found',
    file: 'src/volume/moves-replay.ts',
    text: 'overlay.putMoves(await index.stillThere(await movesOf(segment, records, catalog)));',
    replacement: 'overlay.putMoves(await movesOf(segment, records, catalog));',
    tests: [MOVES_REPLAY],
  },
  {
    name: 'a catalog of a tail that is written again is appended as it was, with segments that go',
    file: 'src/volume/recovery.ts',
    text: `            hasCatalog = true;
            break;`,
    replacement: `            log.submit(Append.catalog(last, entry.text, entry.flags));
            await last.promise;
            break;`,
    tests: [MOVES_REPLAY],
  },
  {
    name: 'a tail that is written again loses its catalog: moves that it stated are left over',
    file: 'src/volume/recovery.ts',
    text: 'if (hasCatalog) await appendCatalog(log, replay.catalog!, ledger);',
    replacement: '',
    tests: [MOVES_REPLAY],
  },
];
