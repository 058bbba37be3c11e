/**
 * What must be true, kept across all lives of a run. It sees what is handed to the disk (records, in order) and what
 * the clients ask and are answered, and holds one against the other:
 *
 * - every entry is the write of a client that is under way, over what its version has, under the label of the head;
 *   an answered write has been handed over whole; sequences, append numbers, labels and segments are never used twice;
 * - after recovery the store is the state at exactly the cut that it reports: every version, every chunk. The cut lies
 *   at or behind all that was flushed, behind a kill all that was answered. A write that failed is in it or is not,
 *   once and for good. What recovery appends again is what was there.
 *
 * Bytes belong to whoever wrote them: the buffers of records are kept, not copied.
 */

import { CHUNK_BYTES } from '../../src/base/units.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS } from '../../src/log/entries.ts';
import {
  decodeSegmentHeader,
  RECORD_CLOSING,
  RECORD_FOOTER,
  type RecordHeader,
  segmentOfName,
  SEGMENT_MOVES,
} from '../../src/log/format.ts';
import { type Change, labelsOf } from '../../src/volume/change.ts';
import type { TestExtent } from '../delta/streams.ts';
import { ClientWrite, ClientWrites } from './client-write.ts';
import type { Witness } from './machine.ts';
import type { Marks } from './marks.ts';
import { recordIn, sameEntry, type SeenRecord } from './records.ts';
import { Reading } from './reading.ts';
import {
  Contradiction,
  differenceFrom,
  type Found,
  type Version,
  Versions,
  type WrittenEntry,
  ZEROS,
} from './versions.ts';

export class Violation extends Error {
  override readonly name = 'Violation';
}

type RecordState = 'issued' | 'written' | 'failed';

interface Replaced {
  volume: string;
  chunk: number;
  bytes: Buffer;
}

interface LogRecord {
  header: RecordHeader;
  entries: WrittenEntry[];
  state: RecordState;
  /** The life that has written it. */
  life: number;
  /** What the chunks had before, as long as the record is on its way. */
  replaced: Replaced[];
}

/** Failed records that follow each other and may appear together. */
const FAILED_MAX = 3;

export class Oracle implements Witness {
  readonly #uuid: Buffer;
  readonly #marks: Marks;
  /** As of the last recovery; and with all that was handed over since and has not failed. */
  #base = new Versions();
  live = new Versions();
  /** What may have been recovered just as well: a rollback that failed, of what had not changed, is only known by its label. */
  #twins: Versions[] = [];
  #journal: LogRecord[] = [];
  /** Everything ever handed over, by sequence; what a cut has cut off is dead. */
  readonly #entries = new Map<number, WrittenEntry>();
  readonly #dead = new Set<number>();
  readonly #records = new Map<number, SeenRecord>();
  #highest = { sequence: 0, append: 0, label: 0 };
  /** Segments that were made, and those of them that hold moves: nothing of that is new. */
  readonly #made = new Set<number>();
  readonly #moves = new Set<number>();
  phase: 'recovering' | 'serving' | 'closing' = 'recovering';
  #life = 1;
  /** The last life in which clients were served. */
  #servedLife = 0;
  readonly #writes = new ClientWrites();
  readonly #readings = new Set<Reading>();
  /** What is sent to a receive, by its UUID. */
  readonly frames = new Map<string, TestExtent[][]>();
  /** Everything up to here was flushed; everything up to there was answered. */
  flushed = 0;
  answered = 0;
  /** The cut of the last recovery. */
  cut = 0;
  violation: Violation | undefined;

  constructor(uuid: Buffer, marks: Marks) {
    this.#uuid = uuid;
    this.#marks = marks;
  }

  /** Notes the first thing that is wrong. */
  fail(what: string): void {
    this.violation ??= new Violation(`${what}\n${this.#story}`);
  }

  /** What has been handed over since the last recovery, for whoever looks for the reason. */
  get #story(): string {
    const lines = this.#journal.slice(-40).map(({ header, entries, state, life }) => {
      const what = entries.map((entry) => `${entry.sequence}${describe(entry)}`).join(' ');
      return `  life ${life}, append ${header.append} at ${header.segment}:${header.offset} ${state}: ${what}`;
    });
    const { cut, flushed, answered, phase } = this;
    return [
      `cut ${cut}, flushed ${flushed}, answered ${answered}, life ${this.#life} ${phase}`,
      ...lines,
    ].join('\n');
  }

  #check(holds: boolean, what: string): void {
    if (!holds) this.fail(what);
  }

  // --- what the disk sees ---

  creating(path: string): void {
    const segment = segmentOfName(path.slice('log/'.length));
    if (segment === undefined) return;
    this.#check(!this.#made.has(segment), `segment ${segment} is made a second time`);
    this.#made.add(segment);
  }

  writing(path: string, position: number, bytes: Buffer): (ok: boolean) => void {
    let seen: SeenRecord | undefined;
    const segment = segmentOfName(path.slice('log/'.length));
    if (segment !== undefined && position === 0) {
      const header = decodeSegmentHeader(bytes, this.#uuid);
      if (((header?.flags ?? 0) & SEGMENT_MOVES) !== 0) this.#moves.add(segment);
    }
    if (segment !== undefined && this.#moves.has(segment)) return () => undefined;
    try {
      seen = recordIn(path, position, bytes, this.#uuid);
    } catch (error) {
      this.fail((error as Error).message);
    }
    if (seen === undefined) return () => undefined;
    if ((seen.header.flags & RECORD_FOOTER) !== 0) {
      this.#marks.hit('segment sealed');
      return () => undefined;
    }
    const record = this.#take(seen);
    return (ok) => this.#ended(record, ok);
  }

  #take(seen: SeenRecord): LogRecord {
    const { header, entries } = seen;
    const { append } = header;
    if (append <= this.#highest.append) this.#checkSame(seen);
    else this.#highest.append = append;
    if ((header.flags & RECORD_CLOSING) !== 0 && this.phase === 'serving')
      this.#marks.hit('closing record in a quiet moment');
    this.#records.set(append, seen);
    const record: LogRecord = { header, entries: [], state: 'issued', life: this.#life, replaced: [] };
    for (const entry of entries) {
      if (entry.sequence <= this.#highest.sequence) {
        this.#checkAgain(entry);
        continue;
      }
      this.#highest.sequence = entry.sequence;
      this.#entries.set(entry.sequence, entry);
      this.#check(
        this.phase !== 'recovering' || entry.kind === ENTRY_CATALOG,
        'recovery appends what nobody has written',
      );
      this.#attribute(entry, record);
      record.entries.push(entry);
    }
    if (record.entries.length > 1) this.#marks.hit('record of several entries');
    if (record.entries.length > 0) this.#journal.push(record);
    return record;
  }

  /** A record may be written again only where it stands and as it is. */
  #checkSame({ header }: SeenRecord): void {
    const before = this.#records.get(header.append)?.header;
    const isSame = before?.checksum === header.checksum && before.offset === header.offset;
    this.#check(isSame, `append number ${header.append} is used a second time`);
    if (isSame) this.#marks.hit('opened: went on in the same segment');
  }

  #checkAgain(entry: WrittenEntry): void {
    const before = this.#entries.get(entry.sequence);
    const { sequence } = entry;
    if (before === undefined) this.fail(`sequence ${sequence} comes behind ${this.#highest.sequence}`);
    else if (this.#dead.has(sequence)) this.fail(`sequence ${sequence} was cut off, and is used again`);
    else if (this.phase !== 'recovering') this.fail(`sequence ${sequence} is used a second time`);
    else if (!sameEntry(before, entry)) this.fail(`sequence ${sequence} is not appended again as it was`);
  }

  /** Whose entry it is; and what it changes. */
  #attribute(entry: WrittenEntry, record: LogRecord): void {
    if (entry.kind === ENTRY_CATALOG) return;
    if (entry.kind === ENTRY_CHANGE) {
      const change = JSON.parse(entry.text) as Change;
      for (const label of labelsOf(change)) {
        this.#check(label > this.#highest.label, `label ${label} is used a second time`);
        this.#highest.label = Math.max(this.#highest.label, label);
      }
      if (change.op === 'resize' && change.cut !== null) {
        const { first, count } = change.cut;
        for (const reading of this.#readings) reading.addZeros(change.volume, first, first + count);
        // Until it has taken effect, what is cut off may still be read.
        for (const [chunk, bytes] of this.live.heads.get(change.volume)!.chunks)
          if (chunk >= first) record.replaced.push({ volume: change.volume, chunk, bytes });
      }
      this.live.apply(entry);
      return;
    }
    const twin = this.#twins.find(({ byLabel }) => byLabel.get(entry.label)?.volume !== undefined);
    if (!this.live.byLabel.has(entry.label) && twin !== undefined) {
      this.#base = twin;
      this.live = this.#replayed(() => false, Number.MAX_SAFE_INTEGER);
    }
    const version = this.live.byLabel.get(entry.label);
    if (version?.volume === undefined) {
      this.fail(`sequence ${entry.sequence} is written to version ${entry.label}, which is no head`);
      return;
    }
    for (let i = 0; i < entry.count; i++) {
      const bytes = entry.kind === ENTRY_CHUNKS ? entry.chunks[i]! : ZEROS;
      this.#attributeChunk(version, entry.first + i, bytes, entry);
      record.replaced.push({
        volume: version.volume,
        chunk: entry.first + i,
        bytes: version.chunks.get(entry.first + i) ?? ZEROS,
      });
      for (const reading of this.#readings) reading.add(version.volume, entry.first + i, bytes);
    }
    this.live.apply(entry);
  }

  /** Zeros are like each other: of those who zero a chunk, the one whose range is the entry's is asked first, then who has all of it. */
  #attributeChunk(version: Version, chunk: number, bytes: Buffer, entry: WrittenEntry): void {
    const { first, count, sequence } = entry;
    const before = version.chunks.get(chunk) ?? ZEROS;
    const takers = [...this.#writes].filter(({ missing }) => missing.has(chunk));
    takers.push(...[...this.#writes].filter((write) => write.hasTwin && write.covers(write.volume, chunk)));
    takers.sort((a, b) => b.likeness(first, count) - a.likeness(first, count));
    for (const write of takers) {
      if (write.volume !== version.volume) continue;
      if (!isMerged(write, version.sizeBytes, chunk, before, bytes)) continue;
      write.missing.delete(chunk);
      write.sequence = Math.max(write.sequence, sequence);
      return;
    }
    const asked = [...this.#writes]
      .filter((write) => write.volume === version.volume)
      .map(
        ({ offset, lengthBytes, bytes, missing }) =>
          `${bytes ? 'write' : 'zero'} ${offset}+${lengthBytes} (${[...missing].join(' ')})`,
      );
    this.fail(
      `sequence ${sequence}: chunk ${chunk} of ${version.name} gets bytes that nobody is writing; asked: ${asked.join(', ')}`,
    );
  }

  #ended(record: LogRecord, ok: boolean): void {
    record.state = ok ? 'written' : 'failed';
    // The store takes notice in this turn; until then, who reads sees what was there.
    setImmediate(() => void (record.replaced.length = 0));
    if (!ok && record.entries.length > 0) this.live = this.#replayed(() => false, Number.MAX_SAFE_INTEGER);
  }

  /** The last recovery and the journal up to a cut; of the failed records those that `takes` answers for. */
  #replayed(takes: (record: LogRecord) => boolean, upTo: number): Versions {
    const versions = this.#base.copy();
    for (const record of this.#journal) {
      if (record.state === 'failed' && !takes(record)) continue;
      for (const entry of record.entries) {
        const isKnown =
          entry.kind === ENTRY_CHANGE || entry.kind === ENTRY_CATALOG || versions.byLabel.has(entry.label);
        if (entry.sequence <= upTo && isKnown) versions.apply(entry);
      }
    }
    return versions;
  }

  /** The same; undefined if what was written behind the failed records says that they did not happen. */
  #possible(takes: (record: LogRecord) => boolean, upTo: number): Versions | undefined {
    try {
      return this.#replayed(takes, upTo);
    } catch (error) {
      if (error instanceof Contradiction) return undefined;
      throw error;
    }
  }

  // --- what the clients see ---

  beginWrite(volume: string, offset: number, lengthBytes: number, bytes: Buffer | undefined): ClientWrite {
    const write = new ClientWrite(volume, offset, lengthBytes, bytes);
    if (this.#writes.meets(write)) this.#marks.hit('two writes to one chunk at once');
    this.#writes.add(write);
    return write;
  }

  endWrite(write: ClientWrite, ok: boolean, isFlushed: boolean): void {
    this.#writes.end(write, ok);
    if (!ok) return;
    this.#check(write.missing.size === 0, 'a write was answered that the disk has not been given');
    this.#check(!this.#isPending(write.sequence), 'a write was answered before the disk had it');
    this.answered = Math.max(this.answered, write.sequence);
    if (isFlushed) this.flushed = Math.max(this.flushed, write.sequence);
  }

  #isPending(sequence: number): boolean {
    return this.#journal.some(
      (record) => record.state !== 'written' && record.entries.some((entry) => entry.sequence === sequence),
    );
  }

  /** A change of the catalog that was answered: the disk must have it. Answers its sequence. */
  changed(isIt: (change: Change) => boolean, what: string): number {
    for (const record of this.#journal) {
      if (record.state !== 'written') continue;
      for (const { kind, text, sequence } of record.entries) {
        if (kind !== ENTRY_CHANGE || !isIt(JSON.parse(text) as Change)) continue;
        this.answered = Math.max(this.answered, sequence);
        return sequence;
      }
    }
    this.fail(`${what} was answered and is not in the log`);
    return 0;
  }

  get hasWrites(): boolean {
    return this.#writes.size > 0;
  }

  isZeroing(volume: string, first: number, last: number): boolean {
    return this.#writes.isZeroing(volume, first, last);
  }

  beginRead(version: Version, offset: number, lengthBytes: number): Reading {
    const key = version.volume ?? version.label;
    const reading = new Reading(key, offset, lengthBytes, (chunk) => {
      const now = [version.chunks.get(chunk) ?? ZEROS];
      for (const { state, entries, replaced } of this.#journal.slice(-8)) {
        // What has been answered is seen by whoever comes.
        const mayBeOld =
          state === 'issued' ||
          entries.some(({ kind }) => kind === ENTRY_CHANGE) ||
          this.#writes.isUnanswered(version.volume, chunk);
        for (const old of mayBeOld ? replaced : [])
          if (old.volume === version.volume && old.chunk === chunk) now.push(old.bytes);
      }
      return now;
    });
    this.#readings.add(reading);
    return reading;
  }

  endRead(reading: Reading, found: Buffer | undefined): void {
    this.#readings.delete(reading);
    const wrong = found === undefined ? undefined : reading.wrong(found);
    if (wrong !== undefined) this.fail(wrong);
    if (found !== undefined && reading.wasChanged) this.#marks.hit('read verified while written');
  }

  // --- crashes ---

  /** The life has ended; what must be there at the next recovery: `floor`. */
  crashed(how: 'close' | 'kill' | 'power cut'): void {
    this.#writes.clear();
    this.#readings.clear();
    for (const record of this.#journal) record.replaced.length = 0;
    this.phase = 'recovering';
    this.#life += 1;
    if (how === 'power cut') this.answered = this.flushed;
    else if (how === 'close') this.flushed = this.answered;
  }

  /** Recovery reports `cut`, and holds `found`: both must be right. */
  recovered(cut: number, found: ReadonlyMap<string, Found>): void {
    // What this life has appended by itself comes behind the cut, and is no part of it.
    const before = this.#journal.filter((record) => record.life < this.#life);
    const own = this.#journal.filter((record) => record.life === this.#life);
    const floor = Math.max(this.flushed, this.answered);
    const ends = [this.cut, ...before.map(lastSequence)];
    if (cut < floor) this.fail(`the cut is at ${cut}, and ${floor} was flushed or answered`);
    this.#check(ends.includes(cut), `the cut at ${cut} is no end of a record`);
    this.#journal = before;
    // A recovery that was interrupted may have cut before, unheard, and appended its catalog behind that.
    const served = [this.cut, ...before.filter(({ life }) => life === this.#servedLife).map(lastSequence)];
    const cuts = served.includes(cut) ? [cut] : served.filter((end) => end >= floor && end < cut).reverse();
    const state = this.#stateAt(cuts, found);
    if (state === undefined) return;
    const highest = own[0]?.entries[0]?.sequence ?? Number.MAX_SAFE_INTEGER;
    for (const [sequence] of this.#entries)
      if (sequence > cut && sequence < highest) this.#dead.add(sequence);
    this.#base = state;
    this.live = state.copy();
    this.#journal = own;
    this.phase = 'serving';
    this.#servedLife = this.#life;
    this.cut = cut;
    this.flushed = cut;
    this.answered = cut;
  }

  /** The state at the cut that `found` is: without the failed records, or with some that follow each other. */
  #stateAt(cuts: readonly number[], found: ReadonlyMap<string, Found>): Versions | undefined {
    const differences: string[] = [];
    for (const [i, cut] of cuts.entries()) {
      const state = this.#stateAtOne(cut, found, differences);
      if (state === undefined) continue;
      // States that look the same may differ in their labels: what is written next tells.
      for (const earlier of cuts.slice(i + 1)) {
        const twin = this.#possible(() => false, earlier);
        if (twin !== undefined && differenceFrom(twin, found) === undefined) this.#twins.push(twin);
      }
      const lost = this.#journal.some(
        (record) => record.life === this.#servedLife && lastSequence(record) > cut,
      );
      this.#marks.hit(lost ? 'cut: something was lost' : 'cut: nothing was lost');
      if (cuts.length > 1) this.#marks.hit('cut by a recovery that was interrupted');
      return state;
    }
    this.fail(`recovered at ${cuts.join(' or ')}: ${differences[0]}`);
    return undefined;
  }

  #stateAtOne(cut: number, found: ReadonlyMap<string, Found>, differences: string[]): Versions | undefined {
    const failed = this.#journal.filter((record) => {
      const says = record.entries.some((entry) => entry.kind !== ENTRY_CATALOG);
      return says && record.state === 'failed' && lastSequence(record) <= cut;
    });
    for (let count = 0; count <= Math.min(FAILED_MAX, failed.length); count++) {
      for (let from = 0; from + count <= failed.length; from++) {
        const taken = failed.slice(from, from + count);
        const state = this.#possible((record) => taken.includes(record), cut);
        const difference =
          state === undefined ? 'what failed cannot have happened' : differenceFrom(state, found);
        if (difference === undefined) {
          if (count > 0) this.#marks.hit('a failed write did appear');
          else if (failed.length > 0) this.#marks.hit('a failed write did not appear');
          this.#twins = failed.flatMap((record) => this.#possible((each) => each === record, cut) ?? []);
          return state;
        }
        differences.push(difference);
        if (count === 0) break;
      }
    }
    return undefined;
  }
}

function describe({ kind, label, first, count, text }: WrittenEntry): string {
  if (kind === ENTRY_CATALOG) return ' catalog';
  if (kind === ENTRY_CHANGE) return ` ${text}`;
  return ` ${kind === ENTRY_CHUNKS ? 'chunks' : 'zeros'} ${label}:${first}+${count}`;
}

function lastSequence(record: LogRecord): number {
  return record.entries.at(-1)!.sequence;
}

/** True if `after` is what the write makes of `before`. */
function isMerged(
  write: ClientWrite,
  sizeBytes: number,
  chunk: number,
  before: Buffer,
  after: Buffer,
): boolean {
  const at = chunk * CHUNK_BYTES;
  const from = Math.max(0, write.offset - at);
  const end = write.offset + write.lengthBytes;
  const to = Math.min(CHUNK_BYTES, end - at);
  const written = write.bytes ?? ZEROS;
  const writtenAt = write.bytes === undefined ? 0 : at + from - write.offset;
  if (after.compare(written, writtenAt, writtenAt + to - from, from, to) !== 0) return false;
  if (from > 0 && after.compare(before, 0, from, 0, from) !== 0) return false;
  // Nothing is behind the end of the disk: there may be zeros in the place of what was.
  const isLast = end === sizeBytes && after.subarray(to).equals(ZEROS.subarray(to));
  return to === CHUNK_BYTES || isLast || after.compare(before, to, CHUNK_BYTES, to, CHUNK_BYTES) === 0;
}
