/** Planted bugs of the log: what is packed when, who is told when, syncs, segments and their files, bytes. */

import { type Fault, inLog, inVolume } from './fault.ts';

const CHUNK_LOG = inLog('chunk-log');
const FORMAT = inLog('format');
const TAIL = inLog('tail');
const SEGMENTS = inLog('segments');
const FULL_LOG = inLog('full-log');
const RECOVERY = inVolume('recovery');

export const LOG_FAULTS: readonly Fault[] = [
  {
    name: 'a sync is begun behind one that has failed',
    file: 'src/log/chunk-log.ts',
    text: 'if (this.#syncing === undefined && this.#poison === undefined) this.#syncing',
    replacement: 'if (this.#syncing === undefined) this.#syncing',
    tests: [inLog('quiet')],
  },
  {
    name: 'a segment is begun in a log that is poisoned',
    file: 'src/log/chunk-log.ts',
    text: 'if (this.#poison) throw this.#poison;\n    await this.#roll(this.#segment);',
    replacement: 'await this.#roll(this.#segment);',
    tests: [inLog('quiet')],
  },
  {
    name: 'what was set aside gets before the record that is being written',
    file: 'src/log/append-queue.ts',
    text: 'const behind = this.#head + this.#issued;',
    replacement: 'const behind = this.#head;',
    tests: [FULL_LOG],
  },
  {
    name: 'so many are taken for settled as were told, though some of them have overtaken others',
    file: 'src/log/append-queue.ts',
    text: 'if (this.#isInOrder) return this.#settled;',
    replacement: 'if (this.#settled > 0) return this.#settled;',
    tests: [FULL_LOG],
  },
  {
    name: 'a label is taken when the request arrives',
    file: 'src/log/append.ts',
    text: 'this.target = target;',
    replacement: 'this.target = { label: target.label };',
    tests: [CHUNK_LOG],
  },
  {
    name: 'what is packed behind a change has the label of before it',
    file: 'src/log/record-packer.ts',
    text: 'if (append.kind === ENTRY_CHANGE) break;',
    replacement: '',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a sequence is taken for an entry that keeps its own',
    file: 'src/log/record-packer.ts',
    text: 'append.sequence = append.keptSequence === 0 ? sequence++ : append.keptSequence;',
    replacement: 'append.sequence = sequence++;',
    tests: [RECOVERY],
  },
  {
    name: 'an entry that has failed is also told that it was written',
    file: 'src/log/append.ts',
    text: `this.#reject(error);
      return;`,
    replacement: 'this.#reject(error);',
    tests: [inVolume('disk')],
  },
  {
    name: 'a write is answered before its record is written',
    file: 'src/log/chunk-log.ts',
    text: `await written;
          this.#queue.takeOff();
          issued = appends.some(takesEffect) ? undefined : this.#issueAtOnce();
          this.#queue.tell(appends, undefined);`,
    replacement: `this.#queue.takeOff();
          this.#queue.tell(appends, undefined);
          await written;
          issued = appends.some(takesEffect) ? undefined : this.#issueAtOnce();`,
    tests: [CHUNK_LOG, RECOVERY],
  },
  {
    name: 'the record behind a change is packed before the change has taken effect',
    file: 'src/log/chunk-log.ts',
    text: 'issued = appends.some(takesEffect) ? undefined : this.#issueAtOnce();',
    replacement: 'issued = this.#issueAtOnce();',
    tests: [CHUNK_LOG, inVolume('disk')],
  },
  {
    name: 'a record that the page cache does not take at once is not written at all',
    file: 'src/log/segment-writer.ts',
    text: 'if (!this.file.writeCached(buffers, header.offset)) await this.file.write(buffers, header.offset);',
    replacement: 'this.file.writeCached(buffers, header.offset);',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a flush joins a sync that is already running',
    file: 'src/log/chunk-log.ts',
    text: 'served.settle(undefined);',
    replacement: 'served.settle(undefined);\n      this.#waiters.take().settle(undefined);',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a sync is issued while a record is on its way to the kernel',
    file: 'src/log/chunk-log.ts',
    text: 'await this.#writing?.catch(() => undefined);\n',
    replacement: '',
    tests: [SEGMENTS, CHUNK_LOG],
  },
  {
    name: 'a flush does not sync the segment that is written',
    file: 'src/log/chunk-log.ts',
    text: 'const syncs = Promise.all(targets.map((target) => target.file.datasync()));',
    replacement: 'const syncs = Promise.all(sealed.map((target) => target.file.datasync()));',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a sealed segment is not synced by the next flush, nor is its footer',
    file: 'src/log/chunk-log.ts',
    text: 'this.#unsyncedSealed.push(segment);',
    replacement: '',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a sealed segment may be closed before it is synced: a pin given up early',
    file: 'src/log/chunk-log.ts',
    text: 'this.#unsyncedSealed.push(segment);',
    replacement: 'this.#unsyncedSealed.push(segment);\n    this.#files.unpin(segment.segment);',
    tests: [SEGMENTS],
  },
  {
    name: 'a flush does not wait for its sync',
    file: 'src/log/chunk-log.ts',
    text: 'await syncs;',
    replacement: 'syncs.catch(() => undefined);',
    tests: [CHUNK_LOG],
  },
  {
    name: 'the watermark runs ahead: it has what was written during the sync',
    file: 'src/log/chunk-log.ts',
    text: 'this.#durableAppend = Math.max(this.#durableAppend, upTo);',
    replacement: 'this.#durableAppend = Math.max(this.#durableAppend, this.#writtenAppend);',
    tests: [CHUNK_LOG],
  },
  {
    name: 'poison is ignored by writes after a failed sync',
    file: 'src/log/chunk-log.ts',
    text: 'if (this.#poison) throw this.#poison;\n    if (this.#closed)',
    replacement: 'if (this.#closed)',
    tests: [CHUNK_LOG],
  },
  {
    name: 'poison is ignored by a flush after a failed sync',
    file: 'src/log/chunk-log.ts',
    text: 'if (this.#poison) return Promise.reject(this.#poison);',
    replacement: '',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a failed sync does not poison the log',
    file: 'src/log/chunk-log.ts',
    text: "this.#poisonWith(error, 'syncing the log');\n        served.settle(this.#poison);",
    replacement: "served.settle(fromSystemError(error, 'syncing the log'));",
    tests: [CHUNK_LOG],
  },
  {
    name: 'behind a failed write the segment is written on',
    file: 'src/log/chunk-log.ts',
    text: `} catch (error) {
      this.#abandon(segment);
      throw error;`,
    replacement: `} catch (error) {
      throw error;`,
    tests: [CHUNK_LOG],
  },
  {
    name: 'a closing record is not synced',
    file: 'src/log/chunk-log.ts',
    text: `await this.#issueRecord(this.#segment!, flags);
    await this.flush();`,
    replacement: 'await this.#issueRecord(this.#segment!, flags);',
    tests: [CHUNK_LOG],
  },
  {
    name: 'the tail is not synced before the mark that says it is complete',
    file: 'src/log/chunk-log.ts',
    text: `await this.idle();
    await this.flush();
    await this.#writeClosing(RECORD_TAIL_REWRITTEN);`,
    replacement: `await this.idle();
    await this.#writeClosing(RECORD_TAIL_REWRITTEN);`,
    tests: [inVolume('cut'), RECOVERY],
  },
  {
    name: 'the log is not synced before the record that closes it',
    file: 'src/log/chunk-log.ts',
    text: `await this.flush();
        await this.#writeClosing(RECORD_CLOSING).catch(`,
    replacement: 'await this.#writeClosing(RECORD_CLOSING).catch(',
    tests: [CHUNK_LOG, TAIL, RECOVERY],
  },
  {
    name: 'the watermark moves while the tail is written again',
    file: 'src/log/chunk-log.ts',
    text: 'return this.#rewriteDurable ?? this.#durableAppend;',
    replacement: 'return this.#durableAppend;',
    tests: [TAIL],
  },
  {
    name: 'a new segment does not say where the one before it ends',
    file: 'src/log/chunk-log.ts',
    text: 'predecessorEnd: this.#end?.offset ?? 0,',
    replacement: 'predecessorEnd: segmentBytes,',
    tests: [CHUNK_LOG],
  },
  {
    name: 'a segment made ahead is not synced when it is filled',
    file: 'src/log/segment-supply.ts',
    text: 'if (segment.isFilled) await segment.file.datasync();',
    replacement: '',
    tests: [SEGMENTS],
  },
  {
    name: 'the directory of a new segment is not synced',
    file: 'src/log/segment-supply.ts',
    text: "await this.#storage.syncDirectory('log');",
    replacement: '',
    tests: [CHUNK_LOG, RECOVERY],
  },
  {
    name: 'what is small needs room for a segment, though it fits into the one that is there',
    file: 'src/log/segment-supply.ts',
    text: 'if (isNeeded || rank >= RANK_OF_ZEROS) await',
    replacement: 'await',
    tests: [inLog('full-log')],
  },
  {
    name: 'the capacity is exceeded by a segment',
    file: 'src/log/segment-supply.ts',
    text: 'this.usedBytes + bytes > limitBytes;',
    replacement: 'this.usedBytes + bytes > limitBytes + segmentBytes;',
    tests: [inLog('full-log')],
  },
  {
    name: 'a segment number is taken without a reservation',
    file: 'src/log/segment-supply.ts',
    text: "await this.#numbers.reserve('segments', 1);",
    replacement: '',
    tests: [SEGMENTS],
  },
  {
    name: 'the block that a sync wrote is written again by the next record',
    file: 'src/log/segment-writer.ts',
    text: 'this.#aligned = true;\n    this.isDirty = false;',
    replacement: 'this.isDirty = false;',
    tests: [CHUNK_LOG],
  },
  {
    name: 'zeros are filled over the last record',
    file: 'src/log/segment-writer.ts',
    text: 'const from = Math.max(this.filledTo, roundUp(this.end, SYNC_ALIGN_BYTES));',
    replacement: 'const from = Math.max(this.filledTo, this.end - SYNC_ALIGN_BYTES);',
    tests: [SEGMENTS],
  },
  {
    name: 'a file is closed while it is read: a missing pin',
    file: 'src/log/segment-files.ts',
    text: `open.pins += 1;
    this.#open.delete(segment);`,
    replacement: 'this.#open.delete(segment);',
    tests: [SEGMENTS],
  },
  {
    name: 'the file of the segment that is written is closed by its readers: a missing pin',
    file: 'src/log/segment-files.ts',
    text: '{ file, pins: 1, isGone: false }',
    replacement: '{ file, pins: 0, isGone: false }',
    tests: [SEGMENTS],
  },
  {
    name: 'a read that ends before its segment does is whole',
    file: 'src/log/segment-files.ts',
    text: 'if (bytes < length) {',
    replacement: 'if (bytes < 0) {',
    tests: [SEGMENTS],
  },
  {
    name: 'the checksum of a segment header is not verified',
    file: 'src/log/format.ts',
    text: 'if (crc32c(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)) !== segmentHeaderChecksum(bytes)) return undefined;',
    replacement: '',
    tests: [FORMAT],
  },
  {
    name: 'the segment of another store is taken',
    file: 'src/log/format.ts',
    text: 'if (!found.equals(uuid)) return undefined;',
    replacement: '',
    tests: [FORMAT],
  },
  {
    name: 'a record of another place or of an older life of the file is taken',
    file: 'src/log/format.ts',
    text: 'if (input.u32() !== segment || input.u32() !== offset) return undefined;',
    replacement: 'input.u32();\n  input.u32();',
    tests: [FORMAT],
  },
  {
    name: 'the checksum of a record header does not cover the table',
    file: 'src/log/format.ts',
    text: 'return crc32c(table, crc32c(headerBytes.subarray(0, RECORD_HEADER_BYTES - 4))) === header.checksum;',
    replacement: 'return header.checksum >= 0;',
    tests: [FORMAT, TAIL],
  },
  {
    name: 'the checksum of a trailer is not verified',
    file: 'src/log/format.ts',
    text: 'if (crc32c(bytes.subarray(0, TRAILER_BYTES - 4)) !== bytes.readUInt32BE(TRAILER_BYTES - 4))\n    return undefined;',
    replacement: '',
    tests: [FORMAT],
  },
  {
    name: 'the checksum of a record is not verified when a segment is scanned',
    file: 'src/log/scan.ts',
    text: 'return recordIsWhole(whole, table, header) ? { header, table } : undefined;',
    replacement: 'return { header, table };',
    tests: [TAIL],
  },
  {
    name: 'a segment that is removed while the log is read is an error',
    file: 'src/log/scan.ts',
    text: "if (hasCode(error, 'NOT_FOUND')) return undefined;",
    replacement: '',
    tests: [SEGMENTS],
  },
  {
    name: 'a record is taken whatever it is chained to',
    file: 'src/log/scan.ts',
    text: 'if (record?.header.previousChecksum === previousChecksum) return record;',
    replacement: 'if (record !== undefined) return record;',
    tests: [SEGMENTS, TAIL],
  },
  {
    name: 'the copy of a record is taken whatever it is chained to',
    file: 'src/log/scan.ts',
    text: 'return copied?.header.previousChecksum === previousChecksum ? copied : undefined;',
    replacement: 'return copied;',
    tests: [SEGMENTS, TAIL],
  },
  {
    name: 'the checksum is not verified when a record is known by its copy',
    file: 'src/log/scan.ts',
    text: 'if (table.length === header.tableBytes && recordIsWhole(copy, table, header))',
    replacement: 'if (table.length === header.tableBytes)',
    tests: [SEGMENTS, TAIL],
  },
  {
    name: 'the copy of a damaged header and table is not looked for',
    file: 'src/log/scan.ts',
    text: 'const copied = await this.copyAt(offsets);',
    replacement: 'const copied = await this.copyAt([0]);',
    tests: [TAIL],
  },
  {
    name: 'the second copy of a segment header is not looked at',
    file: 'src/log/scan.ts',
    text: 'for (const copy of [bytes, bytes.subarray(SEGMENT_HEADER_COPY_OFFSET)]) {',
    replacement: 'for (const copy of [bytes]) {',
    tests: [TAIL],
  },
  {
    name: 'the checksums of chunks are not verified when a segment is scanned',
    file: 'src/log/scan.ts',
    text: 'if (chunk.length < CHUNK_BYTES || crc32c(chunk) !== entry.checksums[c]) return c;',
    replacement: 'if (chunk.length < CHUNK_BYTES) return c;',
    tests: [CHUNK_LOG],
  },
];
