/**
 * Clients that send anything: a million messages, or as many as FUZZ says, each run replayed by its SEED.
 *
 * Looks for errors that nobody caught, replies that are none, requests of honest clients without an answer, memory and
 * devices that are not given back, and turns of the event loop that are too long.
 */

import { createHistogram } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import pino from 'pino';
import { describe, expect, it } from 'vitest';
import { ServerBudget } from '../../../src/nbd/budget.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { Complaints } from '../../../src/nbd/complaints.ts';
import { Connection, type ConnectionContext } from '../../../src/nbd/connection.ts';
import type { HandshakeTerms } from '../../../src/nbd/handshake.ts';
import { DEFAULT_LIMITS } from '../../../src/nbd/limits.ts';
import { SlabPool } from '../../../src/nbd/receive-slabs.ts';
import { ReplyBufferPool } from '../../../src/nbd/reply-buffer.ts';
import { Random, seeds } from '../../support/random.ts';
import { FuzzClient } from './fuzz-client.ts';
import { FuzzExports } from './fuzz-device.ts';
import { MemorySocket } from './memory-socket.ts';
import { ReplyCheck } from './reply-check.ts';

const MESSAGES = Number(process.env.FUZZ ?? 1_000_000);
/** Before memory is looked at: pools are full by then. */
const WARM_MESSAGES = 50_000;
const MIB = 2 ** 20;
/** Connections that are there at one time. */
const CROWD = 32;
const SILENT = pino({ level: 'silent' });
/** Turns without progress, after which a client hangs up. */
const PATIENCE = 6;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Memory of this process, without the garbage of who makes up all these messages. */
function rssBytes(): number {
  collectGarbage();
  return process.memoryUsage().rss;
}

/** CPU time of turns of the event loop, in microseconds: what others do on this machine does not count. */
const turns = createHistogram();

async function turn(): Promise<void> {
  const before = process.cpuUsage();
  await new Promise<void>((resolve) => setImmediate(resolve));
  const { user, system } = process.cpuUsage(before);
  turns.record(Math.max(1, user + system));
}

class Fuzzer {
  readonly exports: FuzzExports;
  readonly budget = new ServerBudget(64 * MIB, 64, () => undefined);
  readonly #context: ConnectionContext;
  readonly #terms: HandshakeTerms;
  readonly #random: Random;
  readonly #seed: number;
  connections = 0;
  messages = 0;
  answers = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.exports = new FuzzExports(this.#random);
    const limits = { ...DEFAULT_LIMITS, handshakeMsMax: 10_000_000 };
    this.#terms = {
      offerTo: () => ({ exports: this.exports, readOnly: false }),
      tls: 'off',
      optionsMax: 32,
      payloadBytesMax: limits.requestBytesMax,
    };
    this.#context = {
      limits,
      tls: undefined,
      budget: this.budget,
      pool: new ReplyBufferPool(16 * MIB),
      slabs: new SlabPool(16 * MIB),
      clock: systemClock,
      logger: SILENT,
      complaints: new Complaints(SILENT),
    };
  }

  /** A crowd of clients, until the last has hung up. */
  async round(): Promise<void> {
    const clients: FuzzConnection[] = [];
    while (clients.length < CROWD) {
      clients.push(this.#connect());
      // What a client sends is made up here as well: not all of it in one turn.
      if (clients.length % 4 === 0) await turn();
    }
    let isBusy = true;
    for (let idle = 0; idle < PATIENCE; idle = isBusy ? 0 : idle + 1) {
      isBusy = false;
      for (const [i, client] of clients.entries()) {
        if (client.step(this.#random)) isBusy = true;
        if (i % 8 === 7) await turn();
      }
      if (this.exports.later.length > 0) isBusy = true;
      this.exports.letGo(this.#random.chance(50));
      await turn();
    }
    for (const client of clients) this.answers += client.finish();
    for (let count = 0; count < 5; count++) {
      this.exports.letGo(true);
      await turn();
    }
    expect([this.exports.openCount, this.budget.takenBytes, this.budget.sharedBytes]).toEqual([0, 0, 0]);
  }

  #connect(): FuzzConnection {
    this.connections += 1;
    const client = new FuzzClient(this.#random);
    this.messages += client.messages.length;
    return new FuzzConnection(
      client,
      this.#context,
      this.#terms,
      `SEED=${this.#seed}, connection ${this.connections}`,
      this.#random,
    );
  }
}

class FuzzConnection {
  readonly #client: FuzzClient;
  readonly #socket: MemorySocket;
  readonly #check: ReplyCheck;
  readonly #pieces: Generator<Buffer>;
  readonly #what: string;
  #piece: Buffer | undefined;
  #hasSentAll = false;

  constructor(
    client: FuzzClient,
    context: ConnectionContext,
    terms: HandshakeTerms,
    what: string,
    random: Random,
  ) {
    this.#client = client;
    this.#what = what;
    this.#check = new ReplyCheck(client.clientFlags, client.isHonest);
    this.#socket = new MemorySocket((bytes) => this.#check.take(bytes));
    this.#socket.takes = random.chance(95);
    this.#pieces = client.pieces();
    const events = { negotiated: () => undefined, closed: () => undefined };
    new Connection(this.#socket.asSocket, context, terms, 1, events);
  }

  /** Sends some, takes some; false if nothing moved. */
  step(random: Random): boolean {
    let hasMoved = false;
    for (let count = random.between(1, 3); count > 0 && !this.#hasSentAll; count--) {
      if (this.#piece === undefined) {
        const { value, done } = this.#pieces.next();
        if (done === true) {
          this.#hasSentAll = true;
          break;
        }
        this.#piece = value;
      }
      if (!this.#socket.feed(this.#piece)) break;
      this.#piece = undefined;
      hasMoved = true;
    }
    if (random.chance(80) && this.#socket.take()) hasMoved = true;
    if (random.chance(1)) this.#socket.destroy();
    return hasMoved;
  }

  /** Hangs up; answers how many requests were answered. */
  finish(): number {
    const socket = this.#socket;
    const { isHonest, cookies } = this.#client;
    socket.take();
    const mustKnow = isHonest && socket.takes && !socket.isDestroyed && this.#check.phase === 'transmission';
    if (mustKnow && !this.#check.isBlind) {
      expect(this.#hasSentAll, this.#what).toBe(true);
      expect(this.#check.isAtBorder, this.#what).toBe(true);
      expect(
        [...cookies].filter((cookie) => !this.#check.answered.has(cookie)),
        this.#what,
      ).toEqual([]);
    }
    if (this.#hasSentAll) socket.emit('end');
    socket.destroy();
    return this.#check.answered.size;
  }
}

describe('a client that sends anything', () => {
  for (const seed of seeds(1)) {
    it(`harms nobody (SEED=${seed})`, async () => {
      const fuzzer = new Fuzzer(seed);
      while (fuzzer.messages < WARM_MESSAGES) await fuzzer.round();
      const before = rssBytes();
      turns.reset();
      const started = performance.now();
      let grown = 0;
      const goal = fuzzer.messages + MESSAGES;
      for (let round = 0; fuzzer.messages < goal; round++) {
        await fuzzer.round();
        if (round % 50 === 0) grown = Math.max(grown, rssBytes() - before);
      }
      const rate = MESSAGES / ((performance.now() - started) / 1000);
      const turnMs = turns.percentile(99.9) / 1000;
      const { connections, answers } = fuzzer;
      const said = { messages: fuzzer.messages, connections, answers, rate: Math.round(rate) };
      console.log(JSON.stringify({ ...said, grownMiB: Math.round(grown / MIB), turnMs }));
      expect(answers).toBeGreaterThan(MESSAGES / 10);
      expect(grown).toBeLessThan(64 * MIB);
      expect(turnMs).toBeLessThan(50);
    }, 3_600_000);
  }
});
