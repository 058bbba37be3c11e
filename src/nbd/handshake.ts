/**
 * The handshake, fixed newstyle: haggling over options until the client has an export or goes. No I/O: bytes are
 * handed in, answers are handed to `send`, and `outcome` says when it is over.
 *
 *     client flags -> (option header -> option body | too long: skipped)* -> outcome
 *
 * Invariants:
 * - Memory does not depend on what a client claims: the input buffer is of a fixed size, a longer option is skipped
 *   unread, a much longer one ends the connection, and so does the 1,025th option.
 * - One call of `receive` handles at most one option, so that the caller can stop when answers pile up.
 * - No device is open between two options. Only a handshake that ended in transmission hands one over.
 * - A metadata context counts only for the export it was selected for, and the last selection replaces all before.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import type { BlockDevice } from '../volume/device.ts';
import { type ExportSource, openExport } from './export-source.ts';
import { decodeExportQuery, decodeInfoQuery, decodeName } from './option-codec.ts';
import * as nbd from './protocol.ts';

/** The longest option that is looked at: a name of 4,096 bytes and as much again. */
const OPTION_BYTES_MAX = 8192;
/** Up to here an option is skipped and answered; whoever sends a longer one is shown the door. */
const OPTION_SKIP_BYTES_MAX = 65536;
/** `nbdinfo --list` sends one for each export. */
const OPTIONS_MAX = 1024;

/** What the two sides agreed on. */
export interface Agreement {
  readonly device: BlockDevice;
  /** Structured replies were negotiated. */
  readonly structured: boolean;
  /** The client selected `base:allocation` for this export. */
  readonly allocationContext: boolean;
  readonly readOnly: boolean;
}

export type Outcome =
  | { readonly kind: 'transmission'; readonly agreement: Agreement }
  /** The client said goodbye. */
  | { readonly kind: 'abort' }
  /** The connection cannot go on; `reason` is for the log. */
  | { readonly kind: 'drop'; readonly reason: string };

type Phase = 'client flags' | 'option header' | 'option body' | 'skip';

export class Handshake {
  /** Set once: then no more bytes are taken. */
  outcome: Outcome | undefined;

  readonly #exports: ExportSource;
  readonly #readOnly: boolean;
  readonly #send: (bytes: Buffer) => void;

  // Where in the stream we are. `#wanted` bytes are collected, then the phase's step runs.
  readonly #input = Buffer.alloc(OPTION_BYTES_MAX);
  #phase: Phase = 'client flags';
  #collected = 0;
  #wanted = nbd.CLIENT_FLAGS_BYTES;
  #option = 0;
  #options = 0;

  // What was negotiated so far.
  #noZeroes = false;
  #structured = false;
  #contextExport: string | undefined;

  constructor(exports: ExportSource, readOnly: boolean, send: (bytes: Buffer) => void) {
    this.#exports = exports;
    this.#readOnly = readOnly;
    this.#send = send;
  }

  /** Sends the server's first words. */
  begin(): void {
    const greeting = new ByteWriter(Buffer.alloc(nbd.GREETING_BYTES));
    greeting.u32(nbd.NBDMAGIC[0]).u32(nbd.NBDMAGIC[1]).u32(nbd.IHAVEOPT[0]).u32(nbd.IHAVEOPT[1]);
    greeting.u16(nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES);
    this.#send(greeting.buffer);
  }

  /** Takes bytes of `chunk` from `at` on, up to the end of one option; answers where it stopped. */
  receive(chunk: Buffer, at: number): number {
    let position = at;
    while (this.outcome === undefined) {
      const bytes = Math.min(this.#wanted - this.#collected, chunk.length - position);
      if (this.#phase !== 'skip') chunk.copy(this.#input, this.#collected, position, position + bytes);
      position += bytes;
      this.#collected += bytes;
      if (this.#collected < this.#wanted) break;
      if (this.#step()) break;
    }
    return position;
  }

  /** Handles what was collected; true at the end of an option. */
  #step(): boolean {
    const input = this.#input.subarray(0, this.#wanted);
    switch (this.#phase) {
      case 'client flags':
        this.#takeClientFlags(input.readUInt32BE(0));
        this.#expect('option header', nbd.OPTION_HEADER_BYTES);
        return false;
      case 'option header':
        this.#takeOptionHeader(new ByteReader(input));
        return false;
      case 'option body':
        this.#expect('option header', nbd.OPTION_HEADER_BYTES);
        this.#handleOption(new ByteReader(input));
        return true;
      case 'skip':
        this.#expect('option header', nbd.OPTION_HEADER_BYTES);
        this.#refuse(nbd.NBD_REP_ERR_TOO_BIG, 'the option is too long');
        return true;
    }
  }

  #expect(phase: Phase, bytes: number): void {
    this.#phase = phase;
    this.#wanted = bytes;
    this.#collected = 0;
  }

  #drop(reason: string): void {
    this.outcome = { kind: 'drop', reason };
  }

  #takeClientFlags(flags: number): void {
    const known = nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES;
    if ((flags & ~known) !== 0) this.#drop('unknown client flags');
    this.#noZeroes = (flags & nbd.NBD_FLAG_C_NO_ZEROES) !== 0;
  }

  #takeOptionHeader(header: ByteReader): void {
    if (header.u32() !== nbd.IHAVEOPT[0] || header.u32() !== nbd.IHAVEOPT[1])
      return this.#drop('bad option magic');
    this.#option = header.u32();
    const bytes = header.u32();
    if (++this.#options > OPTIONS_MAX) return this.#drop('too many options');
    if (bytes > OPTION_SKIP_BYTES_MAX) return this.#drop('an option of absurd length');
    // To this option there is no error reply, so what is too long for a name ends the connection.
    if (this.#option === nbd.NBD_OPT_EXPORT_NAME && bytes > nbd.NAME_BYTES_MAX)
      return this.#drop('name too long');
    this.#expect(bytes > OPTION_BYTES_MAX ? 'skip' : 'option body', bytes);
  }

  #handleOption(body: ByteReader): void {
    if (this.#option === nbd.NBD_OPT_EXPORT_NAME) return this.#exportName(body);
    try {
      this.#answerOption(body);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (hasCode(error, 'NOT_FOUND')) this.#refuse(nbd.NBD_REP_ERR_UNKNOWN, 'there is no such export');
      else if (hasCode(error, 'CORRUPTION'))
        this.#refuse(nbd.NBD_REP_ERR_INVALID, 'a length exceeds the option');
      else if (hasCode(error, 'INVALID_ARGUMENT')) this.#refuse(nbd.NBD_REP_ERR_INVALID, error.message);
      else if (hasCode(error, 'CLOSED')) this.#refuse(nbd.NBD_REP_ERR_SHUTDOWN, 'the server is stopping');
      else this.#refuse(nbd.NBD_REP_ERR_PLATFORM, 'the export cannot be opened now');
    }
  }

  /** @throws NOT_FOUND, CORRUPTION (a length that lies), INVALID_ARGUMENT, and whatever opening an export throws */
  #answerOption(body: ByteReader): void {
    switch (this.#option) {
      case nbd.NBD_OPT_ABORT:
        this.#reply(nbd.NBD_REP_ACK);
        this.outcome = { kind: 'abort' };
        return;
      case nbd.NBD_OPT_LIST:
        requireEmpty(body);
        for (const name of this.#exports.list()) this.#replyName(nbd.NBD_REP_SERVER, Buffer.from(name));
        return this.#reply(nbd.NBD_REP_ACK);
      case nbd.NBD_OPT_STRUCTURED_REPLY:
        requireEmpty(body);
        this.#structured = true;
        return this.#reply(nbd.NBD_REP_ACK);
      case nbd.NBD_OPT_INFO:
      case nbd.NBD_OPT_GO:
        return this.#export(body);
      case nbd.NBD_OPT_LIST_META_CONTEXT:
        return this.#listContexts(body);
      case nbd.NBD_OPT_SET_META_CONTEXT:
        return this.#setContexts(body);
      default:
        return this.#refuse(nbd.NBD_REP_ERR_UNSUP, 'unknown option');
    }
  }

  #exportName(body: ByteReader): void {
    let device: BlockDevice;
    try {
      device = openExport(this.#exports, decodeName(body.bytes(body.remaining)));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return this.#drop(`the export asked for cannot be opened: ${error.code}`);
    }
    const agreement = this.#agree(device);
    const zeroesBytes = this.#noZeroes ? 0 : nbd.EXPORT_NAME_ZEROES_BYTES;
    const answer = new ByteWriter(Buffer.alloc(10 + zeroesBytes));
    answer.u64(device.sizeBytes).u16(nbd.transmissionFlags(agreement.readOnly, agreement.structured));
    this.#send(answer.buffer);
    this.outcome = { kind: 'transmission', agreement };
  }

  #export(body: ByteReader): void {
    const query = decodeInfoQuery(body);
    const device = openExport(this.#exports, query.name);
    const agreement = this.#agree(device);

    const facts = new ByteWriter(Buffer.alloc(12)).u16(nbd.NBD_INFO_EXPORT).u64(device.sizeBytes);
    facts.u16(nbd.transmissionFlags(agreement.readOnly, agreement.structured));
    this.#reply(nbd.NBD_REP_INFO, facts.buffer);

    if (query.wants(nbd.NBD_INFO_BLOCK_SIZE)) {
      const sizes = new ByteWriter(Buffer.alloc(14)).u16(nbd.NBD_INFO_BLOCK_SIZE);
      sizes.u32(nbd.BLOCK_BYTES_MIN).u32(nbd.BLOCK_BYTES_PREFERRED).u32(nbd.PAYLOAD_BYTES_MAX);
      this.#reply(nbd.NBD_REP_INFO, sizes.buffer);
    }
    if (query.wants(nbd.NBD_INFO_NAME)) {
      const name = Buffer.from(device.name);
      this.#reply(
        nbd.NBD_REP_INFO,
        new ByteWriter(Buffer.alloc(2 + name.length)).u16(nbd.NBD_INFO_NAME).bytes(name).buffer,
      );
    }
    this.#reply(nbd.NBD_REP_ACK);
    if (this.#option === nbd.NBD_OPT_GO) this.outcome = { kind: 'transmission', agreement };
    else device.release();
  }

  #agree(device: BlockDevice): Agreement {
    return {
      device,
      structured: this.#structured,
      allocationContext: this.#structured && this.#contextExport === device.name,
      readOnly: this.#readOnly || device.readOnly,
    };
  }

  /** The true name of the export a client speaks of. @throws NOT_FOUND */
  #resolve(name: string): string {
    const device = openExport(this.#exports, name);
    device.release();
    return device.name;
  }

  #listContexts(body: ByteReader): void {
    if (!this.#structured) throw new StoreError('INVALID_ARGUMENT', 'structured replies first');
    const query = decodeExportQuery(body);
    this.#resolve(query.name);
    const wanted =
      query.contexts.length === 0 ||
      query.contexts.some((name) => name === 'base:' || name === nbd.BASE_ALLOCATION);
    // The number means nothing in this answer.
    if (wanted) this.#replyContext(0);
    this.#reply(nbd.NBD_REP_ACK);
  }

  #setContexts(body: ByteReader): void {
    // Whatever was selected before is forgotten, also when this option fails.
    this.#contextExport = undefined;
    if (!this.#structured) throw new StoreError('INVALID_ARGUMENT', 'structured replies first');
    const query = decodeExportQuery(body);
    const name = this.#resolve(query.name);
    if (query.contexts.includes(nbd.BASE_ALLOCATION)) {
      this.#contextExport = name;
      this.#replyContext(nbd.BASE_ALLOCATION_ID);
    }
    this.#reply(nbd.NBD_REP_ACK);
  }

  #replyContext(id: number): void {
    const name = Buffer.from(nbd.BASE_ALLOCATION);
    this.#reply(
      nbd.NBD_REP_META_CONTEXT,
      new ByteWriter(Buffer.alloc(4 + name.length)).u32(id).bytes(name).buffer,
    );
  }

  #replyName(type: number, name: Buffer): void {
    this.#reply(type, new ByteWriter(Buffer.alloc(4 + name.length)).u32(name.length).bytes(name).buffer);
  }

  /** An error reply; `message` is for people and names nothing of this machine. */
  #refuse(type: number, message: string): void {
    this.#reply(type, Buffer.from(message));
  }

  #reply(type: number, payload: Uint8Array = new Uint8Array(0)): void {
    const reply = new ByteWriter(Buffer.alloc(nbd.OPTION_REPLY_HEADER_BYTES + payload.length));
    reply.u32(nbd.NBD_REP_MAGIC[0]).u32(nbd.NBD_REP_MAGIC[1]).u32(this.#option).u32(type);
    reply.u32(payload.length).bytes(payload);
    this.#send(reply.buffer);
  }
}

function requireEmpty(body: ByteReader): void {
  if (body.remaining > 0) throw new StoreError('INVALID_ARGUMENT', 'this option takes no data');
}
