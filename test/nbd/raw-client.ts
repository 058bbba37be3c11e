/**
 * A client at the level of bytes: sends what it is told, also what no honest client would, and reads exactly as much
 * as it is asked to. It knows nothing of the server's code but the constants.
 */

import net from 'node:net';
import tls from 'node:tls';
import * as nbd from '../../src/nbd/protocol.ts';
import { BASE_ALLOCATION } from '../../src/nbd/status-contexts.ts';

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly payload: Buffer;
}

export interface Reply {
  /** -1 for a simple reply. */
  readonly type: number;
  readonly error: number;
  readonly cookie: number;
  readonly flags: number;
  readonly payload: Buffer;
  /** What an extended header says of the request's offset; -1 without one. */
  readonly offset: number;
}

export interface RequestShape {
  type: number;
  flags?: number;
  cookie?: number;
  offset?: bigint | number;
  length?: bigint | number;
  magic?: number;
}

/** What a client asks for on its way to transmission. */
export interface EnterOptions {
  readonly structured?: boolean;
  readonly extended?: boolean;
  /** Selects `base:allocation`. */
  readonly context?: boolean;
  readonly contexts?: readonly string[];
  /** Begins TLS before all else. */
  readonly tls?: tls.ConnectionOptions;
}

export class RawClient {
  /** What it speaks through: TLS over the connected one, once that has begun. */
  socket: net.Socket;
  /** Set when the server ended or reset the connection. */
  isClosed = false;
  /** Extended headers were agreed on. */
  isExtended = false;
  #received = Buffer.alloc(0);
  #wake: () => void = () => undefined;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    this.#listen(socket);
  }

  #listen(socket: net.Socket): void {
    socket.on('error', () => undefined);
    socket.on('data', this.#take);
    const closed = (): void => {
      this.isClosed = true;
      this.#wake();
    };
    socket.on('end', closed);
    socket.on('close', closed);
  }

  readonly #take = (chunk: Buffer): void => {
    this.#received = Buffer.concat([this.#received, chunk]);
    this.#wake();
  };

  static async connect(to: string | { host: string; port: number }): Promise<RawClient> {
    const socket = typeof to === 'string' ? net.connect(to) : net.connect(to.port, to.host);
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** Exactly `bytes` bytes, or an error if the server ends before. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#received.length < bytes) {
      if (this.isClosed) throw new Error(`closed after ${this.#received.length} of ${bytes} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#received.subarray(0, bytes);
    this.#received = this.#received.subarray(bytes);
    return taken;
  }

  /** All bytes until the server ends. */
  async takeRest(): Promise<Buffer> {
    while (!this.isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#received;
  }

  get pendingBytes(): number {
    return this.#received.length;
  }

  close(): void {
    this.socket.destroy();
  }

  /** Ends with a reset, not with a farewell. TCP only. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Takes the greeting and answers it. */
  async greet(flags = nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES): Promise<Buffer> {
    const greeting = await this.take(nbd.GREETING_BYTES);
    this.send(u32(flags));
    return greeting;
  }

  /** Replies to one option, up to and with the last. */
  async replies(): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const header = await this.take(nbd.OPTION_REPLY_HEADER_BYTES);
      if (
        header.readUInt32BE(0) !== nbd.NBD_REP_MAGIC[0] ||
        header.readUInt32BE(4) !== nbd.NBD_REP_MAGIC[1]
      ) {
        throw new Error('bad reply magic');
      }
      const payload = await this.take(header.readUInt32BE(16));
      const type = header.readUInt32BE(12);
      replies.push({ option: header.readUInt32BE(8), type, payload });
      if (type === nbd.NBD_REP_ACK || type >= 2 ** 31) return replies;
    }
  }

  async negotiate(option: number, body: Buffer = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.send(encodeOption(option, body));
    return await this.replies();
  }

  /** STARTTLS and the handshake. @throws Error if either is refused, as far as a client of TLS 1.3 can tell */
  async startTls(options: tls.ConnectionOptions): Promise<void> {
    const replies = await this.negotiate(nbd.NBD_OPT_STARTTLS);
    if (replies.at(-1)!.type !== nbd.NBD_REP_ACK) throw new Error('STARTTLS was refused');
    await this.encrypt(options);
  }

  /** The handshake alone. */
  async encrypt(options: tls.ConnectionOptions): Promise<void> {
    const plain = this.socket;
    plain.off('data', this.#take);
    const encrypted = tls.connect({ ...options, socket: plain });
    await new Promise<void>((resolve, reject) => {
      encrypted.once('secureConnect', resolve);
      encrypted.once('error', reject);
      encrypted.once('close', () => reject(new Error('closed amid the handshake')));
    });
    this.socket = encrypted;
    this.#listen(encrypted);
  }

  /** From the greeting to transmission. */
  async enter(name: string, options: EnterOptions = {}): Promise<void> {
    await this.greet();
    if (options.tls !== undefined) await this.startTls(options.tls);
    if (options.structured === true) await this.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    if (options.extended === true) await this.extend();
    const contexts = [...(options.context === true ? [BASE_ALLOCATION] : []), ...(options.contexts ?? [])];
    if (contexts.length > 0)
      await this.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts(name, contexts));
    const replies = await this.negotiate(nbd.NBD_OPT_GO, encodeInfo(name));
    if (replies.at(-1)!.type !== nbd.NBD_REP_ACK) throw new Error('GO was refused');
  }

  /** Agrees on extended headers. */
  async extend(): Promise<void> {
    const replies = await this.negotiate(nbd.NBD_OPT_EXTENDED_HEADERS);
    if (replies.at(-1)!.type !== nbd.NBD_REP_ACK) throw new Error('extended headers were refused');
    this.isExtended = true;
  }

  /** One reply, or one chunk of it; `payloadBytes` is what a simple reply without error carries. */
  async reply(payloadBytes = 0): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === nbd.NBD_SIMPLE_REPLY_MAGIC && !this.isExtended) {
      const rest = await this.take(12);
      const error = rest.readUInt32BE(0);
      const payload = await this.take(error === 0 ? payloadBytes : 0);
      return { type: -1, error, cookie: rest.readUInt32BE(8), flags: 0, payload, offset: -1 };
    }
    const wanted = this.isExtended ? nbd.NBD_EXTENDED_REPLY_MAGIC : nbd.NBD_STRUCTURED_REPLY_MAGIC;
    if (magic !== wanted) throw new Error(`bad reply magic ${magic.toString(16)}`);
    const rest = await this.take(this.isExtended ? 28 : 16);
    const length = this.isExtended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    const payload = await this.take(length);
    const type = rest.readUInt16BE(2);
    const error = type >= 2 ** 15 ? payload.readUInt32BE(0) : 0;
    const offset = this.isExtended ? Number(rest.readBigUInt64BE(12)) : -1;
    return { type, error, cookie: rest.readUInt32BE(8), flags: rest.readUInt16BE(0), payload, offset };
  }

  /** All chunks of a reply. Requires: no other request is under way. */
  async chunks(): Promise<Reply[]> {
    const chunks: Reply[] = [];
    for (;;) {
      const chunk = await this.reply();
      chunks.push(chunk);
      if (chunk.type < 0 || (chunk.flags & nbd.NBD_REPLY_FLAG_DONE) !== 0) return chunks;
    }
  }

  /** A request as this connection frames it; a WRITE says that it has a payload. */
  encode(shape: RequestShape): Buffer {
    return this.isExtended ? encodeExtended(shape) : encodeRequest(shape);
  }

  /** Sends one request and takes its reply. */
  async ask(shape: RequestShape, payload: Buffer = Buffer.alloc(0), replyBytes = 0): Promise<Reply> {
    this.send(this.encode(shape), payload);
    return await this.reply(replyBytes);
  }

  /** Sends a question and takes what each context says, as [bytes, status] for each extent. */
  async status(shape: Omit<RequestShape, 'type'>, payload?: Buffer): Promise<Map<number, Extent[]>> {
    this.send(this.encode({ type: nbd.NBD_CMD_BLOCK_STATUS, ...shape }), ...(payload ? [payload] : []));
    const answers = new Map<number, Extent[]>();
    for (const chunk of await this.chunks()) {
      if (chunk.error !== 0) throw new Error(`block status failed with ${chunk.error}`);
      answers.set(chunk.payload.readUInt32BE(0), extentsOf(chunk));
    }
    return answers;
  }
}

export type Extent = [bytes: number, status: number];

/** The extents of a chunk of type BLOCK_STATUS or BLOCK_STATUS_EXT. */
export function extentsOf({ type, payload }: Reply): Extent[] {
  const list: Extent[] = [];
  if (type === nbd.NBD_REPLY_TYPE_BLOCK_STATUS) {
    for (let at = 4; at < payload.length; at += 8)
      list.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
    return list;
  }
  if (type !== nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT) throw new Error(`a chunk of type ${type} has no extents`);
  for (let at = 8; at < payload.length; at += 16)
    list.push([Number(payload.readBigUInt64BE(at)), Number(payload.readBigUInt64BE(at + 8))]);
  if (list.length !== payload.readUInt32BE(4)) throw new Error('the count of extents lies');
  return list;
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** An option; `length` may lie. */
export function encodeOption(option: number, body: Buffer, length = body.length): Buffer {
  return Buffer.concat([u32(nbd.IHAVEOPT[0]), u32(nbd.IHAVEOPT[1]), u32(option), u32(length), body]);
}

export function encodeInfo(name: string | Buffer, types: number[] = [], nameLength?: number): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([u32(nameLength ?? bytes.length), bytes, u16(types.length), ...types.map(u16)]);
}

export function encodeContexts(name: string, queries: readonly string[]): Buffer {
  const parts = queries.map((query) => Buffer.concat([u32(Buffer.byteLength(query)), Buffer.from(query)]));
  return Buffer.concat([u32(Buffer.byteLength(name)), Buffer.from(name), u32(queries.length), ...parts]);
}

export function encodeRequest(shape: RequestShape): Buffer {
  const bytes = Buffer.alloc(nbd.REQUEST_BYTES);
  bytes.writeUInt32BE(shape.magic ?? nbd.NBD_REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(shape.flags ?? 0, 4);
  bytes.writeUInt16BE(shape.type, 6);
  bytes.writeBigUInt64BE(0xfeedface00000000n + BigInt(shape.cookie ?? 1), 8);
  bytes.writeBigUInt64BE(BigInt(shape.offset ?? 0), 16);
  bytes.writeUInt32BE(Number(shape.length ?? 0), 24);
  return bytes;
}

export function encodeExtended(shape: RequestShape): Buffer {
  const bytes = Buffer.alloc(nbd.EXTENDED_REQUEST_BYTES);
  const own = shape.type === nbd.NBD_CMD_WRITE ? nbd.NBD_CMD_FLAG_PAYLOAD_LEN : 0;
  const { magic = nbd.NBD_EXTENDED_REQUEST_MAGIC, flags = 0 } = shape;
  encodeRequest({ ...shape, magic, flags: flags | own, length: 0 }).copy(bytes);
  bytes.writeBigUInt64BE(BigInt(shape.length ?? 0), 24);
  return bytes;
}
