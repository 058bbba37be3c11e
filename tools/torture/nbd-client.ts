/**
 * An NBD client with any number of requests in flight, that knows of each whether it was answered, and with what.
 *
 * Invariant: every request settles: with its answer, or with ConnectionLost when the server is gone.
 */

import net from 'node:net';
import * as nbd from '../../src/nbd/protocol.ts';

const MAGIC_BYTES = 4;

/** The server is gone, and the request may have been carried out or not. */
export class ConnectionLost extends Error {}

export interface Answer {
  /** NBD_SUCCESS or an error of the protocol. */
  readonly error: number;
  /** What a read brings, if it succeeds. */
  readonly payload: Buffer;
}

interface Pending {
  readonly payloadBytes: number;
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

export class NbdClient {
  readonly #socket: net.Socket;
  readonly #pending = new Map<number, Pending>();
  #lastCookie = 0;
  #isLost = false;
  /** The reply whose payload has not come whole. */
  #head: Buffer | undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
  }

  /** @throws ConnectionLost if nobody serves there, or not this export */
  static async connect(socketPath: string, exportName: string): Promise<NbdClient> {
    const socket = net.connect(socketPath);
    const client = new NbdClient(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => client.#lose());
    try {
      await client.#enter(exportName);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    socket.on('readable', () => client.#receive());
    client.#receive();
    return client;
  }

  async #enter(exportName: string): Promise<void> {
    await this.#take(nbd.GREETING_BYTES);
    const name = Buffer.from(exportName);
    const hello = Buffer.alloc(nbd.CLIENT_FLAGS_BYTES + nbd.OPTION_HEADER_BYTES + 4);
    hello.writeUInt32BE(nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES, 0);
    hello.writeUInt32BE(nbd.IHAVEOPT[0], 4);
    hello.writeUInt32BE(nbd.IHAVEOPT[1], 8);
    hello.writeUInt32BE(nbd.NBD_OPT_GO, 12);
    hello.writeUInt32BE(4 + name.length + 2, 16);
    hello.writeUInt32BE(name.length, 20);
    this.#socket.write(Buffer.concat([hello, name, Buffer.alloc(2)]));
    for (;;) {
      const header = await this.#take(nbd.OPTION_REPLY_HEADER_BYTES);
      const type = header.readUInt32BE(12);
      const length = header.readUInt32BE(16);
      if (length > 0) await this.#take(length);
      if (type === nbd.NBD_REP_ACK) return;
      if (type >= 2 ** 31) throw new ConnectionLost(`${exportName} is not served: ${type - 2 ** 31}`);
    }
  }

  /** Exactly `bytes` bytes of the handshake. */
  #take(bytes: number): Promise<Buffer> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        const taken = socket.read(bytes) as Buffer | null;
        if (taken === null && !socket.destroyed) return;
        socket.off('readable', attempt);
        socket.off('close', attempt);
        if (taken?.length === bytes) resolve(taken);
        else reject(new ConnectionLost('the server is gone'));
      };
      socket.on('readable', attempt);
      socket.on('close', attempt);
      attempt();
    });
  }

  read(offset: number, length: number): Promise<Answer> {
    return this.#request(nbd.NBD_CMD_READ, 0, offset, length, undefined);
  }

  write(offset: number, bytes: Buffer, isForced: boolean): Promise<Answer> {
    return this.#request(nbd.NBD_CMD_WRITE, fuaFlag(isForced), offset, bytes.length, bytes);
  }

  zero(offset: number, length: number, isForced: boolean): Promise<Answer> {
    return this.#request(nbd.NBD_CMD_WRITE_ZEROES, fuaFlag(isForced), offset, length, undefined);
  }

  trim(offset: number, length: number, isForced: boolean): Promise<Answer> {
    return this.#request(nbd.NBD_CMD_TRIM, fuaFlag(isForced), offset, length, undefined);
  }

  flush(): Promise<Answer> {
    return this.#request(nbd.NBD_CMD_FLUSH, 0, 0, 0, undefined);
  }

  close(): void {
    this.#socket.destroy();
  }

  #request(
    type: number,
    flags: number,
    offset: number,
    length: number,
    payload: Buffer | undefined,
  ): Promise<Answer> {
    const cookie = ++this.#lastCookie;
    const header = Buffer.alloc(nbd.REQUEST_BYTES);
    header.writeUInt32BE(nbd.NBD_REQUEST_MAGIC, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    header.writeUInt32BE(cookie, 12);
    header.writeUInt32BE(Math.floor(offset / 2 ** 32), 16);
    header.writeUInt32BE(offset % 2 ** 32, 20);
    header.writeUInt32BE(length, 24);
    return new Promise((resolve, reject) => {
      if (this.#isLost) {
        reject(new ConnectionLost('the server is gone'));
        return;
      }
      const payloadBytes = type === nbd.NBD_CMD_READ ? length : 0;
      this.#pending.set(cookie, { payloadBytes, resolve, reject });
      this.#socket.write(header);
      if (payload !== undefined) this.#socket.write(payload);
    });
  }

  #receive(): void {
    for (;;) {
      this.#head ??= (this.#socket.read(nbd.SIMPLE_REPLY_BYTES) as Buffer | null) ?? undefined;
      if (this.#head === undefined || this.#head.length < nbd.SIMPLE_REPLY_BYTES) return;
      const cookie = this.#head.readUInt32BE(MAGIC_BYTES + 8);
      const pending = this.#pending.get(cookie);
      if (this.#head.readUInt32BE(0) !== nbd.NBD_SIMPLE_REPLY_MAGIC || pending === undefined) {
        throw new Error(`this is no answer to a request: ${this.#head.toString('hex')}`);
      }
      const error = this.#head.readUInt32BE(MAGIC_BYTES);
      const payloadBytes = error === nbd.NBD_SUCCESS ? pending.payloadBytes : 0;
      const payload =
        payloadBytes === 0 ? Buffer.alloc(0) : (this.#socket.read(payloadBytes) as Buffer | null);
      if (payload === null || payload.length < payloadBytes) return;
      this.#head = undefined;
      this.#pending.delete(cookie);
      pending.resolve({ error, payload });
    }
  }

  #lose(): void {
    this.#isLost = true;
    for (const pending of this.#pending.values()) pending.reject(new ConnectionLost('the server is gone'));
    this.#pending.clear();
  }
}

function fuaFlag(isForced: boolean): number {
  return isForced ? nbd.NBD_CMD_FLAG_FUA : 0;
}
