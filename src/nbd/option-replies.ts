/**
 * Replies to options. No I/O: they are handed to `send`.
 *
 *     8 NBD_REP_MAGIC | 4 option | 4 reply type | 4 length | payload
 */

import { ByteWriter } from '../base/bytes.ts';
import * as nbd from './protocol.ts';

const NOTHING = new Uint8Array(0);

export class OptionReplies {
  readonly #send: (bytes: Buffer) => void;
  /** The option that is answered. */
  option = 0;

  constructor(send: (bytes: Buffer) => void) {
    this.#send = send;
  }

  acknowledge(): void {
    this.#reply(nbd.NBD_REP_ACK, NOTHING);
  }

  /** An error; `text` is for people and names nothing of this machine. */
  refuse(type: number, text: string): void {
    this.#reply(type, Buffer.from(text));
  }

  /** One export of a list, with what is to be said of it. */
  server(name: string, description: string): void {
    const [bytes, more] = [Buffer.from(name), Buffer.from(description)];
    const payload = new ByteWriter(Buffer.alloc(4 + bytes.length + more.length));
    this.#reply(nbd.NBD_REP_SERVER, payload.u32(bytes.length).bytes(bytes).bytes(more).buffer);
  }

  context(id: number, name: string): void {
    const bytes = Buffer.from(name);
    const payload = new ByteWriter(Buffer.alloc(4 + bytes.length)).u32(id).bytes(bytes);
    this.#reply(nbd.NBD_REP_META_CONTEXT, payload.buffer);
  }

  exportFacts(sizeBytes: number, flags: number): void {
    const payload = new ByteWriter(Buffer.alloc(12)).u16(nbd.NBD_INFO_EXPORT).u64(sizeBytes).u16(flags);
    this.#reply(nbd.NBD_REP_INFO, payload.buffer);
  }

  blockSizes(payloadBytesMax: number): void {
    const payload = new ByteWriter(Buffer.alloc(14)).u16(nbd.NBD_INFO_BLOCK_SIZE);
    payload.u32(nbd.BLOCK_BYTES_MIN).u32(nbd.BLOCK_BYTES_PREFERRED).u32(payloadBytesMax);
    this.#reply(nbd.NBD_REP_INFO, payload.buffer);
  }

  text(type: typeof nbd.NBD_INFO_NAME | typeof nbd.NBD_INFO_DESCRIPTION, text: string): void {
    const bytes = Buffer.from(text);
    this.#reply(
      nbd.NBD_REP_INFO,
      new ByteWriter(Buffer.alloc(2 + bytes.length)).u16(type).bytes(bytes).buffer,
    );
  }

  #reply(type: number, payload: Uint8Array): void {
    const reply = new ByteWriter(Buffer.alloc(nbd.OPTION_REPLY_HEADER_BYTES + payload.length));
    reply.u32(nbd.NBD_REP_MAGIC[0]).u32(nbd.NBD_REP_MAGIC[1]).u32(this.option).u32(type);
    reply.u32(payload.length).bytes(payload);
    this.#send(reply.buffer);
  }
}
