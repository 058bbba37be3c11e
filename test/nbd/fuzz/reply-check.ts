/**
 * Reads what a server sends, from its first byte on, and knows when it is wrong: framing, cookies, the parts of a reply.
 * Throws where anything is.
 */

import { assert } from '../../../src/base/errors.ts';
import * as nbd from '../../../src/nbd/protocol.ts';

type Phase = 'greeting' | 'options' | 'transmission';

export class ReplyCheck {
  phase: Phase = 'greeting';
  /** Cookies that were answered. */
  readonly answered = new Set<number>();
  readonly #clientFlags: number;
  #style: nbd.ReplyStyle = nbd.SIMPLE;
  #bytes = Buffer.alloc(0);
  #at = 0;
  /** Bytes of reads that follow simple replies cannot be told from replies: then only the first one is looked at. */
  isBlind = false;

  /** A client that is not honest may have sent a cookie twice. */
  readonly #isHonest: boolean;

  constructor(clientFlags: number, isHonest: boolean) {
    this.#clientFlags = clientFlags;
    this.#isHonest = isHonest;
  }

  take(bytes: Buffer): void {
    if (this.isBlind) return;
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([rest, bytes]);
    this.#at = 0;
    while (!this.isBlind && this.#step()) continue;
  }

  get isAtBorder(): boolean {
    return this.isBlind || this.#at === this.#bytes.length;
  }

  get style(): nbd.ReplyStyle {
    return this.#style;
  }

  #has(bytes: number): boolean {
    return this.#bytes.length - this.#at >= bytes;
  }

  #step(): boolean {
    if (this.phase === 'greeting') return this.#greeting();
    return this.phase === 'options' ? this.#optionReply() : this.#reply();
  }

  #greeting(): boolean {
    if (!this.#has(nbd.GREETING_BYTES)) return false;
    this.#at += nbd.GREETING_BYTES;
    this.phase = 'options';
    return true;
  }

  #optionReply(): boolean {
    if (!this.#has(10)) return false;
    const [bytes, at] = [this.#bytes, this.#at];
    if (bytes.readUInt32BE(at) !== nbd.NBD_REP_MAGIC[0]) {
      // The answer to NBD_OPT_EXPORT_NAME.
      const length = (this.#clientFlags & nbd.NBD_FLAG_C_NO_ZEROES) !== 0 ? 10 : 134;
      if (!this.#has(length)) return false;
      this.#at += length;
      this.phase = 'transmission';
      return true;
    }
    if (!this.#has(nbd.OPTION_REPLY_HEADER_BYTES)) return false;
    const length = bytes.readUInt32BE(at + 16);
    assert(length <= 8192, 'a reply to an option is short');
    if (!this.#has(nbd.OPTION_REPLY_HEADER_BYTES + length)) return false;
    this.#at += nbd.OPTION_REPLY_HEADER_BYTES + length;
    const [option, type] = [bytes.readUInt32BE(at + 8), bytes.readUInt32BE(at + 12)];
    if (type !== nbd.NBD_REP_ACK) return true;
    if (option === nbd.NBD_OPT_STRUCTURED_REPLY) this.#style = nbd.STRUCTURED;
    if (option === nbd.NBD_OPT_EXTENDED_HEADERS) this.#style = nbd.EXTENDED;
    if (option === nbd.NBD_OPT_GO) this.phase = 'transmission';
    return true;
  }

  #reply(): boolean {
    if (!this.#has(nbd.SIMPLE_REPLY_BYTES)) return false;
    const [bytes, at] = [this.#bytes, this.#at];
    const magic = bytes.readUInt32BE(at);
    if (magic === nbd.NBD_SIMPLE_REPLY_MAGIC && this.#style !== nbd.EXTENDED) {
      if (this.#style === nbd.SIMPLE) this.isBlind = true;
      this.#at += nbd.SIMPLE_REPLY_BYTES;
      this.#answer(bytes.readUInt32BE(at + 12));
      return true;
    }
    const isExtended = this.#style === nbd.EXTENDED;
    const wanted = isExtended ? nbd.NBD_EXTENDED_REPLY_MAGIC : nbd.NBD_STRUCTURED_REPLY_MAGIC;
    assert(magic === wanted && this.#style !== nbd.SIMPLE, 'a reply has the magic that was agreed on');
    const header = isExtended ? nbd.EXTENDED_REPLY_BYTES : nbd.STRUCTURED_REPLY_BYTES;
    if (!this.#has(header)) return false;
    const length = bytes.readUInt32BE(at + header - 4);
    if (!this.#has(header + length)) return false;
    this.#at += header + length;
    const [flags, type] = [bytes.readUInt16BE(at + 4), bytes.readUInt16BE(at + 6)];
    checkPayload(type, bytes.subarray(at + header, at + header + length));
    if ((flags & nbd.NBD_REPLY_FLAG_DONE) !== 0) this.#answer(bytes.readUInt32BE(at + 12));
    return true;
  }

  #answer(cookie: number): void {
    assert(!this.#isHonest || !this.answered.has(cookie), 'a request is answered once');
    this.answered.add(cookie);
  }
}

function checkPayload(type: number, payload: Buffer): void {
  const { length } = payload;
  switch (type) {
    case nbd.NBD_REPLY_TYPE_NONE:
      return assert(length === 0, 'NONE has no payload');
    case nbd.NBD_REPLY_TYPE_OFFSET_DATA:
      return assert(length >= 9, 'data has at least a byte');
    case nbd.NBD_REPLY_TYPE_OFFSET_HOLE:
      return assert(length === 12 && payload.readUInt32BE(8) > 0, 'a hole has a length');
    case nbd.NBD_REPLY_TYPE_BLOCK_STATUS:
      return assert(length >= 12 && (length - 4) % 8 === 0, 'extents are whole');
    case nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
      return assert(
        length === 8 + 16 * payload.readUInt32BE(4) && length > 8,
        'extents are as many as is said',
      );
    case nbd.NBD_REPLY_TYPE_ERROR:
      return assert(
        length === 6 + payload.readUInt16BE(4) && payload.readUInt32BE(0) > 0,
        'an error has a text',
      );
    case nbd.NBD_REPLY_TYPE_ERROR_OFFSET:
      return assert(
        length === 14 + payload.readUInt16BE(4) && payload.readUInt32BE(0) > 0,
        'an error has an offset',
      );
    default:
      return assert(false, `there is no chunk of type ${type}`);
  }
}
