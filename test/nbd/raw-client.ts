/**
 * A client at the level of bytes: sends what it is told, also what no honest client would, and reads exactly as much
 * as it is asked to. It knows nothing of the server's code but the constants.
 */

import net from 'node:net';
import * as nbd from '../../src/nbd/protocol.ts';

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
}

export interface RequestShape {
  type: number;
  flags?: number;
  cookie?: number;
  offset?: bigint | number;
  length?: number;
  magic?: number;
}

export class RawClient {
  readonly socket: net.Socket;
  /** Set when the server ended or reset the connection. */
  isClosed = false;
  #received = Buffer.alloc(0);
  #wake: () => void = () => undefined;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    const closed = (): void => {
      this.isClosed = true;
      this.#wake();
    };
    socket.on('end', closed);
    socket.on('close', closed);
  }

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

  /** From the greeting to transmission. */
  async enter(name: string, options: { structured?: boolean; context?: boolean } = {}): Promise<void> {
    await this.greet();
    if (options.structured === true) await this.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    if (options.context === true) {
      await this.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts(name, [nbd.BASE_ALLOCATION]));
    }
    const replies = await this.negotiate(nbd.NBD_OPT_GO, encodeInfo(name));
    if (replies.at(-1)!.type !== nbd.NBD_REP_ACK) throw new Error('GO was refused');
  }

  /** One reply; `payloadBytes` is what a simple reply without error carries. */
  async reply(payloadBytes = 0): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === nbd.NBD_SIMPLE_REPLY_MAGIC) {
      const rest = await this.take(12);
      const error = rest.readUInt32BE(0);
      const payload = await this.take(error === 0 ? payloadBytes : 0);
      return { type: -1, error, cookie: rest.readUInt32BE(8), flags: 0, payload };
    }
    if (magic !== nbd.NBD_STRUCTURED_REPLY_MAGIC) throw new Error(`bad reply magic ${magic.toString(16)}`);
    const rest = await this.take(16);
    const payload = await this.take(rest.readUInt32BE(12));
    const type = rest.readUInt16BE(2);
    const error = type >= 2 ** 15 ? payload.readUInt32BE(0) : 0;
    return { type, error, cookie: rest.readUInt32BE(8), flags: rest.readUInt16BE(0), payload };
  }

  /** Sends one request and takes its reply. */
  async ask(shape: RequestShape, payload: Buffer = Buffer.alloc(0), replyBytes = 0): Promise<Reply> {
    this.send(encodeRequest(shape), payload);
    return await this.reply(replyBytes);
  }
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

export function encodeContexts(name: string, queries: string[]): Buffer {
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
  bytes.writeUInt32BE(shape.length ?? 0, 24);
  return bytes;
}
