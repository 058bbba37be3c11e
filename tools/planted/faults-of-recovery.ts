/** Planted bugs of opening a store: the superblock, the tail of the log and its cut, writing it again, replay. */

import { type Fault, inLog, inVolume } from './fault.ts';

const RECOVERY = inVolume('recovery');
const SUPERBLOCK = inLog('superblock');
const TAIL = inLog('tail');
const CUT = inVolume('cut');
const CLOSED_SEGMENTS = inVolume('closed-segments');

export const RECOVERY_FAULTS: readonly Fault[] = [
  {
    name: 'the header of a segment that takes the place of a tail is not on the disk before its records',
    file: 'src/log/segment-writer.ts',
    text: `this.syncIssued();
    await this.file.datasync();
  }

  /** Takes up`,
    replacement: `this.syncIssued();
  }

  /** Takes up`,
    tests: [inLog('recoveries')],
  },
  {
    name: 'the superblock is written and not synced',
    file: 'src/log/superblock.ts',
    text: `(block.generation % 2) * SLOT_BYTES);
    await file.datasync();`,
    replacement: '(block.generation % 2) * SLOT_BYTES);',
    tests: [SUPERBLOCK, RECOVERY],
  },
  {
    name: 'the superblock of a new store is not synced',
    file: 'src/log/superblock.ts',
    text: `await file.write([slots], 0);
    await file.datasync();`,
    replacement: 'await file.write([slots], 0);',
    tests: [SUPERBLOCK, RECOVERY],
  },
  {
    name: 'the newest copy of the superblock is written over by the process that has only read it',
    file: 'src/log/numbers.ts',
    text: 'await replaceSuperblock(storage, superblock, next);',
    replacement: 'await writeSuperblock(storage, next);',
    tests: [SUPERBLOCK],
  },
  {
    name: 'the name of a new superblock is not synced',
    file: 'src/log/superblock.ts',
    text: `await storage.rename(NEW_SUPERBLOCK_PATH, SUPERBLOCK_PATH);
  await storage.syncDirectory('.');`,
    replacement: 'await storage.rename(NEW_SUPERBLOCK_PATH, SUPERBLOCK_PATH);',
    tests: [SUPERBLOCK],
  },
  {
    name: 'a row of earlier times counts where a chunk has moved and kept its sequence',
    file: 'src/index/pointers.ts',
    text: 'this.sequence(index) >= sequence) return;',
    replacement: 'this.sequence(index) > sequence) return;',
    tests: ['test/index/pointer-index.test.ts'],
  },
  {
    name: 'the newest copy of the superblock is written over',
    file: 'src/log/superblock.ts',
    text: 'await file.write([encodeSuperblock(block)], (block.generation % 2) * SLOT_BYTES);',
    replacement: 'await file.write([encodeSuperblock(block)], ((block.generation + 1) % 2) * SLOT_BYTES);',
    tests: [SUPERBLOCK],
  },
  {
    name: 'the older copy of the superblock counts',
    file: 'src/log/superblock.ts',
    text: '(a.generation > b.generation ? a : b)',
    replacement: '(a.generation < b.generation ? a : b)',
    tests: [SUPERBLOCK],
  },
  {
    name: 'the checksum of a superblock is not compared',
    file: 'src/log/superblock.ts',
    text: 'slot.length >= bytes && crc32c(slot.subarray(0, bytes - 4)) === slot.readUInt32BE(bytes - 4);',
    replacement: 'slot.length >= bytes;',
    tests: [SUPERBLOCK],
  },
  {
    name: 'numbers are used again after a cut',
    file: 'src/log/numbers.ts',
    text: 'numbers.#next[kind] = Math.max(numbers.#next[kind], seen[kind] + 1);',
    replacement: 'numbers.#next[kind] = seen[kind] + 1;',
    tests: [RECOVERY, SUPERBLOCK],
  },
  {
    name: 'numbers are handed out before their reservation is on the disk',
    file: 'src/log/numbers.ts',
    text: `await writeSuperblock(this.#storage, next);
      Object.assign(this.superblock, next);
    });
  }

  /** A rebuild begins at`,
    replacement: `Object.assign(this.superblock, next);
      await writeSuperblock(this.#storage, next);
    });
  }

  /** A rebuild begins at`,
    tests: [SUPERBLOCK],
  },
  {
    name: 'the base is believed before it is on the disk',
    file: 'src/log/numbers.ts',
    text: `await writeSuperblock(this.#storage, next);
      Object.assign(this.superblock, next);
    });
  }

  /** At a clean close`,
    replacement: `Object.assign(this.superblock, next);
      await writeSuperblock(this.#storage, next);
    });
  }

  /** At a clean close`,
    tests: [SUPERBLOCK],
  },
  {
    name: 'the log is not cut across segments: behind a torn end the next one is read on',
    file: 'src/log/tail.ts',
    text: 'this.torn = await scanner.hasBytesBehind(end);\n          return false;',
    replacement: 'this.torn = await scanner.hasBytesBehind(end);\n          return next !== undefined;',
    tests: [TAIL],
  },
  {
    name: 'the watermark is ignored: a synced record that was lost is taken for the end of the log',
    file: 'src/log/tail.ts',
    text: "if (proven < expected) return 'end';",
    replacement: "if (proven < Infinity) return 'end';",
    tests: [TAIL],
  },
  {
    name: 'the watermark is ignored: what nothing vouches for is taken unseen',
    file: 'src/log/tail.ts',
    text: 'if (record.header.append > this.durable) break;',
    replacement: '',
    tests: [TAIL],
  },
  {
    name: 'the checksums of the unproven tail are not verified',
    file: 'src/log/tail.ts',
    text: 'if (!(await scanner.payloadIsWhole(entriesOf(record)))) {',
    replacement: 'if (entriesOf(record).length < 0) {',
    tests: [TAIL],
  },
  {
    name: 'behind a torn record a whole one is taken',
    file: 'src/log/tail.ts',
    text: `this.torn = true;
          break;`,
    replacement: `this.torn = true;
          continue;`,
    tests: [TAIL],
  },
  {
    name: 'a tail that was written again counts without its mark',
    file: 'src/log/tail.ts',
    text: '(candidate.flags & SEGMENT_REWRITES_TAIL) === 0 || (await this.#isRewritten(candidate))',
    replacement: '(candidate.flags & SEGMENT_REWRITES_TAIL) >= 0 || (await this.#isRewritten(candidate))',
    tests: [TAIL, RECOVERY],
  },
  {
    name: 'the older of two segments with the same predecessor counts',
    file: 'src/log/tail.ts',
    text: 'candidates.sort((a, b) => b.segment - a.segment);',
    replacement: 'candidates.sort((a, b) => a.segment - b.segment);',
    tests: [TAIL, RECOVERY],
  },
  {
    name: 'records of a footer count beyond the end that the next segment states',
    file: 'src/log/tail.ts',
    text: 'if (footer !== undefined && endOf(footer) === limit) {',
    replacement: 'if (footer !== undefined && endOf(footer) >= limit) {',
    tests: [CUT, TAIL],
  },
  {
    name: 'files that prove that synced records are missing are leftovers',
    file: 'src/log/tail.ts',
    text: 'if ((await this.#highestWatermark(segment)) <= (this.end?.append ?? 0)) continue;',
    replacement: 'if ((await this.#highestWatermark(segment)) <= Infinity) continue;',
    tests: [TAIL, RECOVERY],
  },
  {
    name: 'the tail is not written again after an unclean end',
    file: 'src/volume/recovery.ts',
    text: `const end = resume === undefined ? tail.provenEnd : tail.end;
  const rewrite =
    resume === undefined && (unproven.length > 0 || (await goesOnBehindCut(storage, uuid, tail)));`,
    replacement: `const end = tail.end;
  const rewrite = resume === undefined && unproven.length < 0;`,
    tests: [RECOVERY],
  },
  {
    name: 'a record whose write failed comes back when the segment behind it is gone',
    file: 'src/volume/recovery.ts',
    text: '(unproven.length > 0 || (await goesOnBehindCut(storage, uuid, tail)));',
    replacement: 'unproven.length > 0;',
    tests: [CUT],
  },
  {
    name: 'what is written again gets new sequences',
    file: 'src/volume/recovery.ts',
    text: `const append = Append.chunks(moved, entry, entry.first, entry.count, [bytes], entry.sequence);`,
    replacement: `const append = Append.chunks(moved, entry, entry.first, entry.count, [bytes]);`,
    tests: [RECOVERY],
  },
  {
    name: 'zeros are not written again with the tail',
    file: 'src/volume/recovery.ts',
    text: `case ENTRY_ZEROS:
            log.submit(Append.zeros(last, entry, entry.first, entry.count, entry.sequence));
            await last.promise;
            break;`,
    replacement: `case ENTRY_ZEROS:
            break;`,
    tests: [RECOVERY],
  },
  {
    name: 'the checksums of the tail are not verified when it is written again',
    file: 'src/volume/recovery.ts',
    text: `if (append.checksums.some((checksum, i) => checksum !== entry.checksums[i]))`,
    replacement: `if (append.checksums.some((checksum) => checksum < 0))`,
    tests: [RECOVERY],
  },
  {
    name: 'pointers go on to the old tail, which is removed',
    file: 'src/volume/recovery.ts',
    text: 'if (error || node === undefined) return;',
    replacement: 'if (error || node === undefined || append.first >= 0) return;',
    tests: [RECOVERY],
  },
  {
    name: 'what lies behind the cut stays there',
    file: 'src/volume/recovery.ts',
    text: 'await removeSegments(storage, leftovers);',
    replacement: '',
    tests: [RECOVERY],
  },
  {
    name: 'segments behind the cut are removed and their directory is not synced',
    file: 'src/volume/recovery.ts',
    text: `await storage.remove(segmentPath(segment));
  await storage.syncDirectory('log');`,
    replacement: 'await storage.remove(segmentPath(segment));',
    tests: [CUT],
  },
  {
    name: 'a closing record is trusted without a sync of this process',
    file: 'src/volume/recovery.ts',
    text: `await file.write([encodeEmptyRecord({ ...closing }, uuid)], closing.offset);
      await file.datasync();`,
    replacement: 'await file.write([encodeEmptyRecord({ ...closing }, uuid)], closing.offset);',
    tests: [CUT],
  },
  {
    name: 'a closing record is synced and not written over first',
    file: 'src/volume/recovery.ts',
    text: 'await file.write([encodeEmptyRecord({ ...closing }, uuid)], closing.offset);',
    replacement: '',
    tests: [RECOVERY],
  },
  {
    name: 'a store with a lost segment is opened, and the rest thrown away',
    file: 'src/volume/recovery.ts',
    text: 'if (lost !== undefined) {',
    replacement: 'if (lost !== undefined && damage.length === 0) {',
    tests: [RECOVERY],
  },
  {
    name: 'a log that ends before what was synced is gone on with',
    file: 'src/volume/recovery.ts',
    text: 'if (end >= synced) return;',
    replacement: 'if (end >= 0) return;',
    tests: [inVolume('log-gone')],
  },
  {
    name: 'a store whose log is not there is taken for an empty one',
    file: 'src/volume/store-parts.ts',
    text: 'if (fs.existsSync(path.join(directory, LOG_PATH))) return;',
    replacement: 'if (directory.length > 0) return;',
    tests: [inVolume('log-gone')],
  },
  {
    name: 'an index that is ahead of the log is taken',
    file: 'src/volume/recovery.ts',
    text: 'if (isFirst && (header.offset !== offset || header.append !== append)) break;',
    replacement: 'if (isFirst && header.append < 0) break;',
    tests: [inVolume('checkpoint')],
  },
  {
    name: 'a catalog counts before its last part',
    file: 'src/volume/catalog-parts.ts',
    text: 'if ((flags & CATALOG_LAST) === 0) return undefined;',
    replacement: '',
    tests: [inVolume('replay'), RECOVERY],
  },
  {
    name: 'writes between two parts of a catalog are lost on replay',
    file: 'src/volume/replay.ts',
    text: `for (const { segment, entry: waiting } of this.#waiting) this.#applyTo(catalog, segment, waiting);`,
    replacement: ``,
    tests: [inVolume('replay'), RECOVERY],
  },
  {
    name: 'writes that waited for the end of a catalog are looked for in the segment where it ends',
    file: 'src/volume/replay.ts',
    text: 'for (const { segment, entry: waiting } of this.#waiting) this.#applyTo(catalog, segment, waiting);',
    replacement:
      'for (const { entry: waiting } of this.#waiting) this.#applyTo(catalog, this.#waiting.at(-1)!.segment, waiting);',
    tests: [inVolume('replay'), RECOVERY],
  },
  {
    name: 'zeros are dropped on replay',
    file: 'src/volume/replay.ts',
    text: 'if (node !== undefined)\n          this.#overlays',
    replacement: 'if (node !== undefined && entry.count < 0)\n          this.#overlays',
    tests: [inVolume('replay'), RECOVERY, inVolume('index-keeper')],
  },
  {
    name: 'replay forgets the labels that it has seen',
    file: 'src/volume/replay.ts',
    text: 'for (const label of labelsOf(change)) this.label = Math.max(this.label, label);',
    replacement: '',
    tests: [inVolume('replay'), RECOVERY],
  },
  {
    name: 'the path to the ancestors is lost when a catalog is read back',
    file: 'src/volume/catalog-parts.ts',
    text: 'catalog.tree.add(label, parent, birth, tree);',
    replacement: 'catalog.tree.add(label, parent * 0, birth, tree);',
    tests: [inVolume('index-keeper'), RECOVERY],
  },
  {
    name: 'a change that stands in the catalog is applied again on replay',
    file: 'src/volume/catalog.ts',
    text: 'if (sequence <= this.sequence) return; // read again on replay',
    replacement: '',
    tests: [inVolume('replay'), RECOVERY],
  },
  {
    name: 'what was moved is removed though the catalog that states it may be in the log',
    file: 'src/volume/catalog-append.ts',
    text: 'const wasHandedOver = parts.at(-1)?.isPacked === true;',
    replacement: 'const wasHandedOver = false;',
    tests: [inVolume('moves-replay')],
  },
  {
    name: 'holes of versions without ancestors are dropped before all has been replayed that they may hide',
    file: 'src/volume/index-builder.ts',
    text: 'viewOf(this.replay.catalog!), true);',
    replacement: 'viewOf(this.replay.catalog!), false);',
    tests: [inVolume('moves-replay')],
  },
  {
    name: 'what earlier parts of a replay have zeroed is forgotten where there are no rows yet',
    file: 'src/volume/index-builder.ts',
    text: 'this.#overlays.active.goOnBehind(part);',
    replacement: 'part.labels(0, 0);',
    tests: [inVolume('moves-replay')],
  },
  {
    name: 'a segment goes though the footer of the one before it, which an earlier process has left, may not be on the disk',
    file: 'src/compaction/segment-table.ts',
    text: 'if (this.#ends.get(segment)?.epoch !== scanner.header.epoch) {',
    replacement: 'if (scanner.header.epoch < 0) {',
    tests: [CLOSED_SEGMENTS],
  },
  {
    name: 'a footer that an earlier process has left is written again and not synced',
    file: 'src/compaction/segment-table.ts',
    text: 'await file.datasync();',
    replacement: '',
    tests: [CLOSED_SEGMENTS],
  },
  {
    name: 'a part of a replay is written though it leads to what goes with the tail',
    file: 'src/volume/recovery.ts',
    text: 'if (unproven.length === 0 && builder.isFull)',
    replacement: 'if (isProven && builder.isFull)',
    tests: [inVolume('moves-replay')],
  },
];
