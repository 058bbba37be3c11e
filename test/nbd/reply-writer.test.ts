/** Replies batched in reused memory: a buffer is free only when the socket is done with it. */

import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { BlockStatus } from '../../src/nbd/block-status.ts';
import { Budget, ServerBudget } from '../../src/nbd/budget.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { HEADROOM_BYTES, ReplyBufferPool } from '../../src/nbd/reply-buffer.ts';
import { Replies } from '../../src/nbd/replies.ts';
import { ReplyWriter } from '../../src/nbd/reply-writer.ts';
import { Transmission } from '../../src/nbd/transmission.ts';
import { MemoryDevice, MemoryExports } from './memory-device.ts';
import { encodeRequest } from './raw-client.ts';

/** A socket that copies what it is given only when the test says that it was sent, as a real one does. */
class SlowSocket {
  readonly pending: { bytes: Buffer; done: () => void }[] = [];
  sent = Buffer.alloc(0);

  write(bytes: Buffer, done: () => void): boolean {
    this.pending.push({ bytes, done });
    return false;
  }

  cork(): void {}
  uncork(): void {}

  takeOne(): void {
    const { bytes, done } = this.pending.shift()!;
    this.sent = Buffer.concat([this.sent, bytes]);
    done();
  }

  takeAll(): void {
    while (this.pending.length > 0) this.takeOne();
  }

  /** Cookies of all simple replies that were sent. */
  get cookies(): number[] {
    const cookies: number[] = [];
    for (let at = 0; at < this.sent.length; at += 16) {
      expect(this.sent.readUInt32BE(at)).toBe(nbd.NBD_SIMPLE_REPLY_MAGIC);
      cookies.push(this.sent.readUInt32BE(at + 12));
    }
    return cookies;
  }
}

const makeBudget = (): Budget => new Budget(2 ** 30, new ServerBudget(2 ** 30, 1, () => undefined));

function make() {
  const socket = new SlowSocket();
  const budget = makeBudget();
  const pool = new ReplyBufferPool(2 ** 25);
  const writer = new ReplyWriter(socket as unknown as Socket, pool, budget, () => undefined);
  const replies = new Replies(writer, nbd.SIMPLE);
  const reply = (cookieLow: number): void =>
    replies.done({ cookieHigh: 0, cookieLow, offsetHigh: 0, offsetLow: 0 }, false);
  return { socket, budget, pool, writer, reply };
}

describe('replies', () => {
  it('of one turn go out in one write', () => {
    const { socket, writer, reply } = make();
    for (let cookie = 0; cookie < 100; cookie++) reply(cookie);
    writer.flush();
    expect(socket.pending.length).toBe(1);
    socket.takeAll();
    expect(socket.cookies).toEqual(Array.from({ length: 100 }, (_, cookie) => cookie));
  });

  it('that are made while an earlier write is under way are kept when it ends', () => {
    const { socket, writer, budget, reply } = make();
    reply(1);
    writer.flush();
    reply(2);
    socket.takeAll();
    reply(3);
    writer.flush();
    socket.takeAll();
    expect(socket.cookies).toEqual([1, 2, 3]);
    expect([writer.unsentBytes, budget.takenBytes]).toEqual([0, 0]);
  });

  it('are never written over before the socket has taken them', () => {
    const { socket, writer, budget, reply } = make();
    const count = 100_000;
    for (let cookie = 0; cookie < count; cookie++) {
      reply(cookie);
      if (cookie % 1000 === 0) writer.flush();
      if (cookie % 7000 === 0 && socket.pending.length > 0) socket.takeOne();
    }
    writer.flush();
    expect(budget.takenBytes).toBe(writer.unsentBytes);
    socket.takeAll();
    expect(socket.cookies.every((cookie, index) => cookie === index)).toBe(true);
    expect(socket.cookies.length).toBe(count);
    expect([writer.unsentBytes, budget.takenBytes]).toEqual([0, 0]);
  });

  it('do not share a buffer with another connection before the socket is done', () => {
    const { socket, writer, pool } = make();
    const own = writer.takeOwn(100_000);
    writer.sendOwn(own, HEADROOM_BYTES - 16, HEADROOM_BYTES + 100_000);
    writer.flush();
    const other = new ReplyWriter(socket as unknown as Socket, pool, makeBudget(), () => undefined);
    expect(other.takeOwn(100_000).bytes).not.toBe(own.bytes);
    socket.takeAll();
    expect(other.takeOwn(100_000).bytes).toBe(own.bytes);
  });

  it('of a closed connection are forgotten, and give back what they counted', () => {
    const { socket, writer, budget, pool, reply } = make();
    reply(1);
    writer.flush();
    reply(2);
    writer.sendOwn(writer.takeOwn(5000), 48, 5064);
    expect(budget.takenBytes).toBe(16 + 16 + 5016);
    const { bytes } = socket.pending[0]!;
    writer.close();
    expect(budget.takenBytes).toBe(16);
    // The kernel may still read this one.
    const other = new ReplyWriter(socket as unknown as Socket, pool, makeBudget(), () => undefined);
    expect(other.reserve(16).bytes.buffer).not.toBe(bytes.buffer);
    socket.takeAll();
    expect(budget.takenBytes).toBe(0);
  });
});

describe('replies to writes', () => {
  it('that finish in one step go out together, right behind it', async () => {
    const { socket, budget, pool } = make();
    const exports = new MemoryExports();
    const disk = exports.add(new MemoryDevice('disk', 2 ** 20));
    disk.holds = true;
    const agreement = {
      device: exports.open('disk'),
      style: nbd.SIMPLE as nbd.ReplyStyle,
      contexts: BlockStatus.none,
      readOnly: false,
      payloadBytesMax: nbd.PAYLOAD_BYTES_MAX,
    };
    const logger = { warn: () => undefined, debug: () => undefined };
    const transmission = new Transmission(
      socket as unknown as Socket,
      agreement,
      budget,
      pool,
      logger,
      () => undefined,
    );
    for (let cookie = 0; cookie < 3; cookie++) {
      const header = encodeRequest({ type: nbd.NBD_CMD_WRITE, offset: cookie, length: 1, cookie });
      transmission.receive(Buffer.from([...header, cookie]), undefined);
    }
    disk.letGo();
    expect(socket.pending.length).toBe(0);
    await Promise.resolve();
    expect(socket.pending.length).toBe(1);
    socket.takeAll();
    expect(socket.cookies).toEqual([0, 1, 2]);
  });
});
