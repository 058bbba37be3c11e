/**
 * The handshake, fixed newstyle: haggling over options until the client has an export or goes. No I/O: bytes are
 * handed in, answers are handed to `send`, and `outcome` says when it is over.
 *
 *     client flags -> (option header -> option body | too long: skipped)* -> outcome
 *
 * STARTTLS has an outcome as well; the same handshake goes on when the connection is `encrypted`.
 *
 * Invariants:
 * - Memory has a bound, whatever a client claims: an option of more than a few KiB is skipped
 *   unread, a much longer one ends the connection, and so does one option too many.
 * - One call of `receive` handles at most one option, so that the caller can stop when answers pile up.
 * - No device is open between two options. Only a handshake that ended in transmission hands one over.
 * - A metadata context counts only for the export it was selected for, and the last selection replaces all before.
 * - All that was negotiated is in `#agreed`, so that what has to be forgotten is forgotten at once: TLS begins with
 *   nothing but the client's flags, and the count of its options.
 * - Where TLS is required, nothing is looked at in plain text but ABORT and STARTTLS.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import type { BlockDevice } from '../volume/device.ts';
import { BlockStatus } from './block-status.ts';
import { type Offer, openExport } from './export-source.ts';
import { decodeExportQuery, decodeInfoQuery, decodeName } from './option-codec.ts';
import { OptionReplies } from './option-replies.ts';
import * as nbd from './protocol.ts';
import { type ContextName, listContexts, selectContexts } from './status-contexts.ts';

/** The longest option that is looked at: a name of 4,096 bytes and as much again. */
const OPTION_BYTES_MAX = 8192;
const HEADER_BYTES_MAX = Math.max(nbd.CLIENT_FLAGS_BYTES, nbd.OPTION_HEADER_BYTES);
/** Up to here an option is skipped and answered; whoever sends a longer one is shown the door. */
const OPTION_SKIP_BYTES_MAX = 65536;

/** What the two sides agreed on. */
export interface Agreement {
  readonly device: BlockDevice;
  readonly style: nbd.ReplyStyle;
  /** Those that the client selected for this export. */
  readonly contexts: BlockStatus;
  readonly readOnly: boolean;
  /** The longest payload, of a request or of a read. */
  readonly payloadBytesMax: number;
}

/** Whether a client may ask for TLS, or must: NOTLS, SELECTIVETLS without an export that needs it, FORCEDTLS. */
export type TlsMode = 'off' | 'on' | 'require';

/** What a server offers, and how much of it one handshake may ask for. */
export interface HandshakeTerms {
  /** What the client is offered, which may have proved its name. */
  offerTo(peerName: string | undefined): Offer;
  readonly tls: TlsMode;
  readonly optionsMax: number;
  readonly payloadBytesMax: number;
}

/** What was negotiated so far. */
class Agreed {
  style: nbd.ReplyStyle = nbd.SIMPLE;
  /** The export that contexts were selected for, and which. */
  contextExport: string | undefined;
  contexts: readonly ContextName[] = [];

  contextsOf(exportName: string): readonly ContextName[] {
    return this.style !== nbd.SIMPLE && this.contextExport === exportName ? this.contexts : [];
  }
}

export type Outcome =
  | { readonly kind: 'transmission'; readonly agreement: Agreement }
  /** The client begins TLS behind the answer: not another byte in plain text. */
  | { readonly kind: 'starttls' }
  /** The client said goodbye. */
  | { readonly kind: 'abort' }
  /** The connection cannot go on; `reason` is for the log. */
  | { readonly kind: 'drop'; readonly reason: string };

type Phase = 'client flags' | 'option header' | 'option body' | 'skip';

/** Those that are answered with more than that they are unknown. */
const KNOWN_OPTIONS: ReadonlySet<number> = new Set([
  nbd.NBD_OPT_ABORT,
  nbd.NBD_OPT_STARTTLS,
  nbd.NBD_OPT_LIST,
  nbd.NBD_OPT_STRUCTURED_REPLY,
  nbd.NBD_OPT_EXTENDED_HEADERS,
  nbd.NBD_OPT_INFO,
  nbd.NBD_OPT_GO,
  nbd.NBD_OPT_LIST_META_CONTEXT,
  nbd.NBD_OPT_SET_META_CONTEXT,
]);

export class Handshake {
  /** Once it is set, no more bytes are taken. */
  outcome: Outcome | undefined;
  /** Who the client is by its certificate or its key; undefined as long as it has proved nothing. */
  peerName: string | undefined;

  readonly #terms: HandshakeTerms;
  readonly #send: (bytes: Buffer) => void;
  readonly #replies: OptionReplies;

  // Where in the stream we are. `#wanted` bytes are collected, then the phase's step runs.
  #input = Buffer.allocUnsafe(HEADER_BYTES_MAX);
  #phase: Phase = 'client flags';
  #collected = 0;
  #wanted = nbd.CLIENT_FLAGS_BYTES;
  #option = 0;
  #options = 0;

  #isFixedNewstyle = false;
  #noZeroes = false;
  #isEncrypted = false;
  /** What the client may have; more, or less, when it has proved its name. */
  #offer: Offer;
  #agreed = new Agreed();

  constructor(terms: HandshakeTerms, send: (bytes: Buffer) => void) {
    this.#terms = terms;
    this.#offer = terms.offerTo(undefined);
    this.#send = send;
    this.#replies = new OptionReplies(send);
  }

  /** Sends the server's first words. */
  begin(): void {
    const greeting = new ByteWriter(Buffer.alloc(nbd.GREETING_BYTES));
    greeting.u32(nbd.NBDMAGIC[0]).u32(nbd.NBDMAGIC[1]).u32(nbd.IHAVEOPT[0]).u32(nbd.IHAVEOPT[1]);
    greeting.u16(nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES);
    this.#send(greeting.buffer);
  }

  /** Goes on behind STARTTLS, with a client that is `peerName`: what it agreed on before anybody could have said. */
  encrypted(peerName: string | undefined): void {
    this.#agreed = new Agreed();
    this.#isEncrypted = true;
    this.peerName = peerName;
    this.#offer = this.#terms.offerTo(peerName);
    this.outcome = undefined;
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
        if (this.#needsTls) this.#refusePlain();
        else if (KNOWN_OPTIONS.has(this.#option))
          this.#replies.refuse(nbd.NBD_REP_ERR_TOO_BIG, 'the option is too long');
        else this.#replies.refuse(nbd.NBD_REP_ERR_UNSUP, 'unknown option');
        return true;
    }
  }

  #expect(phase: Phase, bytes: number): void {
    this.#phase = phase;
    this.#wanted = bytes;
    if (phase === 'option body' && bytes > this.#input.length) this.#input = Buffer.allocUnsafe(bytes);
    this.#collected = 0;
  }

  #drop(reason: string): void {
    this.outcome = { kind: 'drop', reason };
  }

  #takeClientFlags(flags: number): void {
    const known = nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES;
    if ((flags & ~known) !== 0) this.#drop('unknown client flags');
    this.#noZeroes = (flags & nbd.NBD_FLAG_C_NO_ZEROES) !== 0;
    this.#isFixedNewstyle = (flags & nbd.NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    if (this.#terms.tls === 'require' && !this.#isFixedNewstyle)
      this.#drop('TLS is required, and the client has no way to begin it');
  }

  #takeOptionHeader(header: ByteReader): void {
    if (header.u32() !== nbd.IHAVEOPT[0] || header.u32() !== nbd.IHAVEOPT[1])
      return this.#drop('bad option magic');
    this.#option = header.u32();
    this.#replies.option = this.#option;
    const bytes = header.u32();
    if (++this.#options > this.#terms.optionsMax) return this.#drop('too many options');
    if (bytes > OPTION_SKIP_BYTES_MAX) return this.#drop('an option of absurd length');
    // To this option there is no error reply, so what is too long for a name ends the connection.
    if (this.#option === nbd.NBD_OPT_EXPORT_NAME && bytes > nbd.NAME_BYTES_MAX)
      return this.#drop('name too long');
    this.#expect(bytes > OPTION_BYTES_MAX ? 'skip' : 'option body', bytes);
  }

  /** True for an option that is not looked at before TLS. */
  get #needsTls(): boolean {
    if (this.#terms.tls !== 'require' || this.#isEncrypted) return false;
    return this.#option !== nbd.NBD_OPT_STARTTLS && this.#option !== nbd.NBD_OPT_ABORT;
  }

  #refusePlain(): void {
    // To this option there is no error reply.
    if (this.#option === nbd.NBD_OPT_EXPORT_NAME) this.#drop('an export was asked for without TLS');
    else this.#replies.refuse(nbd.NBD_REP_ERR_TLS_REQD, 'begin TLS first');
  }

  #handleOption(body: ByteReader): void {
    if (this.#needsTls) return this.#refusePlain();
    if (this.#option === nbd.NBD_OPT_EXPORT_NAME) return this.#exportName(body);
    try {
      this.#answerOption(body);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#refuse(error);
    }
  }

  #refuse(error: StoreError): void {
    const replies = this.#replies;
    if (hasCode(error, 'NOT_FOUND')) replies.refuse(nbd.NBD_REP_ERR_UNKNOWN, 'there is no such export');
    else if (hasCode(error, 'CORRUPTION'))
      replies.refuse(nbd.NBD_REP_ERR_INVALID, 'a length exceeds the option');
    else if (hasCode(error, 'INVALID_ARGUMENT')) replies.refuse(nbd.NBD_REP_ERR_INVALID, error.message);
    else if (hasCode(error, 'NO_SPACE')) replies.refuse(nbd.NBD_REP_ERR_TOO_BIG, error.message);
    else if (hasCode(error, 'CLOSED')) replies.refuse(nbd.NBD_REP_ERR_SHUTDOWN, 'the server is stopping');
    else replies.refuse(nbd.NBD_REP_ERR_PLATFORM, 'the export cannot be opened now');
  }

  /**
   * @throws NOT_FOUND, CORRUPTION (a length that lies), INVALID_ARGUMENT, NO_SPACE (too much asked for), and whatever
   * opening an export throws
   */
  #answerOption(body: ByteReader): void {
    switch (this.#option) {
      case nbd.NBD_OPT_ABORT:
        this.#replies.acknowledge();
        this.outcome = { kind: 'abort' };
        return;
      case nbd.NBD_OPT_STARTTLS:
        return this.#startTls(body);
      case nbd.NBD_OPT_LIST:
        return this.#list(body);
      case nbd.NBD_OPT_STRUCTURED_REPLY:
      case nbd.NBD_OPT_EXTENDED_HEADERS:
        return this.#chooseStyle(body);
      case nbd.NBD_OPT_INFO:
      case nbd.NBD_OPT_GO:
        return this.#export(body);
      case nbd.NBD_OPT_LIST_META_CONTEXT:
        return this.#listContexts(body);
      case nbd.NBD_OPT_SET_META_CONTEXT:
        return this.#setContexts(body);
      default:
        return this.#replies.refuse(nbd.NBD_REP_ERR_UNSUP, 'unknown option');
    }
  }

  #startTls(body: ByteReader): void {
    if (this.#terms.tls === 'off' || !this.#isFixedNewstyle)
      return this.#replies.refuse(nbd.NBD_REP_ERR_POLICY, 'there is no TLS here');
    if (this.#isEncrypted) throw new StoreError('INVALID_ARGUMENT', 'TLS has begun already');
    requireEmpty(body);
    this.#replies.acknowledge();
    this.outcome = { kind: 'starttls' };
  }

  #list(body: ByteReader): void {
    requireEmpty(body);
    for (const name of this.#offer.exports.list()) this.#replies.server(name, '');
    this.#replies.acknowledge();
  }

  #chooseStyle(body: ByteReader): void {
    requireEmpty(body);
    const agreed = this.#agreed;
    if (this.#option === nbd.NBD_OPT_EXTENDED_HEADERS) agreed.style = nbd.EXTENDED;
    else if (agreed.style === nbd.EXTENDED)
      return this.#replies.refuse(nbd.NBD_REP_ERR_EXT_HEADER_REQD, 'headers are extended already');
    else agreed.style = nbd.STRUCTURED;
    this.#replies.acknowledge();
  }

  #exportName(body: ByteReader): void {
    if (this.#agreed.style === nbd.EXTENDED)
      return this.#drop('NBD_OPT_EXPORT_NAME after headers were extended');
    let agreement: Agreement;
    try {
      agreement = this.#agree(openExport(this.#offer.exports, decodeName(body.bytes(body.remaining))));
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return this.#drop(`the export asked for cannot be opened: ${error.code}`);
    }
    const zeroesBytes = this.#noZeroes ? 0 : nbd.EXPORT_NAME_ZEROES_BYTES;
    const answer = new ByteWriter(Buffer.alloc(10 + zeroesBytes));
    answer.u64(agreement.device.sizeBytes).u16(this.#flagsOf(agreement.device));
    this.#send(answer.buffer);
    this.outcome = { kind: 'transmission', agreement };
  }

  #export(body: ByteReader): void {
    const { exports } = this.#offer;
    const query = decodeInfoQuery(body);
    const device = openExport(exports, query.name);
    // Before the first reply: what it opens may be gone, and then the export is refused as a whole.
    const agreement = this.#option === nbd.NBD_OPT_GO ? this.#agree(device) : undefined;
    const replies = this.#replies;
    replies.exportFacts(device.sizeBytes, this.#flagsOf(device));
    if (query.wants(nbd.NBD_INFO_BLOCK_SIZE)) replies.blockSizes(this.#terms.payloadBytesMax);
    if (query.wants(nbd.NBD_INFO_NAME)) replies.text(nbd.NBD_INFO_NAME, device.name);
    if (query.wants(nbd.NBD_INFO_DESCRIPTION)) {
      const description = exports.describe?.(device.name);
      if (description !== undefined) replies.text(nbd.NBD_INFO_DESCRIPTION, description);
    }
    replies.acknowledge();
    if (agreement === undefined) device.release();
    else this.outcome = { kind: 'transmission', agreement };
  }

  #flagsOf(device: BlockDevice): number {
    const { style } = this.#agreed;
    const hasContexts = this.#agreed.contextsOf(device.name).length > 0;
    return nbd.transmissionFlags(this.#offer.readOnly || device.readOnly, style, hasContexts);
  }

  /** Takes the device over; it is released where this throws. @throws NOT_FOUND (a snapshot that a context is of) */
  #agree(device: BlockDevice): Agreement {
    const { exports, readOnly } = this.#offer;
    try {
      return {
        device,
        style: this.#agreed.style,
        contexts: BlockStatus.open(this.#agreed.contextsOf(device.name), exports),
        readOnly: readOnly || device.readOnly,
        payloadBytesMax: this.#terms.payloadBytesMax,
      };
    } catch (error) {
      device.release();
      throw error;
    }
  }

  /** The true name of the export a client speaks of. @throws NOT_FOUND */
  #resolve(name: string): string {
    const device = openExport(this.#offer.exports, name);
    device.release();
    return device.name;
  }

  #requireChunks(): void {
    if (this.#agreed.style === nbd.SIMPLE)
      throw new StoreError('INVALID_ARGUMENT', 'structured replies or extended headers first');
  }

  #listContexts(body: ByteReader): void {
    this.#requireChunks();
    const query = decodeExportQuery(body);
    const name = this.#resolve(query.name);
    // The number means nothing in this answer.
    for (const context of listContexts(query.contexts, name, this.#offer.exports.list()))
      this.#replies.context(0, context);
    this.#replies.acknowledge();
  }

  #setContexts(body: ByteReader): void {
    const agreed = this.#agreed;
    // Whatever was selected before is forgotten, also when this option fails.
    agreed.contextExport = undefined;
    this.#requireChunks();
    const query = decodeExportQuery(body);
    const name = this.#resolve(query.name);
    const names = this.#offer.exports.list();
    agreed.contexts = selectContexts(query.contexts, name, (since) => names.includes(since));
    agreed.contextExport = name;
    agreed.contexts.forEach((context, i) => this.#replies.context(i + 1, context.name));
    this.#replies.acknowledge();
  }
}

function requireEmpty(body: ByteReader): void {
  if (body.remaining > 0) throw new StoreError('INVALID_ARGUMENT', 'this option takes no data');
}
